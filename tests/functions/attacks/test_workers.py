"""Each attack on a worker of each engine: it is ended, or comes to nothing, and it alone pays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest

from microcosmos.functions.interface import Limits

from ..engines.conftest import ENGINES
from ..engines.workers import Answer, Function, Worker
from .conftest import Watched, running
from .corpus import ANY, ATTACKS, Attack

LIMITS = Limits(cpu=0.05, heap=16 * 1024 * 1024, response=1024 * 1024, wall=5.0)
PYTHON = Limits(cpu=0.1, heap=16 * 1024 * 1024, response=1024 * 1024, wall=5.0)

NEIGHBOUR = """
async function handler(request, env) {
  if (request.path === 'wait') await new Promise((done) => setTimeout(done, 80))
  console.log('from the neighbour')
  return { path: request.path, body: await request.text(), own: env.OWN }
}
"""
PYTHON_NEIGHBOUR = """
def handler(request, env):
    if request.path == 'wait':
        import time
        time.sleep(0.08)
    print('from the neighbour')
    return {'path': request.path, 'body': request.text(), 'own': env['OWN']}
"""

WAYS = [
    pytest.param(attack, engine, id=f"{attack.name}-{engine}")
    for engine in ("quickjs", "wasm", "deno", "monty")
    for attack in ATTACKS
    if engine in attack.engines and not attack.kills_on(engine)
]


async def neighbour(worker: Worker) -> Function:
    """A function of the same owner in the same worker."""
    python = worker.engine == "monty"
    return await worker.load(
        PYTHON_NEIGHBOUR if python else NEIGHBOUR,
        language="python" if python else "javascript",
        name="neighbour",
        env={"OWN": "mine"},
        limits=Limits(cpu=1.0),
    )


def seen(attack: Attack, engine: str, answer: Answer) -> None:
    """See that an attack has ended as it should."""
    end = attack.end_on(engine)
    if end.startswith("="):
        assert answer.id == ""
        assert answer.text == end[1:] or end == ANY
        return
    assert answer.id.removeprefix("functions.") in end.split("|"), answer
    assert answer.status in (500, 503)
    assert "\n" not in answer.detail


@pytest.mark.parametrize(("attack", "engine"), WAYS)
def test_it_is_ended_and_harms_nobody(
    attack: Attack, engine: str, watched: Callable[[str], Watched]
) -> None:
    if engine == "deno" and attack.taints:
        with running(ENGINES[engine]) as own:
            asyncio.run(_attacked(attack, engine, own))
    else:
        asyncio.run(_attacked(attack, engine, watched(engine)))


def _limits(attack: Attack, engine: str) -> Limits:
    """The limits of an attack: of two that it runs into, the one that is meant comes first."""
    usual = PYTHON if engine == "monty" else LIMITS
    if attack.fills_on(engine):
        return msgspec.structs.replace(usual, cpu=5.0, wall=30.0)
    return usual


async def _attacked(attack: Attack, engine: str, process: Watched) -> None:
    async with Worker(process, engine) as worker:
        pid = process.pid
        mate = await neighbour(worker)
        code, form, language = attack.source(engine)
        guilty = await worker.load(
            code,
            form=form,
            language=language,
            name="guilty",
            limits=_limits(attack, engine),
        )
        waiting = mate.begin("POST", "wait", body="x")
        seen(attack, engine, await guilty.get("try"))
        # Who was at work beside it knows nothing of it, nor does who comes afterwards.
        assert (await waiting.answer()).json == {"path": "wait", "body": "x", "own": "mine"}
        assert (await mate.post("p", "y")).json == {"path": "p", "body": "y", "own": "mine"}
        if engine not in attack.lasts:
            assert (await guilty.get("ok")).text == "fine"
        counts, own = await mate.counts(2), await guilty.counts(1)
        assert (counts.requests, counts.errors) == (2, 0)
        assert own.errors == (0 if attack.end_on(engine).startswith("=") else 1)
        assert {line.text for line in await mate.logs(2)} == {"from the neighbour"}
        await worker.drop(guilty)
        await worker.drop(mate)
    assert process.pid == pid
    assert "Traceback" not in process.errors.read_text()
