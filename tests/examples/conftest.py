"""The examples run on the server of the end-to-end tests."""

from ..e2e.conftest import live

__all__ = ["live"]
