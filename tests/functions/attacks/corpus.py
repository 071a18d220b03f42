"""Attacks on the walls and limits of functions, as data: what each does, and what comes of it.

`test_workers` runs them on a worker of each engine, ``tests/e2e/test_functions_attacks`` those that
end a worker on a whole server, at each level; `table` is what the documentation shows of them.
"""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import sys
from dataclasses import dataclass, field

ENGINES = ("quickjs", "wasm", "deno", "monty")

KILLED = "killed "
"""What the end of a function begins with whose whole worker is ended: from outside, or by itself."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Something that a function tries.

    Attributes:
        name: the id of its tests.
        wall: the limit or wall that it meets.
        does: what it does, for the documentation.
        code: the body of ``async handler({ path }, env)`` in JavaScript.
        top: what stands before that.
        module: a whole module, for Deno alone.
        python: the body of ``handler(request, env)``.
        ends: the ids of errors that it may end with, without ``functions.`` and with ``|`` between;
            or an answer, behind ``=``.
        other: the same of engines on which it ends otherwise.
        runs: engines that it is for; unless said those that it has code for.
        lasts: engines on which it is its own later requests that pay.
    """

    name: str
    wall: str
    does: str
    ends: str
    code: str = ""
    top: str = ""
    module: str = ""
    python: str = ""
    other: dict[str, str] = field(default_factory=dict)
    runs: tuple[str, ...] = ()
    lasts: tuple[str, ...] = ()

    @property
    def engines(self) -> tuple[str, ...]:
        """Where it runs."""
        if self.runs:
            return self.runs
        javascript = ("quickjs", "wasm", "deno") if self.code else ("deno",) if self.module else ()
        return (*javascript, *(("monty",) if self.python else ()))

    def end_on(self, engine: str) -> str:
        """How it ends, as `ends`."""
        return self.other.get(engine, self.ends).removeprefix(KILLED)

    def fills_on(self, engine: str) -> bool:
        """Whether it ends for the memory that it takes, before the time that this takes counts."""
        ends = self.end_on(engine).split("|")
        return "limit.memory" in ends and "limit.cpu" not in ends

    def kills_on(self, engine: str) -> bool:
        """Whether its worker ends with it."""
        return self.other.get(engine, self.ends).startswith(KILLED)

    def source(self, engine: str) -> tuple[str, str, str]:
        """Its code, form and language on an engine. On the path ``ok`` it does no harm."""
        if engine == "monty":
            lines = "".join(f"    {line}\n" for line in self.python.splitlines())
            code = f"def handler(request, env):\n    if request.path == 'ok':\n        return 'fine'\n{lines}"
            return code, "handler", "python"
        if self.module:
            return self.module, "module", "javascript"
        ok = "  if (path === 'ok') return 'fine'\n"
        code = f"{self.top}\nasync function handler(request, env) {{\n  const {{ path }} = request\n{ok}  {self.code}\n}}\n"
        return code, "handler", "javascript"

    @property
    def taints(self) -> bool:
        """Whether it changes what all functions of its owner see where they share one world."""
        return self in FORGED

    @property
    def result(self) -> str:
        """How it ends, for the documentation."""
        by: dict[str, list[str]] = {}
        for engine in self.engines:
            by.setdefault(self.other.get(engine, self.ends), []).append(engine)
        said = [f"{_result(end)}{_on(names, self.engines)}" for end, names in by.items()]
        return "; ".join(said)


def _on(names: list[str], among: tuple[str, ...]) -> str:
    if len(names) == len(among) == len(ENGINES):
        return ""
    return f" ({', '.join(names)})"


def _result(end: str) -> str:
    said = end.removeprefix(KILLED)
    if said.startswith("="):
        return "nothing happens"
    ids = " or ".join(f"`{'functions.' + id}`" for id in said.split("|"))
    return f"{ids}, its process ended" if end.startswith(KILLED) else ids


def module(body: str, top: str = "") -> str:
    """A module that tells what its body says, or what that throws."""
    return (
        f"{top}\nexport default {{ async fetch(request, env, ctx) {{\n"
        "  if (request.url.endsWith('/ok')) return new Response('fine')\n"
        f"  try {{ {body} }} catch (error) {{ return new Response('threw ' + error.message) }}\n}} }}\n"
    )


ANY = "="
"""An answer, whichever."""

_KILLED_CPU = {"deno": f"{KILLED}limit.cpu|lost"}
_CPU = "processor time"
_MEMORY = "memory"
_FULL = f"{KILLED}limit.memory|limit.cpu|lost"

COMPUTE = (
    Attack(
        name="loop",
        wall=_CPU,
        does="an endless loop",
        code="for (;;);",
        python="while True:\n    pass",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="regex",
        wall=_CPU,
        does="a regular expression that tries all there is",
        code="return String(/^(a+)+$/.test('a'.repeat(60) + 'b'))",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="bigint-product",
        wall=_CPU,
        does="products of large numbers, so slow that the engine asks nobody for seconds",
        code="let n = 3n; for (;;) n = n * n % (2n ** 100000n)",
        ends="limit.cpu",
        other={"quickjs": f"{KILLED}limit.cpu"} | _KILLED_CPU,
    ),
    Attack(
        name="bigint-power",
        wall=_CPU,
        does="one power that takes minutes, during which the engine asks nobody",
        code="return String((3n ** 9000000n).toString().length)",
        python="return len(str(3 ** 9000000))",
        ends="limit.cpu",
        other={"quickjs": f"{KILLED}limit.cpu", "monty": "limit.cpu|exception"} | _KILLED_CPU,
    ),
    Attack(
        name="search",
        wall=_CPU,
        does="a search in long texts, during which the engine asks nobody",
        code="return String(('a'.repeat(2 ** 20)).indexOf('a'.repeat(2 ** 18) + 'b'))",
        ends="limit.cpu",
        runs=("quickjs", "wasm"),
        other={"quickjs": f"{KILLED}limit.cpu"},
    ),
    Attack(
        name="blocked-wasm",
        wall="no blocking",
        does="`memory.atomic.wait32` for ever, which uses no processor",
        module=module(
            "const code = Uint8Array.of(0,97,115,109,1,0,0,0,1,4,1,96,0,0,3,2,1,0,5,4,1,3,1,1,"
            "7,5,1,1,119,0,0,10,15,1,13,0,65,0,65,0,66,127,254,1,2,0,26,11);"
            " (await WebAssembly.instantiate(code)).instance.exports.w()"
        ),
        ends=f"{KILLED}lost|limit.cpu",
    ),
    Attack(
        name="sort",
        wall=_CPU,
        does="a comparison that never ends",
        code="return [3, 1, 2].sort(() => { for (;;); })",
        python="def key(value):\n    while True:\n        pass\nreturn sorted([3, 1, 2], key=key)",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="promises",
        wall=_CPU,
        does="promises that beget promises",
        code="const more = () => Promise.resolve().then(more); return more()",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="microtasks",
        wall=_CPU,
        does="microtasks that queue microtasks",
        code="const more = () => queueMicrotask(more); more(); await new Promise(() => {})",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="awaits",
        wall=_CPU,
        does="a loop that awaits, and waits for nothing",
        code="for (;;) await null",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="getter",
        wall=_CPU,
        does="an answer with a getter that never ends",
        code="return { get a() { for (;;); } }",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="proxy",
        wall=_CPU,
        does="an answer that is a Proxy whose keys never end",
        code="return new Proxy({}, { ownKeys() { for (;;); } })",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="then",
        wall=_CPU,
        does="an answer whose `then` never ends",
        code="return { get then() { for (;;); } }",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="thrown",
        wall=_CPU,
        does="something thrown whose text never ends",
        code="throw { toString() { for (;;); }, toJSON() { for (;;); } }",
        ends="limit.cpu",
        other=_KILLED_CPU,
    ),
    Attack(
        name="wasm-loop",
        wall=_CPU,
        does="an endless loop in WebAssembly",
        module=module(
            # (func (export "w") (loop (br 0)))
            "const code = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0,"
            " 7, 5, 1, 1, 119, 0, 0, 10, 9, 1, 7, 0, 3, 64, 12, 0, 11, 11);"
            " (await WebAssembly.instantiate(code)).instance.exports.w()"
        ),
        ends=f"{KILLED}limit.cpu|lost",
    ),
    Attack(
        name="blocked",
        wall="no blocking",
        does="`Atomics.wait`, which stands still and uses no processor",
        code="try { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60000); return 'waited' }"
        " catch { return 'refused' }",
        ends="=refused",
    ),
)

MEMORY = (
    Attack(
        name="texts",
        wall=_MEMORY,
        does="more and more texts",
        code="const kept = []; for (;;) kept.push('x'.repeat(1000) + kept.length)",
        python="kept = []\nwhile True:\n    kept.append('x' * 1000)",
        ends="limit.memory",
        other={"deno": _FULL, "wasm": "limit.memory|limit.cpu"},
    ),
    Attack(
        name="arrays",
        wall=_MEMORY,
        does="more and more arrays",
        code="const kept = []; for (;;) kept.push(new Array(10000).fill(0.5))",
        python="kept = []\nwhile True:\n    kept.append([0] * 1000)",
        ends="limit.memory",
        other={"deno": _FULL, "wasm": "limit.memory|limit.cpu"},
    ),
    Attack(
        name="bytes",
        wall=_MEMORY,
        does="more and more typed arrays",
        code="const kept = []; for (;;) kept.push(new Uint8Array(1 << 20).fill(1))",
        ends="limit.memory",
        other={"deno": _FULL, "wasm": "limit.memory|limit.cpu"},
    ),
    Attack(
        name="buffer",
        wall=_MEMORY,
        does="one ArrayBuffer of 1 TiB",
        code="return new ArrayBuffer(2 ** 40)",
        ends="limit.memory|exception",
    ),
    Attack(
        name="map",
        wall=_MEMORY,
        does="a Map without end",
        code="const map = new Map(); for (let n = 0; ; n++) map.set('key' + n, {})",
        python="found = {}\nn = 0\nwhile True:\n    found['key' + str(n)] = [n]\n    n += 1",
        ends="limit.memory",
        other={"deno": _FULL, "wasm": "limit.memory|limit.cpu"},
    ),
    Attack(
        name="doubling",
        wall=_MEMORY,
        does="a text that doubles",
        code="let text = 'x'; for (;;) text = text + text + text.slice(1)",
        python="text = 'x'\nwhile True:\n    text = text + text",
        ends="limit.memory|exception",
        other={"deno": "exception|limit.memory"},
    ),
    Attack(
        name="hoard",
        wall=_MEMORY,
        does="a little more at each timer",
        code="const kept = []; for (;;) { for (let n = 0; n < 20; n++) kept.push(new Array(10000).fill(n + 0.5));"
        " await new Promise((done) => setTimeout(done, 0)) }",
        ends="limit.memory",
        other={"deno": _FULL, "wasm": "limit.memory|limit.cpu"},
    ),
    Attack(
        name="wasm-grow",
        wall=_MEMORY,
        does="a memory of WebAssembly that grows without end, and is written to",
        module=module(
            "const memory = new WebAssembly.Memory({ initial: 1 });"
            " for (;;) { memory.grow(160); new Uint8Array(memory.buffer).fill(1);"
            " await new Promise((done) => setTimeout(done, 0)) }"
        ),
        ends=f"{KILLED}limit.memory|limit.cpu|lost",
    ),
    Attack(
        name="operations",
        wall="operations at once",
        does="timers without end",
        code="for (;;) setTimeout(() => {}, 60000)",
        ends="exception|limit.memory|limit.cpu",
    ),
)

_STACK = "stack"
DEPTH = (
    Attack(
        name="recursion",
        wall=_STACK,
        does="a function that calls itself",
        code="const deep = () => 1 + deep(); return deep()",
        python="def deep():\n    return 1 + deep()\nreturn deep()",
        ends="limit.stack",
    ),
    Attack(
        name="recursive-getter",
        wall=_STACK,
        does="a getter that gets itself",
        code="const it = { get a() { return this.a } }; return it.a",
        ends="limit.stack",
    ),
    Attack(
        name="recursive-text",
        wall=_STACK,
        does="a `toString` that wants its own text",
        code="const it = { toString() { return '' + it } }; return '' + it",
        ends="limit.stack",
    ),
    Attack(
        name="recursive-json",
        wall=_STACK,
        does="an answer nested 100,000 deep",
        code="let it = {}; for (let n = 0; n < 100000; n++) it = { it }; return it",
        ends="limit.stack|answer|limit.memory|limit.cpu",
        python="it = []\nfor n in range(100000):\n    it = [it]\nreturn it",
        other={"monty": "limit.stack|answer|exception|limit.memory|limit.cpu", "deno": ANY},
    ),
    Attack(
        name="recursive-proxy",
        wall=_STACK,
        does="a Proxy that is its own prototype's handler",
        code="const it = new Proxy({}, { get(_, name) { return it[name] + 1 } }); return it.a",
        ends="limit.stack",
    ),
)

OUTPUT = (
    Attack(
        name="answer",
        wall="output",
        does="an answer that is too long",
        code="return 'x'.repeat(1100000)",
        python="return 'x' * 1100000",
        ends="limit.output",
    ),
    Attack(
        name="logs",
        wall="log volume",
        does="twice the log that a request may write",
        code="for (let n = 0; n < 60; n++) console.log('x'.repeat(8000)); return 'done'",
        python="for n in range(60):\n    print('x' * 8000)\nreturn 'done'",
        ends="=done",
    ),
    Attack(
        name="sub-requests",
        wall="sub-requests",
        does="1,000 fetches that nobody waits for",
        code="for (let n = 0; n < 1000; n++) fetch('http://nobody.test/' + n).catch(() => {}); return 'done'",
        ends="=done",
    ),
)

# Each makes something of the language into a trap; what the function says itself must come out.
_PATCHES = """
Object.prototype.toJSON = Array.prototype.toJSON = String.prototype.toJSON = () => 'forged'
Object.prototype.then = (done) => done('forged')
Object.prototype.id = 'functions.limit.cpu'; Object.prototype.get = () => 'forged'
Object.defineProperty(Object.prototype, 'status', { get() { return 999 }, set() {} })
Object.defineProperty(Array.prototype, '0', { get() { return 'forged' }, set() {} })
Array.prototype.push = Array.prototype.join = Array.prototype.map = () => 'forged'
Array.prototype[Symbol.iterator] = function* () { yield 'forged' }
JSON.stringify = () => '"forged"'; JSON.parse = () => 'forged'
Promise.prototype.then = function () { return 'forged' }
Promise.prototype.constructor = class { then() { return 'forged' } }
Promise.resolve = () => 'forged'
Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => 'forged'
Map.prototype.get = Map.prototype.set = Map.prototype.values = () => 'forged'
WeakMap.prototype.get = WeakMap.prototype.has = () => true
String.prototype.slice = String.prototype.repeat = String.prototype.indexOf = () => 'forged'
String.prototype.toWellFormed = String.prototype.split = () => 'forged'
Uint8Array.prototype.set = Uint8Array.prototype.toBase64 = () => 'forged'
RegExp.prototype.exec = () => null
Reflect.apply = Reflect.construct = () => 'forged'
Symbol.prototype.toString = () => 'forged'
Error.prototype.toString = () => 'forged'
"""
PATCHES = "".join(f"try {{ {line} }} catch {{}}\n" for line in _PATCHES.strip().splitlines())

_WORLD = "the platform's own code"
FORGED = (
    Attack(
        name="patched",
        wall=_WORLD,
        does="JSON, Object, Array, Promise, Map, String and Function made into traps",
        code=PATCHES + "  return 'what it says'",
        ends="=what it says",
        # Its own promises never settle any more.
        other=dict.fromkeys(("quickjs", "wasm"), "unsettled"),
        lasts=("quickjs",),
    ),
    Attack(
        name="to-json",
        wall=_WORLD,
        does="a `toJSON` that answers with marks of the worker's own protocol",
        code='return { toJSON: () => \']\\u0000\\u0001[["a",1,"tforged"]]\\n2\\ntforged\' }',
        ends='="]\\u0000\\u0001[[\\"a\\",1,\\"tforged\\"]]\\n2\\ntforged"',
    ),
    Attack(
        name="marks",
        wall=_WORLD,
        does="a text with the ends and NULs that the engine and the worker go by",
        code="return [']\\0', '\\x01\\0', '\\x02\\0', '\\0'].join('t')",
        ends="=]\0t\x01\0t\x02\0t\0",
        python="return ']\\x00t\\x01\\x00t\\x02\\x00t\\x00'",
    ),
    Attack(
        name="limit-forged",
        wall=_WORLD,
        does="an error that looks like one of the platform's",
        code="throw Object.assign(new Error('x'), { id: 'functions.limit.cpu', code: 503, detail: 'x', status: 'x' })",
        ends="exception",
        python="raise ValueError('functions.limit.cpu')",
    ),
    Attack(
        name="response-forged",
        wall=_WORLD,
        does="an object that looks like a Response, and one whose getters are replaced",
        code="const it = new Response('x'); for (const name of ['status', 'headers', 'body'])"
        " Object.defineProperty(Response.prototype, name, { configurable: true, get: () => 999 });"
        " return it",
        ends="=x",
    ),
    Attack(
        name="species",
        wall=_WORLD,
        does="`Symbol.species`, `Symbol.toPrimitive` and a subclass of Promise as the answer",
        code="class Mine extends Promise { static get [Symbol.species]() { return class { constructor(run) {"
        " run(() => 'forged', () => 'forged') } } } };"
        " return new Mine((done) => done('what it says'))",
        ends="=what it says",
    ),
    Attack(
        name="frames",
        wall=_WORLD,
        does="`Error.prepareStackTrace`, for the functions of the platform that called this one",
        code="Error.prepareStackTrace = (_, frames) => frames;"
        " const frames = new Error().stack; delete Error.prepareStackTrace;"
        " const own = [undefined, handler, globalThis];"
        " return String(frames.filter((one) => !own.includes(one.getFunction?.()) || !own.includes(one.getThis?.())).length)",
        ends="=0",
    ),
    Attack(
        name="prelude",
        wall=_WORLD,
        does="`String.prototype.repeat`, to put code into the parts of the platform not made yet",
        code="try { crypto.randomUUID(); new URL('http://a/'); await fetch('http://nobody.test/') } catch {};"
        " return typeof globalThis.stolen",
        top="String.prototype.repeat = String.prototype.padStart = () =>"
        " '((real) => (inside) => { globalThis.stolen = inside; return real(inside) })'",
        ends="=undefined",
    ),
    Attack(
        name="constructor",
        wall=_WORLD,
        does="the Function constructor of everything in reach, for names of the platform",
        code="const seen = [handler, request, env, request.text, console.log, fetch, async () => {}].map((one) =>"
        " one.constructor.constructor('return [typeof Deno, typeof require, typeof entries, typeof inside,"
        " typeof unit, typeof task, typeof __dirname].join()')());"
        " return [...new Set(seen.join().split(','))].join()",
        ends="=undefined",
    ),
    Attack(
        name="classes",
        wall=_WORLD,
        does="what holds a request: its class, its names, its parents",
        python="kind = type(request)\nreturn str([kind.__subclasses__(), kind.__mro__])",
        ends="exception",
    ),
    Attack(
        name="async-hooks",
        wall=_WORLD,
        does="`AsyncLocalStorage` patched, to be handed what the worker knows of other requests",
        module=module(
            "console.log('x'); setTimeout(() => {}, 0); return new Response(String(seen))",
            "import { AsyncLocalStorage } from 'node:async_hooks'\n"
            "let seen = 0\n"
            "const { getStore, run } = AsyncLocalStorage.prototype\n"
            "AsyncLocalStorage.prototype.getStore = function () { seen++; return getStore.call(this) }\n"
            "AsyncLocalStorage.prototype.run = function (...given) { seen++; return run.apply(this, given) }",
        ),
        ends="=0",
    ),
)

_SYSTEM = "the system"
_LOOK = "[typeof Deno, typeof require, typeof std, typeof os, typeof Worker, typeof globalThis[Symbol.for('Deno.internal')]].join()"
_NOTHING = ",".join(["undefined"] * 6)
_NAMES = (
    *(
        "node:fs",
        "node:process",
        "node:child_process",
        "node:net",
        "node:vm",
        "node:worker_threads",
    ),
    *("node:module", "node:os", "node:http", "node:dns", "node:inspector", "/etc/passwd"),
    *("data:text/javascript,export default 7", "./dispatch.js", "./notes.js", "ext:core/mod.js"),
)
_IMPORTS = f"""
  const got = []
  const way = (name) => `import(${{JSON.stringify(name)}}).then(() => got.push(${{JSON.stringify(name)}}), () => {{}})`
  const names = {list(_NAMES)!r}
  for (const name of names) await import(name).then(() => got.push(name), () => {{}})
  globalThis.got = got
  for (const name of names) {{
    const code = `import(${{JSON.stringify(name)}}).then(() => got.push(${{JSON.stringify(name)}}), () => {{}})`
    try {{
      await (0, eval)(code)
      await new Function('return ' + code)()
      await Promise.resolve(code).then(eval)
      await new Promise((done) => {{ setTimeout(eval, 0, code); setTimeout(done, 1) }})
      await Reflect.apply(eval, null, [code])
    }} catch {{}}
  }}
"""
SYSTEM = (
    Attack(
        name="globals",
        wall=_SYSTEM,
        does="the engine's own doors: `Deno`, its internals, `require`, `std`, `os`, `Worker`",
        code=f"return {_LOOK}",
        ends=f"={_NOTHING}",
    ),
    Attack(
        name="imports",
        wall=_SYSTEM,
        does="`import()` of files, of Node's modules and of the worker's own, plainly, in `eval`, in"
        " `new Function`, and where no code of the function's is at work",
        code=_IMPORTS + "  return got.join() || 'nothing'",
        ends="=nothing",
    ),
    Attack(
        name="imports-of-modules",
        wall=_SYSTEM,
        does="the same in a module",
        module=module(_IMPORTS + "return new Response(got.join() || 'nothing')"),
        ends="=nothing",
    ),
    Attack(
        name="handler-eval",
        wall=_SYSTEM,
        does="`eval` itself as the handler, called by the worker's own code",
        module="const code = `import('node:process').then(() => new Response('got it'), () => new Response('refused'))`\n"
        "export default { fetch: eval.bind(null, code) }",
        ends="=refused",
        lasts=("deno",),
    ),
    Attack(
        name="environment",
        wall=_SYSTEM,
        does="variables of the process",
        code="return Object.keys(globalThis.process?.env ?? {}).filter((name) => name !== 'NODE_ENV').join() || 'none'",
        python="import os\nreturn str(os.environ)",
        ends="=none",
        other={"monty": "exception"},
    ),
    Attack(
        name="files",
        wall=_SYSTEM,
        does="files, by `fetch` and by opening them",
        code="return await fetch('file:///etc/passwd').then(() => 'read', () => 'refused')",
        python="return open('/etc/passwd').read()",
        ends="=refused",
        other={"monty": "exception"},
    ),
    Attack(
        name="programs",
        wall=_SYSTEM,
        does="other programs, and what ends this one",
        code="try { process.kill(1); process.exit(0); return 'killed' } catch {}"
        " try { return typeof process.binding('spawn_sync') } catch { return 'refused' }",
        python="import subprocess\nreturn subprocess.run('id')",
        ends="=refused",
        other={"monty": "exception"},
    ),
    Attack(
        name="sockets",
        wall=_SYSTEM,
        does="sockets that are none of the platform's",
        code="return [typeof WebSocket, typeof EventSource, typeof BroadcastChannel].join()",
        python="import socket\nreturn socket.gethostname()",
        ends="=undefined,undefined,undefined",
        other={"monty": "exception"},
    ),
)

ATTACKS = (*COMPUTE, *MEMORY, *DEPTH, *OUTPUT, *FORGED, *SYSTEM)

WHOLE = (
    (
        "crash of the process",
        "the worker dies by a signal in the midst of a request (quickjs, process, wasm, deno)",
        "`functions.lost`",
        "test_a_crash_in_the_midst_of_a_request",
    ),
    (
        "output",
        "a streamed answer without end (quickjs, wasm, deno)",
        "it waits for its reader, and ends with him",
        "test_an_endless_stream_ends_with_its_reader",
    ),
    (
        "network",
        "`fetch` of 15 forms of private addresses, plainly and by redirects (quickjs, wasm, deno)",
        "`functions.fetch`; nothing is connected to",
        "test_nothing_private_is_fetched",
    ),
)
"""Rows of the table for what is tried on a whole server alone."""


def table() -> str:
    """The table of the documentation."""
    rows = [(one.wall, one.does, one.result, one.name) for one in ATTACKS]
    lines = [
        f"| {wall} | {does} | {ends} | `{test}` |" for wall, does, ends, test in (*rows, *WHOLE)
    ]
    return "\n".join(("| limit or wall | attack | result | test |", "|---|---|---|---|", *lines))


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
