"""Loading, dropping, checking; who is the host."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import pytest

from .workers import Worker

HELLO = {
    "quickjs": ("function handler() { return 'hello' }", "javascript"),
    "deno": ("function handler() { return 'hello' }", "javascript"),
    "monty": ("def handler(request, env):\n    return 'hello'", "python"),
    "wasm": ("function handler() { return 'hello' }", "javascript"),
}


async def test_what_is_loaded_already_is_not_loaded_again(worker: Worker) -> None:
    code, language = HELLO[worker.engine]
    one = await worker.load(code, language=language, key="twice")
    two = await worker.load(code, language=language, key="twice")
    other = await worker.load(code, language=language, key="other")
    assert one.slot == two.slot != other.slot
    for function in (one, other):
        await worker.drop(function)


async def test_what_is_dropped_is_unloaded(worker: Worker) -> None:
    code, language = HELLO[worker.engine]
    function = await worker.load(code, language=language, key="dropped")
    assert (await function.get()).text == "hello"
    await worker.drop(function)
    assert (await function.get()).id == "functions.unloaded"
    again = await worker.load(code, language=language, key="dropped")
    assert again.slot != function.slot
    assert (await again.get()).text == "hello"


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_what_is_busy_is_dropped_when_it_is_not(worker: Worker) -> None:
    function = await worker.load(
        "async function handler() { await new Promise((done) => setTimeout(done, 100)); return 'ok' }"
    )
    stream = function.begin()
    await worker.drop(function)
    assert (await function.get()).id == "functions.unloaded"
    assert (await stream.answer()).text == "ok"


async def test_a_new_host_hears_what_is_loaded(worker: Worker) -> None:
    code, language = HELLO[worker.engine]
    function = await worker.load(code, language=language, key="found", name="shop")
    async with Worker(worker.process, worker.engine) as host:
        (found,) = [loaded for loaded in host.found if loaded.key == "found"]
        assert (found.slot, found.namespace, found.name, found.number) == (
            function.slot,
            "micro",
            "shop",
            1,
        )


@pytest.mark.engines("quickjs", "deno")
@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("'hello ' + path", "script"),
        ("const a = 1\na", "script"),
        ("", "script"),
        ("function handler() {}", "handler"),
        ("async function handler() {}", "handler"),
        ("const handler = () => 1", "handler"),
        ("let handler; handler = () => 1", "handler"),
        ("var handler = 1", "handler"),
        ("'use strict'\nfunction handler() {}", "handler"),
        ("function consume() {}", "handler"),
        ("const scheduled = async () => {}", "handler"),
        ("{ const handler = 1 }", "script"),
        ("// function handler() {}\n1", "script"),
        ("throw new Error('never run')", "script"),
        ("while (true);", "script"),
        ("export default {}", "module"),
        ("import x from 'y'\nx()", "module"),
        ("export default { fetch() {} }\nwhile (true);", "module"),
    ],
)
async def test_the_form_of_a_source(worker: Worker, code: str, form: str) -> None:
    found = await worker.check(code)
    assert (found.form, found.message) == (form, "")


@pytest.mark.engines("quickjs", "deno")
@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("let x = ;", 1),
        ("function handler() {\n  retrun 1\n}", 2),
        ("\n\n  foo(]", 3),
        ("let a\nlet a", 2),
        ("export default {\n  fetch() { return }}\n}", 3),
        ("'use strict'\nwith (a) {}", 2),
    ],
)
async def test_where_a_source_is_wrong(worker: Worker, code: str, line: int) -> None:
    found = await worker.check(code)
    assert (found.form, found.line) == ("", line)
    assert found.message
    assert found.column > 0


@pytest.mark.engines("quickjs")
@pytest.mark.parametrize(
    ("code", "column"), [("let x = ;", 9), ("  let x = ;", 11), ("a\n  let x = ;", 11)]
)
async def test_the_column_of_what_is_wrong(worker: Worker, code: str, column: int) -> None:
    assert (await worker.check(code)).column == column
