"""What the worker says of sources: their form, their errors, and TypeScript without its types."""

from __future__ import annotations

import pytest

from microcosmos.base import errors

from ..engines.workers import Worker


@pytest.mark.parametrize(
    ("code", "language", "form"),
    [
        ("1 + 1", "javascript", "script"),
        ("", "javascript", "script"),
        ("function handler() {}", "javascript", "handler"),
        ("const handler = async () => 1", "javascript", "handler"),
        ("async function consume(event) {}", "javascript", "handler"),
        ("function other() { function handler() {} }", "javascript", "script"),
        ("'function handler() {}'", "javascript", "script"),
        ("export default {}", "javascript", "module"),
        ("import x from 'y'; export default x", "javascript", "module"),
        ("import './y.js'", "javascript", "module"),
        ("const a = import.meta.url", "javascript", "module"),
        ("// export default\nlet a = 'import x'", "javascript", "script"),
        ("with ({ a: 1 }) a", "javascript", "script"),
        ("function handler(r: any): string { return '' }", "typescript", "handler"),
        ("enum A { B }\nfunction handler(r: A) {}", "typescript", "handler"),
        (
            "export default { fetch(r: Request): Response { return new Response() } }",
            "typescript",
            "module",
        ),
    ],
)
async def test_forms(worker: Worker, code: str, language: str, form: str) -> None:
    async with worker:
        checked = await worker.check(code, language=language)
        assert (checked.form, checked.message) == (form, "")


@pytest.mark.parametrize(
    ("code", "language", "line", "column"),
    [
        ("let a = 1;\nfoo(;", "javascript", 2, 5),
        ("const a = 1;\nconst a = 2;\nexport default a", "javascript", 2, 7),
        ("import x from 'y';\nlet a = 1 +;", "javascript", 2, 12),
        ("/* open", "javascript", 1, 1),
        ("`open", "javascript", 1, 1),
        ("let a: number = ;", "typescript", 1, 17),
        ("export default {\n  a:\n}", "typescript", 3, 1),
        ("function handler(request: {path: string) {}", "typescript", 1, 40),
        ("class A { constructor(private x: = 1) {} }", "typescript", 1, 34),
    ],
)
async def test_errors_have_a_place(
    worker: Worker, code: str, language: str, line: int, column: int
) -> None:
    async with worker:
        checked = await worker.check(code, language=language)
        assert (checked.form, checked.line) == ("", line), checked
        assert checked.column == column, checked
        assert checked.message
        assert "blob:" not in checked.message
        assert "\n" not in checked.message


async def test_what_is_checked_does_not_run(worker: Worker) -> None:
    async with worker:
        for code in (
            "globalThis.ran = 1",
            "globalThis.ran = 1; export default {",
            "globalThis.ran = 1;\nfoo(;",
        ):
            await worker.check(code)
        function = await worker.load("function handler() { return typeof ran }")
        assert (await function.get()).text == "undefined"


async def test_types_are_taken_off(worker: Worker) -> None:
    code = """
    enum Size { Small = 1, Large = 10 }
    interface Told { path: string }
    class Box<T> { constructor(private readonly value: T) {} get(): T { return this.value } }
    function handler(request: Told): unknown {
      const box = new Box<string>(request.path as string);
      return [box.get()!, Size.Large, Size[1] satisfies string];
    }
    """
    async with worker:
        function = await worker.load(code, language="typescript")
        assert (await function.get("p")).json == ["p", 10, "Small"]


async def test_lines_of_typescript_stay_where_they_are(worker: Worker) -> None:
    code = "interface A {\n  b: 1;\n}\nfunction handler(r: A): never {\n  throw new Error('x');\n}"
    async with worker:
        function = await worker.load(code, language="typescript")
        assert (await function.get()).id == "functions.exception"
        assert "probe.js:5:" in (await function.logs())[0].text


async def test_typescript_that_is_wrong_is_not_loaded(worker: Worker) -> None:
    async with worker:
        with pytest.raises(errors.InternalServerError) as caught:
            await worker.load("function handler(: {}", language="typescript")
        assert caught.value.id == "functions.load"


async def test_a_script_runs_as_often_as_it_is_asked(worker: Worker) -> None:
    async with worker:
        script = await worker.load(
            "let x = 1; const y = 2; function f() { return path } class C {}\nf() + (x + y)",
            form="script",
        )
        assert [(await script.get(path)).text for path in ("a", "b")] == ["a3", "b3"]
