"""The built-in commands: where each one is, so that only the one that is run gets imported."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """A command's place, ``module:name``, and the line that lists it.

    Attributes:
        place: where it is.
        about: what lists it.
        below: commands of higher rooms that belong to it, by the groups that they are in: what
            ``schema`` has is ``micro events schema types``.
    """

    place: str
    about: str
    below: tuple[tuple[str, str], ...] = ()


_CLI = "microcosmos.cli"
_REGISTRY = "microcosmos.registry.cli"
_RUNTIME = "microcosmos.runtime.cli"
_SERVER = "microcosmos.server.cli"

COMMANDS = {
    "auth": Entry("microcosmos.auth.cli:auth", "Manage accounts, rules and namespaces"),
    "broker": Entry("microcosmos.broker.cli:broker", "Publish messages, and listen to them"),
    "call": Entry(f"{_REGISTRY}:call", "Call an endpoint of a service"),
    "cli": Entry(f"{_CLI}.prompt:prompt", "Type commands at a prompt"),
    "completion": Entry(f"{_CLI}.completion:completion", "Print the completion script of a shell"),
    "config": Entry(f"{_CLI}.config:config", "Keep settings and secrets"),
    "doctor": Entry(f"{_CLI}.doctor.command:doctor", "Find out what is wrong"),
    "env": Entry(f"{_CLI}.env:env", "Show, add and choose environments"),
    "events": Entry(
        "microcosmos.events.cli:events",
        "Publish, consume and read events",
        (
            ("", "microcosmos.gateway.asyncapi.cli:asyncapi"),
            ("schema", "microcosmos.service.gen.topics_cli:types"),
        ),
    ),
    "functions": Entry(
        "microcosmos.functions.cli:functions",
        "Deploy scripts that answer HTTP",
        (("", "microcosmos.functions.bench_cli:bench"),),
    ),
    "gen": Entry("microcosmos.service.gen.cli:gen", "Make clients of services"),
    "get": Entry(f"{_REGISTRY}:get", "Get details of a service"),
    "help": Entry(f"{_CLI}.help:help_", "Show the page of a command"),
    "init": Entry("microcosmos.server.init:init", "Write a profile of your own"),
    "kill": Entry(f"{_RUNTIME}:kill", "Remove a running service"),
    "ledger": Entry("microcosmos.monitor.ledger.cli:ledger", "Show what was used"),
    "login": Entry(f"{_CLI}.login:login", "Log in"),
    "logout": Entry(f"{_CLI}.login:logout", "Log out"),
    "logs": Entry(f"{_RUNTIME}:logs", "Show the log of a service"),
    "nats": Entry(f"{_SERVER}:nats", "Show how the official nats tool connects"),
    "new": Entry("microcosmos.service.cli:new", "Write a new service"),
    "openapi": Entry("microcosmos.gateway.openapi.cli:openapi", "Print the OpenAPI document"),
    "proto": Entry("microcosmos.proxy.cli:proto", "Print the .proto file of a service"),
    "reset": Entry(f"{_SERVER}:reset", "Remove the server's state"),
    "restart": Entry(f"{_SERVER}:restart", "Replace the gateways while they serve"),
    "run": Entry(f"{_RUNTIME}:run", "Run a service"),
    "server": Entry(f"{_SERVER}:server", "Run the server"),
    "services": Entry(f"{_REGISTRY}:services", "List the services"),
    "signup": Entry(f"{_CLI}.login:signup", "Make an account for yourself"),
    "status": Entry(f"{_RUNTIME}:status", "Show what is running"),
    "stop": Entry(f"{_SERVER}:stop", "Stop the server"),
    "store": Entry("microcosmos.store.cli:store", "Read and write records"),
    "stream": Entry(f"{_REGISTRY}:stream", "Print the messages of a stream"),
    "update": Entry(f"{_RUNTIME}:update", "Update a running service"),
    "user": Entry(f"{_CLI}.user:user", "Show who you are, and your settings"),
}
