"""A host that goes away, and the next one: what functions ask for waits for it."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from microcosmos.rpc import frames

from .workers import Answer, Function, Worker

runs = pytest.mark.runs

READS = """
async function use(env) {
  const found = await env.store.get('a')
  const answer = await fetch('http://one.test/')
  return `${found} ${await answer.text()}`
}
"""
PYTHON = "def handler(request, env):\n    found = env.store.get('a')\n    return found + ' ' + fetch('http://one.test/').text()"
MODULE = "export default { async fetch(request, env) { return new Response(await use(env)) } }"
JAVASCRIPT = "function handler(request, env) { return use(env) }"


def next_host(worker: Worker) -> Worker:
    """A host that is still to come."""
    host = Worker(worker.process, worker.engine)
    host.bindings["store", "get"] = lambda key: "kept"
    host.sites["http://one.test/"] = Answer(status=200, body=b"fetched")
    return host


async def no_host(worker: Worker) -> None:
    """Nobody is the host of a worker from now on."""
    async with Worker(worker.process, worker.engine):
        pass
    await turn(worker)


async def turn(worker: Worker) -> None:
    """Wait until the worker has seen all that has happened to its lines so far."""
    beats = len(worker.beats)
    worker.line.send(frames.BEAT, 0, b"x")
    await worker.until(lambda: len(worker.beats) > beats)


@runs(
    javascript=READS + JAVASCRIPT,
    module=READS + MODULE,
    python=PYTHON,
    options={"grants": ["store"]},
)
async def test_what_is_asked_while_there_is_no_host_waits(
    worker: Worker, function: Function
) -> None:
    await no_host(worker)
    waiting = [function.begin() for _ in range(3)]
    await turn(worker)
    async with next_host(worker):
        assert [(await one.answer()).text for one in waiting] == ["kept fetched"] * 3


@runs(
    javascript=READS + JAVASCRIPT,
    module=READS + MODULE,
    python=PYTHON,
    options={"grants": ["store"]},
)
async def test_what_only_reads_is_asked_again(worker: Worker, function: Function) -> None:
    asked = asyncio.Event()

    async def never(said: object) -> Any:
        asked.set()
        await asyncio.Event().wait()

    first, second = next_host(worker), next_host(worker)
    first.bindings["store", "get"] = never
    second.sites["http://one.test/"] = never
    async with first:
        stream = function.begin()
        await asked.wait()
        asked.clear()
    async with second:
        await asked.wait()
    async with next_host(worker):
        assert (await stream.answer()).text == "kept fetched"


@runs(
    javascript="async function handler(request, env) {"
    " try { await env.store.set('a', 1) } catch (error) { return [error.id, error.code] } }",
    module="export default { async fetch(request, env) { try { await env.store.set('a', 1) }"
    " catch (error) { return Response.json([error.id, error.code]) } } }",
    options={"grants": ["store"]},
)
async def test_what_may_have_been_done_is_not(worker: Worker, function: Function) -> None:
    asked = asyncio.Event()

    async def never(*arguments: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    async with next_host(worker) as host:
        host.bindings["store", "set"] = never
        stream = function.begin()
        await asked.wait()
    async with next_host(worker) as host:
        assert (await stream.answer()).json == ["functions.host", 503]
        assert host.used == []


POSTED = """
async function posted(request) {
  const answer = await fetch('http://one.test/', { method: 'POST', body: await request.bytes() })
  return await answer.text()
}
"""


@runs(
    javascript=POSTED + "function handler(request) { return posted(request) }",
    module=POSTED
    + "export default { async fetch(request) { return new Response(await posted(request)) } }",
)
async def test_a_body_goes_to_the_next_host(worker: Worker, function: Function) -> None:
    await no_host(worker)
    stream = function.begin("POST", body=b"x" * 100_000)
    async with next_host(worker) as host:
        assert (await stream.answer()).text == "fetched"
        (fetch,) = host.fetched
        body = host.fetched_bodies.get(fetch.url) or base64.b64decode(fetch.body)
        assert body == b"x" * 100_000
