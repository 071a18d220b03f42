"""The words of auth: accounts, rules, and the policy by which every process decides."""

from __future__ import annotations

from typing import Literal

import msgspec

from microcosmos.base.context import DEFAULT_NAMESPACE

ADMIN = "admin"
"""The scope that administers a namespace; in namespace ``micro``, all of them."""

SERVICE = "service"
"""The scope of services."""

Kind = Literal["user", "service", "platform"]
"""``platform``: one of our own processes, such as a gateway."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may call: a user, a service, or a process of the platform.

    Attributes:
        id: unique in the namespace; of a service, its name.
        type: what it is.
        namespace: where it lives.
        scopes: what rules may ask for.
        name: for people.
        metadata: notes.
    """

    id: str
    type: Kind = "user"
    namespace: str = DEFAULT_NAMESPACE
    scopes: tuple[str, ...] = ()
    name: str = ""
    metadata: dict[str, str] = {}

    @property
    def everywhere(self) -> bool:
        """Whether it may enter every namespace."""
        return self.type == "platform" or (
            self.namespace == DEFAULT_NAMESPACE and ADMIN in self.scopes
        )

    def enters(self, namespace: str) -> bool:
        """Whether it counts as an account of a namespace."""
        return self.namespace == namespace or self.everywhere

    def administers(self, namespace: str) -> bool:
        """Whether it may change accounts, rules and deployments of a namespace."""
        return self.type == "platform" or (ADMIN in self.scopes and self.enters(namespace))


class Resource(msgspec.Struct, frozen=True):
    """What a rule is about; ``*`` stands for any characters in each part.

    Attributes:
        type: ``service``.
        name: of the service.
        endpoint: ``Handler.Method``.
    """

    type: str = "*"
    name: str = "*"
    endpoint: str = "*"

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{self.endpoint}"


Verdict = Literal["GRANTED", "DENIED"]

PUBLIC = ""
ANY = "*"
ANYWHERE = "+"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Who may use what.

    Attributes:
        id: unique in its namespace.
        scope: empty is everybody, ``*`` any account of the namespace, ``+`` any account of any
            namespace; else a scope that an account has.
        resource: what it is about.
        access: whether that is allowed.
        priority: of the rules that apply the highest one decides; at equal priority a DENIED one.
    """

    id: str
    scope: str = PUBLIC
    resource: Resource = Resource()
    access: Verdict = "GRANTED"
    priority: int = 0


DEFAULT_RULE = Rule(id="default")
"""What a new namespace begins with: everybody may call what is deployed."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All that a process needs to decide by itself who may call.

    Attributes:
        epoch: tells the core that it comes from.
        version: grows with every change.
        keys: what verifies tokens: public Ed25519 keys as base64url (a JWK's ``x``), by key id.
        rules: by namespace; a namespace that has no entry is unknown.
        revoked: tokens that were issued until a time (seconds since the epoch) are refused: of an
            account, ``account/NAMESPACE/ID``, of one login, ``session/SID``, or of a namespace
            that was deleted, ``namespace/NAME``.
    """

    epoch: str = ""
    version: int = 0
    keys: dict[str, str] = {}
    rules: dict[str, list[Rule]] = {}
    revoked: dict[str, float] = {}
