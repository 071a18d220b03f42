"""`micro functions bench`: the load test of CosmoCompute's story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import click
import msgspec

from microcosmos.base import errors, names
from microcosmos.base.home import ServerInfo

if TYPE_CHECKING:
    from .bench import Block, Target

MAX_THREADS = 1000
"""The most connections of `micro functions bench`."""


class Session(Protocol):
    """What this command asks of the command line."""

    output: str

    @property
    def server(self) -> ServerInfo | None: ...


def _range(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """The two ends of ``1..8``, or of ``4``."""
    first, dots, last = value.partition("..")
    if not (first.isdecimal() and (last.isdecimal() or not dots)):
        raise click.BadParameter(f"{value!r} is no number like 4, nor a range like 1..8")
    chosen = int(first), int(last or first)
    if not 1 <= chosen[0] <= chosen[1] <= MAX_THREADS:
        raise click.BadParameter(f"{value!r} is not between 1 and {MAX_THREADS:,}, upwards")
    return chosen


@click.command(short_help="Measure a function under load")
@click.argument("name")
@click.option(
    "--threads",
    metavar="N|M..N",
    callback=_range,
    default="1..8",
    show_default=True,
    help="Connections that ask at the same time: a number, or one block for each of a range.",
)
@click.option(
    "--requests",
    type=click.IntRange(1, 10_000_000),
    default=10_000,
    show_default=True,
    help="Requests of each connection, one after the other.",
)
@click.option("--path", default="", help="What is asked for, below the function's family.")
@click.option("--method", default="GET", show_default=True, help="The method, without a body.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header of each request."
)
@click.option(
    "--url",
    "origin",
    default="",
    help="Of the gateway, if it is not that of this machine's server.",
)
@click.pass_obj
def bench(
    session: Session,
    name: str,
    threads: tuple[int, int],
    requests: int,
    path: str,
    method: str,
    headers: tuple[str, ...],
    origin: str,
) -> None:
    """Measure the function NAME under load.

    Each connection stays open and makes its requests one after the other; all of them live in one
    process. Times are from the last byte asked to the last byte answered: Subjective Time is the
    sum over the connections, Mean Latency and the percentiles are milliseconds, both averages are
    requests a second. Memory is that of all the platform's processes, shared pages counted once.
    """
    # Imported here: other commands of `micro functions` need none of it.
    import uvloop

    from .bench import Target

    info = session.server
    if not origin and info is None:
        raise click.ClickException(
            "no server runs here; start one with `micro server`, or say --url"
        )
    start = origin.rstrip("/") or (info.api if info is not None else "")
    family = names.check_service(name).lower().replace(".", "/")
    below = path if path.startswith("?") or not path else f"/{path.lstrip('/')}"
    target = Target(f"{start}/{family}{below}", _headers(headers), method.upper())
    pids = list(info.pids.values()) if info is not None and not origin else []
    try:
        _check(target)
        blocks = []
        for count in range(threads[0], threads[1] + 1):
            done = uvloop.run(_measured(target, count, requests, pids))
            blocks.append(done)
            if session.output != "json":
                click.echo(done.text())
    except errors.Error as error:
        raise click.ClickException(error.detail) from None
    if session.output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(blocks), indent=2).decode())


def _check(target: Target) -> None:
    """See that there is something to measure; this also wakes the function."""
    import uvloop

    from .bench import once

    status, body = uvloop.run(once(target))
    if not 200 <= status < 300:
        # An error of the platform has a detail; what else it may be, its beginning is quoted.
        said = errors.from_wire(body).detail.strip() or "nothing more"
        raise click.ClickException(f"{target.url} answers {status}: {said}")


async def _measured(target: Target, threads: int, requests: int, pids: list[int]) -> Block:
    from .bench import block, memory

    done = await block(target, threads, requests)
    return msgspec.structs.replace(done, memory=memory(pids))


def _headers(given: tuple[str, ...]) -> list[tuple[str, str]]:
    headers = []
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--header {one}: not NAME=VALUE")
        headers.append((name, value))
    return headers
