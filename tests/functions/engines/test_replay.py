"""Replay: the same request in the same world is answered the same, to the byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from microcosmos.functions.interface import Limits, Replay
from microcosmos.functions.replay import World, stream_key

from .workers import Answer, Function, Process, Worker

NEW_YEAR = 1_767_225_600_000
FROZEN = Replay(seed="s", clock=NEW_YEAR)
STEPPED = Replay(seed="s", clock=NEW_YEAR, step=250)

ALL = """
const loaded = [Math.random(), Date.now()]
let calls = 0
async function handler(request) {
  const began = performance.now()
  const order = []
  setTimeout(() => order.push('b', Date.now()), 2000)
  setTimeout(() => order.push('a', Date.now()), 1000)
  await new Promise((done) => setTimeout(done, 5000))
  const bytes = crypto.getRandomValues(new Uint8Array(70))
  return new Response(JSON.stringify({
    loaded, calls: ++calls, began, order, at: new Date(), text: Date(),
    past: new Date(0).getTime(),
    random: [Math.random(), Math.random()], uuid: crypto.randomUUID(), bytes: [...bytes],
    origin: performance.timeOrigin,
    is: [new Date() instanceof Date, new Date().constructor === Date],
    query: request.query,
  }), { headers: { 'x-random': String(Math.random()), 'content-type': 'text/x-all' } })
}
"""

PYTHON = """
import datetime
import os
import random
import time
import asyncio

loaded = [random.random(), time.time(), os.urandom(3).hex()]
calls = []


async def late(name, seconds, order):
    await asyncio.sleep(seconds)
    order.append([name, time.time()])


async def handler(request, env):
    calls.append(1)
    order = []
    await asyncio.gather(late("b", 2, order), late("a", 1, order))
    time.sleep(5)
    return {
        "loaded": loaded, "calls": len(calls), "order": order, "at": time.time(),
        "now": datetime.datetime.now().isoformat(), "today": str(datetime.date.today()),
        "utc": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "random": [random.random(), random.randint(1, 10**9)], "bytes": os.urandom(70).hex(),
    }
"""

SOURCES = {
    "quickjs": (ALL, "handler", "javascript"),
    "deno": (ALL, "handler", "javascript"),
    "wasm": (ALL, "handler", "javascript"),
    "monty": (PYTHON, "handler", "python"),
}


async def _loaded(worker: Worker, replay: Replay | None, name: str = "") -> Function:
    code, form, language = SOURCES[name or worker.engine]
    return await worker.load(code, form=form, language=language, replay=replay)


@pytest.mark.parametrize("replay", [FROZEN, STEPPED], ids=["frozen", "stepped"])
async def test_the_same_request_is_answered_the_same_to_the_byte(
    own_worker: Worker, worker: Worker, replay: Replay
) -> None:
    """In each request, in another load of it, and in another worker."""
    function = await _loaded(worker, replay)
    first = await function.get("?q=1")
    assert first.status == 200, first
    assert await function.get("?q=1") == first
    assert await (await _loaded(worker, replay)).get("?q=1") == first
    async with own_worker as other:
        assert await (await _loaded(other, replay)).get("?q=1") == first


async def test_requests_at_once_do_not_see_each_other(worker: Worker) -> None:
    function = await _loaded(worker, STEPPED)
    answers = await asyncio.gather(*(function.get() for _ in range(5)))
    assert {answer.body for answer in answers} == {answers[0].body}
    assert answers[0].json["calls"] == 1


async def test_another_seed_or_clock_is_another_world(worker: Worker) -> None:
    seen = {
        (await (await _loaded(worker, replay)).get()).body
        for replay in (FROZEN, STEPPED, Replay(seed="t", clock=NEW_YEAR), Replay(seed="s"))
    }
    assert len(seen) == 4


async def test_without_a_replay_nothing_is_the_same(worker: Worker) -> None:
    """Beside one in the same worker, too."""
    await (await _loaded(worker, FROZEN)).get()
    code = {
        "monty": "import time\nimport random\n\ndef handler(request, env):\n"
        "    return [random.random(), time.time() > 1767225601]",
    }.get(worker.engine, "const handler = () => [Math.random(), Date.now() > 1767225601000]")
    language = "python" if worker.engine == "monty" else "javascript"
    function = await worker.load(code, language=language)
    one, other = (await function.get()).json, (await function.get()).json
    assert one[0] != other[0]
    assert one[1] is other[1] is True


@pytest.mark.engines("quickjs", "deno", "wasm")
@pytest.mark.parametrize("form", ["handler", "script", "module"])
async def test_randomness_is_the_named_stream(worker: Worker, form: str) -> None:
    """ChaCha20 as another library has it; so the same on each engine."""
    made = "[...crypto.getRandomValues(new Uint8Array(100))], Math.random(), crypto.randomUUID()"
    code = {
        "handler": f"const handler = () => [{made}]",
        "script": f"JSON.stringify([{made}])",
        "module": f"export default {{ fetch() {{ return Response.json([{made}]) }} }}",
    }[form]
    if form == "module" and worker.engine != "deno":
        return
    function = await worker.load(code, form=form, replay=Replay(seed="naïve"))
    numbers, share, uuid = json.loads((await function.get()).body)
    cipher = Cipher(algorithms.ChaCha20(stream_key("naïve"), bytes(16)), None)
    stream = cipher.encryptor().update(bytes(124))
    assert bytes(numbers) == stream[:100]
    assert share == (int.from_bytes(stream[100:108], "little") >> 11) / 2**53
    plain = bytearray(stream[108:])
    plain[6], plain[8] = plain[6] & 0x0F | 0x40, plain[8] & 0x3F | 0x80
    assert uuid.replace("-", "") == plain.hex()


@pytest.mark.engines("monty")
async def test_bytes_are_of_the_named_stream(worker: Worker) -> None:
    function = await _loaded(worker, FROZEN)
    world = World(FROZEN)
    answer = (await function.get()).json
    assert answer["loaded"][2] == world.random(3).hex()
    assert answer["bytes"] == world.random(70).hex()


async def test_a_clock_that_stands_still_goes_on_by_timers_only(worker: Worker) -> None:
    answer = (await (await _loaded(worker, FROZEN)).get()).json
    begin = NEW_YEAR / 1000 if worker.engine == "monty" else NEW_YEAR
    second = 1 if worker.engine == "monty" else 1000
    assert answer["loaded"][1] == begin
    if worker.engine == "monty":
        assert answer["order"] == [["a", begin + 1], ["b", begin + 2]]
        assert answer["at"] == begin + 7
        assert answer["now"] == "2026-01-01T00:00:07"
        assert answer["utc"] == "2026-01-01T00:00:07+00:00"
        assert answer["today"] == "2026-01-01"
        return
    assert answer["order"] == ["a", begin + second, "b", begin + 2 * second]
    assert answer["at"] == "2026-01-01T00:00:05.000Z"
    assert answer["began"] == 0
    assert answer["origin"] == NEW_YEAR
    assert answer["past"] == 0
    assert answer["is"] == [True, True]
    assert answer["text"].startswith("Thu Jan 01 2026 00:00:05")


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_a_clock_with_a_step_goes_on_by_each_look(worker: Worker) -> None:
    code = (
        "const first = Date.now(); const handler = () =>"
        " [first, Date.now(), +new Date(), performance.now(), performance.now(), +new Date(5)]"
    )
    function = await worker.load(code, replay=Replay(clock=1000, step=2.5))
    assert (await function.get()).json == [1000, 1002, 1005, 7.5, 10, 5]


@pytest.mark.engines("monty")
async def test_a_clock_with_a_step_goes_on_by_each_look_of_python(worker: Worker) -> None:
    code = (
        "import time\nfirst = time.time()\n\ndef handler(request, env):\n"
        "    return [first, time.time(), time.time_ns(), time.monotonic()]"
    )
    function = await worker.load(code, language="python", replay=Replay(clock=1000, step=500))
    assert (await function.get()).json == [1, 1.5, 2_000_000_000, 2.5]


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_a_long_timer_takes_no_time_and_one_that_never_ends_holds_nothing_up(
    worker: Worker,
) -> None:
    code = """
    async function handler() {
      let ticks = 0
      setInterval(() => ticks++, 1000)
      const never = setTimeout(() => { ticks = -1 }, 10)
      clearTimeout(never)
      await new Promise((done) => setTimeout(done, 3_600_000))
      return [ticks, Date.now()]
    }
    """
    function = await worker.load(code, replay=Replay(), limits=Limits(cpu=5.0, wall=15.0))
    # The last tick has the same time as the end, and was set later.
    assert (await function.get()).json == [3599, 3_600_000]


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_sub_requests_come_before_timers(worker: Worker) -> None:
    """Those that wait for both go on as they would in a world where the web is quick."""

    async def slow(_: object) -> Answer:
        await worker.until(lambda: len(worker.fetched) == 2)
        return Answer(status=200, body=b"fetched")

    worker.sites["http://a.test/"] = worker.sites["http://b.test/"] = slow
    code = """
    async function handler() {
      const late = new Promise((done) => setTimeout(done, 1, 'late'))
      const fetched = fetch('http://a.test/').then((found) => found.text())
      const said = [await Promise.race([fetched, late]), Date.now()]
      return [...said, await late, Date.now()]
    }
    """
    function = await worker.load(code, replay=Replay())
    answer = function.begin()
    await worker.until(lambda: len(worker.fetched) == 1)
    other = function.begin()
    assert (await answer.answer()).json == ["fetched", 0, "late", 1]
    assert (await other.answer()).json == ["fetched", 0, "late", 1]


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_events_are_handled_in_a_fresh_world_too(worker: Worker) -> None:
    code = "let n = 0; function consume() { console.log(++n, Math.random()) }"
    function = await worker.load(code, replay=Replay(seed="e"))
    for _ in range(2):
        assert not (await function.event("consume", {"topic": "t"})).id
    lines = [line.text for line in await function.logs(2)]
    assert lines[0] == lines[1]
    assert lines[0].startswith("1 ")


async def test_what_fails_in_a_replay_says_so_as_it_does_without(worker: Worker) -> None:
    bad, language = "function handler() { throw new Error('no') }", "javascript"
    if worker.engine == "monty":
        bad, language = "def handler(request, env):\n    raise ValueError('no')", "python"
    function = await worker.load(bad, language=language, replay=FROZEN)
    for _ in range(2):
        assert (await function.get()).id == "functions.exception"
    assert "no" in (await function.logs(2))[-1].text
    counts = await function.counts(2)
    assert counts.errors == 2


@pytest.mark.engines("deno")
async def test_the_crypto_of_node_has_the_same_randomness(worker: Worker) -> None:
    code = """
    import nodes, { randomBytes, randomFillSync, randomInt, randomUUID } from 'node:crypto'
    export default { async fetch() {
      const late = new Promise((done) => randomBytes(4, (_, bytes) => done(bytes.toString('hex'))))
      return Response.json([randomBytes(3).toString('hex'), await late, nodes.randomInt(5, 10**9),
        randomUUID(), [...randomFillSync(new Uint8Array(5), 2)],
        nodes.createHash('md5').update('').digest('hex')])
    } }
    """
    function = await worker.load(code, form="module", replay=FROZEN)
    answer = await function.get()
    assert await function.get() == answer
    world = World(FROZEN)
    first = world.random(4).hex()
    assert answer.json[:2] == [world.random(3).hex(), first]
    assert answer.json[4][:2] == [0, 0]


def test_engines_of_one_language_answer_the_same(processes: Callable[[str], Process]) -> None:
    code = """
    async function handler() {
      await new Promise((done) => setTimeout(done, 1500))
      return [Math.random(), crypto.randomUUID(), new Date(), Date.now(), performance.now(),
        ...crypto.getRandomValues(new Uint32Array(40))]
    }
    """

    async def answered(engine: str) -> Answer:
        async with Worker(processes(engine), engine) as worker:
            return await (await worker.load(code, replay=STEPPED)).get()

    answer = asyncio.run(answered("quickjs"))
    assert answer.status == 200
    assert asyncio.run(answered("deno")) == answer


@pytest.mark.engines("deno")
async def test_what_is_left_in_the_global_object_is_gone_in_the_next_request(
    worker: Worker,
) -> None:
    code = """
    const handler = () => {
      globalThis.kept = (globalThis.kept ?? 0) + 1
      const was = globalThis.structuredClone === 1
      globalThis.structuredClone = 1
      return [kept, was, new Intl.DateTimeFormat('en', { timeZone: 'UTC' }).format(),
        Temporal.Now.instant().toString(), typeof AbortSignal.timeout(5)]
    }
    """
    function = await worker.load(code, replay=FROZEN)
    for _ in range(2):
        assert (await function.get()).json == [
            *(1, False, "1/1/2026", "2026-01-01T00:00:00Z", "object")
        ]
