"""Any run of operations does on the engine what it does on lists."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest
from hypothesis import settings

from .engine import Engine
from .test_model import LogMachine
from .worlds import World


class EngineMachine(LogMachine):
    """A log as a service has it, on a real engine, where time cannot be moved."""

    moves = False
    engine: Engine

    def opening(self) -> AbstractAsyncContextManager[World]:
        return self.engine.by_service()


@pytest.mark.usefixtures("engine")
class TestEngineMachine(EngineMachine.TestCase):
    settings = settings(max_examples=4, stateful_step_count=10, deadline=None, database=None)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    EngineMachine.engine = Engine(tmp_path_factory.mktemp("engine"))
    yield EngineMachine.engine
    EngineMachine.engine.kill()
