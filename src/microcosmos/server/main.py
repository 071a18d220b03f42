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
from microcosmos.base.home import Home

from .drain import Drain
from .platform import Commands, open_platform
from .settings import Settings


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def run(
    settings: Settings, commands: Commands | None = None, say: Callable[[str], None] = _print
) -> None:
    """Run a server until SIGTERM, SIGINT or SIGHUP; a second signal ends it at once.

    It takes the signals of its process and wants asyncio's own loop (see `processes`), so it is
    run by ``asyncio.run`` in the main thread, with uvloop left out.

    Args:
        settings: where it listens and what it stands on.
        commands: the programs to run as core and gateway.
        say: prints a line for the user.

    Raises:
        errors.Error: it cannot run; the detail is one line for the user.
    """
    drain = Drain()
    with _stop_signals(drain) as asked:
        serving = asyncio.create_task(_serve(settings, commands or Commands(), say, drain))
        stopping = asyncio.create_task(asked.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


async def _serve(
    settings: Settings, commands: Commands, say: Callable[[str], None], drain: Drain
) -> None:
    began = time.monotonic()
    try:
        home = _made(settings)
        async with open_platform(home, settings, commands, drain) as addresses:
            for line in _welcome(home, addresses, time.monotonic() - began):
                say(line)
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


def _welcome(home: Home, addresses: dict[str, str], took: float) -> Iterator[str]:
    yield f"microcosmos {__version__}, PID {os.getpid()}, home {home.path}, ready in {took:.2f} s"
    # The dashboard's address is only reserved so far: no line says that it answers.
    forms = {"api": "http://{}", "proxy": "grpc://{}", "nats": "nats://{}"}
    for name, form in forms.items():
        if addresses[name]:
            yield f"{name:<6}{form.format(addresses[name])}"


@contextlib.contextmanager
def _stop_signals(drain: Drain) -> Iterator[asyncio.Event]:
    """The event of a first signal; a second one hurries the drain."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def received() -> None:
        if asked.is_set():
            drain.hurry()
        asked.set()

    for number in numbers:
        loop.add_signal_handler(number, received)
    try:
        yield asked
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
