"""`micro config`: the values of services, and with `show` the settings of a server."""

from __future__ import annotations

from microcosmos.config.cli import config
from microcosmos.server.show import show

__all__ = ["config"]

# Here, where both rooms can be seen: the values lie below the server, the settings are its own.
config.add_command(show)
