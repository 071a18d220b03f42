"""Credentials of the engine: the operator, accounts and users of NATS, as nkeys and signed JWTs.

An operator signs accounts, an account signs users, and nats-server trusts the operator's public
key alone: a new user needs no reload. Seeds are kept in files that only their owner may read.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import nkeys

from microcosmos.base import errors
from microcosmos.base.context import DEFAULT_NAMESPACE
from microcosmos.base.home import write_atomically
from microcosmos.base.names import check_namespace, is_namespace

from .permissions import ANSWER, Permissions

__all__ = [
    "Account",
    "Credential",
    "Keys",
    "Permissions",
    "encode",
    "file_of",
    "inbox_prefix",
    "public_key",
]

# JetStream in an account: streams in memory are bounded, those on disk by the disk alone.
_MEMORY_STORAGE = 256 * 1024 * 1024
_UNLIMITED = -1

_ACCOUNT = "account-"

_NOT_IN_A_TOKEN = re.compile(r"[^A-Za-z0-9_~-]")
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Credential:
    """What one process or service connects with.

    Attributes:
        name: whose it is.
        text: the content of a ``.creds`` file.
        inbox_prefix: what its client must be given, so that nobody else hears its replies.
    """

    name: str
    text: str
    inbox_prefix: str

    def write(self, path: Path) -> Path:
        """Write the ``.creds`` file, closed to other users."""
        write_atomically(path, self.text.encode())
        return path


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the engine: a wall, one for each namespace."""

    name: str
    pair: Any

    @property
    def id(self) -> str:
        """Its public key."""
        return public_key(self.pair)

    def user(
        self,
        name: str,
        permissions: Permissions | None = None,
        *,
        inbox: str = "",
        expires: float = 0,
        tags: tuple[str, ...] = (),
    ) -> Credential:
        """Make a credential of a process or service.

        Args:
            name: of the process or service.
            permissions: None is everything in this account.
            inbox: whose replies it hears; its own unless said.
            expires: when the engine ends its connections, in seconds since the epoch; 0 is never.
            tags: what the engine shows of its connections.
        """
        pair = _new_pair(nkeys.PREFIX_BYTE_USER)
        prefix = inbox_prefix(inbox or name)
        claims: dict[str, Any] = {"type": "user", "subs": -1, "data": -1, "payload": -1}
        if tags:
            claims["tags"] = list(tags)
        claims.update(_permission_claims(permissions, prefix))
        token = encode(self.pair, public_key(pair), name, claims, expires=expires)
        return Credential(name, _creds_text(token, pair.seed.decode()), prefix)


class Keys:
    """The seeds of one platform; missing ones are made on first use.

    Args:
        folder: where they are, ``$MICRO_HOME/server/keys``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self.operator = self._pair("operator", nkeys.PREFIX_BYTE_OPERATOR)
        # Apart from those of namespaces, of which one may be called so.
        self.system = Account("system", self._pair("system", nkeys.PREFIX_BYTE_ACCOUNT))

    def account(self, name: str) -> Account:
        """The account of a namespace.

        Raises:
            errors.BadRequest: it is no name of a namespace.
            errors.InternalServerError: its key file is damaged or cannot be read.
        """
        name = check_namespace(name)
        return Account(name, self._pair(f"{_ACCOUNT}{name}", nkeys.PREFIX_BYTE_ACCOUNT))

    def namespaces(self) -> list[str]:
        """The namespaces that have an account, sorted."""
        found = (path.stem.removeprefix(_ACCOUNT) for path in self.folder.glob(f"{_ACCOUNT}*.nk"))
        return sorted(filter(is_namespace, found))

    def forget(self, name: str) -> None:
        """Remove the key of a namespace's account: nobody gets in any more."""
        (self.folder / f"{_ACCOUNT}{name}.nk").unlink(missing_ok=True)

    def operator_token(self) -> str:
        """The JWT that nats-server trusts."""
        claims = {"type": "operator", "system_account": self.system.id}
        return encode(self.operator, public_key(self.operator), "microcosmos", claims)

    def account_token(self, account: Account) -> str:
        """The JWT that tells nats-server of an account and its limits."""
        claims = {"type": "account", "limits": self._limits(account), "default_permissions": {}}
        return encode(self.operator, account.id, account.name, claims)

    def deletion_token(self, account: Account) -> str:
        """The JWT that tells nats-server to forget an account."""
        claims = {"type": "generic", "accounts": [account.id]}
        return encode(self.operator, public_key(self.operator), "deletion", claims)

    def _limits(self, account: Account) -> dict[str, Any]:
        names = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
        limits: dict[str, Any] = dict.fromkeys(names, _UNLIMITED)
        limits["wildcards"] = True
        if account.id != self.system.id:
            # The system account must not have JetStream: the engine refuses to start with it.
            limits |= {"mem_storage": _MEMORY_STORAGE, "disk_storage": _UNLIMITED}
            limits |= {"streams": _UNLIMITED, "consumer": _UNLIMITED}
        return limits

    def _pair(self, name: str, kind: int) -> Any:
        path = self.folder / f"{name}.nk"
        try:
            text = path.read_text("ascii").strip()
        except FileNotFoundError:
            pair = _new_pair(kind)
            write_atomically(path, pair.seed + b"\n")
            return pair
        except (OSError, UnicodeDecodeError) as exc:
            raise _damaged(path, exc) from None
        path.chmod(0o600)
        return _read_pair(path, text, kind)


def file_of(folder: Path, name: str, namespace: str = DEFAULT_NAMESPACE) -> Path:
    """Where the credentials of one of the platform's own users are, for a namespace.

    Args:
        folder: ``$MICRO_HOME/server/keys``.
        name: ``core``, ``gateway`` or ``admin``.
        namespace: whose account they are good for.
    """
    of = "" if namespace == DEFAULT_NAMESPACE else f"@{namespace}"
    return folder / f"{name}{of}.creds"


def inbox_prefix(name: str) -> str:
    """The subjects under which a user hears its replies, and nobody else may listen.

    Dots become ``~``, which is in no name, so that no two names have one inbox.
    """
    return "_INBOX." + (_NOT_IN_A_TOKEN.sub("-", name.replace(".", "~")) or "-")


def public_key(pair: Any) -> str:
    """The public half of a key pair, as NATS writes it."""
    return str(pair.public_key.decode())


def encode(
    issuer: Any, subject: str, name: str, claims: dict[str, Any], *, expires: float = 0
) -> str:
    """Sign a NATS JWT (version 2)."""
    body: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": public_key(issuer),
        "name": name,
        "sub": subject,
        "nats": {**claims, "version": 2},
    }
    if expires:
        body["exp"] = int(expires)
    digest = hashlib.sha256(msgspec.json.encode(body)).digest()
    body["jti"] = base64.b32encode(digest).decode().rstrip("=")
    signed = f"{_segment({'typ': 'JWT', 'alg': 'ed25519-nkey'})}.{_segment(body)}"
    return f"{signed}.{_url_base64(issuer.sign(signed.encode()))}"


def _segment(value: dict[str, Any]) -> str:
    return _url_base64(msgspec.json.encode(value))


def _url_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _permission_claims(permissions: Permissions | None, inbox: str) -> dict[str, Any]:
    if permissions is None:
        return {"pub": {}, "sub": {}}
    # An empty list would mean "everything", so nothing is said as a denial of everything.
    sends = _listed(permissions.publish, permissions.no_publish) or {"deny": [">"]}
    listens = (*permissions.subscribe, f"{inbox}.>")
    claims: dict[str, Any] = {
        "pub": sends,
        "sub": _listed(listens, permissions.no_subscribe),
    }
    if permissions.replies:
        # As many as a stream has; the engine forgets whom it may answer when the time is over.
        claims["resp"] = {"max": _UNLIMITED, "ttl": int(ANSWER * _SECOND)}
    return claims


def _listed(allow: tuple[str, ...], deny: tuple[str, ...]) -> dict[str, list[str]]:
    if not allow:
        return {}
    return {"allow": list(allow), "deny": list(deny)} if deny else {"allow": list(allow)}


def _new_pair(kind: int) -> Any:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def _read_pair(path: Path, text: str, kind: int) -> Any:
    try:
        found, raw = nkeys.decode_seed(text.encode())
        # nkeys does not look at the checksum, and a seed with one letter wrong is another key.
        whole = nkeys.encode_seed(bytes(raw[:32]), found).decode() == text
        pair = nkeys.from_seed(text.encode())
    except Exception as exc:  # noqa: BLE001 - nkeys and nacl raise many unrelated kinds
        raise _damaged(path, exc) from None
    if found != kind:
        raise _damaged(path, "it is a key of another kind")
    if not whole:
        raise _damaged(path, "its checksum is wrong")
    return pair


def _damaged(path: Path, cause: object) -> errors.Error:
    reason = str(cause) or type(cause).__name__
    return errors.InternalServerError(
        "server.keys",
        f"the key file {path} is damaged ({reason}); restore it from a backup, or remove it to "
        "have a new one made (streams of an account are lost with its key)",
    )


def _creds_text(token: str, seed: str) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
