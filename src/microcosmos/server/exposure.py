"""Exposure: addresses that other machines reach are for servers whose first password is changed.

The supervisor decides before anything listens, by a file that the core keeps: it is there while
the admin password is another than the one that everybody knows. The store may have become another
one since, so the core, which reads it, decides once more before the doors are opened.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Iterator, Mapping

from microcosmos.base import errors
from microcosmos.base.home import Home, ServerInfo, write_atomically

from .ports import Address

EXPOSED = "MICRO_EXPOSED"
"""The variable that tells the core which flag opens the server to other machines."""

_FILE = "password-changed"


def exposed(addresses: Iterable[Address]) -> list[Address]:
    """Those that other machines can reach."""
    return [one for one in addresses if not ipaddress.ip_address(one.host).is_loopback]


def check(home: Home, addresses: Iterable[Address], *, password_said: bool) -> None:
    """Refuse to listen where others are while everybody knows the password.

    Args:
        home: tells whether that is so.
        addresses: where it is to listen.
        password_said: whether the first password was chosen by who starts the server.

    Raises:
        errors.BadRequest: it is refused; the detail says what to do.
    """
    open_to_others = exposed(addresses)
    if open_to_others and not (password_said or changed(home)):
        first = open_to_others[0]
        raise _refused(f"{first.flag}: {first}")


def changed(home: Home) -> bool:
    """Whether the admin password was another than the default one when a core last looked."""
    return (home.server / _FILE).exists()


def settle(default_stands: bool, environ: Mapping[str, str] = os.environ) -> None:
    """See in the core, by what the store says, that the server may be where it is to be.

    Raises:
        errors.BadRequest: it is to be open to others, and must not be.
    """
    if default_stands and (where := environ.get(EXPOSED)):
        raise _refused(where)


def keep(home: Home, default_stands: bool) -> None:
    """Keep what the store says of the password for the next start."""
    path = home.server / _FILE
    if default_stands:
        path.unlink(missing_ok=True)
    elif not path.exists():
        write_atomically(path, b"")


def environment(addresses: Iterable[Address]) -> dict[str, str]:
    """What the core is told of it."""
    return {EXPOSED: next((f"{one.flag}: {one}" for one in exposed(addresses)), "")}


def warnings(home: Home, info: ServerInfo) -> Iterator[str]:
    """What whoever starts the server should mend."""
    if not changed(home):
        yield "admin has the default password; change it: micro user set password"
    for name, secure in (("api", "https"), ("proxy", "grpcs")):
        if info.schemes.get(name) != secure and _is_exposed(info.addresses[name]):
            yield (
                f"{name}: {info.addresses[name]} is open to other machines without TLS, so that "
                f"tokens can be read on their way; give --{name}_tls_cert_file"
            )


def _is_exposed(text: str) -> bool:
    host = text.rpartition(":")[0].strip("[]")
    return not ipaddress.ip_address(host).is_loopback


def _refused(where: str) -> errors.BadRequest:
    return errors.BadRequest(
        "server.exposure",
        f"{where} is open to other machines, and admin has the default password: type `micro user "
        "set password` while the server is on 127.0.0.1, or give MICRO_ADMIN_PASSWORD",
    )
