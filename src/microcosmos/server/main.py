"""`micro server`: the supervisor itself, from the first signal handler to the last child's end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

from microcosmos import __version__
from microcosmos.base import errors
from microcosmos.base.home import Home, ServerInfo

from . import exposure
from .drain import Drain
from .platform import Commands, open_platform
from .settings import Settings


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def run(
    settings: Settings, commands: Commands | None = None, say: Callable[[str], None] = _print
) -> None:
    """Run a server until SIGTERM or SIGINT; a second signal ends it at once.

    SIGHUP is the end of the terminal, and ends the server with it; one that has no terminal, or
    was started by nohup, reads its certificate again.

    It takes the signals of its process and wants asyncio's own loop (see `processes`), so it is
    run by ``asyncio.run`` in the main thread, with uvloop left out.

    Args:
        settings: where it listens and what it stands on.
        commands: the programs to run as core and gateway.
        say: prints lines for the user.

    Raises:
        errors.Error: it cannot run; the detail is one line for the user.
    """
    drain = Drain()
    look = asyncio.Event()
    with _signals(drain, look) as asked:
        serving = asyncio.create_task(_serve(settings, commands or Commands(), say, drain, look))
        stopping = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def _serve(
    settings: Settings,
    commands: Commands,
    say: Callable[[str], None],
    drain: Drain,
    look: asyncio.Event,
) -> None:
    began = time.monotonic()
    try:
        home = _made(settings)
        async with open_platform(home, settings, commands, drain, look) as info:
            # At once: who started it in the background reads what is there when it is ready.
            say("\n".join(_welcome(home, info, time.monotonic() - began)))
            await asyncio.Event().wait()
    except OSError as exc:
        raise errors.InternalServerError("server", f"the server cannot go on: {exc}") from exc


def _made(settings: Settings) -> Home:
    home = Home(settings.home or None)
    try:
        home.make()
    except OSError as exc:
        detail = f"{home.path} cannot be the MICRO_HOME: {exc.strerror or exc}"
        raise errors.BadRequest("server.home", detail) from None
    return home


def _welcome(home: Home, info: ServerInfo, took: float) -> Iterator[str]:
    yield f"microcosmos {__version__}, PID {os.getpid()}, home {home.path}, ready in {took:.2f} s"
    # The dashboard's address is only reserved so far: no line says that it answers.
    yield f"api   {info.api}"
    for name, scheme in (("proxy", "grpc"), ("nats", "nats")):
        if info.addresses[name]:
            yield f"{name:<6}{info.schemes.get(name, scheme)}://{info.addresses[name]}"
    for warning in exposure.warnings(home, info):
        yield f"warn  {warning}"


@contextlib.contextmanager
def _signals(drain: Drain, look: asyncio.Event) -> Iterator[asyncio.Event]:
    """The event of a first signal to stop; a second one hurries the drain.

    Args:
        drain: what is hurried.
        look: set by SIGHUP, where it does not mean that the terminal has gone.
    """
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Asked first: a handler of ours hides what was there.
    reads_again = not _ends_with_its_terminal()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def received() -> None:
        if asked.is_set():
            drain.hurry()
        asked.set()

    for number in numbers:
        loop.add_signal_handler(number, received)
    if reads_again:
        loop.add_signal_handler(signal.SIGHUP, look.set)
    try:
        yield asked
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _ends_with_its_terminal() -> bool:
    """Whether there is a terminal, and nobody said that its end is to be ignored."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
