"""Beats, and the end of a worker."""

from __future__ import annotations

import signal

import pytest

from microcosmos.rpc import frames

from .workers import Worker

SLOW = {
    "quickjs": "async function handler() {"
    " await new Promise((done) => setTimeout(done, 300)); return 'done' }",
    "monty": "def handler(request, env):\n    return 'done'",
}
SLOW["deno"] = SLOW["wasm"] = SLOW["quickjs"]


async def test_a_beat_is_answered(worker: Worker) -> None:
    worker.line.send(frames.BEAT, 0, b"7")
    await worker.until(lambda: worker.beats)
    assert worker.beats == [b"7"]


@pytest.mark.parametrize("by", ["signal", "word"])
async def test_who_is_to_end_answers_what_is_under_way(own_worker: Worker, by: str) -> None:
    async with own_worker as worker:
        language = "python" if worker.engine == "monty" else "javascript"
        function = await worker.load(SLOW[worker.engine], language=language)
        stream = function.begin()
        # Behind the request, so that it has come when the worker is to end.
        await worker.verb("host")
        if by == "signal":
            worker.process.signal(signal.SIGTERM)
        else:
            worker.line.send(frames.GOAWAY, 0, b"")
        await worker.until(lambda: worker.leaving)
        assert (await stream.answer()).text == "done"
        await worker.until(lambda: worker.counted(function.slot).requests == 1)
    assert worker.process.wait() == 0


async def test_who_ends_tells_its_host_all_and_waits_for_nobody(own_worker: Worker) -> None:
    async with own_worker as host:
        language = "python" if host.engine == "monty" else "javascript"
        function = await host.load(SLOW[host.engine], language=language)
        assert (await function.get()).text == "done"
        # It is the host that stays: the worker hangs up by itself.
        host.line.send(frames.GOAWAY, 0, b"")
        await host.gone()
        assert host.counted(function.slot).requests == 1
    assert host.process.wait() == 0


async def test_who_is_killed_loses_what_is_under_way(own_worker: Worker) -> None:
    async with own_worker as worker:
        language = "python" if worker.engine == "monty" else "javascript"
        function = await worker.load(SLOW[worker.engine], language=language)
        stream = function.begin()
        worker.kill()
        await worker.gone()
        assert (await stream.answer()).id in ("functions.lost", "")


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_who_goes_away_takes_nobody_along(worker: Worker) -> None:
    function = await worker.load(SLOW[worker.engine])
    async with Worker(worker.process, worker.engine) as other:
        known = await other.load(SLOW[worker.engine])
        for _ in range(5):
            known.begin()
    assert (await function.get()).text == "done"


async def test_nonsense_harms_its_own_line_at_most(worker: Worker) -> None:
    async with Worker(worker.process, worker.engine) as other:
        other.line.send(frames.REQUEST, 7, b"x")
        other.line.send(frames.OPEN, 9, b"\xff" * 12)
        other.line.send(frames.BEAT, 0, b"")
        await other.until(lambda: other.beats or not other.line.open)
    worker.line.send(frames.BEAT, 0, b"still here")
    await worker.until(lambda: worker.beats)
