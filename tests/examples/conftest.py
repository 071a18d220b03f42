"""The examples run on the server of the end-to-end tests."""

import pytest

from ..e2e.conftest import live

__all__ = ["live"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "example(name): the example whose page a test types")
