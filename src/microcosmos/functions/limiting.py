"""Limits and quotas served over rpc: a part of the service ``functions``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from microcosmos.base import errors
from microcosmos.base.audit import Audit

from . import limits, rights
from .catalogue import Catalogue
from .heads import Found
from .quotas import SOFT, By, Quota, Subject, period_of
from .requests import (
    NAME,
    AccountLimits,
    Allotted,
    LimitsRequest,
    QuotaRequest,
    Quotas,
    QuotasRequest,
    SetLimitsRequest,
    checked_page,
)
from .tallies import Tally
from .versions import stamp

HasAccount = Callable[[str, str], Awaitable[bool]]
"""Whether there is an account, by its namespace and its id."""


class Limiting:
    """What functions and accounts may use: said by admins and owners.

    Args:
        catalogue: the core's own.
        audit: notes what was changed.
        has_account: None where there are no accounts.
    """

    def __init__(self, catalogue: Catalogue, audit: Audit, has_account: HasAccount | None) -> None:
        self._catalogue = catalogue
        self._audit = audit
        self._has_account = has_account

    # What the functions of an account may use.

    async def limits(self, request: LimitsRequest) -> AccountLimits:
        """What the functions of an account may use: of one's own, of an admin of any."""
        account = request.account or rights.caller()
        if account != rights.caller():
            await self._check_account(account, f"the limits of {account:.80} are not yours to see")
        allowed = await self._catalogue.allowances.of(rights.namespace(), account)
        return _account_limits(account, allowed.allowance)

    async def set_limits(self, request: SetLimitsRequest) -> AccountLimits:
        """Say what the functions of an account may use, from now on; for admins."""
        account = request.account or rights.caller()
        await self._check_account(account, "only an admin may change what accounts may use")

        def change(before: limits.Allowance) -> limits.Allowance:
            known = limits.Allowance() if request.reset else before
            return limits.changed(known, request.defaults, request.ceilings)

        after = await self._catalogue.allowances.change(rights.namespace(), account, change)
        await self._audit("function limits changed", account, limits.told(after))
        return _account_limits(account, after)

    async def _check_account(self, account: str, refusal: str) -> None:
        """Refuse who is no admin, and an account that there is not."""
        if not rights.administers(rights.namespace()):
            raise errors.Forbidden(NAME, refusal)
        if self._has_account is None or account == rights.NOBODY:
            return
        # Those of other namespaces are named with them.
        namespace, _, id = account.rpartition("/")
        if not await self._has_account(namespace or rights.namespace(), id):
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
        subject = Subject(rights.namespace(), request.name, request.account)
        tally = await self._catalogue.allotments.set(subject, quota, found)
        await self._audit("function quota set", subject.shown, quota.shown)
        return _allotted(subject, tally)

    async def delete_quota(self, request: QuotaRequest) -> None:
        """Let as much be used as there is again."""
        found, by = await self._may_limit(request)
        subject = Subject(rights.namespace(), request.name, request.account)
        await self._catalogue.allotments.delete(
            subject, request.measure, request.period, admin=by == "admin", found=found
        )
        detail = f"{request.measure}/{request.period}"
        await self._audit("function quota deleted", subject.shown, detail)

    async def quotas(self, request: QuotasRequest) -> Quotas:
        """Quotas, and what is used of them: one's own and those above, for an admin all."""
        limit = checked_page(request.limit)
        account, only = request.account, request.name
        if only:
            account = (await rights.own(self._catalogue, only)).head.owner
        elif account and account != rights.caller():
            await self._check_account(account, f"the quotas of {account:.80} are not yours to see")
        listed: list[Allotted] = []
        known = await self._catalogue.allotments.all(rights.namespace())
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
            wanted = account or ("" if rights.administers(rights.namespace()) else rights.caller())
            return not wanted or subject.account == wanted
        if not subject.name or only:
            return subject.name in ("", only)
        found = await self._catalogue.find(rights.namespace(), subject.name)
        return found is not None and rights.may(found) and account in ("", found.head.owner)

    async def _may_limit(self, request: QuotaRequest) -> tuple[Found | None, By]:
        """The function that a quota is of, if it is one's, and as what the caller says so."""
        by: By = "admin" if rights.administers(rights.namespace()) else "owner"
        if request.name and request.account:
            raise errors.BadRequest(NAME, "quota: of a function or of an account, not of both")
        if request.name:
            return await rights.own(self._catalogue, request.name), by
        if request.account:
            await self._check_account(request.account, "only an admin sets quotas of accounts")
        elif by != "admin":
            raise errors.Forbidden(NAME, "only an admin sets quotas of a namespace")
        return None, by


def _account_limits(account: str, allowance: limits.Allowance) -> AccountLimits:
    return AccountLimits(
        account=account,
        defaults=allowance.defaults,
        ceilings=allowance.ceilings,
        default=allowance.limits({}),
        ceiling=allowance.most,
    )


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
