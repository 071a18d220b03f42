"""Environment variables of the processes that the runtime starts: nothing is inherited unseen."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from .deployment import Deployment


class Platform(Protocol):
    """What only the platform can give replicas: the engine's address, and who they are."""

    def check(self, namespace: str) -> None:
        """See that services can run in a namespace.

        Raises:
            errors.Error: they cannot; the detail says why.
        """

    async def admit(self, deployment: Deployment, process: str) -> dict[str, str]:
        """Give a process that is about to be started its credentials: variables that lead to them.

        Raises:
            errors.Unavailable: they cannot be made now.
        """

    async def dismiss(self, deployment: Deployment, process: str) -> None:
        """A process has ended for good: its credentials are removed."""

    async def forget(self, deployment: Deployment) -> None:
        """A deployment is no more: nothing is left of what its replicas were given."""

    async def keep_only(self, processes: Collection[str]) -> None:
        """Remove the credentials of all processes but these, which an earlier core has left."""


_BASE = ("HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME")
_TOOLS = (
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
_TOOL_PREFIXES = ("UV_", "GIT_SSL_", "NPM_CONFIG_", "npm_config_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def base() -> dict[str, str]:
    """What every process gets of the platform's own environment."""
    kept = {name: os.environ[name] for name in _BASE if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    kept.setdefault("LANG", "C.UTF-8")
    return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1"}


def tools() -> dict[str, str]:
    """What fetching and building get as well: how to reach the network, never how to ask a user."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _TOOLS or name.startswith(_TOOL_PREFIXES) or name.upper() in _PROXIES
    }
    return {**base(), **kept, "GIT_TERMINAL_PROMPT": "0", "NO_COLOR": "1"}


def package_root() -> Path:
    """The folder that `microcosmos` is imported from."""
    return Path(__file__).parents[2]


def platform_paths() -> list[str]:
    """Where the platform's packages are, for the `.pth` file of a service's environment."""
    paths = sysconfig.get_paths()
    return list(dict.fromkeys([paths["purelib"], paths["platlib"], str(package_root())]))


def python_path() -> dict[str, str]:
    """PYTHONPATH for the platform's own Python, when that does not find `microcosmos` by itself."""
    root = str(package_root())
    paths = sysconfig.get_paths()
    return {} if root in (paths["purelib"], paths["platlib"]) else {"PYTHONPATH": root}
