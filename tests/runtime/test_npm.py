"""Environments of Node, made by the real npm; what they need from the registry is small."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from microcosmos.runtime import npm
from microcosmos.runtime.deployment import Options
from microcosmos.runtime.failure import Failure, last_words

from .test_build import builds, make


def source(folder: Path, about: Any, **files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": "svc", **about}))
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


LOCAL = {"dependencies": {"thing": "file:./thing"}, "main": "app.mjs"}
THING = '{"name": "thing", "version": "1.0.0", "main": "index.js", "bin": {"thing": "./index.js"}}'
FILES = {
    "thing__package_dot_json": THING,
    "thing__index_dot_js": "#!/usr/bin/env node\nmodule.exports = 42;\n",
    "app_dot_mjs": 'import thing from "thing"; console.log(thing, ...process.argv.slice(2));',
}


@pytest.mark.slow
async def test_packages_are_installed_beside_the_source_and_linked(tmp_path: Path) -> None:
    folder = source(tmp_path / "sources" / "h1", LOCAL, **FILES)
    async with builds(tmp_path) as (room, spawner):
        build = await make(room, folder, Options(args=["--loud"]))
        place = tmp_path / "home" / "server" / "builds" / build.key
        assert (folder / "node_modules").readlink() == place / "npm" / "node_modules"
        ran = await asyncio.to_thread(
            subprocess.run, build.argv, env=build.env, cwd=folder, capture_output=True, text=True
        )
        assert (ran.stdout, ran.stderr) == ("42 --loud\n", "")
        programs = build.env["PATH"].split(os.pathsep)[0]
        assert (Path(programs) / "thing").exists()
        # Not made twice; and the link is made again when it has gone.
        commands = len(spawner.started)
        (folder / "node_modules").unlink()
        assert (await make(room, folder)).key == build.key
        assert len(spawner.started) == commands
        assert (folder / "node_modules" / "thing").exists()


@pytest.mark.slow
async def test_an_install_that_fails_is_one_clear_line(tmp_path: Path) -> None:
    hook = {"postinstall": "echo making; no-such-program-here"}
    folder = source(tmp_path / "h", {**LOCAL, "scripts": hook}, **FILES)
    async with builds(tmp_path) as (room, _):
        with pytest.raises(Failure, match=r"the build failed: .*no-such-program-here") as caught:
            await make(room, folder)
        assert any("npm error" in line for line in caught.value.output)


async def test_without_node_the_way_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    bare = source(tmp_path / "bare", {"main": "a.js"}, a_dot_js="")
    folder = source(tmp_path / "h", LOCAL, **FILES)
    async with builds(tmp_path) as (room, _):
        for one in (bare, folder):
            with pytest.raises(Failure, match="there is no node on the server's PATH; install Nod"):
                await make(room, one)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "npm error code E404\nnpm error 404 Not Found - GET https://r.example/x\n"
            "npm error 404\nnpm error 404  'x@1' is not in this registry.\n"
            "npm error A complete log of this run can be found in: /x",
            "'x@1' is not in this registry.",
        ),
        (
            "npm ERR! code ETARGET\nnpm ERR! notarget No matching version found for x@9.\n"
            "npm ERR! notarget In most cases you",
            "No matching version found for x@9.",
        ),
        (
            "npm error code EUSAGE\nnpm error\nnpm error `npm ci` can only install packages when"
            " in sync.\nnpm error\nnpm error Missing: x@1 from lock file",
            "`npm ci` can only install packages when in sync.",
        ),
        (
            "> postinstall\n> make it\nsh: 1: make: not found\nnpm error code 127\n"
            "npm error path /x\nnpm error command failed\nnpm error command sh -c make it",
            "sh: 1: make: not found",
        ),
        ("npm error code ECONNREFUSED\nnpm error network request failed", "request failed"),
        ("all is well", ""),
    ],
)
def test_the_cause_in_what_npm_says(said: str, cause: str) -> None:
    assert npm.cause(said.splitlines()) == cause


def test_the_last_words_of_a_program() -> None:
    told = ["/x/app.js:1", "const x = {;", "SyntaxError: Unexpected token ';'", "    at wrapSafe"]
    assert last_words([*told, "Node.js v20.20.2"]) == "SyntaxError: Unexpected token ';'"
    coded = ["Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'x'", "Node.js v22.0.0"]
    assert last_words(coded) == "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'x'"
    assert last_words(["Node.js v22.0.0"]) == "Node.js v22.0.0"
    assert last_words(["Traceback", "ValueError: no"]) == "ValueError: no"
    assert last_words([]) == ""
