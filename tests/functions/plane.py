"""The control plane over a real store, with real accounts, served in memory."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import quickjs

from microcosmos.auth.keys import TokenKeys, platform_token
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.config.keys import Keys
from microcosmos.functions.catalogue import Catalogue
from microcosmos.functions.client import PlatformFunctions, RemoteFunctions
from microcosmos.functions.conflicts import Others, no_others
from microcosmos.functions.interface import Draft, Finding
from microcosmos.functions.service import FunctionsService, Invoke, Logs
from microcosmos.functions.wire import Checked, Source
from microcosmos.functions.workers import Bundle, Bundling
from microcosmos.rpc import Client, MemoryNetwork, Server
from microcosmos.store import PLATFORM, Store, open_store

from ..auth.world import World, world

PROOF = "what the egress shows"
HELLO = "`hello ${path}`"


class Engines:
    """Looks at sources in this process; in a server the host has it done by workers.

    Attributes:
        meeting: where those wait for each other who deploy at the same time.
    """

    def __init__(self) -> None:
        self.bundled = 0
        self.meeting = asyncio.Barrier(1)

    async def check(self, source: Source) -> Checked:
        await self.meeting.wait()
        if re.search(r"^\s*(import|export)\b", source.code, re.MULTILINE):
            return Checked(form="module")
        try:
            quickjs.Function("f", f"function f() {{}}\n(() => {{\n{source.code}\n}})")
        except quickjs.JSException as exc:
            where = re.search(r"<input>:(\d+):?(\d*)", str(exc))
            line = int(where[1]) - 2 if where else 0
            column = int(where[2] or 0) if where else 0
            return Checked(line=line, column=column, message=str(exc).splitlines()[0])
        handler = re.search(r"\b(function|def) handler\b", source.code)
        return Checked(form="handler" if handler else "script")

    async def bundle(self, bundling: Bundling) -> Bundle:
        self.bundled += 1
        for path in re.findall(r'from "\./([^"]+)"', bundling.files[bundling.main]):
            if path not in bundling.files:
                message = f"there is no ./{path}"
                finding = Finding(file=bundling.main, line=1, column=1, message=message)
                return Bundle(findings=[finding])
        return Bundle(code="// linked\n" + "\n".join(bundling.files.values()))


class Plane:
    """What tests hold.

    Args:
        auth: accounts that are there.
        store: where functions are kept.
        catalogue: of it.
        service: of that.
        engines: look at sources.
    """

    def __init__(
        self,
        auth: World,
        store: Store,
        catalogue: Catalogue,
        service: FunctionsService,
        engines: Engines,
    ) -> None:
        self.engines = engines
        self.auth = auth
        self.store = store
        self.catalogue = catalogue
        self.service = service
        self.server = Server(verifier=auth.authority.access)
        self.server.add(service.hosted())
        self.network = MemoryNetwork()
        self.network.join(self.server)

    def calling(self, token: str = "", namespace: str = "") -> Client:
        """A client that shows a token."""
        header = f"Bearer {token}" if token else ""
        return Client([self.network], identity=lambda: header, namespace=namespace)

    async def admin(self) -> RemoteFunctions:
        """The functions as the first account sees them."""
        return RemoteFunctions(self.calling(await self.auth.login()))

    async def of(self, id: str, *scopes: str, namespace: str = "micro") -> RemoteFunctions:
        """The functions as a new account sees them."""
        token = await self.auth.make(id, *scopes, namespace=namespace)
        return RemoteFunctions(self.calling(token, namespace))

    @property
    def badge(self) -> Client:
        """A client that calls as a process of the platform."""
        return self.calling(platform_token(self.auth.keys, "gateway"))

    @property
    def platform(self) -> PlatformFunctions:
        """What a process of the platform asks."""
        return PlatformFunctions(self.badge)


@contextlib.asynccontextmanager
async def opened(
    store: Store | str = "memory://",
    *,
    keys: Keys | None = None,
    token_keys: TokenKeys | None = None,
    clock: Clock = SYSTEM,
    others: Others = no_others,
    logs: Logs | None = None,
    invoke: Invoke | None = None,
) -> AsyncIterator[Plane]:
    async with contextlib.AsyncExitStack() as stack:
        if isinstance(store, str):
            store = await stack.enter_async_context(open_store(store, clock=clock))
        auth = await stack.enter_async_context(world(store, keys=token_keys, clock=clock))
        own = store.table(database=PLATFORM)
        catalogue = Catalogue(own, keys or Keys(), others=others, clock=clock)
        stack.callback(catalogue.feed.close)
        engines = Engines()
        service = FunctionsService(
            catalogue,
            engines,
            accounts=auth.authority,
            logs=logs,
            invoke=invoke,
            audit=auth.authority.audit,
            proof=PROOF,
        )
        yield Plane(auth, own, catalogue, service, engines)


def draft(name: str = "hello", code: str = HELLO, **said: object) -> Draft:
    """A function of one file, which may read its secrets."""
    if "secrets" in said and "secret_uses" not in said:
        said.setdefault("grants", ["secret"])
    return Draft(name=name, files={"index.js": code}, **said)  # type: ignore[arg-type]
