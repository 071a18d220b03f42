"""Tests are plain ``async def``: each runs in a loop of its own."""

from __future__ import annotations

import asyncio
import inspect
import os

import pytest

# Tests of the proxy and tests that fork meet in one process here, as they never do in a server:
# gRPC's handlers would start its threads again in the child, before it has become its program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    if "microcosmos_runner" in pyfuncitem.funcargs:
        return None  # our plugin runs it, on the loop of its fixtures
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
