"""What a server can be told: the same struct is its options and its environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from microcosmos.base import codec, errors

_PREFIX = "MICRO_"


def _gateways() -> int:
    return min(2, os.cpu_count() or 1)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `micro server`; ``api_address`` is ``--api_address`` and `MICRO_API_ADDRESS`.

    Attributes:
        home: where the state is kept; empty is ``~/.micro``.
        profile: which backends; empty is ``local``.
        api_address: the HTTP gateway. Port 0 takes a free one, here and below.
        proxy_address: the gRPC proxy.
        proxy_tls_cert_file: PEM: the proxy's certificate; with one it answers by TLS alone.
        proxy_tls_key_file: PEM: its private key.
        proxy_tls_client_ca_file: PEM: who signs the certificates that clients must show.
        web_address: the dashboard.
        nats_address: the bundled engine; empty is a free port that is kept over restarts.
        nats_url: an engine to use instead of the bundled one.
        nats_creds: the credentials file for that engine.
        durability: what an acknowledged event survives: ``power`` loss, or the end of a
            ``process`` only, which is faster.
        gateways: how many gateway processes.
        api_tls_cert_file: the certificate of the HTTP gateway, in PEM; it speaks TLS then.
        api_tls_key_file: the key of that certificate.
        api_tls_client_ca_file: who may have signed the certificates that clients must show.
        api_http2: whether the HTTP gateway speaks HTTP/2: with ``tls``, where clients choose it
            in the handshake; ``always``, without TLS by prior knowledge too; or ``never``.
        api_access_log: whether a line is written for each request, and in which form.
        api_access_log_file: where; empty is ``access.log`` beside the other logs.
        api_allowed_origins: whose pages may open WebSockets, beside the gateway's own; by commas,
            ``*`` is any.
        api_config: the gateway's policies, if not ``gateway.toml`` in the home.
    """

    home: str = ""
    profile: str = ""
    api_address: str = "127.0.0.1:8080"
    proxy_address: str = "127.0.0.1:8081"
    proxy_tls_cert_file: str = ""
    proxy_tls_key_file: str = ""
    proxy_tls_client_ca_file: str = ""
    web_address: str = "127.0.0.1:8082"
    nats_address: str = ""
    nats_url: str = ""
    nats_creds: str = ""
    durability: Literal["power", "process"] = "power"
    gateways: Annotated[int, msgspec.Meta(ge=1, le=256)] = msgspec.field(default_factory=_gateways)
    api_tls_cert_file: str = ""
    api_tls_key_file: str = ""
    api_tls_client_ca_file: str = ""
    api_http2: Literal["tls", "always", "never"] = "tls"
    api_access_log: Literal["off", "json", "common"] = "off"
    api_access_log_file: str = ""
    api_allowed_origins: str = ""
    api_config: str = ""


def load(environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Settings of the environment, under those given as flags; None and "" count as unsaid.

    Raises:
        errors.BadRequest: a value is wrong; the detail names the flag and the variable.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for name in Settings.__struct_fields__:
        for value in (flags.get(name), environ.get(_PREFIX + name.upper())):
            if value is not None and value != "":
                values[name] = value
                break
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as exc:
        raise _wrong(exc) from None


def _wrong(exc: msgspec.ValidationError) -> errors.BadRequest:
    problem, _, path = str(exc).partition(" - at `$.")
    name = path.rstrip("`")
    detail = codec.bad_input("server", msgspec.ValidationError(problem)).detail
    where = f"--{name} ({_PREFIX}{name.upper()}): " if name else ""
    return errors.BadRequest("server.settings", where + detail)
