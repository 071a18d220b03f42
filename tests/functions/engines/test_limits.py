"""What ends a function, and only it."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import asyncio

import pytest

from microcosmos.base import errors
from microcosmos.functions import cpu, wire
from microcosmos.functions.host import faults
from microcosmos.functions.interface import Limits
from microcosmos.functions.limits import CEILINGS, FLOORS

from .workers import Answer, Function, Worker

runs = pytest.mark.runs

MIB = 1024 * 1024


async def ended(function: Function, answer: Answer, limit: str, said: str = "") -> None:
    """See that an answer, the log and the counts say by which limit a request has ended."""
    id = f"functions.limit.{limit}"
    assert (answer.status, answer.id) == (503, id)
    assert "\n" not in answer.detail
    assert answer.detail.startswith(("ended here after ", "refused here after "))
    assert said in answer.detail
    worker, slot = function.worker, function.slot
    line = f"{id}: {answer.detail}"
    await worker.until(lambda: line in [one.text for one in worker.logged(slot)])
    await worker.until(lambda: worker.counted(slot).failures.get(f"limit.{limit}", 0) > 0)


LOOPS = """
async function handler({ path }) {
  if (path === 'ok') return 'fine'
  if (path === 'wait') { await new Promise((done) => setTimeout(done, 60000)); return 'waited' }
  if (path === 'jobs') for (;;) await null
  if (path === 'timer') { await new Promise((done) => setTimeout(done, 1)) }
  for (;;);
}
"""


@pytest.mark.engines("quickjs")  # others are killed, from outside
@pytest.mark.parametrize("path", ["now", "jobs", "timer"])
@runs(javascript=LOOPS, options={"limits": Limits(cpu=0.05)})
async def test_an_endless_loop_is_ended(worker: Worker, function: Function, path: str) -> None:
    neighbour = await worker.load("function handler() { return 'unharmed' }")
    waiting = function.begin("GET", "wait")
    answer = await function.get(path)
    assert (answer.status, answer.id) == (503, "functions.limit.cpu")
    # Who was in the same heap hears of it, and the next request finds a new one.
    assert (await waiting.answer()).id == "functions.lost"
    assert (await function.get("ok")).text == "fine"
    assert (await neighbour.get()).text == "unharmed"
    assert "processor" in (await function.logs())[0].text


MEMORY = """
const kept = []
function handler({ path }) {
  if (path === 'ok') return String(kept.length)
  for (;;) kept.push(path === 'strings' ? 'x'.repeat(1000) + kept.length : new Uint8Array(100000))
}
"""


@pytest.mark.engines("quickjs", "wasm")
@pytest.mark.parametrize("path", ["strings", "bytes"])
@runs(javascript=MEMORY, options={"limits": Limits(cpu=2.0, heap=16 * 1024 * 1024)})
async def test_memory_has_a_limit(worker: Worker, function: Function, path: str) -> None:
    answer = await function.get(path)
    assert (answer.status, answer.id) == (503, "functions.limit.memory")
    assert (await function.get("ok")).text == "0"


@runs(
    javascript="async function handler({ path }) { if (path) return 'fine';"
    " await new Promise((done) => setTimeout(done, 60000)) }",
    module="export default { async fetch({ url }) { if (url.endsWith('x'))"
    " return new Response('fine'); await new Promise((done) => setTimeout(done, 60000)) } }",
    options={"limits": Limits(cpu=1.0, wall=0.2)},
)
async def test_an_answer_that_takes_too_long(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (503, "functions.limit.wall")
    assert (await function.get("x")).text == "fine"


@pytest.mark.engines("quickjs", "deno")  # for wasm see test_realms
@runs(
    javascript="let go; const gate = new Promise((done) => { go = done })\n"
    "async function handler({ path }) { if (path) { go(); return 'fine' }"
    " const timer = setTimeout(() => {}, 60000); await gate; clearTimeout(timer); return 'waited' }",
    options={"limits": Limits(cpu=1.0, concurrency=3)},
)
async def test_requests_at_a_time_have_a_limit(function: Function) -> None:
    waiting = [function.begin() for _ in range(2)]
    assert (await function.get("x")).text == "fine"
    assert [(await stream.answer()).text for stream in waiting] == ["waited"] * 2


@runs(
    javascript="async function handler({ path }) { if (path) return 'fine';"
    " await new Promise((done) => setTimeout(done, 60000)) }",
    module="export default { async fetch({ url }) { if (url.endsWith('x'))"
    " return new Response('fine'); await new Promise((done) => setTimeout(done, 60000)) } }",
    options={"limits": Limits(cpu=1.0, concurrency=2)},
)
async def test_one_request_too_many_is_refused(function: Function) -> None:
    waiting = [function.begin() for _ in range(2)]
    answer = await function.get("x")
    assert (answer.status, answer.id) == (503, "functions.limit.concurrency")
    # Nobody waits for them any more, so that there is room.
    for stream in waiting:
        stream.cancel()
    assert (await function.get("x")).text == "fine"


@runs(
    python="def handler(request, env):\n    while True:\n        pass",
    options={"limits": Limits(cpu=0.1)},
)
async def test_an_endless_loop_in_python_is_ended(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (503, "functions.limit.cpu")


# What is computed.

BURN = "const burn = (ms) => { const end = Date.now() + ms; while (Date.now() < end); }\n"


@runs(
    javascript=BURN + "function handler({ path }) { burn(+path); return 'done' }",
    python="import time\ndef handler(request, env):\n"
    "    end = time.monotonic() + int(request.path) / 1000\n"
    "    while time.monotonic() < end:\n        pass\n    return 'done'",
    options={"limits": Limits(cpu=0.5)},
)
async def test_a_function_may_compute_for_as_long_as_it_says(function: Function) -> None:
    assert (await function.get("250")).text == "done"


@pytest.mark.engines("quickjs", "wasm", "monty")  # on deno it is done from outside
@runs(
    javascript=BURN + "function handler({ path }) { burn(+path); return 'done' }",
    python="import time\ndef handler(request, env):\n"
    "    end = time.monotonic() + int(request.path) / 1000\n"
    "    while time.monotonic() < end:\n        pass\n    return 'done'",
    options={"limits": Limits(cpu=0.1)},
)
async def test_it_is_told_how_long_it_has_computed(function: Function) -> None:
    answer = await function.get("3000")
    await ended(function, answer, "cpu", "100 ms are allowed; deploy with --limit cpu=…")


@pytest.mark.engines("quickjs")
@runs(
    javascript="const turn = (many) => { for (let n = 0; n < many; n++); }\n"
    "async function handler({ path }) { const [way, many] = path.split('/'); turn(+many);"
    " if (way === 'once') return 'done'\n"
    " if (way === 'jobs') await null; else await new Promise((done) => setTimeout(done));"
    " for (;;); }",
    options={"limits": Limits(cpu=0.4)},
)
async def test_what_goes_on_without_a_wait_is_one_stretch(function: Function) -> None:
    pid = function.worker.process.pid

    async def used(path: str) -> float:
        before = cpu.used(pid)
        await function.get(path)
        return cpu.used(pid) - before

    many = 500_000
    many = int(many * 0.3 / await used(f"once/{many}"))
    assert await used(f"jobs/{many}") < 0.55
    # A wait lets it begin anew.
    assert await used(f"timer/{many}") > 0.6


# What is kept in memory.


@pytest.mark.engines("quickjs", "wasm", "monty")
@runs(
    javascript=MEMORY,
    python="def handler(request, env):\n    if request.path == 'ok':\n        return '0'\n"
    "    kept = []\n    while True:\n        kept.append('x' * 1000)",
    options={"limits": Limits(cpu=4.0, heap=16 * MIB)},
)
async def test_it_is_told_what_memory_it_may_have(function: Function) -> None:
    answer = await function.get("strings")
    await ended(function, answer, "memory", "16 MiB are allowed; deploy with --limit heap=…")
    assert (await function.get("ok")).text == "0"


@runs(
    javascript="function deep() { return 1 + deep() }"
    " function handler({ path }) { return path ? 'fine' : deep() }",
    module="function deep() { return 1 + deep() }\nexport default { fetch({ url }) {"
    " return new Response(url.endsWith('x') ? 'fine' : deep()) } }",
    python="def deep():\n    return 1 + deep()\n"
    "def handler(request, env):\n    return 'fine' if request.path else deep()",
    options={"limits": Limits(cpu=1.0)},
)
async def test_recursion_has_a_limit(function: Function) -> None:
    await ended(function, await function.get(), "stack", "calls nested too deeply")
    assert (await function.get("x")).text == "fine"


DEEP = {
    "quickjs": "let deepest = 0\nfunction deep(at) { deepest = at; deep(at + 1) }\n"
    "function handler() { try { deep(1) } catch {} return deepest }",
    "monty": "def deep(at):\n    try:\n        return deep(at + 1)\n"
    "    except RecursionError:\n        return at\n"
    "def handler(request, env):\n    return deep(1)",
}


@pytest.mark.engines("quickjs", "monty")
async def test_more_stack_is_more_depth(worker: Worker) -> None:
    depths = []
    for stack in (FLOORS.stack, 512 * 1024, CEILINGS.stack):
        function = await worker.load(
            DEEP[worker.engine],
            language="python" if worker.engine == "monty" else "javascript",
            limits=Limits(cpu=2.0, stack=stack),
        )
        answer = await function.get()
        assert not answer.id, answer
        depths.append(answer.json)
    assert depths[0] * 4 < depths[1] < depths[2] / 4


@runs(
    javascript="function handler({ path }) { console.log('x'); return [path, new URL('http://a').host] }",
    python="def handler(request, env):\n    print('x')\n    return [request.path, 'a']",
    options={"limits": Limits(cpu=1.0, heap=FLOORS.heap, stack=FLOORS.stack)},
)
async def test_the_least_is_enough_for_something(function: Function) -> None:
    assert (await function.get("x")).json == ["x", "a"]


# What goes in and out.

ANSWERS = """
function handler({ path }) {
  const [kind, size] = path.split('/')
  if (kind === 'text') return 'x'.repeat(+size)
  if (kind === 'wide') return '\\u20ac'.repeat(+size)
  if (kind === 'bytes') return new Uint8Array(+size)
  if (kind === 'json') return ['x'.repeat(+size - 4)]
  return new Response('x'.repeat(+size), { headers: { a: 'b' } })
}
"""
PYTHON_ANSWERS = """
def handler(request, env):
    kind, size = request.path.split('/')
    text = 'x' * int(size)
    if kind == 'text':
        return text
    if kind == 'wide':
        return '\\u20ac' * int(size)
    if kind == 'bytes':
        return text.encode()
    if kind == 'json':
        return [text[4:]]
    return Response(text, headers={'a': 'b'})
"""


@runs(
    javascript=ANSWERS,
    python=PYTHON_ANSWERS,
    options={"limits": Limits(cpu=1.0, response=3000)},
)
async def test_an_answer_has_a_limit(function: Function) -> None:
    for kind in ("text", "bytes", "json", "response"):
        assert len((await function.get(f"{kind}/3000")).body) == 3000
        answer = await function.get(f"{kind}/3001")
        await ended(function, answer, "output", "an answer of 2.93 KiB; 2.929 KiB are allowed")
    assert len((await function.get("wide/1000")).body) == 3000
    assert (await function.get("wide/1001")).id == "functions.limit.output"


@runs(
    javascript="async function handler(request) { return [(await request.text()).length] }",
    module="export default { async fetch(request) {"
    " return Response.json([(await request.text()).length]) } }",
    python="def handler(request, env):\n    return [len(request.text())]",
    options={"limits": Limits(cpu=1.0, request=1000)},
)
async def test_a_body_that_is_read_whole_has_a_limit(function: Function) -> None:
    assert (await function.post(body="x" * 1000)).json == [1000]
    answer = await function.post(body="x" * 1001)
    assert (answer.status, answer.id) == (413, "functions.body")
    upload = function.open()
    await upload.send(b"x" * 1001)
    upload.end()
    assert (await upload.answer()).id == "functions.body"


@runs(
    javascript="function handler({ path }) { for (let n = 0; n < +path; n++) console.log('y'.repeat(99));"
    " return 'done' }",
    module="export default { fetch({ url }) { const many = +new URL(url).pathname.split('/')[2]\n"
    " for (let n = 0; n < many; n++) console.log('y'.repeat(99)); return new Response('done') } }",
    python="def handler(request, env):\n    for at in range(int(request.path)):\n"
    "        print('y' * 99)\n    return 'done'",
    options={"limits": Limits(cpu=1.0, logs=999)},
)
async def test_what_a_request_logs_has_a_limit(function: Function) -> None:
    for _ in range(2):
        assert (await function.get("100")).text == "done"
    texts = [line.text for line in await function.logs(22)]
    cut = "the rest of this request's log is dropped: it may write 999 bytes"
    assert texts == (["y" * 99] * 10 + [f"{cut} (deploy with --limit logs=…)"]) * 2
    assert (await function.get("10")).text == "done"
    assert len(await function.logs(32)) == 32


# What is asked for.

ASKS = """
async function handler({ path }, env) {
  const [way, many] = path.split('/')
  const one = (n) => way === 'fetch' ? fetch('http://a/' + n).then((said) => said.text()) : env.store.get('k' + n)
  const asked = Array.from({ length: +many }, (_, n) => one(n))
  const all = await Promise.all(asked)
  return all.length
}
"""
PYTHON_ASKS = """
def handler(request, env):
    way, many = request.path.split('/')
    said = [fetch(f'http://a/{n}').text() if way == 'fetch' else env.store.get(f'k{n}') for n in range(int(many))]
    return len(said)
"""


class Busy:
    """Something that is asked, and counts how many ask at a time."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    async def __call__(self, *_: object) -> Answer:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.005)
        self.now -= 1
        return Answer(status=200, body=b"x")

    async def value(self, *_: object) -> str:
        await self()
        return "x"

    def serve(self, worker: Worker) -> None:
        worker.sites.update({f"http://a/{n}": self for n in range(100)})
        worker.bindings["store", "get"] = self.value


asks = runs(
    javascript=ASKS,
    python=PYTHON_ASKS,
    options={"limits": Limits(cpu=1.0, at_once=3, fetches=20), "grants": ["store"]},
)


@pytest.mark.parametrize("how", ["fetch", "store"])
@asks
async def test_so_many_sub_requests_are_under_way_at_a_time(function: Function, how: str) -> None:
    busy = Busy()
    busy.serve(function.worker)
    assert (await function.get(f"{how}/20")).json == 20
    # Python asks for one thing after the other.
    assert (busy.most, busy.all, busy.now) == (1 if function.worker.engine == "monty" else 3, 20, 0)
    # Each request has its own.
    busy.most = 0
    answers = await asyncio.gather(*(function.get(f"{how}/9") for _ in range(2)))
    assert [answer.json for answer in answers] == [9, 9]
    assert busy.most <= 6


@pytest.mark.parametrize("how", ["fetch", "store"])
@asks
async def test_so_many_sub_requests_has_one_request(function: Function, how: str) -> None:
    busy = Busy()
    busy.serve(function.worker)
    answer = await function.get(f"{how}/21")
    await ended(function, answer, "fetches", "after 20 sub-requests and uses of bindings; 20 are")
    assert busy.all <= 20
    # What was left is asked for yet, or was given up; the next request has all of its own.
    assert (await function.get(f"{how}/20")).json == 20


@pytest.mark.engines("deno")
@runs(
    module="export default { async fetch() { const stop = new AbortController()\n"
    "const asked = ['a', 'b', 'c'].map((name) => fetch('http://' + name, { signal: stop.signal })"
    ".catch((error) => error.name))\n"
    "await new Promise((done) => setTimeout(done, 20)); stop.abort()\n"
    "const given = await Promise.all(asked)\n"
    "return Response.json([...given, await (await fetch('http://d')).text()]) } }",
    options={"limits": Limits(cpu=1.0, at_once=1)},
)
async def test_what_is_given_up_lets_others_go_on(function: Function) -> None:
    async def never(_: wire.Fetch) -> None:
        await asyncio.Event().wait()

    worker = function.worker
    worker.sites.update({"http://a/": never, "http://d/": Answer(status=200, body=b"d")})
    assert (await function.get()).json == ["AbortError"] * 3 + ["d"]
    assert [fetch.url for fetch in worker.fetched] == ["http://a/", "http://d/"]


# How long it takes.

WAITS = (
    "async function handler({ path }) { if (path) return 'fine';"
    " await new Promise((done) => setTimeout(done, 60000)) }"
)


@runs(
    javascript=WAITS,
    python="import time\ndef handler(request, env):\n"
    "    if not request.path:\n        time.sleep(60)\n    return 'fine'",
    options={"limits": Limits(cpu=1.0, wall=0.2)},
)
async def test_it_is_told_how_long_it_has_waited(function: Function) -> None:
    answer = await function.get()
    await ended(function, answer, "wall", "200 ms are allowed; deploy with --limit wall=…")


STREAM = """
const wait = (ms) => new Promise((done) => setTimeout(done, ms))
async function* parts(path) {
  yield 'first'
  if (path === 'stops') await wait(60000)
  if (path === 'goes') for (let n = 0; n < 6; n++) { await wait(100); yield 'more' }
  if (path === 'long') for (let n = 0; n < 40; n++) yield new Uint8Array(16384)
  yield 'last'
}
"""


@runs(
    javascript=STREAM + "function handler({ path }) { return new Response(parts(path)) }",
    module=STREAM + "export default { fetch({ url }) {"
    " return new Response(ReadableStream.from(parts(url.split('/').pop())).pipeThrough("
    "new TransformStream({ transform(part, to) {"
    " to.enqueue(typeof part === 'string' ? new TextEncoder().encode(part) : part) } }))) } }",
    options={"limits": Limits(cpu=1.0, wall=0.3)},
)
async def test_a_streamed_answer_has_to_go_on(function: Function) -> None:
    stream = function.begin(path="stops")
    with pytest.raises(errors.Unavailable) as caught:
        await stream.answer()
    assert caught.value.id == "functions.limit.wall"
    assert caught.value.detail.startswith("ended here after 300 ms of waiting; 300 ms are allowed")
    await function.worker.until(
        lambda: any("limit.wall" in line.text for line in function.worker.logged(function.slot))
    )
    # One that does may take longer than that.
    assert (await function.get("goes")).text == "first" + 6 * "more" + "last"


@runs(
    javascript=STREAM + "function handler({ path }) { return new Response(parts(path)) }",
    options={"limits": Limits(cpu=1.0, wall=0.2)},
)
async def test_a_reader_may_take_its_time(function: Function) -> None:
    stream = function.begin(path="long")
    await asyncio.wait_for(asyncio.shield(stream.begun), 5)
    # Nothing is granted meanwhile; what is looked after comes first, several times.
    for _ in range(4):
        await asyncio.sleep(0.1)
    body = (await stream.answer()).body
    assert len(body) == len("firstlast") + 40 * 16384


@runs(
    javascript=WAITS,
    options={"limits": Limits(cpu=1.0, concurrency=2)},
)
async def test_who_is_refused_is_told_why(function: Function) -> None:
    waiting = [function.begin() for _ in range(2)]
    answer = await function.get("x")
    await ended(function, answer, "concurrency", "2 requests that are under way; 2 are allowed")
    for stream in waiting:
        stream.cancel()


FULL = {
    "heap": "const kept = []; function handler() {"
    " for (;;) kept.push(new Array(10000).fill(kept.length)) }",
    "buffers": "const kept = []; async function handler() { for (;;) {"
    " kept.push(new Uint8Array(20e6).fill(1)); await new Promise((done) => setTimeout(done, 1)) } }",
}


@pytest.mark.engines("deno")
@pytest.mark.parametrize("what", FULL)
async def test_a_process_ends_by_itself_when_its_memory_is_full(
    own_worker: Worker, what: str
) -> None:
    async with own_worker as worker:
        function = await worker.load(FULL[what], limits=Limits(cpu=10.0))
        assert (await function.get()).id == "functions.lost"
        # By which the host knows why: see `host.faults`.
        assert faults.of_death("deno", worker.process.wait())[0] == "limit.memory"
