"""A blocking call through the proxy of another machine, for command lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# gRPC reads it when it is imported; a command line has one line to say, and says it itself.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from microcosmos.base import errors
from microcosmos.rpc import DEFAULT_TIMEOUT, MAX_BODY, Call
from microcosmos.rpc.interface import late

from . import status
from .shapes import package

_NAME = re.compile(r"[0-9a-z_.-]+")
# What gRPC itself says of a call that a proxy has taken, without an error of ours.
_ITS_OWN = (grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED)
_NEVER_SENT = re.compile("failed to connect|errors resolving|DNS resolution|empty address list")
_HOP = re.compile(r"^[A-Z_]+: (ipv[46]:\S+: )?")
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_BODY + 64 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
)


CA_FILE = "MICRO_PROXY_CA_FILE"
CERT_FILE = "MICRO_PROXY_CERT_FILE"
KEY_FILE = "MICRO_PROXY_KEY_FILE"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a client of TLS trusts, and what it shows; all are files in PEM.

    Attributes:
        ca: who may have signed the proxy's certificate; empty is `CA_FILE`, else the usual ones.
        cert: the client's own certificate, if it is asked for one; empty is `CERT_FILE`.
        key: the key of that; empty is `KEY_FILE`.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """For a channel.

        Raises:
            errors.BadRequest: a file cannot be read, or has no PEM.
        """
        ca, cert, key = (
            _pem(path or os.environ.get(variable, ""))
            for path, variable in ((self.ca, CA_FILE), (self.cert, CERT_FILE), (self.key, KEY_FILE))
        )
        if bool(cert) != bool(key):
            detail = "a client's certificate needs its key as well, and a key its certificate"
            raise errors.BadRequest("proxy", detail)
        return grpc.ssl_channel_credentials(ca, key, cert)


def _pem(path: str) -> bytes | None:
    if not path:
        return None
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as exc:
        raise errors.BadRequest("proxy", f"{path} cannot be read: {exc.strerror}") from None
    if b"-----BEGIN" not in data:
        raise errors.BadRequest("proxy", f"{path} is no PEM file")
    return data


NOBODY = Trust()


def call(
    address: str,
    service: str,
    endpoint: str,
    body_json: bytes = b"{}",
    metadata: Mapping[str, str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    trust: Trust = NOBODY,
) -> bytes:
    """Call an endpoint with a JSON body and return the JSON of its answer.

    Args:
        address: ``host:port``, or ``host`` alone for port 443 with TLS; ``https://`` before it
            asks for TLS on any port; ``unix:`` and a path is a socket of this host.
        service: whom.
        endpoint: what of it, ``Handler.Method``.
        body_json: the request.
        metadata: what travels beside it.
        timeout: seconds to wait.
        trust: whom to trust, if there is TLS.

    Raises:
        errors.BadRequest: metadata that gRPC cannot send, or a file of ``trust`` cannot be used.
        errors.Unavailable: nobody answers at that address, or no proxy.
        errors.ConnectionLost: the connection broke before the answer.
        errors.DeadlineExceeded: no answer within ``timeout`` seconds.
        errors.Error: what the service answered.
    """
    handler, _, method = endpoint.partition(".")
    headers = headers_of(metadata or {}, timeout)
    with channel_to(address, trust) as channel:
        send: Any = channel.unary_unary(f"/{service}.{handler}/{method}")
        with told(address, Call(service, endpoint, b"", {}, timeout)):
            answer: bytes = send(body_json or b"{}", timeout=timeout, metadata=headers)
    return answer


def describe(
    address: str,
    service: str,
    timeout: float = DEFAULT_TIMEOUT,
    trust: Trust = NOBODY,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The protobuf file of a service, a serialized ``FileDescriptorProto``.

    Args:
        address: see `call`.
        service: whose.
        timeout: seconds to wait.
        trust: whom to trust, if there is TLS.
        metadata: who asks, and in which namespace.

    Raises:
        errors.NotFound: there is no such service, or no messages can be made for it.
        errors.Error: see `call`.
    """
    from grpc_reflection.v1alpha import reflection_pb2 as messages

    request = messages.ServerReflectionRequest(file_by_filename=f"{package(service)}.proto")
    headers = [_header(name.lower(), value) for name, value in (metadata or {}).items()]
    with channel_to(address, trust) as channel:
        ask: Any = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=messages.ServerReflectionRequest.SerializeToString,
            response_deserializer=messages.ServerReflectionResponse.FromString,
        )
        with told(address, Call(service, "reflection", b"", {}, timeout)):
            answer = next(iter(ask(iter([request]), timeout=timeout, metadata=headers)))
    if answer.HasField("error_response"):
        refused = answer.error_response
        code = next(one for one in grpc.StatusCode if one.value[0] == refused.error_code)
        raise status.from_grpc(code, refused.error_message, None, service)
    file: bytes = answer.file_descriptor_response.file_descriptor_proto[0]
    return file


def headers_of(metadata: Mapping[str, str], timeout: float | None) -> list[tuple[str, str]]:
    """The headers of a call whose messages are JSON.

    Raises:
        errors.BadRequest: metadata that gRPC cannot send.
    """
    headers = [_header(name.lower(), value) for name, value in metadata.items()]
    if timeout is not None:
        headers.append(("timeout", str(int(timeout * 1e9))))
    return [*headers, ("x-content-type", "application/json")]


def _header(name: str, value: str) -> tuple[str, str]:
    """A header that gRPC can send: it has nothing but printable ASCII."""
    if not _NAME.fullmatch(name) or name.endswith("-bin"):
        raise errors.BadRequest("proxy", f"metadata {name[:40]!r}: gRPC has no such name")
    if not (value.isascii() and value.isprintable()):
        detail = f"metadata {name}: {value[:40]!r} is not printable ASCII, which is all gRPC sends"
        raise errors.BadRequest("proxy", detail)
    return name, value


def target(address: str) -> tuple[str, bool]:
    """``host:port`` of an address, and whether it is spoken to with TLS."""
    scheme, mark, rest = address.rpartition("://")
    host = rest.rstrip("/") if mark else address
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    has_port = ":" in host.rpartition("]")[2]
    secure = scheme == "https" or (not has_port and scheme != "http") or host.endswith(":443")
    return (host if has_port else f"{host}:{443 if secure else 80}"), secure


def channel_to(address: str, trust: Trust) -> grpc.Channel:
    """A channel to a proxy; see `call` for the address."""
    if address.startswith("unix:"):
        return grpc.insecure_channel(address, options=_OPTIONS)
    where, secure = target(address)
    if secure:
        return grpc.secure_channel(where, trust.credentials(), options=_OPTIONS)
    return grpc.insecure_channel(where, options=_OPTIONS)


@contextmanager
def told(address: str, call: Call) -> Iterator[None]:
    """Raise what gRPC raises in the block as an error of ours."""
    try:
        yield
    except grpc.RpcError as exc:
        raise _error(exc, address, call) from None


def _error(exc: Any, address: str, call: Call) -> errors.Error:
    details = dict(exc.trailing_metadata() or ()).get(status.DETAILS)
    text = (exc.details() or "").partition("\n")[0]
    if details is None and exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return late(call)
    if details is not None or exc.code() in _ITS_OWN:
        return status.from_grpc(exc.code(), text, details, call.service)
    if exc.code() is grpc.StatusCode.UNAVAILABLE and not _NEVER_SENT.match(text):
        return errors.ConnectionLost("proxy", f"the connection to {address} broke: {text[:200]}")
    # gRPC names every hop it tried; the last part is the cause.
    reason = _HOP.sub("", text.rpartition("last error: ")[2])[:200]
    return errors.Unavailable("proxy", f"{address} cannot be reached as a proxy: {reason}")
