"""`micro`: from the words of a command line to an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence

import click

import microcosmos

from . import exits, help, render
from .lazy import Root, root_page
from .session import Session


def _underscored(name: str) -> str:
    """Flags are the same with ``-`` and ``_``."""
    return name.replace("-", "_")


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(f"micro version {microcosmos.__version__}")
        ctx.exit()


@click.command(
    cls=Root,
    invoke_without_command=True,
    add_help_option=False,
    context_settings={"token_normalize_func": _underscored},
)
@click.option("--env", "-e", default="", help="The environment to talk to [MICRO_ENV].")
@click.option("--home", default="", help="Where the state is kept [MICRO_HOME].")
@click.option("--namespace", default="", help="The namespace of calls [MICRO_NAMESPACE].")
@click.option("--profile", default="", help="The profile of a server [MICRO_PROFILE].")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Print the version.",
)
@click.pass_context
def micro(ctx: click.Context, env: str, home: str, namespace: str, profile: str) -> None:
    """A whole microservices cloud in one command.

    Any other word is a program micro-<word> on PATH, or a running service:
    `micro helloworld --name=John`.
    """
    ctx.obj.choose(home, env, namespace, profile)
    if ctx.invoked_subcommand is None:
        click.echo(root_page(ctx))


micro.params.append(help.option(root_page))


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        args: the words after ``micro``; else those of this process.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names and answers may hold what a narrow terminal cannot show.
        with contextlib.suppress(AttributeError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if args is None and "_MICRO_COMPLETE" in os.environ:
        from .completion import answer

        return answer(micro)
    return run(sys.argv[1:] if args is None else args)


def run(args: Sequence[str], session: Session | None = None) -> int:
    """Run one command and return its exit code; nothing of it stays behind.

    Args:
        args: the words after ``micro``.
        session: what the command is given; a new one unless said.
    """
    session = session or Session()
    try:
        _run(list(args), session)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        return _broken_pipe()
    except Exception as exc:  # noqa: BLE001 - whatever goes wrong is one line for the user
        return exits.report(exc, session.trace)
    return exits.OK


def _run(args: list[str], session: Session) -> None:
    words = [_utf8(at, word) for at, word in enumerate(args, 1)]
    with micro.make_context("micro", words, obj=session) as ctx:
        value = micro.invoke(ctx)
        _print(render.lines(value, session.output))


def _utf8(at: int, word: str) -> str:
    """A word as it was typed, whatever the locale made of it."""
    try:
        return os.fsencode(word).decode()
    except UnicodeError:
        raise click.UsageError(f"argument {at} is not valid UTF-8") from None


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _broken_pipe() -> int:
    # The reader has what it wanted. Python would complain again when it flushes at exit.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.BROKEN_PIPE
