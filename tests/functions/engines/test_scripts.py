"""Scripts: the last value is the answer."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import pytest

from .workers import Function, Worker

runs = pytest.mark.runs

VALUES = {
    "2 * 2": "4",
    "'a' + path": "awhere/to",
    "undefined": "undefined",
    "null": "null",
    "true": "true",
    "({ a: 1 })": "[object Object]",
    "[1, 2]": "1,2",
    "10n": "10",
    "": "undefined",
    "let a = 1": "undefined",
    "1;": "1",
    "1; // and so on": "1",
    "`line\n${path}`": "line\nwhere/to",
    "const a = 20\na + 1": "21",
    "const a = 20; a + 1": "21",
    "const a = 20\n+ 1": "undefined",
    "var b = 1\nfunction f(x) { return x + b }\nf(2)": "3",
    "if (path) { 'yes' } else { 'no' }": "yes",
    "let sum = 0\nfor (let n = 1; n < 4; n++) sum += n": "6",
    "{ a: 1 }": "1",
    "'one'\nfunction after() {}": "one",
    "'use strict'\nlet c = 1\nc": "1",
    "let d = 1 // first;\n+ 1": "undefined",
    "let e = [1, 2]\n;[e.length].join('')": "2",
    "const f = function () { return 4 }\nf()": "4",
    "const g = (x) => x\n(5)": "undefined",
    "try { nothing() } catch { 'caught' }": "caught",
    "label: 7": "7",
    "class A {}\nnew A().constructor.name": "A",
    "async function h() { return 'h' }\nh()": "h",
    "let i = 1\ni\n++\ni": "2",
    "/* text */ 'j'": "j",
    "let k = `\n1\n`\nk.length": "3",
    "var path2 = path\npath2.split('/')[1]": "to",
}


@pytest.mark.engines("quickjs", "deno", "wasm")
@pytest.mark.parametrize("code", VALUES)
async def test_the_last_value_is_the_answer(worker: Worker, code: str) -> None:
    function = await worker.load(code, form="script")
    for _ in range(2):
        answer = await function.get("where/to")
        assert (answer.status, answer.text) == (200, VALUES[code])


@runs(
    script="let count = 0\nconst other = 1\nclass Counter {}\nfunction add() { count++ }\nadd(); count"
)
async def test_every_run_begins_anew(function: Function) -> None:
    assert [(await function.get()).text for _ in range(3)] == ["1", "1", "1"]


@pytest.mark.engines("quickjs", "deno")  # for wasm see test_realms
@runs(script="globalThis.seen = (globalThis.seen ?? 0) + 1\nseen")
async def test_what_is_global_stays(function: Function) -> None:
    assert [(await function.get()).text for _ in range(3)] == ["1", "2", "3"]


@runs(script="const mine = path\nnew Promise((done) => setTimeout(() => done(mine), 5))")
async def test_runs_at_the_same_time_keep_apart(function: Function) -> None:
    streams = [function.begin("GET", f"p{number}") for number in range(20)]
    assert [(await s.answer()).text for s in streams] == [f"p{number}" for number in range(20)]


@runs(script="throw new Error('broken on line one')")
async def test_a_script_that_throws(function: Function) -> None:
    answer = await function.get()
    assert (answer.status, answer.id) == (500, "functions.exception")
    (line,) = await function.logs()
    assert "broken on line one" in line.text


@runs(script="env.NAME + typeof fetch", options={"env": {"NAME": "x"}})
async def test_what_a_script_finds(function: Function) -> None:
    assert (await function.get()).text == "xfunction"
