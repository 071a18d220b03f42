"""Bundling: several files and packages become one program, or findings that say where."""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.functions import bundling
from microcosmos.functions.bundling import Bundled, Bundler
from microcosmos.functions.interface import Language
from microcosmos.functions.packages import settings_of

CACHE = Path.home() / ".cache" / "microcosmos-tests" / "bundles"

HONO = "npm:hono@4.6.3"


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where the linker and packages are kept, fetched once for all runs."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "fetched").exists():
            files = {"a.js": f"import {{ Hono }} from '{HONO}'; export default Hono"}
            assert asyncio.run(Bundler(CACHE).bundle(files, "a.js", "javascript")).code
            (CACHE / "fetched").touch()
    return CACHE


async def bundled(
    folder: Path, files: Mapping[str, str], main: str = "", language: Language = "typescript"
) -> Bundled:
    return await Bundler(folder).bundle(files, main or next(iter(files)), language)


def shown(made: Bundled) -> list[str]:
    assert not made.code
    return [f"{one.file}:{one.line}:{one.column}: {one.message}" for one in made.findings]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("index.ts", "export default { fetch(): Response { return new Response('x') } }"),
        ("index.ts", "// import nothing from 'nowhere'\nexport default {}"),
        ("index.ts", "import { Buffer } from 'node:buffer';\nexport default { Buffer }"),
        ("index.js", "export default { fetch() { return 'from `me`' } }"),
    ],
)
async def test_a_file_that_imports_nothing_stays_as_it_is(
    folder: Path, name: str, code: str
) -> None:
    language: Language = "typescript" if name.endswith("ts") else "javascript"
    made = await bundled(folder, {name: code}, language=language)
    assert (made.code, made.language, made.findings) == (code, language, ())


async def test_files_are_linked_in_circles_too(folder: Path) -> None:
    files = {
        "index.ts": "import { even } from './lib/even.ts';\nexport default { even }",
        "lib/even.ts": "import { odd } from './odd';\n"
        "export const even = (n: number): boolean => n === 0 || odd(n - 1);",
        "lib/odd.ts": "import { even } from './even.ts';\n"
        "export const odd = (n: number): boolean => n !== 0 && even(n - 1);",
        "lib/data.json": '{"a": 1}',
        "unused.ts": "this is not even TypeScript",
    }
    made = await bundled(folder, files)
    assert made.language == "javascript"
    assert "as default" in made.code
    assert "boolean" not in made.code
    # The same files give the same program, wherever and whenever.
    again = await bundled(folder, dict(reversed(files.items())), "index.ts")
    assert again.code == made.code


@pytest.mark.parametrize(
    ("files", "imported"),
    [
        ({}, HONO),
        ({}, "npm:/hono@4.6.3"),
        ({"package.json": '{"dependencies": {"hono": "4.6.3"}}'}, "hono"),
        ({"package.json": f'{{"dependencies": {{"hono": "{HONO}"}}}}'}, "hono"),
        ({"package.json": '{"dependencies": {"hono": "4.6.3"}}'}, "hono/tiny"),
        ({"deno.json": f'{{"imports": {{"hono": "{HONO}"}}}}'}, "hono/tiny"),
        ({"deno.json": f'{{"imports": {{"router": "{HONO}"}}}}'}, "router"),
    ],
)
async def test_packages_of_exact_versions_are_linked(
    folder: Path, files: dict[str, str], imported: str
) -> None:
    main = f"import {{ Hono }} from '{imported}';\nexport default new Hono();"
    made = await bundled(folder, {"index.ts": main, **files})
    assert made.findings == ()
    assert "class" in made.code
    assert str(folder) not in made.code


async def test_jsx_is_understood(folder: Path) -> None:
    page = (
        f"/** @jsxImportSource {HONO}/jsx */\n"
        "export const page = (name: string) => <p>Hello {name}</p>;"
    )
    files = {
        "index.ts": "import { page } from './page.tsx';\nexport default { page }",
        "page.tsx": page,
    }
    assert "jsx" in (await bundled(folder, files)).code


IMPORT = "import { a } from {};\nexport default a;"


@pytest.mark.parametrize(
    ("specifier", "message"),
    [
        ("./nope.ts", 'there is no file "./nope.ts"'),
        ("./nope", 'there is no file "./nope"'),
        ("../outside.ts", '"../outside.ts" leaves the folder of the function'),
        ("./lib/../../x.ts", '"./lib/../../x.ts" leaves the folder of the function'),
        ("/etc/passwd", '"/etc/passwd" leaves the folder of the function'),
        ("file:///etc/passwd", '"file:///etc/passwd" leaves the folder of the function'),
        ("/dev/zero", '"/dev/zero" leaves the folder of the function'),
        ("node:fs", 'functions cannot import "node:fs"'),
        ("fs", 'functions cannot import "fs"'),
        ("buffer", 'functions cannot import "buffer"; say "node:buffer"'),
        ("https://esm.sh/x", 'cannot import "https://esm.sh/x": only files of the function'),
        ("jsr:@std/path@1.0.0", 'cannot import "jsr:@std/path@1.0.0": only files of the'),
        ("data:text/javascript,1", 'cannot import "data:text/javascript,1": only files of the'),
        ("npm:hono", '"npm:hono" has no exact version; say one, like "npm:hono@1.2.3"'),
        ("npm:hono@4", '"npm:hono@4" has no exact version; say one, like "npm:hono@1.2.3"'),
        ("npm:hono@^4.6.3/tiny", 'has no exact version; say one, like "npm:hono@1.2.3"'),
        ("npm:@a/b@latest", 'has no exact version; say one, like "npm:@a/b@1.2.3"'),
        ("hono", '"hono" is none of the function\'s files; say "npm:hono@VERSION"'),
        ("hono/tiny", '"hono/tiny" is none of the function\'s files; say "npm:hono@VERSION/tiny"'),
    ],
)
async def test_an_import_that_cannot_be_is_found(
    folder: Path, specifier: str, message: str
) -> None:
    code = f"const b = 1;\n  import {{ a }} from '{specifier}';\nexport default [a, b];"
    (found,) = shown(await bundled(folder, {"index.ts": code}))
    assert found.startswith("index.ts:2:21: ")
    assert message in found


async def test_all_that_is_wrong_is_found_in_every_file(folder: Path) -> None:
    files = {
        "index.ts": "import './a.ts';\nimport './b.ts';\nimport './c.ts';",
        "a.ts": "import 'npm:hono';\nimport './d.ts';",
        "b.ts": "let b = 1 +;",
    }
    assert sorted(shown(await bundled(folder, files))) == [
        'a.ts:1:8: "npm:hono" has no exact version; say one, like "npm:hono@1.2.3"',
        'a.ts:2:8: there is no file "./d.ts"',
        "b.ts:1:12: Expression expected",
        'index.ts:3:8: there is no file "./c.ts"',
    ]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {
                "a.ts": "import { no } from './b.ts';\nexport default no",
                "b.ts": "export const b = 1",
            },
            'a.ts:1:20: "b.ts" exports no no',
        ),
        (
            {"a.js": "import './b.js'", "b.js": "const b = 1;\nb = 2;"},
            'b.js:2:1: Cannot assign to "b" because it is a constant',
        ),
        (
            {"a.ts": f"import x from '{HONO}/nope';\nexport default x"},
            f'a.ts:1:15: there is no "{HONO}/nope"',
        ),
        (
            {"a.ts": "import x from 'npm:hono@99.0.0';\nexport default x"},
            "a.ts:1:15: the npm registry has no hono@99.0.0, or is not reached",
        ),
    ],
)
async def test_what_the_linker_finds_has_its_place(
    folder: Path, files: dict[str, str], found: str
) -> None:
    language: Language = "javascript" if "a.js" in files else "typescript"
    assert shown(await bundled(folder, files, language=language)) == [found]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "package.json",
            '{\n  "dependencies": {"hono": "^4.6.3"}}',
            'package.json:2:20: "hono" has no exact version: "^4.6.3"; say one, like "1.2.3"',
        ),
        (
            "package.json",
            '{"dependencies": {"x": "file:../x"}}',
            'package.json:1:19: "x" has no exact version: "file:../x"; say one, like "1.2.3"',
        ),
        (
            "deno.json",
            '{"imports": {"x": "https://x.test/"}}',
            'deno.json:1:14: "x" is neither a file nor a package of an exact version:',
        ),
        ("package.json", "{", "package.json:0:0: is no JSON: "),
    ],
)
async def test_what_the_settings_say_is_looked_at(
    folder: Path, name: str, text: str, found: str
) -> None:
    made = await bundled(folder, {"a.ts": "import x from 'x'", name: text})
    assert shown(made)[0].startswith(found)


@pytest.mark.parametrize("path", ["../b.ts", "/b.ts", "a//b.ts", "./b.ts", "a/../b.ts", "a\\b.ts"])
async def test_files_stay_inside(folder: Path, path: str) -> None:
    (found,) = shown(await bundled(folder, {"a.ts": "import './b.ts'", path: ""}))
    assert found.endswith("is not a path below the folder")


async def test_a_suffix_may_say_something_else_than_the_language(folder: Path) -> None:
    files = {
        "index.txt": "import { b } from './b.ts';\nexport default b as number",
        "b.ts": "export const b = 1",
    }
    assert "b" in (await bundled(folder, files)).code
    files["index.txt"] = "import './nope.ts'"
    assert shown(await bundled(folder, files)) == ['index.txt:1:8: there is no file "./nope.ts"']


async def test_a_main_file_has_to_be_there(folder: Path) -> None:
    assert shown(await bundled(folder, {"a.ts": ""}, "b.ts")) == ["b.ts:0:0: there is no such file"]


async def test_no_setting_of_deno_or_npm_is_taken_from_the_files(folder: Path) -> None:
    files = {
        "a.ts": f"import {{ Hono }} from '{HONO}';\nexport default Hono",
        ".npmrc": "registry=http://127.0.0.1:9/",
        "deno.lock": "nonsense",
        "tsconfig.json": "nonsense",
        "deno.json": '{"lock": true, "tasks": {"x": "exit 1"}, "nodeModulesDir": "auto"}',
    }
    assert (await bundled(folder, files)).code


def test_only_a_few_settings_are_taken() -> None:
    jsx = {"jsx": "react-jsx", "jsxImportSource": "hono/jsx", "paths": {"*": ["/etc/*"]}}
    files = {
        "tsconfig.json": json.dumps({"compilerOptions": jsx}),
        "deno.json": '{"imports": {"lib/": "./src/lib/"}, "unstable": ["ffi"], "vendor": true}',
    }
    config, findings = settings_of(files)
    assert findings == []
    assert config == {
        "imports": {"lib/": "./src/src/lib/"},
        "unstable": ["sloppy-imports"],
        "nodeModulesDir": "none",
        "lock": False,
        "compilerOptions": {"jsx": "react-jsx", "jsxImportSource": "hono/jsx"},
    }


@pytest.mark.slow
async def test_without_a_registry_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(errors.Unavailable, match="NPM_CONFIG_REGISTRY"):
        await bundled(tmp_path, {"a.ts": "import './b.ts'", "b.ts": ""})


async def test_a_bundle_has_a_time_and_a_size(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"a.ts": "import { b } from './b.ts'; export default b", "b.ts": "export const b = 1"}
    with monkeypatch.context() as patch:
        patch.setattr(bundling, "MAX_BUNDLE", 10)
        (found,) = shown(await bundled(folder, files))
        assert "the limit is 10" in found
    with monkeypatch.context() as patch:
        patch.setattr(bundling, "TIME", 0.001)
        (found,) = shown(await bundled(folder, files))
        assert "it took longer than 0.001 s to bundle" in found


async def test_nothing_is_left_behind(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "deno").symlink_to(folder / "deno")
    bundler = Bundler(tmp_path)
    files = {"a.ts": "import './b.ts'", "b.ts": "export {}"}
    made = await asyncio.gather(*(bundler.bundle(files, "a.ts", "typescript") for _ in range(3)))
    assert len({one.code for one in made}) == 1
    assert list((tmp_path / "work").iterdir()) == []
