"""Connecting: names are looked up once, and all their addresses must be good."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore

from microcosmos.base import errors

from .addresses import is_nameable, kind_of
from .outgoing import FETCH
from .own import Own

LOOKUPS = 64
"""Names that are looked up at once."""

LOOKUPS_OF_OWNER = 16
"""Names that are looked up at once for one owner: some take long, and others are not to wait."""


Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host; raises OSError if there are none."""


class Backend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses of a host that are good, all of which must be.

    Args:
        resolve: looks hosts up.
        good: whether an address is.
        own: the platform's doors.
        lookups: room for them.
    """

    def __init__(
        self,
        resolve: Resolve,
        good: Callable[[str], bool],
        own: Own,
        lookups: asyncio.Semaphore,
    ) -> None:
        self._resolve = resolve
        self._good = good
        self._own = own
        self._lookups = lookups
        self._sockets = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.AsyncNetworkStream:
        async with asyncio.timeout(timeout):
            addresses = await self._addresses(host, port)
            failure: Exception | None = None
            for address in addresses:
                try:
                    return await self._sockets.connect_tcp(address, port)
                except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                    failure = failure or exc
        raise failure or httpcore.ConnectError("there is no address")

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            found = [str(ipaddress.ip_address(host))]
        except ValueError:
            try:
                async with self._lookups:
                    found = await self._resolve(host, port)
            except OSError as exc:
                reason = exc.strerror or str(exc)
                raise errors.BadGateway(FETCH, f"{host} cannot be found: {reason}") from None
        # All of them, before the first is connected to.
        for address in found:
            await self._check(host, address, port)
        return found

    async def _check(self, host: str, address: str, port: int) -> None:
        """Refuse an address that may not be reached."""
        where = host if host == address else f"{host} ({address})"
        if not self._good(address):
            kind = kind_of(address)
            if not is_nameable(address):
                detail = f"{where} is no public address ({kind}), and no function reaches it"
                raise errors.Forbidden(FETCH, detail)
            at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise errors.Forbidden(
                FETCH,
                f"{where} is no public address ({kind}); a function reaches it only if it is "
                f"deployed with `--allow-host {at}`",
            )
        if await self._own.holds(address, port):
            detail = f"{where} port {port} is the platform's own, which no function reaches"
            raise errors.Forbidden(FETCH, detail)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Any = None
    ) -> httpcore.AsyncNetworkStream:
        raise OSError("no function reaches a socket of this host")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Once:
    """Looks a host up once for all who ask at the same time."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._asking: dict[tuple[str, int], asyncio.Task[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> list[str]:
        key = host, port
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.create_task(self._look(host, port))
            asking.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(asking)

    async def _look(self, host: str, port: int) -> list[str]:
        return await self._resolve(host, port)


class Names:
    """Looks hosts up by the system, in threads: a name that takes long is to hold up nobody."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS, "names")

    async def __call__(self, host: str, port: int) -> list[str]:
        look = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
