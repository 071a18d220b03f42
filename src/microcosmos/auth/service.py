"""Auth served over rpc, with the endpoints of Micro v3 and some more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from microcosmos.base import context, errors
from microcosmos.base.context import AUTHORIZATION, DEFAULT_NAMESPACE
from microcosmos.registry.interface import UNLISTED
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Access, Hosted

from . import accounts, audit, ruling
from .access import refusal
from .attempts import Attempt
from .authority import Authority
from .interface import Account, Policy
from .keys import jwks
from .wire import (
    NAME,
    AccountList,
    AuditList,
    AuditRequest,
    ChangeSecretRequest,
    CreateRuleRequest,
    DeleteNamespaceRequest,
    FollowRequest,
    Generated,
    GenerateRequest,
    IdRequest,
    InspectRequest,
    KeySet,
    ListAccountsRequest,
    LogoutRequest,
    Made,
    NamespaceList,
    NamespaceRequest,
    NoRequest,
    OneAccount,
    Request,
    RotateRequest,
    RuleList,
    TokenAnswer,
    TokenRequest,
    UpdateRequest,
    WhyRequest,
    rule_of,
    shown,
)

EVERYWHERE = "*"
"""All namespaces, where the audit log is listed."""

TOGETHER = 0.1
"""Seconds between two policies that a process is sent, so that many changes are one."""


class AuthService:
    """Serves an authority: who calls is the account of the call, as the verifier found it.

    Args:
        authority: what is served.
        access_of: what an endpoint of a core service asks for, or None where it is not known.
    """

    def __init__(
        self,
        authority: Authority,
        access_of: Callable[[str, str], str | None] = lambda service, endpoint: None,
    ) -> None:
        self._authority = authority
        self._access_of = access_of
        self._own: dict[str, str] = {}

    def hosted(self) -> Hosted:
        """The service ``auth``."""
        endpoints = [
            endpoint(function, NAME, name=name, lenient=True, access=access, metadata=about)
            for name, function, access, about in self._endpoints()
        ]
        self._own = {one.name: one.access for one in endpoints}
        return Hosted(NAME, endpoints)

    def _endpoints(self) -> list[tuple[str, Any, Access, dict[str, str]]]:
        internal = {UNLISTED: "true"}
        return [
            ("Auth.Generate", self.generate, "admin", {}),
            ("Auth.Inspect", self.inspect, "open", {}),
            ("Auth.Token", self.token, "open", {}),
            ("Auth.Logout", self.logout, "open", {}),
            ("Auth.Revoke", self.revoke, "account", {}),
            ("Auth.Keys", self.keys, "open", {}),
            ("Auth.Rotate", self.rotate, "platform", {"retry": "false"}),
            ("Accounts.List", self.list_accounts, "admin", {}),
            ("Accounts.Read", self.read_account, "account", {}),
            ("Accounts.Delete", self.delete_account, "admin", {}),
            ("Accounts.ChangeSecret", self.change_secret, "account", {"retry": "false"}),
            ("Accounts.Update", self.update_account, "admin", {}),
            ("Rules.Create", self.create_rule, "admin", {}),
            ("Rules.Delete", self.delete_rule, "admin", {}),
            ("Rules.List", self.list_rules, "admin", {}),
            ("Rules.Why", self.why, "account", {}),
            ("Namespaces.Create", self.create_namespace, "platform", {}),
            ("Namespaces.Delete", self.delete_namespace, "platform", {}),
            ("Namespaces.List", self.list_namespaces, "account", {}),
            ("Audit.List", self.list_audit, "admin", {}),
            ("Policy.Follow", self.follow, "service", internal),
        ]

    # Accounts and tokens.

    async def generate(self, request: GenerateRequest) -> Generated:
        """Make an account; its secret is in the answer, this once."""
        namespace = _namespace(request)
        _admin(namespace, "Auth.Generate")
        if request.provider not in ("", "basic"):
            detail = f"provider: accounts are kept here, not with {request.provider!r:.80}"
            raise errors.BadRequest(NAME, detail)
        account = accounts.check(
            request.id,
            request.type or "user",
            namespace,
            request.scopes,
            request.name,
            request.metadata,
        )
        secret = await self._authority.people.create(account, request.secret)
        return Generated(
            Made(
                account.id,
                account.type,
                account.namespace,
                account.metadata or None,
                account.scopes,
                secret,
                account.name,
            )
        )

    async def inspect(self, request: InspectRequest) -> OneAccount:
        """The account of an access token."""
        token = self._authority.access.token(f"Bearer {request.token}")
        assert token is not None, "there is a header"
        return OneAccount(shown(token.account))

    async def token(self, request: TokenRequest) -> TokenAnswer:
        """An access token, for an id and its secret or for a refresh token.

        An admin gets one of any account of the namespace, without its secret.
        """
        logins, expiry = self._authority.logins, request.token_expiry
        if request.refresh_token:
            if request.id or request.secret:
                detail = "give an id and its secret, or a refresh token, not both"
                raise errors.BadRequest(NAME, detail)
            said = request.options.namespace if request.options else ""
            token = await logins.refresh(request.refresh_token, namespace=said, expiry=expiry)
            return TokenAnswer(token)
        namespace = _namespace(request)
        if request.id and request.secret:
            token = await logins.login(
                namespace, request.id, request.secret, expiry=expiry, address=_address()
            )
            return TokenAnswer(token)
        if not request.id:
            raise errors.BadRequest(NAME, "give an id and its secret, or a refresh token")
        if _caller() is None:
            raise errors.BadRequest(NAME, "give the secret too; only an admin needs none")
        _admin(namespace, "Auth.Token")
        return TokenAnswer(await logins.for_another(namespace, request.id, expiry=expiry))

    async def logout(self, request: LogoutRequest) -> None:
        """End a login: that of a refresh token, or the one that the call itself is made by."""
        if request.refresh_token:
            await self._authority.logins.logout(request.refresh_token)
            return
        token = self._authority.access.token(context.current().metadata.get(AUTHORIZATION))
        if token is None:
            raise errors.BadRequest(NAME, "give a refresh token, or call with an access token")
        if not token.session:
            detail = "the token is not of a login; it ends by itself, or with Auth.Revoke"
            raise errors.BadRequest(NAME, detail)
        await self._authority.logins.end(token.account, token.session)

    async def revoke(self, request: IdRequest) -> None:
        """End all logins and tokens of an account: one's own, or as an admin another's."""
        namespace, id = self._whose(request, "Auth.Revoke")
        await self._authority.people.revoke(namespace, id)

    async def keys(self, request: NoRequest) -> KeySet:
        """The public keys that verify access tokens, as a JSON Web Key Set."""
        return KeySet(jwks(self._authority.policy.keys)["keys"])

    async def rotate(self, request: RotateRequest) -> None:
        """Sign tokens by a new key; those before it verify until their tokens have ended."""
        _everywhere("Auth.Rotate")
        await self._authority.rotate_keys(forget=request.forget)

    async def list_accounts(self, request: ListAccountsRequest) -> AccountList:
        """The accounts of a namespace, by id."""
        namespace = _namespace(request)
        _admin(namespace, "Accounts.List")
        self._authority.rules.list(namespace)  # a namespace that is not there has no accounts
        found = await self._authority.records.accounts.list(
            namespace, limit=audit.page(request.limit), after=request.after
        )
        return AccountList([shown(one.account) for one in found])

    async def read_account(self, request: IdRequest) -> OneAccount:
        """One account: one's own, or as an admin another."""
        namespace, id = self._whose(request, "Accounts.Read")
        found = await self._authority.records.accounts.get(namespace, id)
        return OneAccount(shown(found.record.account))

    async def delete_account(self, request: IdRequest) -> None:
        """Remove an account; its tokens are refused at once."""
        namespace = _namespace(request)
        caller = _admin(namespace, "Accounts.Delete")
        if (caller.namespace, caller.id) == (namespace, request.id) and caller.type != "platform":
            raise errors.BadRequest(NAME, "nobody deletes the account that they are logged in as")
        await self._authority.people.delete(namespace, request.id)

    async def change_secret(self, request: ChangeSecretRequest) -> None:
        """Give an account another secret; its logins and tokens end.

        The old one is needed, but for an admin who changes that of somebody else.
        """
        namespace, id = self._whose(request, "Accounts.ChangeSecret")
        caller = _known_caller("Accounts.ChangeSecret")
        if _is(caller, namespace, id):
            await self._prove(Attempt(namespace, id, _address()), request.old_secret)
        await self._authority.people.change_secret(namespace, id, request.new_secret)

    async def _prove(self, attempt: Attempt, secret: str) -> None:
        try:
            await self._authority.logins.prove(attempt, secret)
        except errors.Unauthorized:
            # No 401, at which a client would look for another token.
            detail = f"old_secret: it is not the secret of {attempt.account}"
            raise errors.BadRequest(NAME, detail) from None

    async def update_account(self, request: UpdateRequest) -> OneAccount:
        """Change the scopes, the name or the metadata of an account."""
        namespace = _namespace(request)
        _admin(namespace, "Accounts.Update")
        changed = await self._authority.people.update(
            namespace,
            request.id,
            scopes=request.scopes,
            name=request.name,
            metadata=request.metadata,
        )
        return OneAccount(shown(changed))

    # Rules.

    async def create_rule(self, request: CreateRuleRequest) -> None:
        """Make a rule; it acts at once."""
        namespace = _namespace(request)
        _admin(namespace, "Rules.Create")
        await self._authority.rules.create(namespace, rule_of(request.rule))

    async def delete_rule(self, request: IdRequest) -> None:
        """Remove a rule; that acts at once."""
        namespace = _namespace(request)
        _admin(namespace, "Rules.Delete")
        await self._authority.rules.delete(namespace, request.id)

    async def list_rules(self, request: NoRequest) -> RuleList:
        """The rules of a namespace: the highest priority first, of equal ones the newest."""
        namespace = _namespace(request)
        _admin(namespace, "Rules.List")
        return RuleList(self._authority.rules.list(namespace))

    async def why(self, request: WhyRequest) -> ruling.Reason:
        """Why an account may call an endpoint, or may not."""
        namespace = _namespace(request)
        caller = _known_caller("Rules.Why")
        if not (request.account and _is(caller, caller.namespace, request.account)):
            _admin(namespace, "Rules.Why")
        account = await self._named(caller, namespace, request.account)
        name = ruling.endpoint_of(request.service, request.endpoint)
        access = self._own.get(name) if request.service == NAME else None
        access = access or self._access_of(request.service, name) or "rules"
        policy = self._authority.policy
        return ruling.why(policy, account, namespace, request.service, name, access)

    async def _named(self, caller: Account, namespace: str, id: str) -> Account | None:
        """Whom a name means: in the namespace, of the caller's own, or of the platform's."""
        if not id:
            return None
        for place in dict.fromkeys((namespace, caller.namespace, DEFAULT_NAMESPACE)):
            found = await self._authority.records.accounts.find(place, id)
            if found is not None and (caller.administers(place) or _is(caller, place, id)):
                return found.record.account
        raise errors.NotFound(NAME, f"there is no account {id[:120]!r} in {namespace}")

    # Namespaces and the audit log.

    async def create_namespace(self, request: NamespaceRequest) -> None:
        """Make a namespace, with the rule `default`."""
        _everywhere("Namespaces.Create")
        await self._authority.spaces.create(request.name)

    async def delete_namespace(self, request: DeleteNamespaceRequest) -> None:
        """Remove a namespace, if nothing is in it or if that is forced."""
        _everywhere("Namespaces.Delete")
        await self._authority.spaces.delete(request.name, force=request.force)

    async def list_namespaces(self, request: NoRequest) -> NamespaceList:
        """The namespaces that the caller may enter."""
        caller = _known_caller("Namespaces.List")
        found = [name for name in self._authority.namespaces() if caller.enters(name)]
        return NamespaceList(found)

    async def list_audit(self, request: AuditRequest) -> AuditList:
        """Who changed accounts, rules and deployments of a namespace, the last change last.

        Of all namespaces, ``*``, for an admin of the platform.
        """
        namespace = _namespace(request)
        if namespace == EVERYWHERE:
            _everywhere("Audit.List")
            namespace = ""
        else:
            _admin(namespace, "Audit.List")
        found = await self._authority.records.audit.list(
            limit=request.limit,
            before=request.before,
            after=request.after,
            account=request.account,
            namespace=namespace,
        )
        return AuditList(found)

    # The policy.

    async def follow(self, request: FollowRequest) -> AsyncIterator[Policy]:
        """What decides who may call: all of it, and all of it again whenever it changes."""
        caller = _known_caller("Policy.Follow")
        if request.namespace:
            if not caller.enters(request.namespace):
                raise refusal(caller, NAME, "Policy.Follow")
        else:
            _everywhere("Policy.Follow")
        standing = self._authority.records.standing
        known = (request.epoch, request.after)
        sent: Policy | None = None
        while True:
            policy = standing.of(request.namespace) if request.namespace else standing.policy
            version, silent = policy.version, (policy.epoch, policy.version) == known
            # What changed elsewhere is nothing new here.
            same = msgspec.structs.replace(policy, version=0)
            if not silent and same != sent:
                yield policy
            sent, known = same, ("", -1)
            # Many changes in a row are told of together.
            await asyncio.sleep(TOGETHER)
            if not await standing.news(version):
                return

    def _whose(self, request: IdRequest | ChangeSecretRequest, name: str) -> tuple[str, str]:
        """The namespace and the id of an account: one's own, or as an admin another's."""
        caller = _known_caller(name)
        if not request.id:
            return caller.namespace, caller.id
        said = request.options.namespace if request.options else ""
        if _is(caller, said or caller.namespace, request.id):
            return caller.namespace, caller.id
        namespace = _namespace(request)
        _admin(namespace, name)
        return namespace, request.id


def _namespace(request: Request) -> str:
    """Which namespace a request is about."""
    said = request.options.namespace if request.options else ""
    return said or context.current().namespace


def _caller() -> Account | None:
    account = context.current().account
    return account if isinstance(account, Account) else None


def _known_caller(name: str) -> Account:
    caller = _caller()
    if caller is None:
        raise refusal(None, NAME, name)
    return caller


def _admin(namespace: str, name: str) -> Account:
    """The caller, who has to administer a namespace."""
    caller = _known_caller(name)
    if not caller.administers(namespace):
        raise refusal(caller, NAME, name)
    return caller


def _everywhere(name: str) -> Account:
    """The caller, who has to administer the platform."""
    caller = _known_caller(name)
    if not caller.everywhere:
        raise refusal(caller, NAME, name)
    return caller


def _is(caller: Account, namespace: str, id: str) -> bool:
    """Whether that is the caller's own account; processes of the platform have none."""
    return caller.type != "platform" and (caller.namespace, caller.id) == (namespace, id)


def _address() -> str:
    """Where a call comes from, as its door says; empty is inside."""
    raw = context.current().metadata.raw
    return raw.get(context.CLIENT_ADDRESS, "")
