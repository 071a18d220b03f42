"""What an author writes: Service."""

from .connect import Connection, connect
from .interface import Platform
from .program import run
from .remote import Client, Remote
from .service import Service

__all__ = ["Client", "Connection", "Platform", "Remote", "Service", "connect", "run"]
