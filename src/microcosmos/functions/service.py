"""The control plane served over rpc: the service ``functions`` of the core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from microcosmos.base import errors
from microcosmos.base.audit import Audit, unaudited
from microcosmos.monitor.ledger.service import asking
from microcosmos.monitor.ledger.wire import Consumption, ConsumptionRequest
from microcosmos.registry.interface import UNLISTED
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Access, Hosted
from microcosmos.runtime.deployment import label
from microcosmos.runtime.logs import MAX_LINES, LogsAnswer
from microcosmos.runtime.logs import LogsRequest as ReadRequest

from . import diffs, drafts, making, replay, rights
from .accounts import Accounts
from .catalogue import Catalogue
from .heads import Found
from .interface import Draft, Finding, Function, Version
from .internal import Internal
from .limiting import Limiting
from .making import Engines
from .requests import (
    NAME,
    Diff,
    DiffRequest,
    Findings,
    History,
    HistoryRequest,
    Invoked,
    InvokeRequest,
    Listed,
    ListRequest,
    LogLine,
    LogsRequest,
    NameRequest,
    NumberRequest,
    Pardoned,
    SecretRequest,
    Sources,
    SplitRequest,
    Verified,
    checked_page,
)
from .showing import path_of
from .versions import Made
from .workers import Replaying

FOLLOW = 20.0
"""Seconds that a look for new lines of a log waits for one."""

Invoke = Callable[[InvokeRequest], Awaitable[Invoked]]
"""Sends a function a request for whoever makes the call that is being handled."""

Replays = Callable[[Replaying], Awaitable[Invoked]]
"""Sends a function a request in a replay; `workers.WorkersClient.replay`."""


class Logs(Protocol):
    """The logs of services; `runtime.logs.Logs` has them."""

    async def read(self, request: ReadRequest) -> LogsAnswer:
        """The lines asked for."""

    def forget(self, name: str) -> None:
        """Remove the logs of a service."""


class FunctionsService:
    """Serves a catalogue; each call is about the namespace that it is made in.

    Args:
        catalogue: the core's own.
        engines: look at sources.
        accounts: those that functions call by; without them they call as nobody.
        logs: of functions, kept as those of services are.
        invoke: sends a function a request.
        replays: sends one in a replay.
        audit: notes what was changed.
        proof: who shows it is told secrets; without one nobody is.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        engines: Engines,
        *,
        accounts: Accounts | None = None,
        logs: Logs | None = None,
        invoke: Invoke | None = None,
        replays: Replays | None = None,
        audit: Audit = unaudited,
        proof: str = "",
    ) -> None:
        self._catalogue = catalogue
        self._engines = engines
        self._accounts = accounts
        self._logs = logs
        self._invoke = invoke
        self._replays = replays
        self._audit = audit
        self._limiting = Limiting(catalogue, audit, accounts.has_account if accounts else None)
        self._internal = Internal(catalogue, accounts, proof)

    def hosted(self) -> Hosted:
        """The service ``functions``."""
        changing, unlisted = {"retry": "false"}, {UNLISTED: "true"}
        limiting, internal = self._limiting, self._internal
        functions: dict[str, tuple[Callable[..., Any], Access, dict[str, str]]] = {
            "Validate": (self.validate, "account", {}),
            "Deploy": (self.deploy, "account", changing),
            "List": (self.list, "account", {}),
            "Get": (self.get, "account", {}),
            "History": (self.history, "account", {}),
            "Sources": (self.sources, "account", {}),
            "Diff": (self.diff, "account", {}),
            "Rollback": (self.rollback, "account", changing),
            "Split": (self.split, "account", changing),
            "Delete": (self.delete, "account", changing),
            "Verify": (self.verify, "account", {}),
            "Consumption": (self.consumption, "account", {}),
            "ForgetSecret": (self.forget_secret, "account", changing),
            "Pardon": (self.pardon, "account", changing),
            "Logs": (self.logs, "account", {}),
            "SetQuota": (limiting.set_quota, "account", changing),
            "Quotas": (limiting.quotas, "account", {}),
            "DeleteQuota": (limiting.delete_quota, "account", changing),
            "Limits": (limiting.limits, "account", {}),
            "SetLimits": (limiting.set_limits, "account", changing),
            "Invoke": (self.invoke, "account", changing),
            "Follow": (internal.follow, "platform", unlisted),
            "Unit": (internal.unit, "platform", unlisted),
            "Pass": (internal.grant, "platform", unlisted),
            "Count": (internal.count, "platform", unlisted),
            "Strike": (internal.strike, "platform", unlisted),
            # By proof: who reveals secrets is nobody that people or services can be.
            "Reveal": (internal.reveal, "open", unlisted),
        }
        endpoints = [
            endpoint(
                function,
                NAME,
                name=f"Functions.{name}",
                lenient=True,
                access=access,
                metadata=about,
            )
            for name, (function, access, about) in functions.items()
        ]
        return Hosted(NAME, endpoints)

    # Deploying.

    async def validate(self, request: Draft) -> Findings:
        """What keeps a draft from being deployed; nothing is stored."""
        made, _ = await self._made(request)
        return Findings([] if isinstance(made, Made) else list(made))

    async def deploy(self, request: Draft) -> Version:
        """Make a version of a function and let it have all requests."""
        made, found = await self._made(request)
        if not isinstance(made, Made):
            raise making.refusal(made)
        here, who = rights.namespace(), rights.claimant()
        if found is None and self._accounts is not None:
            await self._accounts.service_account(here, request.name)
        version = await self._catalogue.deploy(here, made, found, who)
        await self._known(request.name)
        await self._noted("deployed", request.name, version)
        return version

    async def _made(self, draft: Draft) -> tuple[Made | Sequence[Finding], Found | None]:
        """What a draft becomes, or what is wrong with its sources; and what it is to replace."""
        plan = drafts.check(draft)
        here, routes = rights.namespace(), plan.draft.routes
        if (known := await self._catalogue.find(here, draft.name)) is not None and not rights.may(
            known
        ):
            detail = f"{path_of(draft.name)} belongs to {known.head.owner}; choose another name"
            raise errors.Conflict(NAME, detail)
        found = await self._catalogue.look(here, draft.name, routes, rights.claimant())
        self._catalogue.check_secrets(plan.draft, found)
        may = await self._catalogue.limits(here, plan.draft, found, rights.claimant())
        return await making.make(plan, self._engines, may), found

    async def rollback(self, request: NumberRequest) -> Version:
        """Deploy an old version once more; 0 is the one before the newest that gets requests."""
        found = await rights.own(self._catalogue, request.name)
        version = await self._catalogue.rollback(found, request.number, rights.claimant())
        await self._known(request.name)
        await self._noted("rolled back", request.name, version)
        return version

    async def split(self, request: SplitRequest) -> Function:
        """Divide the requests of a function among versions, hundredths by number."""
        found = await rights.own(self._catalogue, request.name)
        after = await self._catalogue.split(found, request.shares, rights.claimant())
        await self._known(request.name)
        shown = ", ".join(f"v{number}={part}" for number, part in request.shares.items())
        await self._audit("function split", request.name, shown)
        return await self._catalogue.function(after)

    async def delete(self, request: NameRequest) -> None:
        """Delete a function with its history, secrets, counts and log."""
        found = await rights.own(self._catalogue, request.name)
        gone = await self._catalogue.removal.delete(found.which)
        await self._catalogue.feed.audience.knows(gone)
        await self._audit("function deleted", request.name, f"v{found.head.number}")
        await self._forget(rights.namespace(), request.name)

    async def _forget(self, namespace: str, name: str) -> None:
        """Remove what others keep of a function that is no more."""
        self._catalogue.allotments.forget(namespace, name)
        if self._accounts is not None:
            await self._accounts.forget_service(namespace, name)
        if self._logs is not None:
            await asyncio.to_thread(self._logs.forget, label(namespace, name))

    async def clear(self, namespace: str) -> None:
        """Delete all functions of a namespace that is no more."""
        for name in await self._catalogue.removal.clear(namespace):
            await self._forget(namespace, name)
        await self._catalogue.allowances.clear(namespace)
        await self._catalogue.allotments.clear(namespace)

    async def forget_secret(self, request: SecretRequest) -> None:
        """Remove a secret of a function; versions that need it cannot be run any more."""
        found = await rights.own(self._catalogue, request.name)
        await self._catalogue.forget_secret(found, request.secret)
        await self._audit("function secret deleted", request.name, request.secret)

    async def pardon(self, request: NameRequest) -> Pardoned:
        """Forget what the versions of a function have done to their workers."""
        found = await rights.own(self._catalogue, request.name)
        versions = await self._catalogue.strikes.pardon(found.which)
        await self._audit("function pardoned", request.name, f"{versions} versions")
        return Pardoned(versions)

    # Looking.

    async def list(self, request: ListRequest) -> Listed:
        """The functions of the namespace by name: one's own, of an admin all."""
        limit = checked_page(request.limit)
        some = await self._catalogue.page(rights.namespace(), request.after, limit)
        mine = [one for one in some if rights.may(one)]
        functions = await self._catalogue.functions(rights.namespace(), mine)
        return Listed(functions, some[-1].name if len(some) == limit else "")

    async def get(self, request: NameRequest) -> Function:
        """One function."""
        return await self._catalogue.function(await rights.own(self._catalogue, request.name))

    async def history(self, request: HistoryRequest) -> History:
        """The versions of a function, the newest first."""
        found = await rights.own(self._catalogue, request.name)
        limit = checked_page(request.limit)
        versions = await self._catalogue.history(found, request.before, limit)
        return History([*versions], bool(versions) and versions[-1].number > 1)

    async def sources(self, request: NumberRequest) -> Sources:
        """The files of a version; 0 is the newest that gets requests."""
        found = await rights.own(self._catalogue, request.name)
        number = request.number or found.head.live
        return Sources(number, await self._catalogue.sources(found, number))

    async def diff(self, request: DiffRequest) -> Diff:
        """What differs between two versions; unless said the last one, and the one before."""
        found = await rights.own(self._catalogue, request.name)
        new = request.new or found.head.live
        old = request.old or new - 1
        if old < 1:
            raise errors.NotFound(NAME, f"function {request.name} has no version before v{new}")
        sides = [
            diffs.Side(
                await self._catalogue.kept(found, number),
                await self._catalogue.sources(found, number),
            )
            for number in (old, new)
        ]
        return Diff(old, new, await asyncio.to_thread(diffs.text, *sides))

    async def verify(self, request: NameRequest) -> Verified:
        """What is wrong with the chain of a function's versions."""
        found = await rights.own(self._catalogue, request.name)
        problems, count = await self._catalogue.verify(found)
        return Verified(problems, count)

    async def consumption(self, request: ConsumptionRequest) -> Consumption:
        """What a function has used, or all that are one's own; of an admin all of the namespace."""
        if request.name:
            await rights.own(self._catalogue, request.name)
        asked = msgspec.structs.replace(request, kind="function")
        question = asking(self._catalogue.ledger, rights.namespace(), NAME)
        return await question.answer(asked, known=True)

    async def logs(self, request: LogsRequest) -> AsyncIterator[LogLine]:
        """The last lines of a function's log, and with follow those that come."""
        await rights.own(self._catalogue, request.name)
        if self._logs is None:
            return
        if not 0 <= request.lines <= MAX_LINES:
            raise errors.BadRequest(NAME, f"lines: use 0 to {MAX_LINES}")
        # One that follows is given whole lines only.
        asked = ReadRequest(
            name=label(rights.namespace(), request.name),
            lines=request.lines,
            wait=1e-3 if request.follow else 0.0,
        )
        while True:
            answer = await self._logs.read(asked)
            for line in answer.lines:
                yield LogLine(line.text)
            if not request.follow:
                return
            await rights.own(self._catalogue, request.name)
            asked = ReadRequest(name=asked.name, cursor=answer.cursor, wait=FOLLOW)

    async def invoke(self, request: InvokeRequest) -> Invoked:
        """Send a function a request, as it would come by HTTP."""
        await self._catalogue.get(rights.namespace(), request.name)
        if request.replay is not None:
            # Nobody else is to see a function with a clock that is wrong.
            await rights.own(self._catalogue, request.name)
            replay.check(request.replay)
            if self._replays is None:
                raise errors.Unimplemented(NAME, "there is no host here to replay a request on")
            return await self._replays(Replaying(namespace=rights.namespace(), request=request))
        if self._invoke is None:
            raise errors.Unimplemented(NAME, "there is no gateway here to send a request to")
        return await self._invoke(request)

    async def _known(self, name: str) -> None:
        """Wait until the gateways know how a function is by now: who is answered asks them next."""
        found = await self._catalogue.find(rights.namespace(), name)
        if found is not None:
            await self._catalogue.feed.audience.knows(found.version)

    async def _noted(self, what: str, name: str, version: Version) -> None:
        detail = f"v{version.number} {version.hash[:12]}"
        await self._audit(f"function {what}", name, detail)
