"""Help pages in Micro's layout: NAME, VERSION, USAGE, COMMANDS, FLAGS with their types."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from .render import columns

_INDENT = "    "
_TYPES = {
    "text": "string",
    "integer": "int64",
    "integer range": "int64",
    "float": "float64",
    "boolean": "bool",
}

Row = tuple[str, str]
"""What is typed, and what it is for."""


def page(
    name: str,
    usage: str,
    *,
    version: str = "",
    about: str = "",
    commands: Iterable[Row] = (),
    flags: Iterable[Row] = (),
) -> str:
    """One help page; sections without content are left out."""
    sections = {
        "NAME": [name],
        "VERSION": [version] if version else [],
        "USAGE": [usage],
        "DESCRIPTION": about.splitlines(),
        "COMMANDS": list(columns(commands)),
        "FLAGS": list(columns(flags)),
    }
    return "\n\n".join(
        "\n".join([f"{title}:", *(f"{_INDENT}{line}".rstrip() for line in lines)])
        for title, lines in sections.items()
        if lines
    )


def of_command(ctx: click.Context, *, version: str = "", commands: Sequence[Row] = ()) -> str:
    """The help page of a built-in command."""
    command = ctx.command
    about, _, more = inspect.cleandoc(command.help or "").partition("\n\n")
    name = f"{ctx.command_path} - {_sentence(about)}" if about else ctx.command_path
    if isinstance(command, click.Group) and not commands:
        commands = [(word, below.short_help or "") for word, below in command.commands.items()]
    return page(
        name,
        " ".join([ctx.command_path, *_pieces(command)]),
        version=version,
        about=more,
        commands=commands,
        flags=[_flag(option) for option in command.params if isinstance(option, click.Option)],
    )


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _pieces(command: click.Command) -> list[str]:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    names = [one.make_metavar(click.Context(command)) for one in arguments]
    return ["[flags]", *(["[command]"] if isinstance(command, click.Group) else []), *names]


def _flag(option: click.Option) -> Row:
    longest_first = sorted(option.opts, key=len, reverse=True)
    shown = ", ".join(longest_first)
    return (shown if option.is_flag else f"{shown} {_type(option)}", option.help or "")


def _type(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    kind = _TYPES.get(option.type.name, option.type.name)
    return f"[]{kind}" if option.multiple else kind


@click.command("help", short_help="Show the page of a command")
@click.argument("words", nargs=-1, metavar="[COMMAND]")
@click.pass_context
def help_(ctx: click.Context, words: tuple[str, ...]) -> Any:
    """Show the page of a command.

    COMMAND may be several words, and a service too: micro help user config, micro help helloworld.
    """
    top = ctx.find_root()
    assert isinstance(top.command, click.Group)
    if not words:
        return top.command.get_help(top)
    name, command, rest = top.command.resolve_command(top, [*words, "--help"])
    assert command is not None
    with command.make_context(name, rest, parent=top) as below:
        return command.invoke(below)


def option(page: Callable[[click.Context], str] = of_command) -> click.Option:
    """The flag that prints the help page of the command it is added to."""

    def show(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked and not ctx.resilient_parsing:
            click.echo(page(ctx))
            ctx.exit()

    return click.Option(
        ["--help", "-h"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show this page.",
    )
