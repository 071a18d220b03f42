"""Functions over rpc: the control plane, and what the platform's own processes ask of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from microcosmos.base import codec
from microcosmos.monitor.ledger.wire import By, Consumption, ConsumptionRequest
from microcosmos.rpc import Client

from .interface import Counts, Draft, Finding, Function, State, Unit, Version
from .requests import (
    DEPLOYING,
    NAME,
    AccountLimits,
    Allotted,
    CountRequest,
    Diff,
    DiffRequest,
    Findings,
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
    SecretRequest,
    SetLimitsRequest,
    Sources,
    SplitRequest,
    StrikeRequest,
    UnitRequest,
    Verified,
)

_ASKING = 10.0
_INVOKING = 60.0

T = TypeVar("T")


class RemoteFunctions:
    """See `interface.Functions`; everything is about the namespace that calls are made in.

    Args:
        client: carries the calls.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def validate(self, draft: Draft) -> Sequence[Finding]:
        """See `interface.Functions`."""
        return (await self._ask("Validate", draft, Findings, DEPLOYING)).findings

    async def deploy(self, draft: Draft) -> Version:
        """See `interface.Functions`."""
        return await self._change("Deploy", draft, Version)

    async def get(self, name: str) -> Function:
        """See `interface.Functions`."""
        return await self._ask("Get", NameRequest(name), Function)

    async def history(self, name: str) -> Sequence[Version]:
        """See `interface.Functions`."""
        found: list[Version] = []
        more = True
        while more:
            before = found[-1].number if found else 0
            page: History = await self._ask("History", HistoryRequest(name, before), History)
            found += page.versions
            more = page.more
        return found

    async def sources(self, name: str, number: int = 0) -> Mapping[str, str]:
        """See `interface.Functions`."""
        return (await self._ask("Sources", NumberRequest(name, number), Sources)).files

    async def diff(self, name: str, old: int = 0, new: int = 0) -> str:
        """What differs between two versions, as a unified diff.

        Args:
            name: of the function.
            old: the one version; 0 is the one before the other.
            new: the other; 0 is the newest that gets requests.
        """
        return (await self._ask("Diff", DiffRequest(name, old, new), Diff)).text

    async def rollback(self, name: str, number: int = 0) -> Version:
        """See `interface.Functions`."""
        return await self._change("Rollback", NumberRequest(name, number), Version)

    async def split(self, name: str, shares: Mapping[int, int]) -> Function:
        """See `interface.Functions`."""
        return await self._change("Split", SplitRequest(name, dict(shares)), Function)

    async def delete(self, name: str) -> None:
        """See `interface.Functions`."""
        await self._change("Delete", NameRequest(name), Any)

    async def verify(self, name: str) -> Sequence[str]:
        """See `interface.Functions`."""
        return (await self._ask("Verify", NameRequest(name), Verified, DEPLOYING)).problems

    async def consumption(self, name: str = "", *, since: str = "", by: By = "") -> Consumption:
        """See `interface.Functions`; all pages of the rows."""
        request = ConsumptionRequest(name=name, since=since, by=by)
        found: Consumption = await self._ask("Consumption", request, Consumption)
        while found.next:
            request = msgspec.structs.replace(request, after=found.next)
            page: Consumption = await self._ask("Consumption", request, Consumption)
            found.rows += page.rows
            found.next = page.next
        return found

    async def forget_secret(self, name: str, secret: str) -> None:
        """See `interface.Functions`."""
        await self._change("ForgetSecret", SecretRequest(name, secret), Any)

    async def pardon(self, name: str) -> int:
        """Forget the strikes of all versions of a function; how many versions had some."""
        return (await self._change("Pardon", NameRequest(name), Pardoned)).versions

    async def limits(self, account: str = "") -> AccountLimits:
        """What the functions of an account may use; empty is one's own.

        Raises:
            errors.Forbidden: it is another's, and one is no admin.
        """
        return await self._ask("Limits", LimitsRequest(account), AccountLimits)

    async def set_limits(
        self,
        account: str = "",
        *,
        defaults: Mapping[str, float] | None = None,
        ceilings: Mapping[str, float] | None = None,
        reset: bool = False,
    ) -> AccountLimits:
        """Say what the functions of an account may use, by the names of `Limits`; for admins.

        Args:
            account: whose; empty is one's own.
            defaults: of what its functions do not say; what is not named stays.
            ceilings: of what they may say; what is not named stays.
            reset: whether all that was said before is forgotten first.

        Raises:
            errors.BadRequest: one is not well said.
            errors.Forbidden: one is no admin.
            errors.NotFound: there is no such account.
        """
        request = SetLimitsRequest(
            account=account,
            defaults=dict(defaults or {}),
            ceilings=dict(ceilings or {}),
            reset=reset,
        )
        return await self._change("SetLimits", request, AccountLimits)

    async def set_quota(self, request: QuotaRequest) -> Allotted:
        """Say how much of a measure may be used in each hour, day or month, from now on.

        Raises:
            errors.BadRequest: there is no such measure or period, or that is no amount.
            errors.Forbidden: only an admin may, or an admin allows less.
            errors.NotFound: there is no such function or account.
        """
        return await self._change("SetQuota", request, Allotted)

    async def quotas(self, name: str = "", account: str = "") -> Sequence[Allotted]:
        """Quotas that one may look at, and what is used of them.

        Args:
            name: those that hold for this function.
            account: those that hold for this account.
        """
        found: list[Allotted] = []
        after, more = "", True
        while more:
            request = QuotasRequest(name=name, account=account, after=after)
            page: Quotas = await self._ask("Quotas", request, Quotas)
            found += page.quotas
            after, more = page.next, bool(page.next)
        return found

    async def delete_quota(self, request: QuotaRequest) -> None:
        """Delete a quota; what it has refused is let in at once.

        Raises:
            errors.Forbidden: an admin has set it.
            errors.NotFound: there is none.
        """
        await self._change("DeleteQuota", request, Any)

    async def logs(
        self, name: str, *, lines: int = 100, follow: bool = False
    ) -> AsyncIterator[str]:
        """See `interface.Functions`."""
        body = codec.encode(LogsRequest(name, lines, follow))
        async with self._client.stream(NAME, "Functions.Logs", body) as stream:
            async for message in stream:
                yield msgspec.json.decode(message, type=LogLine).line

    async def invoke(self, request: InvokeRequest) -> Invoked:
        """Send a function a request, as it would come by HTTP."""
        return await self._ask("Invoke", request, Invoked, _INVOKING, retry=False)

    # Last, because after it the name means this method to a type checker.
    async def list(self) -> Sequence[Function]:
        """See `interface.Functions`."""
        page: Listed = await self._ask("List", ListRequest(), Listed)
        found = page.functions
        while page.next:
            page = await self._ask("List", ListRequest(page.next), Listed)
            found += page.functions
        return found

    async def _change(self, method: str, request: object, kind: type[T] | Any) -> T:
        # Not tried twice: what was done already would be refused, or done once more.
        return await self._ask(method, request, kind, DEPLOYING, retry=False)

    async def _ask(
        self,
        method: str,
        request: object,
        kind: type[T] | Any,
        timeout: float = _ASKING,
        *,
        retry: bool = True,
    ) -> T:
        return await _ask(self._client, method, request, kind, timeout, retry=retry)


class PlatformFunctions:
    """What gateways and the host ask, about functions of any namespace.

    Args:
        client: calls as a process of the platform.
    """

    def __init__(self, client: Client) -> None:
        self._client = client.own()

    async def unit(self, namespace: str, name: str, number: int) -> Unit:
        """All that a worker needs to run a version.

        Raises:
            errors.NotFound: there is no such version.
            errors.Unavailable: a secret that it needs is gone.
        """
        request = UnitRequest(namespace, name, number)
        found: Unit = await _ask(self._client, "Unit", request, Unit, _ASKING)
        return found

    async def grant(self, namespace: str, name: str) -> Pass:
        """A token by which a function calls as itself.

        Raises:
            errors.NotFound: there is no such function.
        """
        request = PassRequest(namespace, name)
        found: Pass = await _ask(self._client, "Pass", request, Pass, _ASKING)
        return found

    async def strike(self, request: StrikeRequest) -> State:
        """Give a version a strike; it is kept durably on return.

        Raises:
            errors.NotFound: there is no such version any more.
        """
        found: State = await _ask(self._client, "Strike", request, State, _ASKING)
        return found

    async def count(self, worker: str, sequence: int, counts: Mapping[str, Counts]) -> None:
        """Add to what functions have used; it is kept durably on return.

        Args:
            worker: where; unique for ever. Its counts are sent one after the other.
            sequence: grows with each; what is sent again is not added again.
            counts: as of `requests.CountRequest`.
        """
        request = CountRequest(worker, sequence, dict(counts))
        await _ask(self._client, "Count", request, Any, _ASKING)


async def _ask(
    client: Client,
    method: str,
    request: object,
    kind: type[T] | Any,
    timeout: float,
    *,
    retry: bool = True,
) -> T:
    body = codec.encode(request)
    answer = await client.call(NAME, f"Functions.{method}", body, timeout=timeout, retry=retry)
    found: T = codec.decode(answer, kind, id=NAME)
    return found
