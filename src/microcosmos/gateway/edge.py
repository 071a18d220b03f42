"""The edge of a gateway, TLS and access log, as the supervisor tells a gateway by variables.

The supervisor has checked and resolved what the operator said, so nothing is checked here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from microcosmos.base.tls import Files

_PREFIX = "MICRO_API_"


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """The edge of a gateway.

    Attributes:
        tls_cert_file: the certificate; empty is no TLS.
        tls_key_file: its key.
        tls_client_ca_file: who signs clients' certificates; empty asks for none.
        http2: when HTTP/2 is spoken.
        access_log: the form of the access log.
        access_log_file: where it is.
        allowed_origins: whose pages may open WebSockets, divided by commas.
    """

    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_client_ca_file: str = ""
    http2: Literal["tls", "always", "never"] = "tls"
    access_log: Literal["off", "json", "common"] = "off"
    access_log_file: str = ""
    allowed_origins: str = ""

    @property
    def tls(self) -> Files | None:
        """The certificate's files."""
        if not self.tls_cert_file:
            return None
        client_ca = Path(self.tls_client_ca_file) if self.tls_client_ca_file else None
        return Files(Path(self.tls_cert_file), Path(self.tls_key_file), client_ca)

    @property
    def speaks_http2(self) -> bool:
        """Whether HTTP/2 is spoken."""
        return self.http2 == "always" or (self.http2 == "tls" and bool(self.tls_cert_file))

    def environment(self) -> dict[str, str]:
        """The variables that tell a gateway."""
        return {
            _PREFIX + name.upper(): value for name, value in msgspec.structs.asdict(self).items()
        }


def from_environment(environ: Mapping[str, str] = os.environ) -> Edge:
    """The edge that `Edge.environment` tells."""
    names = Edge.__struct_fields__
    told = {name: value for name in names if (value := environ.get(_PREFIX + name.upper()))}
    return msgspec.convert(told, Edge)
