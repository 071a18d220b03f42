"""Each log does what every log does."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from .conformance import LogConformance
from .hall import Hall
from .worlds import Open, World, in_memory


class TestMemoryLog(LogConformance):
    @pytest.fixture
    def opened(self) -> Open:
        return in_memory


class TestRemoteLog(LogConformance):
    """A log that asks the core by rpc, where it is in memory."""

    @pytest.fixture
    def opened(self) -> Open:
        @contextlib.asynccontextmanager
        async def opened() -> AsyncIterator[World]:
            async with in_memory() as core:
                hall = Hall(core.log)
                yield World(hall.of("shop"), hall.of("root"), core.clock)

        return opened
