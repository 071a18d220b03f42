"""Events on the engine: a JetStream stream in the account of each namespace."""

from .api import Frozen
from .engine import Control, EngineLog
from .log import NatsLog

__all__ = ["Control", "EngineLog", "Frozen", "NatsLog"]
