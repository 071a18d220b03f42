"""Environments: the platforms that a command line can talk to, one of them selected."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Any

import click
import msgspec

from microcosmos.base.home import Home

from .settings import UserSettings

LOCAL = "local"
DEFAULT_ADDRESS = "127.0.0.1:8081"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
# In config.json, as Micro v3 wrote them.
_SELECTED, _ALL, _ADDRESS = "env", "envs", "proxy_address"
_FILES = ("ca", "cert", "key")


class Environment(msgspec.Struct, frozen=True):
    """One platform.

    Attributes:
        name: what ``--env`` and ``micro env set`` say.
        address: of its proxy; without a port it means 443 with TLS.
        selected: whether commands go there.
        ca: PEM: who may have signed its certificate, if not the usual ones.
        cert: PEM: the certificate that it is shown, if it asks for one.
        key: PEM: the key of that.
    """

    name: str
    address: str
    selected: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def local(self) -> bool:
        """Whether it is the server of this MICRO_HOME."""
        return self.name == LOCAL


class Environments:
    """The environments of a user.

    Args:
        home: whose server ``local`` is.
        settings: where the others are kept.
    """

    def __init__(self, home: Home, settings: UserSettings) -> None:
        self._home = home
        self._settings = settings

    def all(self) -> list[Environment]:
        """Every environment, ``local`` first, the others as they were added."""
        document = self._settings.read()
        selected = document.get(_SELECTED) or LOCAL
        local = Environment(LOCAL, self._local_address(), selected == LOCAL)
        return [local, *_added(document, selected)]

    def _local_address(self) -> str:
        info = self._home.server_info()
        running = info.addresses.get("proxy") if info else None
        return running or os.environ.get("MICRO_PROXY_ADDRESS") or DEFAULT_ADDRESS

    def choose(self, name: str = "") -> Environment:
        """The environment of a name, else the selected one.

        Raises:
            click.UsageError: there is none of that name.
        """
        if name == LOCAL:
            # The server of this home needs no settings: a damaged file does not cut it off.
            return Environment(LOCAL, self._local_address())
        known = self.all()
        for environment in known:
            if environment.name == name or (not name and environment.selected):
                return environment
        missing = name or str(self._settings.get(_SELECTED))
        raise _unknown(missing, known)

    def select(self, name: str) -> None:
        """Send commands to an environment from now on.

        Raises:
            click.UsageError: there is none of that name.
        """
        known = self.all()
        if all(environment.name != name for environment in known):
            raise _unknown(name, known)
        self._settings.set(_SELECTED, name)

    def add(self, name: str, address: str, **files: str) -> None:
        """Add an environment, or give one another address.

        Args:
            name: what it is called from now on.
            address: of its proxy.
            files: ``ca``, ``cert`` and ``key``, see `Environment`; empty is none.

        Raises:
            click.UsageError: a bad name or address, or ``local``.
        """
        if not _NAME.fullmatch(name):
            raise click.UsageError(f"{name[:40]!r} is no name: use letters, digits, '-', '_', '.'")
        if name == LOCAL:
            raise click.UsageError("local is the server of this MICRO_HOME; choose another name")
        check_address(address)

        def change(document: dict[str, Any]) -> None:
            if not isinstance(document.get(_ALL), dict):
                document[_ALL] = {}
            kept = {what: path for what, path in files.items() if path}
            document[_ALL][name] = {"name": name, _ADDRESS: address, **kept}

        self._settings.change(change)

    def remove(self, name: str) -> None:
        """Forget an environment.

        Raises:
            click.UsageError: there is none of that name, or it is the selected one, or ``local``.
        """
        known = {environment.name: environment for environment in self.all()}
        if name not in known:
            raise _unknown(name, list(known.values()))
        if known[name].selected:
            raise click.UsageError(f"{name} is selected; choose another with `micro env set` first")
        if name == LOCAL:
            raise click.UsageError("local cannot be deleted: it is the server of this MICRO_HOME")
        self._settings.change(lambda document: document[_ALL].pop(name, None))


def check_address(address: str) -> None:
    """Refuse what is not ``host`` or ``host:port``, with a scheme before it or without.

    Raises:
        click.UsageError: it is neither.
    """
    rest = re.sub(r"^https?://", "", address)
    host, port = rest, "443"
    if bracketed := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", rest):
        host, port = bracketed[1], bracketed[2] or "443"
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    good_port = port.isdecimal() and port.isascii() and 0 < int(port) < 65536
    if not good_port or not (_HOST.fullmatch(host) or (bracketed and _is_ip(host))):
        raise click.UsageError(f"{address[:80]!r} is no address; write it like example.com:8081")


def exposed(environment: Environment) -> bool:
    """Whether what is sent there can be read on the way: there is no TLS, and it is no loopback."""
    if environment.local:
        return False
    # Imported here: only a login asks, and it is about to use it.
    from microcosmos.proxy.client import target

    where, secure = target(environment.address)
    host = where.rpartition(":")[0].strip("[]")
    loopback = host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)
    return not (secure or loopback)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _added(document: dict[str, Any], selected: str) -> list[Environment]:
    """The environments; what somebody wrote by hand and is none is left out."""
    kept = document.get(_ALL)
    entries = kept.items() if isinstance(kept, dict) else ()
    return [
        Environment(
            name,
            str(entry.get(_ADDRESS) or DEFAULT_ADDRESS),
            name == selected,
            *(str(entry.get(what) or "") for what in _FILES),
        )
        for name, entry in entries
        if isinstance(entry, dict) and name != LOCAL
    ]


def _unknown(name: str, known: list[Environment]) -> click.UsageError:
    names = ", ".join(environment.name for environment in known)
    return click.UsageError(f"there is no environment {name!r}; there are: {names}")
