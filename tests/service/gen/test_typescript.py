"""The TypeScript client: strictly typed, and it calls, from Node."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from microcosmos.registry.interface import Description
from microcosmos.service.gen import reader, typescript

from .conftest import Run
from .things import FAILURES

STRICT = [
    *("--strict", "--target", "es2022", "--module", "nodenext"),
    *("--lib", "es2022,dom,dom.iterable,dom.asynciterable", "--exactOptionalPropertyTypes"),
    *("--noUncheckedIndexedAccess", "--noUnusedLocals", "--noUnusedParameters"),
    *("--noImplicitOverride", "--isolatedModules", "--verbatimModuleSyntax"),
    *("--erasableSyntaxOnly", "--noPropertyAccessFromIndexSignature"),
]

CALLS = """
import * as micro from "./things.js";
const things = new micro.Things({ baseUrl: URL_, metadata: { foobar: "me" } });
const said: Record<string, unknown> = {};
said["call"] = await things.call({ name: "Ann", limit: 3 });
const sent: micro.Everything = {
  when: "2026-01-02T03:04:05Z", day: "2026-01-02", time: "01:02:03", wait: "PT90S",
  id: "00000000-0000-0000-0000-000000000007", raw: "AP8=", price: "9.99",
  color: "night blue", pet: { kind: "dog", good: false }, place: { x: 1 }, labels: { size: 3 },
  odd: { firstName: "Ann", class: "x" }, counts: { a: 1 }, pair: [1, "b"], tags: ["t"],
};
const back: micro.Everything = await things.echo(sent);
said["echo"] = [back.when, back.pet, back.pair, back.odd];
const trees: micro.Tree[] = await things.list();
said["list"] = trees[0]?.kids?.[0]?.name;
const page = await things.otherThing({ pets: [{ kind: "cat", lives: 1 }, { kind: "dog" }] });
said["pets"] = page.items.map((pet) => (pet.kind === "cat" ? pet.lives : pet.good));
said["count"] = await things.count({ list: 4 });
for (const code of [400, 404, 429, 418]) {
  try { await things.fail({ code }); } catch (error) {
    if (!(error instanceof micro.MicroError)) throw error;
    said[`fail${code}`] = [error.name, error.id, error.code, error.detail];
  }
}
said["shaky"] = await things.shaky();
try { await things.count({}, { timeout: 0.0001 }); } catch (error) {
  said["late"] = (error as Error).name;
}
try { await things.count({}, { signal: AbortSignal.abort() }); } catch (error) {
  said["aborted"] = (error as Error).name;
}
try { await new micro.Things({ baseUrl: "http://127.0.0.1:9" }).count(); } catch (error) {
  said["lost"] = [(error as Error).name, error instanceof micro.Unavailable];
}
console.log(JSON.stringify(said));
"""

STREAMS = """
import * as micro from "./things.js";
const things = new micro.Things({ baseUrl: URL_ });
const said: Record<string, unknown> = {};
const names: string[] = [];
for await (const tree of things.watch({ limit: 2 })) names.push(tree.name);
said["watch"] = [...names];
try { for await (const tree of things.watch({ limit: 1, fail: true })) names.push(tree.name); }
catch (error) { said["failed"] = (error as Error).name; }
for await (const _ of things.watch({ limit: 100000 })) { said["left"] = true; break; }
const giveUp = new AbortController();
try {
  for await (const _ of things.watch({ limit: 100000 }, { signal: giveUp.signal })) giveUp.abort();
} catch (error) { said["aborted"] = (error as Error).name; }
console.log(JSON.stringify(said));
"""

DIALOGUES = """
import * as micro from "./things.js";
const things = new micro.Things({ baseUrl: URL_ });
const said: Record<string, unknown> = {};
said["total"] = await things.total([1, 2, 3], { start: 4 });
const chat = things.chat({ name: "Ann" });
await chat.send("hi");
await chat.end();
const answers: string[] = [];
for await (const answer of chat) answers.push(answer);
said["chat"] = answers;
const refused = things.chat();
await refused.send("no");
try { for await (const answer of refused) answers.push(answer); }
catch (error) { said["refused"] = [(error as Error).name, (error as micro.MicroError).detail]; }
console.log(JSON.stringify(said));
"""


@pytest.fixture
def client(described: Description, tmp_path: Path) -> Path:
    model = reader.read(described, typescript.RESERVED)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    path = tmp_path / "things.ts"
    path.write_text(typescript.write(model, again="micro gen client things"), "utf-8")
    return path


async def _node(folder: Path, npm: Path, program: str, url: str) -> dict[str, Any]:
    """What a program in TypeScript prints."""
    (folder / "main.ts").write_text(program.replace("URL_", json.dumps(url)))
    outcome = await asyncio.to_thread(
        subprocess.run,
        # What is wrong with it, another test looks for.
        f"{npm}/.bin/tsc {' '.join(STRICT[1:7])} --noCheck main.ts"
        " && node --experimental-websocket main.js",
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    said: dict[str, Any] = json.loads(outcome.stdout)
    return said


@pytest.mark.slow
async def test_it_calls_from_node(site: str, client: Path, npm: Path) -> None:
    FAILURES["left"] = 3
    said = await _node(client.parent, npm, CALLS, site)
    assert said == {
        "call": {"name": "Ann", "limit": 3, "tags": []},
        "echo": [
            "2026-01-02T03:04:05Z",
            {"kind": "dog", "good": False},
            [1, "b"],
            {"firstName": "Ann", "class": "x", "list": 0, "str": 0, "uuid": 0},
        ],
        "list": "twig",
        "pets": [1, True],
        "count": 4,
        "fail400": ["BadRequest", "things.Fail", 400, "as you wish"],
        "fail404": ["NotFound", "things.Fail", 404, "as you wish"],
        "fail429": ["TooManyRequests", "things.Fail", 429, "as you wish"],
        "fail418": ["MicroError", "things.Fail", 418, "as you wish"],
        "shaky": 1,
        "late": "DeadlineExceeded",
        "aborted": "AbortError",
        "lost": ["ConnectionLost", True],
    }


@pytest.mark.slow
async def test_it_reads_streams_from_node(site: str, client: Path, npm: Path) -> None:
    assert await _node(client.parent, npm, STREAMS, site) == {
        "watch": ["tree\u20280", "tree\u20281"],
        "failed": "NotFound",
        "left": True,
        "aborted": "AbortError",
    }


@pytest.mark.slow
async def test_it_streams_over_a_websocket(site: str, client: Path, npm: Path) -> None:
    assert await _node(client.parent, npm, DIALOGUES, site) == {
        "total": 10,
        "chat": ["hi, Ann"],
        "refused": ["Conflict", "no is no word"],
    }


@pytest.mark.slow
def test_it_is_strictly_typed(client: Path, npm: Path, run: Run) -> None:
    (client.parent / "right.ts").write_text(
        'import { Things, type Tree } from "./things.js";\n'
        "const trees: Tree[] = await new Things().list();\n"
        "console.log(trees);\n"
    )
    (client.parent / "wrong.ts").write_text(
        'import { Things } from "./things.js";\n'
        'await new Things().call({ nam: "a" });\n'
        "console.log((await new Things().list())[0]?.nam);\n"
    )
    found = run(npm / ".bin" / "tsc", *STRICT, "--noEmit", "right.ts", "wrong.ts")
    lines = found.stdout.splitlines()
    assert [line.partition(")")[0] for line in lines] == ["wrong.ts(2,27", "wrong.ts(3,45"]


def test_what_the_service_says_is_beside_it(client: Path) -> None:
    text = client.read_text("utf-8")
    assert "/** Say what came. */" in text
    assert "Another handler's, with *\\/ and" in text
    assert "   * how many. (at least 1, at most 100)\n   * @default 10\n" in text
