"""How the command line ends: one readable line on stderr, and the exit codes of the contract."""

from __future__ import annotations

import os

import click

from microcosmos.base import errors

from . import help
from .render import one_line

OK = 0
TIMEOUT = 1
NOT_AUTHORISED = 2
BAD_METHOD = 3
NOT_FOUND = 4
UNKNOWN_ENDPOINT = 5
USAGE = 64
SERVICE = 127
OTHER = 128
INTERRUPTED = 130
BROKEN_PIPE = 141

# The id of the errors of `base.names`.
_NAMES = "names"

_BY_CODE = {
    401: NOT_AUTHORISED,
    403: NOT_AUTHORISED,
    404: NOT_FOUND,
    405: BAD_METHOD,
    408: TIMEOUT,
    503: NOT_FOUND,
    504: TIMEOUT,
}


class UnknownEndpoint(errors.NotFound):
    """The service is there, but has no such endpoint."""


def code_of(exc: BaseException) -> int:
    """The exit code that an exception means."""
    match exc:
        case click.exceptions.Exit():
            return exc.exit_code
        case click.UsageError():
            return USAGE
        case click.Abort():
            return INTERRUPTED
        case UnknownEndpoint():
            return UNKNOWN_ENDPOINT
        case errors.BadRequest() if exc.id == _NAMES:
            # A word of the command line, whether it was refused here or by the server.
            return USAGE
        case errors.Error():
            return _BY_CODE.get(exc.code, SERVICE)
        case _:
            return OTHER


def line_of(exc: BaseException, trace: str = "") -> str:
    """One line that says what went wrong; empty when there is nothing to say."""
    match exc:
        case click.exceptions.Exit() | click.Abort():
            return ""
        case click.UsageError():
            return _usage(exc)
        case click.ClickException():
            text = exc.format_message()
        case errors.Error():
            text = exc.detail or exc.status
            text += f" (trace {trace})" if trace else ""
        case _:
            text = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
            text += "; MICRO_DEBUG=1 shows where"
    return f"micro: {one_line(text)}"


def _usage(exc: click.UsageError) -> str:
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        return help.of_command(exc.ctx)
    text = one_line(exc.format_message())
    text = (text[:1].lower() + text[1:]).rstrip(".")
    # Texts of our own say what to do; click's subclasses only what was wrong.
    if exc.ctx is None or type(exc) is click.UsageError:
        return f"micro: {text}"
    return f"micro: {text}; see {exc.ctx.command_path} --help"


def report(exc: Exception, trace: str = "") -> int:
    """Tell the user what went wrong and return the exit code."""
    if os.environ.get("MICRO_DEBUG") and code_of(exc) not in (OK, USAGE):
        # Imported here: only a maintainer's run wants it.
        import traceback

        click.echo("".join(traceback.format_exception(exc)), err=True, nl=False)
    if line := line_of(exc, trace):
        click.echo(line, err=True)
    return code_of(exc)
