"""What is answered at ``/metrics``: the ledger, as Prometheus reads it."""

from __future__ import annotations

import zlib
from typing import Any

from microcosmos.base import codec, context, errors
from microcosmos.monitor.ledger.exposition import CONTENT_TYPE
from microcosmos.monitor.ledger.wire import NAME, Metrics
from microcosmos.rpc import Call, Client

from .answer import COMPRESS_FROM, Header
from .encodings import accepts

PATH = "/metrics"
"""Where it is; names are private, so an admin's token is asked for."""

TIMEOUT = 10.0
"""Seconds that the core may take to tell."""

_CARRIED = (context.AUTHORIZATION, context.NAMESPACE, context.TRACE)


async def send_metrics(
    client: Client,
    scope: Any,
    proto: Any,
    request: dict[str, str],
    metadata: dict[str, str],
) -> None:
    """Answer a request for the metrics, asked as who makes it.

    Raises:
        errors.MethodNotAllowed: it is not read.
        errors.Unauthorized: it shows no token.
        errors.Forbidden: that is no admin's.
    """
    if scope.method not in ("GET", "HEAD"):
        raise errors.MethodNotAllowed("gateway", f"{PATH} is read with GET")
    carried = {name: metadata[name] for name in _CARRIED if name in metadata}
    try:
        said = await client.send(Call(NAME, "Ledger.Metrics", b"{}", carried, TIMEOUT))
        found: Metrics = codec.decode(said, Metrics, id=NAME)
        body = found.text.encode()
    except errors.NotFound:
        # Nobody counts here, as in a program that runs alone.
        body = b""
    headers: list[Header] = [("content-type", CONTENT_TYPE), ("cache-control", "no-store")]
    if len(body) >= COMPRESS_FROM and accepts(request.get("accept-encoding", ""), "gzip"):
        packer = zlib.compressobj(level=1, wbits=31)
        body = packer.compress(body) + packer.flush()
        headers.append(("content-encoding", "gzip"))
    if scope.method == "HEAD":
        proto.response_empty(200, headers)
    else:
        proto.response_bytes(200, headers, body)
