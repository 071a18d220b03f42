"""The root command: its words come from a table, and only the one that is run is imported."""

from __future__ import annotations

import importlib

import click

import microcosmos

from . import help
from .commands import COMMANDS


class Root(click.Group):
    """`micro`: built-in commands by name, anything else is a program or a service."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem[str]]:
        # Click's own would import every command to list them; see `candidates`.
        return click.Command.shell_complete(self, ctx, incomplete)

    def get_help(self, ctx: click.Context) -> str:
        return root_page(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            from .dynamic import Dynamic

            return Dynamic(cmd_name)
        command = _found(entry.place)
        for groups, place in entry.below:
            _add(command, groups.split(), _found(place))
        _dress(command)
        return command


def root_page(ctx: click.Context) -> str:
    """The help page of `micro` itself, drawn from the table without importing the commands."""
    rows = [(word, entry.about) for word, entry in COMMANDS.items()]
    return help.of_command(ctx, version=microcosmos.__version__, commands=rows)


def _found(place: str) -> click.Command:
    """The command at a place, ``module:name``."""
    module, _, name = place.partition(":")
    command: click.Command = getattr(importlib.import_module(module), name)
    return command


def _add(command: click.Command, groups: list[str], below: click.Command) -> None:
    """Add a command to a group, or to one of those below it."""
    for group in groups:
        assert isinstance(command, click.Group), f"{command.name} is no group"
        command = command.commands[group]
    assert isinstance(command, click.Group), f"{command.name} is no group"
    command.add_command(below)


def _dress(command: click.Command) -> None:
    """Give a command, and those below it, the flags that every command has."""
    taken = {name for param in command.params for name in param.opts}
    if "--help" in taken:
        return
    if "--output" not in taken and _returns(command):
        command.params.append(_output("-o" not in taken))
    command.params.append(help.option())
    if isinstance(command, click.Group):
        for below in command.commands.values():
            _dress(below)


def _returns(command: click.Command) -> bool:
    return not isinstance(command, click.Group) or command.invoke_without_command


def _output(short: bool) -> click.Option:
    def choose(ctx: click.Context, _: click.Parameter, chosen: str | None) -> None:
        if chosen:
            ctx.obj.output = chosen

    return click.Option(
        ["--output", *(["-o"] if short else [])],
        type=click.Choice(["table", "json"]),
        expose_value=False,
        callback=choose,
        help="How the answer is printed; table unless said.",
    )
