"""The part of a Python client by rpc that calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from microcosmos.service import Remote

# The part.


class _Service:
    """Calls the service.

    Args:
        client: `service.client(NAME)`, `connection.client(NAME)` or `Client(NAME)`.
        timeout: seconds that a call may take; the platform's own limit unless said.
        metadata: travels beside every call.
    """

    def __init__(
        self,
        client: Remote,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._options: dict[str, Any] = {"timeout": timeout, "metadata": metadata}

    async def _call(
        self,
        endpoint: str,
        request: object,
        kind: Any,
        *,
        retry: bool = True,
    ) -> Any:
        return await self._client.invoke(
            endpoint,
            request,
            type=kind,
            retry=retry,
            **self._options,
        )
