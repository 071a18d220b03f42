"""The egress as a process, and a home around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from microcosmos.base import errors
from microcosmos.base.home import Home
from microcosmos.functions.egress.client import EgressClient
from microcosmos.functions.egress.policy import Policy
from microcosmos.functions.egress.told import KEY, OWN
from microcosmos.functions.requests import NAME, Revealed, RevealRequest
from microcosmos.functions.wire import Fetch, decode_headers, encode, unpack_reply
from microcosmos.rpc import Hosted, Server
from microcosmos.rpc.frames import END, ERROR, ITEM, REPLY, REQUEST
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.lane import listen

PROOF = "what the egress shows"


class Answer:
    """What comes back on one stream."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    def say(self, kind: int, payload: bytes) -> None:
        self.frames.put_nowait((kind, payload))

    async def next(self) -> tuple[int, bytes]:
        return await asyncio.wait_for(self.frames.get(), 10)

    async def whole(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; raises what it failed by."""
        status, headers, body = 0, {}, b""
        while True:
            kind, payload = await self.next()
            if kind == REPLY:
                status, _, head, body = unpack_reply(payload)
                headers = dict(decode_headers(head))
            elif kind == ITEM:
                body += payload
            elif kind == ERROR:
                raise errors.from_wire(payload)
            elif kind == END:
                return status, headers, body


class Running:
    """What tests hold.

    Attributes:
        home: of it.
        client: the host's end.
        process: it.
    """

    def __init__(self, home: Home, environ: Mapping[str, str]) -> None:
        self.home = home
        self.client = EgressClient(home.egress_lane)
        self._environ = environ
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        log = Path(self.home.logs / "egress.log").open("ab")  # noqa: SIM115
        with log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "microcosmos.functions.egress"],
                env={**self._environ},
                stdin=subprocess.DEVNULL,
                stderr=log,
                stdout=log,
            )
        return self.process

    async def ask(self, policy: Policy, fetch: Fetch, kind: int = REQUEST) -> Answer:
        answer = Answer()
        await self.client.begin(kind, encode(policy), encode(fetch), answer.say)
        return answer

    def log(self) -> str:
        return (self.home.logs / "egress.log").read_text()


def policy(*hosts: str, name: str = "shop", owner: str = "ann", **more: object) -> Policy:
    return Policy(
        namespace="micro",
        name=name,
        number=1,
        key="k",
        owner=owner,
        hosts=[*hosts],
        **more,  # type: ignore[arg-type]
    )


@contextlib.asynccontextmanager
async def running(own: str = "", values: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """An egress with a core that knows some values, each until it is asked without proof."""

    async def reveal(request: RevealRequest) -> Revealed:
        """The value of a secret."""
        if request.proof != PROOF:
            raise errors.Forbidden("functions", "no")
        return Revealed((values or {})[request.secret])

    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        home.make()
        server = Server()
        told = endpoint(reveal, NAME, name="Functions.Reveal", lenient=True, access="open")
        server.add(Hosted(NAME, [told]))
        environ = {**os.environ, "MICRO_HOME": folder, KEY: PROOF, OWN: own}
        async with listen(home.core_lane, server, drain=0.1):
            made = Running(home, environ)
            try:
                async with made.client:
                    yield made
            finally:
                made.process.kill()
                made.process.wait()
