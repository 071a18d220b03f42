"""`micro functions`, typed as users type it, at a core that serves a catalogue in memory."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from microcosmos.base import errors
from microcosmos.base.home import Home, ServerInfo
from microcosmos.cli.main import main
from microcosmos.functions.cli import folders
from microcosmos.functions.interface import MAX_FILES, Counts, SecretUse
from microcosmos.functions.requests import Invoked, InvokeRequest
from microcosmos.registry import this_host
from microcosmos.registry.interface import HOST, LANE
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc.lane import listen
from microcosmos.runtime.logs import Logs
from microcosmos.service.records import record

from .plane import Plane, opened


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Shell:
    """A command line, a folder that it stands in, and the functions behind it."""

    def __init__(self, plane: Plane, home: Home, capfd: pytest.CaptureFixture[str]) -> None:
        self.plane = plane
        self.home = home
        self._capfd = capfd

    async def __call__(self, *words: str) -> Said:
        """What `micro functions` says."""
        self._capfd.readouterr()
        code = await asyncio.to_thread(main, ("functions", *words))
        return Said(code, *self._capfd.readouterr())

    async def good(self, *words: str) -> str:
        """What a command prints that succeeds."""
        said = await self(*words)
        assert said.code == 0, said
        return said.out

    def write(self, name: str, text: str | bytes) -> str:
        """Write a file where the shell stands."""
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return name


Opened = Callable[[], contextlib.AbstractAsyncContextManager[Shell]]


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Opened:
    for name in [name for name in os.environ if name.startswith("MICRO_")]:
        monkeypatch.delenv(name)

    async def invoke(request: InvokeRequest) -> Invoked:
        if request.path == "gone":
            raise errors.Unavailable("functions.lost", "its worker ended")
        headers = [("content-type", "text/plain")]
        shown = f"{request.method} {request.path} {request.headers} ".encode() + request.body
        if request.path == "bytes":
            return Invoked(status=200, headers=headers, body=b"\xff\x00")
        status = 500 if request.path == "fail" else 200
        return Invoked(status=status, headers=headers, body=shown)

    @contextlib.asynccontextmanager
    async def shown() -> AsyncIterator[Shell]:
        folder = tempfile.mkdtemp(prefix="cli-", dir="/tmp")
        monkeypatch.setenv("MICRO_HOME", folder)
        monkeypatch.chdir(tmp_path)
        home, registry = Home(folder), MemoryRegistry()
        home.make()
        async with opened(logs=Logs(home.logs), invoke=invoke) as plane:
            about = {LANE: str(home.core_lane), HOST: this_host()}
            for hosted in (RegistryService(registry).hosted(), plane.auth.hosted):
                plane.server.add(hosted)
            for hosted in plane.server.services.values():
                await registry.register(record(hosted, "core", about))
            async with listen(home.core_lane, plane.server, drain=0.1):
                doors = {"proxy": "127.0.0.1:1", "api": "127.0.0.1:8080"}
                pids = {"server": os.getpid()}
                home.write_server_info(ServerInfo("0.1.0", time.time(), pids, doors))
                yield Shell(plane, home, capfd)
        shutil.rmtree(folder)

    return shown


async def test_deploy_and_look(shell: Opened) -> None:
    async with shell() as micro:
        micro.write("hello.js", "`hello ${path}`")
        assert await micro.good(
            "deploy", "hello", "hello.js", "-m", "first", "--env", "A=1,b=2"
        ) == (
            "hello v1 is live at http://127.0.0.1:8080/hello (script, quickjs)\n"
            "curl http://127.0.0.1:8080/hello\n"
            "micro functions invoke hello\n"
        )
        assert (await micro.plane.platform.unit("micro", "hello", 1)).env == {"A": "1,b=2"}
        (heading, row) = (await micro.good("list")).splitlines()
        assert heading.split() == [
            *("NAME", "VERSION", "LANGUAGE", "FORM", "ENGINE", "OWNER", "UPDATED", "MESSAGE"),
        ]
        assert row.split() == [
            *("hello", "v1", "javascript", "script", "quickjs", "admin", "0s", "ago", "first"),
        ]
        assert "runs:     script in javascript on quickjs" in await micro.good("get", "hello")
        one = json.loads(await micro.good("get", "hello", "--output", "json"))
        assert one["version"]["env"] == ["A"]
        assert (await micro.good("history", "hello")).splitlines()[1].split()[0] == "v1"
        assert json.loads(await micro.good("list", "--output", "json"))[0]["name"] == "hello"
        assert await micro.good("verify", "hello") == "hello: 1 version is as deployed.\n"
        deployed = await micro.good("deploy", "hello", "hello.js", "--output", "json")
        assert json.loads(deployed)["version"] == 2


async def test_what_is_wrong_with_a_source_is_told_with_its_place(shell: Opened) -> None:
    async with shell() as micro:
        micro.write("bad.js", "let a = 1;\nlet = ;\n")
        code, out, err = await micro("deploy", "bad", "bad.js")
        assert (code, out) == (127, "")
        assert err.startswith("micro: bad.js:2:")
        assert "trace" in err
        code, out, err = await micro("validate", "bad", "bad.js")
        assert (code, out) == (127, "")
        assert err.splitlines()[0].startswith("bad.js:2:")
        code, out, err = await micro("validate", "bad", "bad.js", "--output", "json")
        assert json.loads(out)[0]["line"] == 2
        micro.write("good.js", "1")
        assert await micro.good("validate", "good", "good.js") == "good can be deployed.\n"
        assert json.loads(await micro.good("validate", "good", "good.js", "-o", "json")) == []
        assert await micro.good("list") == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["deploy", "a b", "good.js"], "'a b' is no service name"),
        (["deploy", "hello"], "missing argument"),
        (["deploy", "hello", "no.js"], "no.js: no such file or directory"),
        (["deploy", "hello", "bytes.js"], "bytes.js:2:2: this is not UTF-8"),
        (["deploy", "hello", "empty"], "empty has no file of a function"),
        (["deploy", "hello", "good.js", "--env", "A"], "--env: 'A' is not of the form NAME=value"),
        (["deploy", "hello", "good.js", "--env", "A=1", "--env", "A=2"], "A is said twice"),
        (["deploy", "hello", "good.js", "--env", "1=2"], "env: '1' is no name"),
        (["deploy", "hello", "good.js", "--secret", "=x"], "has no name"),
        (["deploy", "hello", "good.js", "--secret", "A=", "--secret", "A="], "is said twice"),
        (["deploy", "hello", "good.js", "--secret", "NONE"], "there is no value for NONE"),
        (["deploy", "hello", "good.js", "--grant", "x"], "grants: 'x' is none"),
        (["deploy", "hello", "good.js", "--on", "cron:x"], "on: "),
        (["deploy", "hello", "good.js", "--engine", "monty"], "runs on quickjs or deno"),
        (["deploy", "hello", "good.js", "--language", "perl"], "language: 'perl' is none"),
        (["split", "hello", "v1"], "'v1' is not of the form v12=90"),
        (["split", "hello", "v1=50,v1=50"], "is not of the form v12=90"),
        (["split", "hello", "one=100"], "'one' is no version such as v12"),
        (["diff", "hello", "x"], "'x' is no version such as v12"),
        (["invoke", "hello", "-H", "x"], "--header: 'x' is not of the form Name: value"),
        (["invoke", "hello", "-d", "@none"], "none: no such file or directory"),
    ],
)
async def test_what_is_typed_wrongly_is_a_usage_error(
    shell: Opened, words: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shell() as micro:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        micro.write("good.js", "1")
        micro.write("bytes.js", b"a\nb\xff")
        micro.write("empty/picture.png", b"\x89PNG")
        code, out, err = await micro(*words)
        assert (code, out) == (64, "")
        assert told in err
        assert len(err.splitlines()) == 1


async def test_a_folder_is_sent_without_what_does_not_belong_to_it(shell: Opened) -> None:
    async with shell() as micro:
        micro.write("site/index.ts", 'import { a } from "./lib/a.ts"\nexport default a')
        micro.write("site/lib/a.ts", "export const a = 1")
        for left in (
            *("node_modules/x/index.js", ".git/config.json", "built/x.js"),
            *("picture.png", ".env", "program"),
        ):
            micro.write(f"site/{left}", "secret")
        micro.write("site/.gitignore", "built/\n")
        out = await micro.good("deploy", "site", "site")
        assert "(module, deno)" in out
        kept = await micro.plane.catalogue.get("micro", "site")
        assert set(await micro.plane.catalogue.sources(kept)) == {"index.ts", "lib/a.ts"}


async def test_limits_are_told_before_anything_is_sent(
    shell: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shell() as micro:
        for n in range(MAX_FILES + 1):
            micro.write(f"many/{n}.js", "")
        code, _, err = await micro("deploy", "many", "many")
        assert code == 64
        assert "many has 501 files; a function has at most 500: list what" in err
        monkeypatch.setattr(folders, "MAX_SOURCE", 10)
        micro.write("large/a.js", "12345678")
        micro.write("large/b.js", "12345678")
        assert "large has 16 bytes" in (await micro("deploy", "large", "large")).err
        assert "large/a.js" not in (await micro("deploy", "l", "large/a.js")).err
        micro.write("l.js", "12345678901")
        assert "l.js has 11 bytes" in (await micro("deploy", "l", "l.js")).err


async def test_where_the_value_of_a_secret_comes_from(
    shell: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shell() as micro:
        micro.write("a.js", "1")

        async def env(number: int) -> dict[str, str]:
            return (await micro.plane.platform.unit("micro", "a", number)).env

        monkeypatch.setenv("FROM_ENV", "env")
        await micro.good(
            "deploy",
            "a",
            "a.js",
            "--secret",
            "SAID=a=b",
            "--secret",
            "FROM_ENV",
            "--grant",
            "secret",
        )
        assert await env(1) == {"SAID": "a=b", "FROM_ENV": "env"}
        monkeypatch.delenv("FROM_ENV")
        monkeypatch.setattr(sys, "stdin", io.StringIO("typed\n"))
        await micro.good(
            "deploy",
            "a",
            "a.js",
            "--secret",
            "FROM_ENV",
            "--secret",
            "TYPED=-",
            "--grant",
            "secret",
        )
        assert await env(2) == {"FROM_ENV": "env", "TYPED": "typed"}
        await micro.good("secret", "delete", "a", "TYPED")
        code, _, err = await micro("rollback", "a", "v2")
        assert code == 127
        assert "v2 of function a needs the secret TYPED, which is gone" in err
        assert (await micro("secret", "delete", "a", "TYPED")).code == 4


async def test_what_a_secret_is_for_has_to_be_said(shell: Opened) -> None:
    async with shell() as micro:
        micro.write("a.js", "1")
        told = await micro("deploy", "a", "a.js", "--secret", "KEY=v")
        assert told.code != 0
        assert "--secret-use KEY=HOST[/HEADER]" in told.err
        assert "--grant secret:KEY" in told.err
        uses = ["--secret-use", "KEY=api.test", "--secret-use", "KEY=api.test:81/X-Key"]
        await micro.good("deploy", "a", "a.js", "--secret", "KEY=v", *uses)
        version = (await micro.plane.catalogue.get("micro", "a")).head.live
        unit = await micro.plane.platform.unit("micro", "a", version)
        assert unit.secret_uses == {
            "KEY": [SecretUse("api.test"), SecretUse("api.test:81", "x-key")]
        }
        assert "v" not in unit.env.values()
        shown = await micro.good("get", "a")
        assert "KEY in authorization to api.test, x-key to api.test:81" in shown
        for bad in ("KEY", "KEY=", "=api.test"):
            told = await micro("deploy", "a", "a.js", "--secret", "KEY=v", "--secret-use", bad)
            assert "is not of the form NAME=HOST" in told.err


async def test_versions_come_back_and_share(shell: Opened) -> None:
    async with shell() as micro:
        for n in (1, 2, 3):
            micro.write("a.js", f"{n}")
            await micro.good("deploy", "a", "a.js", "-m", f"number {n}")
        diff = await micro.good("diff", "a")
        assert "-2" in diff
        assert "+3" in diff
        assert "-1" in await micro.good("diff", "a", "v1")
        assert await micro.good("diff", "a", "1", "v1") == "v1 and v1 are the same.\n"
        assert await micro.good("split", "a", "v2=90, v1=10%") == "v2 gets 90 %, v1 gets 10 %\n"
        assert "v2=90,v1=10" in await micro.good("list")
        assert "a v4 is live" in await micro.good("rollback", "a")
        assert "rollback to v1" in await micro.good("history", "a", "--limit", "1")
        assert len((await micro.good("history", "a", "--limit", "2")).splitlines()) == 3
        assert (await micro("rollback", "a", "v9")).code == 4
        assert await micro.good("delete", "a") == "a is deleted.\n"
        assert (await micro("get", "a")).code == 4


async def test_invoke(shell: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shell() as micro:
        micro.write("a.js", "1")
        await micro.good("deploy", "a", "a.js")
        assert await micro.good("invoke", "a") == "GET  [] "
        said = await micro.good("invoke", "a", "--path", "x?y=1", "-H", "A: b:c", "-d", "data")
        assert said == "POST x?y=1 [('A', 'b:c')] data"
        micro.write("body", b"\xff")
        assert (await micro("invoke", "a", "-X", "PUT", "-d", "@body")).code == 0
        shown = await micro.good("invoke", "a", "-i")
        assert shown == "HTTP 200\ncontent-type: text/plain\n\nGET  [] "
        answer = json.loads(await micro.good("invoke", "a", "--path", "bytes", "-o", "json"))
        assert (answer["body"], answer["encoding"]) == ("/wA=", "base64")
        code, out, err = await micro("invoke", "a", "--path", "fail")
        assert (code, out) == (127, "GET fail [] ")
        assert "a answered 500" in err
        assert (await micro("invoke", "a", "--path", "gone")).code == 4
        assert (await micro("invoke", "b")).code == 4


async def test_logs_and_consumption(shell: Opened) -> None:
    async with shell() as micro:
        micro.write("a.js", "1")
        await micro.good("deploy", "a", "a.js")
        assert await micro.good("logs", "a") == ""
        log = micro.home.logs / "a.0.log"
        log.write_text("one\ntwo\nthree\n")
        assert await micro.good("logs", "a", "-n", "2") == "two\nthree\n"
        assert json.loads(await micro.good("logs", "a", "-n", "1", "-o", "json")) == {
            "line": "three"
        }
        counts = Counts(requests=1234, execution_ns=5_678_900, byte_ms=7)
        await micro.plane.platform.count("w", 1, {"micro/a": counts})
        shown: Any = await micro.good("consumption", "a")
        assert shown.splitlines()[0] == "requests:       1,234"
        assert "execution time: 5,678 µs" in shown
        assert json.loads(await micro.good("consumption", "a", "-o", "json"))["byte_ms"] == 7
        assert (await micro("logs", "none")).code == 4
        await _consumption_of_several(micro)
        await micro.good("delete", "a")
        assert not log.exists()


async def _consumption_of_several(micro: Shell) -> None:
    micro.write("b.js", "1")
    await micro.good("deploy", "b", "b.js")
    told = {
        "micro/a/v1": Counts(requests=1, errors=1, failures={"limit.cpu": 1}),
        "micro/b/v1": Counts(requests=5, heap=2_000_000, shared=True),
    }
    await micro.plane.platform.count("w", 2, told)
    first = await micro.good("consumption", "a")
    assert "errors:         1 (limit.cpu 1)" in first
    heading, *rows = (await micro.good("consumption")).splitlines()
    assert heading.split()[:4] == ["NAME", "REQUESTS", "ERRORS", "IN"]
    assert [row.split()[:2] for row in rows] == [["a", "1,235"], ["b", "5"]]
    assert "2,000,000*" in rows[1]
    heading, *rows = (await micro.good("consumption", "a", "--by", "version")).splitlines()
    assert [row.split()[:2] for row in rows] == [["v1", "1"], ["n/a", "1,234"]]
    found = json.loads(await micro.good("consumption", "--by", "hour", "-o", "json"))
    assert sum(row["counts"]["requests"] for row in found["rows"]) == found["requests"] == 1240
    for words, said in (
        (("--since", "never"), "since: 'never' is no time; write it like 24h, 7d"),
        (("a", "--by", "account"), "leave the name out"),
        (("--by", "minute"), "'minute' is not one of"),
    ):
        wrong = await micro("consumption", *words)
        assert wrong.code == 64
        assert said in wrong.err


async def test_a_log_is_followed(shell: Opened) -> None:
    async with shell() as micro:
        micro.write("a.js", "1")
        await micro.good("deploy", "a", "a.js")
        log = micro.home.logs / "a.0.log"
        log.write_text("one\nhalf")
        functions = await micro.plane.admin()
        lines = functions.logs("a", lines=5, follow=True)
        assert await asyncio.wait_for(anext(lines), 60) == "one"
        with log.open("a") as file:
            file.write(" a line\n")
        assert await asyncio.wait_for(anext(lines), 60) == "half a line"
        await lines.aclose()  # type: ignore[attr-defined]


async def test_a_chain_that_was_broken_is_an_error(shell: Opened) -> None:
    async with shell() as micro:
        micro.write("a.js", "1")
        await micro.good("deploy", "a", "a.js")
        which = (await micro.plane.catalogue.get("micro", "a")).which
        table = micro.plane.store.table("functions").part("code")
        await table.write(which.version(1), b"2")
        code, out, err = await micro("verify", "a")
        assert (code, out) == (127, "")
        assert err.splitlines()[0] == "v1: its program is not what its files were made to"


async def test_limits_and_isolation_are_said_at_a_deploy_and_shown(shell: Opened) -> None:
    async with shell() as micro:
        micro.write("a.js", "1")
        said = ["--limit", "cpu=100ms", "--limit", "heap=128MiB", "--limit", "fetches=7"]
        await micro.good("deploy", "a", "a.js", *said, "--isolation", "process")
        shown = await micro.good("get", "a")
        assert "\nisolation: process\n" in shown
        assert "\nlimits:   cpu=100ms wall=30s heap=128MiB stack=512KiB request=8MiB " in shown
        told = json.loads(await micro.good("get", "a", "--output", "json"))
        assert told["version"]["limits"] == {"cpu": 0.1, "heap": 134217728.0, "fetches": 7.0}
        assert told["version"]["isolation"] == "process"
        assert (told["limits"]["cpu"], told["limits"]["fetches"]) == (0.1, 7)
        assert "can be deployed" in await micro.good("validate", "a", "a.js", *said)


@pytest.mark.parametrize(
    ("words", "detail"),
    [
        (["--limit", "speed=1"], "micro: --limit: 'speed' is none; one of cpu, wall, heap, "),
        (["--limit", "cpu=fast"], "micro: --limit cpu: 'fast' is no amount; write it like 100ms"),
        (["--limit", "cpu=nan"], "micro: --limit cpu: 'nan' is no amount; write it like 100ms"),
        (["--limit", "cpu=-1s"], "micro: --limit cpu: '-1s' is no amount; write it like 100ms"),
        (["--limit", "cpu"], "micro: --limit: 'cpu' is not of the form NAME=value"),
        (["--limit", "cpu=1s", "--limit", "cpu=2s"], "micro: --limit: cpu is said twice"),
        (["--limit", "cpu=1h"], "micro: limits: cpu=3600s is above 10 s, the most there may be"),
        (["--limit", "stack=1KiB"], "micro: limits: stack=1KiB is below 64 KiB, the least"),
        (["--limit", "fetches=0.5"], "micro: limits: fetches: 0.5 is no whole number; from 0 to"),
        (["--isolation", "vm"], "micro: isolation: 'vm' is none; one of isolate, process, wasm"),
    ],
)
async def test_limits_that_are_typed_wrongly(shell: Opened, words: list[str], detail: str) -> None:
    async with shell() as micro:
        micro.write("a.js", "1")
        for verb in ("deploy", "validate"):
            said = await micro(verb, "a", "a.js", *words)
            assert (said.code, said.out) == (64, "")
            assert said.err.startswith(detail)
            assert said.err.count("\n") == 1


async def test_an_admin_sets_the_limits_of_accounts(shell: Opened) -> None:
    async with shell() as micro:
        await micro.plane.auth.make("alice")
        rows = await micro.good("limits", "alice")
        assert rows.splitlines()[:2] == [
            "LIMIT        DEFAULT  CEILING  SERVER",
            "cpu          50ms     10s      10s",
        ]
        said = ["--default", "cpu=80ms", "--ceiling", "cpu=2s", "--ceiling", "heap=256MiB"]
        assert "\ncpu          80ms     2s       10s\n" in await micro.good(
            "limits", "alice", *said
        )
        told = json.loads(await micro.good("limits", "alice", "--output", "json"))
        assert told["ceilings"] == {"cpu": 2.0, "heap": 268435456.0}
        assert (told["default"]["cpu"], told["ceiling"]["cpu"]) == (0.08, 2.0)
        bad = await micro("limits", "alice", "--default", "cpu=3s")
        assert bad.err == "micro: defaults: cpu=3s is above the ceiling of 2 s\n"
        unknown = await micro("limits", "nobody")
        assert unknown.err.startswith("micro: there is no account 'nobody'")
        reset = await micro.good("limits", "alice", "--reset", "--default", "wall=5s")
        assert "\ncpu          50ms     10s      10s\n" in reset
        assert "\nwall         5s       300s     300s\n" in reset
        micro.write("a.js", "1")
        await micro.good("limits", "--ceiling", "wall=10s")
        said_back = await micro("deploy", "a", "a.js", "--limit", "wall=20s")
        assert said_back.err.startswith("micro: limits: wall=20s is above 10 s, the most of admin")
