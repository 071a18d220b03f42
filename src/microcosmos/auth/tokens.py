"""Access tokens: JSON Web Tokens signed with Ed25519, which everybody can verify (RFC 8037)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from microcosmos.base import errors

from .interface import Account, Kind

LIFETIME = 15 * 60.0
"""Seconds that an access token is good for, unless another time is asked for."""

LONGEST = 24 * 3600.0
"""The most seconds that one can be good for."""

_ALGORITHM = "EdDSA"
_SKEW = 5.0
_REQUIRED = ["sub", "iss", "iat", "exp", "type"]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What an access token says, verified.

    Attributes:
        account: whose it is.
        session: the login that it belongs to.
        issued: when, in seconds since the epoch.
        expires: when it ends.
    """

    account: Account
    session: str
    issued: float
    expires: float


class Signer:
    """Issues access tokens.

    Args:
        id: of the key.
        key: the private key.
    """

    def __init__(self, id: str, key: Ed25519PrivateKey) -> None:
        self.id = id
        self._key = key

    @property
    def public(self) -> str:
        """The public half, as a JWK's ``x``."""
        return (
            base64.urlsafe_b64encode(self._key.public_key().public_bytes_raw())
            .decode("ascii")
            .rstrip("=")
        )

    def sign(self, account: Account, session: str, issued: float, lifetime: float) -> str:
        """A token of an account for so many seconds, at most `LONGEST`."""
        claims = {
            "sub": account.id,
            "iss": account.namespace,
            "type": account.type,
            "scopes": list(account.scopes),
            "name": account.name or account.id,
            "iat": issued,
            "exp": issued + min(lifetime, LONGEST),
            "jti": secrets.token_hex(8),
            "sid": session,
        }
        if account.metadata:
            claims["metadata"] = account.metadata
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"kid": self.id})


class _Claims(msgspec.Struct):
    sub: str
    iss: str
    type: Kind
    iat: float
    exp: float
    scopes: tuple[str, ...] = ()
    name: str = ""
    metadata: dict[str, str] = {}
    sid: str = ""


def verify(text: str, keys: Mapping[str, str], now: float) -> Token:
    """Read an access token.

    Args:
        text: the token.
        keys: the public keys by id, as `Signer.public` gives them.
        now: seconds since the epoch.

    Raises:
        errors.Unauthorized: it is no token of ours, was changed, or has expired.
    """
    try:
        # The form first: what is no token costs no signature.
        key = keys[jwt.get_unverified_header(text)["kid"]]
        options: jwt.types.Options = {
            "require": _REQUIRED,
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
            "verify_aud": False,
        }
        claims = jwt.decode(text, public_key(key), algorithms=[_ALGORITHM], options=options)
        said = msgspec.convert(claims, _Claims)
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, RecursionError):
        raise errors.Unauthorized("auth", "the token is not one of this server's") from None
    if said.exp <= now:
        raise errors.Unauthorized("auth", "the token has expired; get a new one")
    if said.iat > now + _SKEW:
        raise errors.Unauthorized("auth", "the token is not good yet; compare the clocks")
    account = Account(
        id=said.sub,
        type=said.type,
        namespace=said.iss,
        scopes=said.scopes,
        name=said.name,
        metadata=said.metadata,
    )
    return Token(account=account, session=said.sid, issued=said.iat, expires=said.exp)


def public_key(x: str) -> Ed25519PublicKey:
    """The key of a JWK's ``x``."""
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(x + "=" * (-len(x) % 4)))
