"""Where npm's registries are, as far as walls know of it: ports, and files that say so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_SECURE = 443
_PLAIN = 80

_URL = re.compile(r"(?:(?P<scheme>https?):)?//[^\s/'\"]*?(?::(?P<port>\d{1,5}))?(?=[/\s'\"]|$)")
_PROXIES = ("http_proxy", "https_proxy")
_TRUST = ("DENO_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR")


def files_of(environment: Mapping[str, str]) -> list[Path]:
    """What says where registries are and who signs their certificates; some may not be there."""
    trusted = [Path(environment[name]) for name in _TRUST if environment.get(name)]
    return [*_settings(environment), *trusted]


def ports_of(environment: Mapping[str, str]) -> set[int]:
    """The ports of registries and proxies, as variables and files of npm name them."""
    found = {_SECURE}
    for name, value in environment.items():
        if name.lower() in _PROXIES and value:
            found |= set(_ports(value if "//" in value else f"http://{value}"))
        elif name.lower().startswith("npm_config_"):
            found |= set(_ports(value))
    for path in _settings(environment):
        try:
            found |= set(_ports(path.read_text("utf-8", "replace")))
        except OSError:
            continue
    return found


def _settings(environment: Mapping[str, str]) -> list[Path]:
    home = environment.get("HOME")
    return [Path(home) / ".npmrc"] if home else []


def _ports(text: str) -> Iterator[int]:
    for found in _URL.finditer(text):
        port = int(found["port"] or (_PLAIN if found["scheme"] == "http" else _SECURE))
        if port < 1 << 16:
            yield port
