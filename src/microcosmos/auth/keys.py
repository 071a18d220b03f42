"""Token keys: the Ed25519 keys that sign access tokens, one file each, closed to other users."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock

from .interface import Account
from .tokens import LONGEST, Signer

_FILE = re.compile(r"token-([0-9]{1,9})\.jwk")


class _Jwk(msgspec.Struct, frozen=True, kw_only=True):
    """A file: a private key as RFC 8037 has it, and when it was made."""

    kty: str = "OKP"
    crv: str = "Ed25519"
    kid: str
    x: str
    d: str
    created: float


class _Key(msgspec.Struct, frozen=True):
    number: int
    created: float
    signer: Signer


class TokenKeys:
    """The keys of one folder: the newest signs, and those before it verify for a day longer.

    The first one is made when there is none; of processes that do so at once all get the same.

    Args:
        folder: where they are, ``$MICRO_HOME/server/keys``; None keeps one in memory.
        clock: tells which are too old.

    Raises:
        errors.InternalServerError: a key file is damaged or cannot be read.
    """

    def __init__(self, folder: Path | None = None, *, clock: Clock = SYSTEM) -> None:
        self._folder = folder
        self._clock = clock
        self._keys: list[_Key] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.refresh()
        if not self._keys:
            self._make(1)

    @property
    def signer(self) -> Signer:
        """The newest, which signs."""
        return self._keys[-1].signer

    def public(self) -> dict[str, str]:
        """What verifies: public keys as a JWK's ``x``, by id."""
        return {key.signer.id: key.signer.public for key in self._keys}

    def jwks(self) -> dict[str, Any]:
        """`public` as a JSON Web Key Set (RFC 7517)."""
        return jwks(self.public())

    def refresh(self) -> None:
        """Read the folder again, should another process have made a key."""
        if self._folder is not None:
            self._keys = sorted(_read(self._folder), key=lambda key: key.number)

    def rotate(self, *, forget: bool = False) -> Signer:
        """Make a key that signs from now on.

        Args:
            forget: whether those before it stop to verify at once (one has leaked): every token
                is refused then. Else they do so until no token of theirs is alive.
        """
        self.refresh()
        before = [*self._keys]
        self._make(before[-1].number + 1 if before else 1)
        for key in before if forget else self._outlived():
            self._remove(key)
        return self.signer

    def prune(self) -> None:
        """Remove the keys that no living token can be of."""
        for key in self._outlived():
            self._remove(key)

    def _outlived(self) -> list[_Key]:
        """The keys whose follower is older than any token."""
        horizon = self._clock.time() - LONGEST
        followed = zip(self._keys, self._keys[1:], strict=False)
        return [key for key, follower in followed if follower.created < horizon]

    def _remove(self, key: _Key) -> None:
        self._keys = [one for one in self._keys if one.number != key.number]
        if self._folder is not None:
            (self._folder / f"token-{key.number}.jwk").unlink(missing_ok=True)

    def _make(self, number: int) -> None:
        private = Ed25519PrivateKey.generate()
        x = _url_base64(private.public_key().public_bytes_raw())
        made = _Jwk(
            kid=_thumbprint(x),
            x=x,
            d=_url_base64(private.private_bytes_raw()),
            created=self._clock.time(),
        )
        if self._folder is None:
            self._keys.append(_Key(number, made.created, Signer(made.kid, private)))
            return
        _write_new(self._folder / f"token-{number}.jwk", msgspec.json.encode(made) + b"\n")
        self.refresh()


def platform_token(keys: TokenKeys, name: str, lifetime: float = LONGEST) -> str:
    """A token of one of our own processes, which needs no login: it can read the keys.

    Args:
        keys: the platform's.
        name: of the process.
        lifetime: seconds, at most `LONGEST`.
    """
    account = Account(id=name, type="platform")
    return keys.signer.sign(account, "", keys._clock.time(), lifetime)


def jwks(public: dict[str, str]) -> dict[str, Any]:
    """Public keys by id as a JSON Web Key Set (RFC 7517, RFC 8037)."""
    about = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA"}
    return {"keys": [{**about, "kid": kid, "x": x} for kid, x in public.items()]}


def _thumbprint(x: str) -> str:
    """The id of a key: its thumbprint (RFC 7638)."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    return _url_base64(hashlib.sha256(canonical.encode()).digest())


def _url_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def _write_new(path: Path, data: bytes) -> None:
    """Write a file, whole, unless there is one already."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        Path(temporary).unlink()


def _read(folder: Path) -> Iterator[_Key]:
    for path in folder.iterdir():
        if match := _FILE.fullmatch(path.name):
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # another process has removed it as outlived
                continue
            except OSError as exc:
                raise _damaged(path, exc) from None
            yield _key(path, int(match[1]), data)


def _key(path: Path, number: int, data: bytes) -> _Key:
    try:
        said = msgspec.json.decode(data, type=_Jwk)
        private = Ed25519PrivateKey.from_private_bytes(
            base64.urlsafe_b64decode(said.d + "=" * (-len(said.d) % 4))
        )
    except (ValueError, RecursionError) as exc:
        raise _damaged(path, exc) from None
    if _url_base64(private.public_key().public_bytes_raw()) != said.x:
        raise _damaged(path, "its halves do not belong together")
    path.chmod(0o600)
    return _Key(number, said.created, Signer(_thumbprint(said.x), private))


def _damaged(path: Path, cause: object) -> errors.Error:
    return errors.InternalServerError(
        "auth.keys",
        f"the token key {path} cannot be used: {cause}; put it back from a backup, or remove it, "
        "and everybody has to log in again",
    )
