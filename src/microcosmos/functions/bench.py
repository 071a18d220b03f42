"""The load test of CosmoCompute's story, for a function of ours.

So many connections ask one after the other, each its next request when it has the last answer:
what the story calls threads. All of them live in one loop of one process, each on a connection of
its own that stays open; a thread each would measure Python's lock. What that process uses of its
core is told with the figures, so that nobody takes the client's limit for the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import cast
from urllib.parse import urlsplit

import msgspec

from microcosmos.base import errors

PATIENCE = 30.0
"""Seconds that one answer may take."""

_END = b"\r\n\r\n"
_LAST = b"0\r\n\r\n"
_MILLION = 1e6


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """What so many connections have seen. Times are seconds, if a name does not say otherwise.

    Attributes:
        threads: connections.
        requests: of each connection.
        total: requests that were answered, or failed.
        errors: of them, those without a good answer.
        subjective_time: the time of every connection, added up.
        real_time: by the clock on the wall.
        subjective_average: requests a second that one connection has seen.
        mean_latency_ms: of a request.
        real_average: requests a second.
        p50_ms: half of all requests took no longer.
        p99_ms: 99 of 100 requests took no longer.
        client_cpu: hundredths of a core that the measuring itself took.
        memory: bytes of the platform's processes after this; 0 is not known.
        failures: how often each kind of failure was seen.
    """

    threads: int
    requests: int
    total: int
    errors: int
    subjective_time: float
    real_time: float
    subjective_average: float
    mean_latency_ms: float
    real_average: float
    p50_ms: float
    p99_ms: float
    client_cpu: float
    memory: int = 0
    failures: dict[str, int] = {}

    def text(self) -> str:
        """As CosmoCompute's load generator prints it, and below it what that does not tell."""
        lines = [
            "=" * 36,
            f"Thread Count: {self.threads} Requests Per Thread: {self.requests}",
            f"Total: {self.total} Errors: {self.errors}"
            f" Subjective Time: {self.subjective_time:.3f} Real Time: {self.real_time:.3f}",
            f"Subjective Average: {self.subjective_average:,.2f}",
            f"Mean Latency: {self.mean_latency_ms:.3f}",
            f"Real Average: {self.real_average:,.2f}",
            f"p50: {self.p50_ms:.3f} p99: {self.p99_ms:.3f}",
            f"Memory: {self.memory / _MILLION:.1f} MB" if self.memory else "Memory: not known",
            f"Client: {self.client_cpu:.0f} % of a core",
        ]
        lines += [f"Failed: {count} x {what}" for what, count in self.failures.items()]
        return "\n".join(lines)


class Target(msgspec.Struct, frozen=True):
    """What is asked.

    Attributes:
        url: the whole of it, ``http://…`` or ``https://…``.
        headers: sent with each request.
        method: of HTTP; there is no body.
    """

    url: str
    headers: list[tuple[str, str]] = []
    method: str = "GET"

    @property
    def request(self) -> bytes:
        """The bytes of one request."""
        parts = urlsplit(self.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = [f"{self.method} {path} HTTP/1.1", f"host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def block(target: Target, threads: int, requests: int) -> Block:
    """Let so many connections make so many requests each.

    Raises:
        errors.Unavailable: the server cannot be reached.
    """
    connections = [_Connection(target) for _ in range(threads)]
    try:
        for connection in connections:
            await connection.open()
        cpu, begun = time.process_time(), time.perf_counter()
        times = await asyncio.gather(*(one.ask(requests) for one in connections))
        real, cpu = time.perf_counter() - begun, time.process_time() - cpu
    finally:
        for connection in connections:
            connection.close()
    took = sorted(latency for one in connections for latency in one.latencies)
    failures = Counter(what for one in connections for what in one.failures)
    total, subjective = threads * requests, sum(times)
    return Block(
        threads=threads,
        requests=requests,
        total=total,
        errors=failures.total(),
        subjective_time=subjective,
        real_time=real,
        subjective_average=total / subjective,
        mean_latency_ms=subjective / total * 1000,
        real_average=total / real,
        p50_ms=_percentile(took, 50) * 1000,
        p99_ms=_percentile(took, 99) * 1000,
        client_cpu=cpu / real * 100,
        failures=dict(failures),
    )


async def once(target: Target) -> tuple[int, bytes]:
    """The status and the body of one answer.

    Raises:
        errors.Unavailable: the server cannot be reached, or does not answer.
    """
    connection = _Connection(target)
    try:
        await connection.open()
        await connection.ask(1)
        if not connection.status:
            raise errors.Unavailable("functions.bench", f"{target.url}: {connection.failures[0]}")
        return connection.status, connection.body
    finally:
        connection.close()


def memory(pids: Iterable[int]) -> int:
    """Bytes of processes and all their children, what they share counted once."""
    import psutil

    total = 0
    known: set[int] = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                if one.pid not in known:
                    known.add(one.pid)
                    total += _memory(one.pid)
    return total


def _memory(pid: int) -> int:
    import psutil

    try:
        full = psutil.Process(pid).memory_full_info()
        return int(getattr(full, "pss", 0) or full.rss)
    except psutil.Error:
        return 0


def _percentile(ordered: list[float], hundredths: int) -> float:
    if not ordered:
        return 0.0
    return ordered[max(0, -(-len(ordered) * hundredths // 100) - 1)]


class _Connection(asyncio.Protocol):
    """One connection that stays open, and one request at a time.

    Attributes:
        latencies: seconds of each request that was answered.
        failures: what went wrong, once for each time.
        status: of the last answer; 0 is none.
        body: of the last answer, as it came.
    """

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._request = target.request
        self._url = target.url
        self._bodiless = target.method == "HEAD"
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bool] | None = None
        self._data = b""
        self.latencies = array("d")
        self.failures: list[str] = []
        self.status = 0
        self.body = b""

    async def open(self) -> None:
        """Connect.

        Raises:
            errors.Unavailable: there is nobody.
        """
        loop = asyncio.get_running_loop()
        context = ssl.create_default_context() if self._secure else None
        try:
            await loop.create_connection(lambda: self, self._host, self._port, ssl=context)
        except OSError as exc:
            reason = os.strerror(exc.errno).lower() if exc.errno and exc.errno > 0 else str(exc)
            raise errors.Unavailable("functions.bench", f"{self._url}: {reason}") from None

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    async def ask(self, requests: int) -> float:
        """Make so many requests, one after the other; returns the seconds of all."""
        loop, clock = asyncio.get_running_loop(), time.perf_counter
        began = clock()
        for _ in range(requests):
            if self._transport is None or self._transport.is_closing():
                await self.open()
            sent = clock()
            self.status, self._data = 0, b""
            answer = self._answer = loop.create_future()
            late = loop.call_later(PATIENCE, self._late)
            assert self._transport is not None
            self._transport.write(self._request)
            good = await answer
            late.cancel()
            if good:
                self.latencies.append(clock() - sent)
            if not good or not 200 <= self.status < 300:
                self.failures.append(str(self.status) if good else "no answer")
        return clock() - began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        # Without a length the end of the connection is the end of the body.
        self._done(bool(self.status) and exc is None)

    def data_received(self, data: bytes) -> None:
        self._data = data = self._data + data if self._data else data
        end = data.find(_END)
        if end < 0:
            return
        if not self.status:
            self.status = int(data[9:12])
        head = data[:end].lower()
        at = end + len(_END)
        if self._bodiless or self.status in (204, 304):
            whole = True
        elif (length := _field(head, b"\r\ncontent-length:")) is not None:
            whole = len(data) - at >= int(length)
        elif b"chunked" in (_field(head, b"\r\ntransfer-encoding:") or b""):
            whole = data.endswith(_LAST) and (
                len(data) == at + len(_LAST) or data[-7:-5] == b"\r\n"
            )
        else:
            return
        if whole:
            self.body = data[at:]
            self._done(True)

    def _late(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._done(False)

    def _done(self, good: bool) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(good)


def _field(head: bytes, name: bytes) -> bytes | None:
    """The value of a header of one, if it is there."""
    at = head.find(name)
    if at < 0:
        return None
    start = at + len(name)
    stop = head.find(b"\r\n", start)
    return head[start : stop if stop >= 0 else len(head)].strip()
