"""The control plane served over rpc: the service ``functions`` of the core."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import msgspec

from microcosmos.auth.interface import Account
from microcosmos.base import context, errors
from microcosmos.base.audit import Audit, unaudited
from microcosmos.monitor.ledger.service import asking
from microcosmos.monitor.ledger.wire import Consumption, ConsumptionRequest
from microcosmos.registry.interface import UNLISTED
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Access, Hosted
from microcosmos.runtime.deployment import label
from microcosmos.runtime.logs import MAX_LINES, LogsAnswer
from microcosmos.runtime.logs import LogsRequest as ReadRequest

from . import diffs, drafts, ledger, limits, making, replay
from .catalogue import Catalogue
from .claiming import Claimant
from .heads import Found
from .interface import Draft, Finding, Function, News, State, Unit, Version
from .making import Engines
from .quotas import SOFT, By, Quota, Subject, period_of
from .requests import (
    NAME,
    PAGE,
    AccountLimits,
    Allotted,
    CountRequest,
    Diff,
    DiffRequest,
    Findings,
    FollowRequest,
    History,
    HistoryRequest,
    Invoked,
    InvokeRequest,
    LimitsRequest,
    Listed,
    ListRequest,
    LogLine,
    LogsRequest,
    NameRequest,
    NumberRequest,
    Pardoned,
    Pass,
    PassRequest,
    QuotaRequest,
    Quotas,
    QuotasRequest,
    Revealed,
    RevealRequest,
    SecretRequest,
    SetLimitsRequest,
    Sources,
    SplitRequest,
    StrikeRequest,
    UnitRequest,
    Verified,
)
from .showing import path_of
from .tallies import Tally
from .versions import Made, stamp
from .workers import Replaying

FOLLOW = 20.0
"""Seconds that a look for new lines of a log waits for one."""

HOST = "functions"
"""The process that has the workers, by its badge."""

NOBODY = "admin"
"""Who owns what is deployed where there are no accounts, or by the platform itself."""

log = logging.getLogger("microcosmos.functions")

Invoke = Callable[[InvokeRequest], Awaitable[Invoked]]
"""Sends a function a request for whoever makes the call that is being handled."""

Replays = Callable[[Replaying], Awaitable[Invoked]]
"""Sends a function a request in a replay; `workers.WorkersClient.replay`."""


class Granted(Protocol):
    """A token."""

    @property
    def access_token(self) -> str: ...

    @property
    def expiry(self) -> float: ...


class Accounts(Protocol):
    """The accounts that functions call by; `auth.authority.Authority` has them."""

    async def has_account(self, namespace: str, id: str) -> bool:
        """Whether there is an account."""

    async def service_account(self, namespace: str, service: str) -> None:
        """Make the account of a service, unless it is there."""

    async def service_token(self, namespace: str, service: str) -> Granted:
        """A token of the account of a service."""

    async def forget_service(self, namespace: str, service: str) -> None:
        """Remove the account of a service."""


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
        self._proof = proof

    def hosted(self) -> Hosted:
        """The service ``functions``."""
        changing, internal = {"retry": "false"}, {UNLISTED: "true"}
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
            "SetQuota": (self.set_quota, "account", changing),
            "Quotas": (self.quotas, "account", {}),
            "DeleteQuota": (self.delete_quota, "account", changing),
            "Limits": (self.limits, "account", {}),
            "SetLimits": (self.set_limits, "account", changing),
            "Invoke": (self.invoke, "account", changing),
            "Follow": (self.follow, "platform", internal),
            "Unit": (self.unit, "platform", internal),
            "Pass": (self.grant, "platform", internal),
            "Count": (self.count, "platform", internal),
            "Strike": (self.strike, "platform", internal),
            # By proof: who reveals secrets is nobody that people or services can be.
            "Reveal": (self.reveal, "open", internal),
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
        here, who = _namespace(), _claimant()
        if found is None and self._accounts is not None:
            await self._accounts.service_account(here, request.name)
        version = await self._catalogue.deploy(here, made, found, who)
        await self._noted("deployed", request.name, version)
        return version

    async def _made(self, draft: Draft) -> tuple[Made | Sequence[Finding], Found | None]:
        """What a draft becomes, or what is wrong with its sources; and what it is to replace."""
        plan = drafts.check(draft)
        here, routes = _namespace(), plan.draft.routes
        if (known := await self._catalogue.find(here, draft.name)) is not None and not _may(known):
            detail = f"{path_of(draft.name)} belongs to {known.head.owner}; choose another name"
            raise errors.Conflict(NAME, detail)
        found = await self._catalogue.look(here, draft.name, routes, _claimant())
        self._catalogue.check_secrets(plan.draft, found)
        may = await self._catalogue.limits(here, plan.draft, found, _claimant())
        return await making.make(plan, self._engines, may), found

    async def rollback(self, request: NumberRequest) -> Version:
        """Deploy an old version once more; 0 is the one before the newest that gets requests."""
        found = await self._own(request.name)
        version = await self._catalogue.rollback(found, request.number, _claimant())
        await self._noted("rolled back", request.name, version)
        return version

    async def split(self, request: SplitRequest) -> Function:
        """Divide the requests of a function among versions, hundredths by number."""
        found = await self._own(request.name)
        after = await self._catalogue.split(found, request.shares, _claimant())
        shown = ", ".join(f"v{number}={part}" for number, part in request.shares.items())
        await self._audit("function split", request.name, shown)
        return await self._catalogue.function(after)

    async def delete(self, request: NameRequest) -> None:
        """Delete a function with its history, secrets, counts and log."""
        found = await self._own(request.name)
        await self._catalogue.removal.delete(found.which)
        await self._audit("function deleted", request.name, f"v{found.head.number}")
        await self._forget(_namespace(), request.name)

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
        found = await self._own(request.name)
        await self._catalogue.forget_secret(found, request.secret)
        await self._audit("function secret deleted", request.name, request.secret)

    async def pardon(self, request: NameRequest) -> Pardoned:
        """Forget what the versions of a function have done to their workers."""
        found = await self._own(request.name)
        versions = await self._catalogue.strikes.pardon(found.which)
        await self._audit("function pardoned", request.name, f"{versions} versions")
        return Pardoned(versions)

    # What the functions of an account may use.

    async def limits(self, request: LimitsRequest) -> AccountLimits:
        """What the functions of an account may use: of one's own, of an admin of any."""
        account = request.account or _caller()
        if account != _caller():
            await self._check_account(account, f"the limits of {account:.80} are not yours to see")
        allowed = await self._catalogue.allowances.of(_namespace(), account)
        return _account_limits(account, allowed.allowance)

    async def set_limits(self, request: SetLimitsRequest) -> AccountLimits:
        """Say what the functions of an account may use, from now on; for admins."""
        account = request.account or _caller()
        await self._check_account(account, "only an admin may change what accounts may use")

        def change(before: limits.Allowance) -> limits.Allowance:
            known = limits.Allowance() if request.reset else before
            return limits.changed(known, request.defaults, request.ceilings)

        after = await self._catalogue.allowances.change(_namespace(), account, change)
        await self._audit("function limits changed", account, limits.told(after))
        return _account_limits(account, after)

    async def _check_account(self, account: str, refusal: str) -> None:
        """Refuse who is no admin, and an account that there is not."""
        if not _administers(_namespace()):
            raise errors.Forbidden(NAME, refusal)
        if self._accounts is None or account == NOBODY:
            return
        # Those of other namespaces are named with them.
        namespace, _, id = account.rpartition("/")
        if not await self._accounts.has_account(namespace or _namespace(), id):
            raise errors.NotFound(NAME, f"there is no account {account!r:.80}")

    # Quotas.

    async def set_quota(self, request: QuotaRequest) -> Allotted:
        """Say how much of a measure may be used in each period, from now on."""
        found, by = await self._may_limit(request)
        quota = Quota(
            measure=request.measure,
            most=request.most,
            period=period_of(request.period),
            soft=[SOFT] if request.soft is None else request.soft,
            by=by,
        )
        subject = Subject(_namespace(), request.name, request.account)
        tally = await self._catalogue.allotments.set(subject, quota, found)
        await self._audit("function quota set", subject.shown, quota.shown)
        return _allotted(subject, tally)

    async def delete_quota(self, request: QuotaRequest) -> None:
        """Let as much be used as there is again."""
        found, by = await self._may_limit(request)
        subject = Subject(_namespace(), request.name, request.account)
        await self._catalogue.allotments.delete(
            subject, request.measure, request.period, admin=by == "admin", found=found
        )
        detail = f"{request.measure}/{request.period}"
        await self._audit("function quota deleted", subject.shown, detail)

    async def quotas(self, request: QuotasRequest) -> Quotas:
        """Quotas, and what is used of them: one's own and those above, for an admin all."""
        limit = _page(request.limit)
        account, only = request.account, request.name
        if only:
            account = (await self._own(only)).head.owner
        elif account and account != _caller():
            await self._check_account(account, f"the quotas of {account:.80} are not yours to see")
        listed: list[Allotted] = []
        known = await self._catalogue.allotments.all(_namespace())
        all_shown = [(subject, _allotted(subject, tally)) for subject, tally in known]
        for subject, shown in sorted(all_shown, key=lambda one: _cursor(one[1])):
            if _cursor(shown) <= request.after or not await self._sees(subject, only, account):
                continue
            if len(listed) == limit:
                return Quotas(listed, _cursor(listed[-1]))
            listed.append(shown)
        return Quotas(listed)

    async def _sees(self, subject: Subject, only: str, account: str) -> bool:
        """Whether a quota is asked for, and may be seen."""
        if subject.account:
            wanted = account or ("" if _administers(_namespace()) else _caller())
            return not wanted or subject.account == wanted
        if not subject.name or only:
            return subject.name in ("", only)
        found = await self._catalogue.find(_namespace(), subject.name)
        return found is not None and _may(found) and account in ("", found.head.owner)

    async def _may_limit(self, request: QuotaRequest) -> tuple[Found | None, By]:
        """The function that a quota is of, if it is one's, and as what the caller says so."""
        by: By = "admin" if _administers(_namespace()) else "owner"
        if request.name and request.account:
            raise errors.BadRequest(NAME, "quota: of a function or of an account, not of both")
        if request.name:
            return await self._own(request.name), by
        if request.account:
            await self._check_account(request.account, "only an admin sets quotas of accounts")
        elif by != "admin":
            raise errors.Forbidden(NAME, "only an admin sets quotas of a namespace")
        return None, by

    # Looking.

    async def list(self, request: ListRequest) -> Listed:
        """The functions of the namespace by name: one's own, of an admin all."""
        limit = _page(request.limit)
        some = await self._catalogue.page(_namespace(), request.after, limit)
        mine = [one for one in some if _may(one)]
        functions = await self._catalogue.functions(_namespace(), mine)
        return Listed(functions, some[-1].name if len(some) == limit else "")

    async def get(self, request: NameRequest) -> Function:
        """One function."""
        return await self._catalogue.function(await self._own(request.name))

    async def history(self, request: HistoryRequest) -> History:
        """The versions of a function, the newest first."""
        found = await self._own(request.name)
        limit = _page(request.limit)
        versions = await self._catalogue.history(found, request.before, limit)
        return History([*versions], bool(versions) and versions[-1].number > 1)

    async def sources(self, request: NumberRequest) -> Sources:
        """The files of a version; 0 is the newest that gets requests."""
        found = await self._own(request.name)
        number = request.number or found.head.live
        return Sources(number, await self._catalogue.sources(found, number))

    async def diff(self, request: DiffRequest) -> Diff:
        """What differs between two versions; unless said the last one, and the one before."""
        found = await self._own(request.name)
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
        found = await self._own(request.name)
        problems, count = await self._catalogue.verify(found)
        return Verified(problems, count)

    async def consumption(self, request: ConsumptionRequest) -> Consumption:
        """What a function has used, or all that are one's own; of an admin all of the namespace."""
        if request.name:
            await self._own(request.name)
        asked = msgspec.structs.replace(request, kind="function")
        question = asking(self._catalogue.ledger, _namespace(), NAME)
        return await question.answer(asked, known=True)

    async def logs(self, request: LogsRequest) -> AsyncIterator[LogLine]:
        """The last lines of a function's log, and with follow those that come."""
        await self._own(request.name)
        if self._logs is None:
            return
        if not 0 <= request.lines <= MAX_LINES:
            raise errors.BadRequest(NAME, f"lines: use 0 to {MAX_LINES}")
        # One that follows is given whole lines only.
        asked = ReadRequest(
            name=label(_namespace(), request.name),
            lines=request.lines,
            wait=1e-3 if request.follow else 0.0,
        )
        while True:
            answer = await self._logs.read(asked)
            for line in answer.lines:
                yield LogLine(line.text)
            if not request.follow:
                return
            await self._own(request.name)
            asked = ReadRequest(name=asked.name, cursor=answer.cursor, wait=FOLLOW)

    async def invoke(self, request: InvokeRequest) -> Invoked:
        """Send a function a request, as it would come by HTTP."""
        await self._catalogue.get(_namespace(), request.name)
        if request.replay is not None:
            # Nobody else is to see a function with a clock that is wrong.
            await self._own(request.name)
            replay.check(request.replay)
            if self._replays is None:
                raise errors.Unimplemented(NAME, "there is no host here to replay a request on")
            return await self._replays(Replaying(namespace=_namespace(), request=request))
        if self._invoke is None:
            raise errors.Unimplemented(NAME, "there is no gateway here to send a request to")
        return await self._invoke(request)

    # For the platform's own processes.

    async def follow(self, request: FollowRequest) -> AsyncIterator[News]:
        """All functions of all namespaces, or what has changed since; then what changes."""
        _platform()
        async with aclosing(
            self._catalogue.feed.follow(request.epoch, request.sequence)
        ) as all_news:
            async for news in all_news:
                yield news

    async def unit(self, request: UnitRequest) -> Unit:
        """All that a worker needs to run a version."""
        _platform()
        found = await self._catalogue.get(request.namespace, request.name)
        return await self._catalogue.unit(found, request.number)

    async def grant(self, request: PassRequest) -> Pass:
        """A token by which a function calls as itself."""
        _platform()
        await self._catalogue.get(request.namespace, request.name)
        if self._accounts is None:
            return Pass("", 0.0)
        where = request.namespace, request.name
        try:
            granted = await self._accounts.service_token(*where)
        except errors.NotFound:
            # Its account was deleted by hand; the function is still there.
            await self._accounts.service_account(*where)
            granted = await self._accounts.service_token(*where)
        return Pass(granted.access_token, granted.expiry)

    async def count(self, request: CountRequest) -> None:
        """Add to what functions have used; once for each sequence of a worker."""
        _platform()
        counts = ledger.subjects(request.counts)
        await self._catalogue.ledger.add(request.worker, request.sequence, counts)

    async def strike(self, request: StrikeRequest) -> State:
        """Note what a version did to its worker; once for each worker."""
        _host()
        found = await self._catalogue.get(request.namespace, request.name)
        await self._catalogue.kept(found, request.number)
        return await self._catalogue.strikes.add(
            found.which,
            request.number,
            worker=request.worker,
            reason=request.reason,
            suspected=request.suspected,
        )

    async def reveal(self, request: RevealRequest) -> Revealed:
        """The value of a secret, for the egress of this server alone."""
        if not self._proof or not hmac.compare_digest(request.proof.encode(), self._proof.encode()):
            raise errors.Forbidden(NAME, "secrets are told to the egress of this server only")
        found = await self._catalogue.get(request.namespace, request.name)
        return Revealed(await self._catalogue.reveal(found, request.secret))

    async def _own(self, name: str) -> Found:
        """A function that the caller may look at and change.

        Raises:
            errors.NotFound: there is none.
            errors.Forbidden: it is another's.
        """
        found = await self._catalogue.get(_namespace(), name)
        _permit(found)
        return found

    async def _noted(self, what: str, name: str, version: Version) -> None:
        detail = f"v{version.number} {version.hash[:12]}"
        await self._audit(f"function {what}", name, detail)


def _namespace() -> str:
    return context.current().namespace


def _account() -> Account | None:
    account = context.current().account
    return account if isinstance(account, Account) else None


def _caller() -> str:
    """The id of who calls; with its namespace, if that is another."""
    account = _account()
    if account is None or account.type == "platform":
        return NOBODY
    here = _namespace()
    return account.id if account.namespace == here else f"{account.namespace}/{account.id}"


def _claimant() -> Claimant:
    return Claimant(_caller(), _administers(_namespace()))


def _administers(namespace: str) -> bool:
    account = _account()
    return account is None or account.administers(namespace)


def _may(found: Found) -> bool:
    """Whether the caller may look at a function, and change it."""
    return found.head.owner == _caller() or _administers(found.which.namespace)


def _permit(found: Found) -> None:
    if not _may(found):
        detail = f"function {found.name} belongs to {found.head.owner}"
        raise errors.Forbidden(NAME, detail)


def _account_limits(account: str, allowance: limits.Allowance) -> AccountLimits:
    return AccountLimits(
        account=account,
        defaults=allowance.defaults,
        ceilings=allowance.ceilings,
        default=allowance.limits({}),
        ceiling=allowance.most,
    )


def _platform() -> None:
    """Refuse people, admins too: what is told holds secrets."""
    account = _account()
    if account is not None and account.type != "platform":
        detail = f"this is for the platform's own processes, not for {account.id}"
        raise errors.Forbidden(NAME, detail)


def _host() -> None:
    """Refuse all but the process that has the workers."""
    _platform()
    account = _account()
    if account is not None and account.id != HOST:
        raise errors.Forbidden(NAME, f"this is for {HOST}, not for {account.id}")


def _page(limit: int) -> int:
    if not 0 < limit <= PAGE:
        raise errors.BadRequest(NAME, f"limit: a number from 1 to {PAGE}, not {limit}")
    return limit


def _allotted(subject: Subject, tally: Tally) -> Allotted:
    quota = tally.quota
    return Allotted(
        name=subject.name,
        account=subject.account,
        measure=quota.measure,
        most=quota.most,
        period=quota.period,
        soft=quota.soft,
        by=quota.by,
        used=tally.used,
        until=stamp(tally.end),
        spent=tally.spent,
    )


def _cursor(quota: Allotted) -> str:
    """Where a list goes on."""
    return "/".join((quota.name, quota.account, quota.measure, quota.period, quota.by))
