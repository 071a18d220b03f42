"""What makes bundles, within its walls: what of npm's settings it reaches, and what it runs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from microcosmos.functions.bundling import Bundler
from microcosmos.functions.registries import files_of, ports_of
from microcosmos.functions.walls import run

STEALING = "open({!r}, 'w').close()"


@pytest.mark.parametrize(
    ("environment", "npmrc", "ports"),
    [
        ({}, "", {443}),
        ({"NPM_CONFIG_REGISTRY": "http://127.0.0.1:4873/"}, "", {443, 4873}),
        ({"npm_config_registry": "http://registry.lan"}, "", {443, 80}),
        ({"NPM_CONFIG_CACHE": "/var/cache"}, "", {443}),
        ({"HTTPS_PROXY": "proxy.lan:3128"}, "", {443, 3128}),
        ({"https_proxy": "http://me:secret@proxy.lan:3129/"}, "", {443, 3129}),
        ({}, "registry=https://npm.lan:8443/path/", {443, 8443}),
        ({}, "@us:registry = 'http://npm.lan:99'\n//npm.lan:99/:_authToken=abc", {443, 99}),
        ({}, "registry=https://[::1]:8444/", {443, 8444}),
        ({}, "registry=https://npm.lan:99999/", {443}),
    ],
)
def test_the_ports_are_those_of_registries(
    tmp_path: Path, environment: dict[str, str], npmrc: str, ports: set[int]
) -> None:
    (tmp_path / ".npmrc").write_text(npmrc)
    assert ports_of({**environment, "HOME": str(tmp_path)}) == ports


def test_its_files_are_those_that_name_registries_and_who_signs(tmp_path: Path) -> None:
    environment = {"HOME": "/home/me", "SSL_CERT_FILE": "/etc/own.pem", "DENO_CERT": ""}
    assert files_of(environment) == [Path("/home/me/.npmrc"), Path("/etc/own.pem")]


async def test_files_of_a_function_are_not_what_it_is_made_of(tmp_path: Path) -> None:
    stolen = tmp_path / "stolen"
    files = {
        f"{name}.py": STEALING.format(str(stolen))
        for name in ("microcosmos", "json", "os", "seccompy", "sitecustomize")
    }
    files["index.js"] = "import { a } from './a.js'; export default { a }"
    files["a.js"] = "export const a = 1"
    made = await Bundler(tmp_path / "kept").bundle(files, "index.js", "javascript")
    assert not stolen.exists()
    assert made.code or "esbuild" in str(made.findings)
    # Where it is started, Python would import them if it were not told not to.
    (tmp_path / "json.py").write_text(files["json.py"])
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", "import json"], cwd=tmp_path, check=True
    )
    assert stolen.exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 64, "usage: "),
        (["bundler", "--"], 64, "usage: "),
        (["bundler", "--what", "x", "--", "/bin/true"], 64, "usage: "),
        (["bundler", "--port", "http", "--", "/bin/true"], 64, "usage: "),
        (["moat", "--", "/bin/true"], 64, "usage: "),
        (["deno", "--", "/bin/true"], 64, "usage: "),
        (["bundler", "--", "/nonexistent/program"], 127, "/nonexistent/program cannot be run"),
        (["bundler", "--", "/etc/passwd"], 127, "/etc/passwd cannot be run"),
        (["bundler", "--", "/bin/true"], 0, ""),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(words: list[str], code: int, said: str) -> None:
    argv = [sys.executable, "-P", "-m", run.__name__, *words]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, done.stderr[: len(said)]) == (code, said)
    assert done.stderr.count("\n") == (1 if said else 0)
