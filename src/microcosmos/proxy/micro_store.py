"""Where the store's own endpoints differ from Micro v3's of that name; see `micro`.

Metadata is text by text here; Micro gave each a type, which is ``string`` now. An expiry is in
whole seconds there, so what has less than one left has one.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

from microcosmos.rpc.interface import DEFAULT_TIMEOUT

from .micro import Adapter, Ask, Requests


async def _read(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    answer = await ask("Store.Read", await anext(requests), timeout=DEFAULT_TIMEOUT)
    yield {"records": [_shown(record) for record in answer["records"]]}


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    fields = {name: {"type": "string", "value": text} for name, text in record["metadata"].items()}
    return {**record, "expiry": math.ceil(record["expiry"]), "metadata": fields}


async def _write(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    request = await anext(requests)
    if record := request.get("record"):
        fields = record.get("metadata", {})
        record["metadata"] = {name: field.get("value", "") for name, field in fields.items()}
    await ask("Store.Write", request, timeout=DEFAULT_TIMEOUT)
    yield {}


ADAPTED: dict[tuple[str, str], Adapter] = {
    ("store", "Store.Read"): _read,
    ("store", "Store.Write"): _write,
}
"""By service and endpoint."""
