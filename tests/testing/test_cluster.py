"""Nodes that form a cluster, in one process."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from microcosmos import Service
from microcosmos.testing import cluster


def hello(where: str) -> Service:
    service = Service("helloworld")

    @service.endpoint
    async def call() -> dict[str, str]:
        return {"where": where}

    return service


@pytest.mark.slow
async def test_a_service_is_called_from_every_node_and_survives_the_loss_of_one() -> None:
    async with cluster(nodes=3) as nodes:
        first, second, third = nodes.nodes
        await first.start(hello("first"))
        await second.start(hello("second"))
        await nodes.until(lambda: nodes.knows("helloworld"))

        # A node that has one of its own calls that one; the others share the work.
        assert await first.bench.client("helloworld").call() == {"where": "first"}
        seen: set[str] = set()
        async with asyncio.timeout(60):
            while seen != {"first", "second"}:
                seen.add((await third.bench.client("helloworld").call())["where"])

        await first.kill()
        async with httpx.AsyncClient(timeout=60) as http:
            answers = [await http.get(f"{third.url}/helloworld") for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["where"] for answer in answers} == {"second"}

        fourth = await nodes.add()
        await nodes.until(lambda: nodes.knows("helloworld"))
        assert await fourth.bench.client("helloworld").call() == {"where": "second"}
