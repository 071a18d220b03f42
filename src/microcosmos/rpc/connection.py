"""A connection to NATS that comes back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import nats.errors
import nkeys
from nats.aio.client import Client as NatsClient

from microcosmos.base import errors, urls

log = logging.getLogger("microcosmos.nats")

_CREDENTIALS = re.compile(
    rb"-BEGIN NATS USER JWT-+\s+\S+\s.*-BEGIN USER NKEY SEED-+\s+(?P<seed>\S+)", re.DOTALL
)


@contextlib.asynccontextmanager
async def connect(
    url: str,
    credentials: Path | str | None = None,
    name: str = "",
    *,
    inbox_prefix: str = "",
    patience: float = 2.0,
) -> AsyncIterator[NatsClient]:
    """A connection that comes back by itself for as long as the block lasts.

    Args:
        url: where; of several, with commas between them, any will do.
        credentials: a ``.creds`` file.
        name: what NATS shows this connection as.
        inbox_prefix: where replies come, if the credentials allow nothing else.
        patience: seconds to go on trying at first.

    Raises:
        errors.Unavailable: nobody answers at ``url``, or the credentials are refused.
    """
    said: list[str] = []

    async def failed(exc: Exception) -> None:
        said.append(str(exc) or type(exc).__name__)
        log.log(logging.WARNING if nc.is_connected else logging.DEBUG, "nats: %s", said[-1])
        del said[:-1]

    if credentials:
        _check_credentials(Path(credentials))
    nc = NatsClient()
    try:
        async with asyncio.timeout(patience):
            await nc.connect(
                [one.strip() for one in url.split(",")],
                name=name or None,
                user_credentials=str(credentials) if credentials else None,
                inbox_prefix=inbox_prefix or "_INBOX",
                error_cb=failed,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.05,  # type: ignore[arg-type]  # seconds; floats work
            )
    except (OSError, TimeoutError, nats.errors.Error) as exc:
        reason = str(exc) or (said[-1] if said else type(exc).__name__)
        raise errors.Unavailable(
            "nats", f"cannot connect to {urls.masked(url)}: {reason}"
        ) from None
    try:
        yield nc
    finally:
        with contextlib.suppress(nats.errors.Error, OSError):
            await nc.close()
        await _reconnects_no_more(nc)


async def _reconnects_no_more(nc: NatsClient) -> None:
    """End the task that connects anew, which a cancellation may pass by.

    `asyncio.wait_for` of Python 3.11 forgets one that comes as its connection is refused, and
    nats-py would go on for ever.
    """
    task = nc._reconnection_task
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.1)


def _check_credentials(path: Path) -> None:
    """Refuse a damaged file before nats-py reads it, which looks for ever for a token."""
    try:
        found = _CREDENTIALS.search(path.read_bytes())
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise errors.Unavailable("nats", f"{path} cannot be read: {reason}") from None
    damaged = errors.Unavailable("nats", f"the credentials file {path} is damaged")
    if found is None:
        raise damaged
    try:
        nkeys.from_seed(bytearray(found["seed"]))
    except Exception:  # noqa: BLE001 - nkeys and nacl raise many unrelated kinds
        raise damaged from None


async def settle(nc: NatsClient) -> None:
    """Return once NATS has taken in all that was sent before.

    The ping of nats-py's own `flush` overtakes what waits to be written.
    """
    await nc._flush_pending(force_flush=True)
    await nc.flush(timeout=2)


def when_disconnected(nc: NatsClient, callback: Callable[[], None]) -> None:
    """Call back whenever the connection breaks, after whoever asked for that before."""
    before = nc._disconnected_cb  # the option is set at connect

    async def disconnected() -> None:
        callback()
        if before is not None:
            await before()

    nc._disconnected_cb = disconnected


def when_reconnected(nc: NatsClient, callback: Callable[[], None]) -> None:
    """Call back whenever the connection is there again, after whoever asked for that before."""
    before = nc._reconnected_cb  # the option is set at connect

    async def reconnected() -> None:
        callback()
        if before is not None:
            await before()

    nc._reconnected_cb = reconnected
