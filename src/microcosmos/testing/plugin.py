"""The pytest plugin: platforms as fixtures, and the loop that tests of them run on.

    async def test_hello(platform):
        await platform.start(helloworld)
        assert await platform.client("helloworld").call(name="John") == {"msg": "Hello John"}

``platform`` is in memory, ``nats_platform`` on a real nats-server; both are `testing.Bench`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .platform import Bench

_RUNNER = "microcosmos_runner"


@pytest.fixture(name=_RUNNER)
def runner() -> Iterator[asyncio.Runner]:
    """The event loop of one test and of its fixtures."""
    with asyncio.Runner() as own:
        yield own


@pytest.fixture
def platform(microcosmos_runner: asyncio.Runner) -> Iterator[Bench]:
    """A platform in memory, for this test alone."""
    from .platform import memory

    opened = memory()
    yield microcosmos_runner.run(opened.__aenter__())
    microcosmos_runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def nats_platform(microcosmos_runner: asyncio.Runner) -> Iterator[Bench]:
    """A platform on a real nats-server on a free port, for this test alone."""
    from .platform import on_nats

    opened = on_nats()
    yield microcosmos_runner.run(opened.__aenter__())
    microcosmos_runner.run(opened.__aexit__(None, None, None))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test that uses our fixtures on the loop that they live on."""
    own = pyfuncitem.funcargs.get(_RUNNER)
    if not isinstance(own, asyncio.Runner) or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    own.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
