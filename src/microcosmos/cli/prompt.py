"""`micro cli`: commands typed one after the other, in one process."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence

import click

from . import exits, external
from .session import Session

PROMPT = "micro> "

# They replace or fork their process, so they get one of their own.
_APART = ("server",)
_LEAVE = ("exit", "quit")
_HELLO = "`help` lists the commands, Tab completes, Ctrl-C cancels a line, Ctrl-D or `exit` leaves."


@click.command("cli", short_help="Type commands at a prompt")
@click.pass_context
def prompt(ctx: click.Context) -> None:
    """Type commands at a prompt.

    They are typed without `micro`. Where the input is no terminal, it is a script: a command a
    line, and the exit code is that of the last one.
    """
    if ctx.obj.at_prompt:
        raise click.UsageError("this is the prompt already; `exit` leaves it")
    lines = Lines(_global_flags(ctx))
    if sys.stdin.isatty():
        click.echo(_HELLO, err=True)
        lines.interactive(ctx.obj)
    else:
        lines.script(sys.stdin)
    raise click.exceptions.Exit(lines.code)


def _global_flags(ctx: click.Context) -> list[str]:
    """The flags that were given before `cli`: each line begins with them."""
    given = ctx.find_root().params
    return [f"--{name}={value}" for name, value in given.items() if value]


class Lines:
    """Runs lines, each as if it were a command line of its own.

    Args:
        flags: the words that every line begins with.

    Attributes:
        code: the exit code of the last one.
    """

    def __init__(self, flags: Sequence[str] = ()) -> None:
        self._flags = list(flags)
        self.code = exits.OK

    def script(self, lines: Iterable[str]) -> None:
        """Run the lines of a file; an error does not end it, Ctrl-C does."""
        for line in lines:
            if not self.run(line) or self.code == exits.INTERRUPTED:
                return

    def interactive(self, session: Session) -> None:
        """Read lines from the terminal and run them until the user leaves."""
        # Imported here, as it takes 150 ms: a script does without it.
        from .editor import open_editor

        read = open_editor(session.home, self._flags)
        while True:
            try:
                line = read(PROMPT)
                if not self.run(line):
                    return
                if self.code and line.strip():
                    click.echo(f"(exit code {self.code})", err=True)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return

    def run(self, line: str) -> bool:
        """Run one line; False when it says to leave."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError as exc:
            self.code = exits.report(click.UsageError(f"{str(exc).lower()} in this line"))
            return True
        if words[:1] == ["micro"]:
            del words[0]
        if words[:1] and words[0] in _LEAVE:
            return self._leave(words[1:])
        if words:
            self.code = self._command(words)
        return True

    def _leave(self, words: list[str]) -> bool:
        if words and not (len(words) == 1 and words[0].isdecimal() and int(words[0]) < 256):
            self.code = exits.report(click.UsageError("exit takes one number from 0 to 255"))
            return True
        self.code = int(words[0]) if words else self.code
        return False

    def _command(self, words: list[str]) -> int:
        from .main import run

        with _unchanged():
            if words[0] in _APART:
                argv = [sys.executable, "-m", "microcosmos.cli", *self._flags, *words]
                return external.wait_for(argv)
            try:
                return run([*self._flags, *words], Session(at_prompt=True))
            except SystemExit as exc:
                return exc.code if isinstance(exc.code, int) else exits.OTHER


@contextlib.contextmanager
def _unchanged() -> Iterator[None]:
    """What a command does to the environment variables ends with it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        if dict(os.environ) != before:
            os.environ.clear()
            os.environ.update(before)
