"""The built-in commands: where each one is, so that only the one that is run gets imported."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command's place, ``module:name``, and the line that lists it."""

    place: str
    about: str


_CLI = "microcosmos.cli"
_REGISTRY = "microcosmos.registry.cli"
_RUNTIME = "microcosmos.runtime.cli"
_SERVER = "microcosmos.server.cli"

COMMANDS = {
    "call": Entry(f"{_REGISTRY}:call", "Call an endpoint of a service"),
    "env": Entry(f"{_CLI}.env:env", "Show, add and choose environments"),
    "get": Entry(f"{_REGISTRY}:get", "Get details of a service"),
    "kill": Entry(f"{_RUNTIME}:kill", "Remove a running service"),
    "logs": Entry(f"{_RUNTIME}:logs", "Show the log of a service"),
    "nats": Entry(f"{_SERVER}:nats", "Show how the official nats tool connects"),
    "new": Entry("microcosmos.service.cli:new", "Write a new service"),
    "reset": Entry(f"{_SERVER}:reset", "Remove the server's state"),
    "run": Entry(f"{_RUNTIME}:run", "Run a service"),
    "server": Entry(f"{_SERVER}:server", "Run the server"),
    "services": Entry(f"{_REGISTRY}:services", "List the services"),
    "status": Entry(f"{_RUNTIME}:status", "Show what is running"),
    "stop": Entry(f"{_SERVER}:stop", "Stop the server"),
    "update": Entry(f"{_RUNTIME}:update", "Update a running service"),
    "user": Entry(f"{_CLI}.user:user", "Show and change your settings"),
}
