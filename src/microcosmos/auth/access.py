"""Access: decides from memory, in every process that answers calls, who may make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.context import AUTHORIZATION, DEFAULT_NAMESPACE, NAMESPACE
from microcosmos.rpc import Call, Endpoint

from .interface import ADMIN, SERVICE, Account, Policy, Resource
from .rules import deciding

if TYPE_CHECKING:
    from .tokens import Token

_REMEMBERED = 16 * 1024
_BEARER = "bearer "
_AUTH = "auth"


class _Allowed(msgspec.Struct, frozen=True, gc=False):
    """A call that is allowed until a time, and the account that its handler sees."""

    account: Account | None
    until: float


class Access:
    """The `rpc.Verifier` of a process, and what the doors ask.

    What was allowed once is remembered until the policy changes or the token ends, so that a
    call pays for one look into a dict; what is refused is looked at anew each time.

    Attributes:
        policy: by which it decides; None until the core has said so.

    Args:
        namespace: the one that this process serves; empty is that of each call.
        clock: by which tokens end.
    """

    def __init__(self, namespace: str = "", *, clock: Clock = SYSTEM) -> None:
        self.policy: Policy | None = None
        self._namespace = namespace
        self._clock = clock
        self._tokens: dict[str, Token] = {}
        self._allowed: dict[tuple[str | None, str, str, str], _Allowed] = {}
        self._listeners: list[Callable[[Policy], None]] = []

    def on_change(self, listener: Callable[[Policy], None]) -> None:
        """Tell of every policy that is followed."""
        self._listeners.append(listener)

    def follow(self, policy: Policy) -> None:
        """Decide by another policy from now on."""
        self.policy = policy
        self._tokens.clear()
        self._allowed.clear()
        for listener in self._listeners:
            listener(policy)

    def __call__(self, call: Call, endpoint: Endpoint) -> Account | None:
        """Who makes a call, as its handler may know; None is anonymous.

        Raises:
            errors.Unauthorized: the token is bad, or none was shown and one is needed.
            errors.Forbidden: the account may not.
            errors.NotFound: there is no such namespace.
        """
        header = call.metadata.get(AUTHORIZATION)
        namespace = self._namespace or call.metadata.get(NAMESPACE, DEFAULT_NAMESPACE)
        return self.admit(header, namespace, call.service, call.endpoint, endpoint.access)

    def admit(
        self, header: str | None, namespace: str, service: str, endpoint: str, access: str = "rules"
    ) -> Account | None:
        """Let in who shows an Authorization header, if it may call an endpoint; see `check`.

        Raises:
            errors.Error: as a call of this object.
        """
        key = (header, namespace, service, endpoint)
        known = self._allowed.get(key)
        if known is not None and known.until > self._clock.time():
            return known.account
        token = self.token(header)
        account = token.account if token else None
        self.check(account, namespace, service, endpoint, access)
        # An account of another namespace is nobody here.
        shown = account if account is not None and account.enters(namespace) else None
        if len(self._allowed) >= _REMEMBERED:
            self._allowed.clear()
        self._allowed[key] = _Allowed(shown, token.expires if token else float("inf"))
        return shown

    def token(self, header: str | None) -> Token | None:
        """The token of an Authorization header; None when there is no header.

        Raises:
            errors.Unauthorized: it is no good token.
            errors.Unavailable: the policy is not known yet.
        """
        if header is None:
            return None
        policy = self._known()
        now = self._clock.time()
        known = self._tokens.get(header)
        if known is not None and known.expires > now:
            return known
        if header[: len(_BEARER)].lower() != _BEARER:
            detail = "the Authorization header is not of the form `Bearer TOKEN`"
            raise errors.Unauthorized(_AUTH, detail)
        # Imported here: most processes begin, and many end, without having seen a token.
        from .tokens import verify

        token = verify(header[len(_BEARER) :].strip(), policy.keys, now)
        if _revoked(token, policy.revoked):
            raise errors.Unauthorized(_AUTH, "the token was revoked; log in again")
        if len(self._tokens) >= _REMEMBERED:
            self._tokens.clear()
        self._tokens[header] = token
        return token

    def check(
        self, account: Account | None, namespace: str, service: str, endpoint: str, access: str
    ) -> None:
        """Refuse who may not call an endpoint.

        Args:
            account: who; None is anonymous.
            namespace: where it is called.
            service: whose.
            endpoint: which.
            access: what the endpoint itself asks for, see `rpc.Endpoint`.

        Raises:
            errors.Unauthorized: nobody knows who asks.
            errors.Forbidden: the account may not.
            errors.NotFound: there is no such namespace.
        """
        if access == "open":
            return
        if account is not None and account.type == "platform" and access != "rules":
            # Nobody's rules keep the platform's own processes from each other.
            return
        rules = self._known().rules.get(namespace)
        if rules is None:
            raise unknown(namespace)
        rule = deciding(rules, account, namespace, Resource("service", service, endpoint))
        granted = rule is not None and rule.access == "GRANTED"
        if access == "rules":
            allowed = granted
        elif rule is not None and not granted:
            # Rules narrow what the platform's own services allow, but lock no admin out of them.
            allowed = service == _AUTH and account is not None and account.administers(namespace)
        else:
            allowed = (access == "read" and granted) or _may(account, namespace, access)
        if not allowed:
            raise refusal(account, service, endpoint)

    def _known(self) -> Policy:
        if self.policy is None:
            raise errors.Unavailable(_AUTH, "it is not known yet who may call; try again")
        return self.policy


def unknown(namespace: str) -> errors.NotFound:
    """The error of a namespace that is not there."""
    detail = f"there is no namespace {namespace[:80]!r}; an admin of the platform makes one with"
    return errors.NotFound(_AUTH, f"{detail} `micro auth create namespace`")


def refusal(account: Account | None, service: str, endpoint: str) -> errors.Error:
    """The error of a call that is not allowed; the texts are the contract's."""
    if account is None:
        return errors.Unauthorized(service, f"Unauthorized call made to {service}:{endpoint}")
    return errors.Forbidden(service, f"Forbidden call made to {service}:{endpoint} by {account.id}")


def _may(account: Account | None, namespace: str, access: str) -> bool:
    """Whether an account satisfies what an endpoint of the platform asks for."""
    if account is None or not account.enters(namespace):
        return False
    if access in ("read", "account"):
        return True
    if access == "service":
        return SERVICE in account.scopes or ADMIN in account.scopes
    if access == "admin":
        return account.administers(namespace)
    return access == "platform" and account.everywhere


def _revoked(token: Token, revoked: Mapping[str, float]) -> bool:
    if not revoked:
        return False
    account = token.account
    by_account = revoked.get(f"account/{account.namespace}/{account.id}", 0.0)
    by_session = revoked.get(f"session/{token.session}", 0.0) if token.session else 0.0
    by_namespace = revoked.get(f"namespace/{account.namespace}", 0.0)
    return token.issued <= max(by_account, by_session, by_namespace)
