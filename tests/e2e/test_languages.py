"""Services in other languages: started by hand, by `micro run`, by a command; and what goes wrong.

Their packages come from npm once a session, with examples/node.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from microcosmos.runtime.source import examples_folder

from .live import Live, client, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PACKAGE = json.loads((examples_folder() / "node" / "package.json").read_text())

# What the engine gives a process that has just been killed is answered by nobody, and 10 s long.
SOON = {"Micro-Timeout": "500ms"}

SERVICE = """
import { readFileSync } from "node:fs";
import { Svcm } from "@nats-io/services";
import { connect, credsAuthenticator } from "@nats-io/transport-node";

const { NATS_URL, NATS_CREDS, MICRO_SERVICE_NAME } = process.env;
const nc = await connect({
  servers: NATS_URL,
  authenticator: credsAuthenticator(readFileSync(NATS_CREDS)),
});
const name = process.env.CALLED ?? MICRO_SERVICE_NAME;
const service = await new Svcm(nc).add({ name, version: "1.0.0" });
const own = service.addGroup(name);
const json = (give) => (_, msg) => msg.respond(JSON.stringify(give(msg)));
own.addEndpoint("pid", json(() => process.pid));
own.addEndpoint("min", json((msg) => Math.min(...msg.json())));
own.addEndpoint("env", json(() => process.env));
own.addEndpoint("echo", json((msg) => msg.json()));
own.addEndpoint("text", (_, msg) => msg.respond("no JSON"));
own.addEndpoint("empty", (_, msg) => msg.respond());
own.addEndpoint("throws", () => { throw new Error("out of cheese"); });
own.addEndpoint("silent", () => console.log("silent has been asked"));
process.once("SIGTERM", () => nc.drain());
console.log("ready");
"""


def write(live: Live, name: str, program: str = SERVICE, **about: object) -> Path:
    folder = live.folder(name)
    (folder / "package.json").write_text(json.dumps({**PACKAGE, "name": "svc", **about}))
    (folder / "service.mjs").write_text(program)
    return folder


@pytest.fixture(scope="module")
def folder(live: Live) -> Iterator[Path]:
    """A folder of Node with its packages in it, as somebody has it who works on it."""
    here = write(live, "byhand")
    options = ["--no-package-lock", "--no-audit", "--no-fund", "--omit=dev"]
    subprocess.run(["npm", "install", *options], cwd=here, check=True, capture_output=True)
    yield here
    shutil.rmtree(here)


@pytest.fixture
def node(live: Live, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service that is started by hand, with what `micro nats` says."""
    told = live.micro("nats", "--output", "json").json
    env = {**live.env, "NATS_URL": told["url"], "NATS_CREDS": told["credentials"]}
    started = subprocess.Popen(
        ["node", "service.mjs"],
        cwd=folder,
        env={**env, "MICRO_SERVICE_NAME": "byhand"},
        stdout=subprocess.DEVNULL,
    )
    try:
        # Asked for by name it is found at once; everyone is asked only every few seconds.
        until(lambda: live.type("get", "service", "byhand").code == 0)
        until(lambda: live.web.get("/byhand/pid").status_code == 200)
        yield started
    finally:
        started.kill()
        started.wait()


def test_one_that_was_started_by_hand_is_a_service_like_any_other(
    live: Live, node: subprocess.Popen[bytes]
) -> None:
    assert "byhand" in live.micro("services").lines
    (found,) = live.micro("registry", "getService", "--service=byhand").json["services"]
    assert (found["version"], found["endpoints"][0]["name"]) == ("1.0.0", "Byhand.Pid")
    assert live.call("byhand", "pid") == node.pid
    assert live.call("call", "byhand", "min", "[3, 1, 2]") == 1
    assert live.web.post("/byhand/min", json=[2, 3]).json() == 2
    # Of one that tells no shapes every flag is taken.
    said = live.call("byhand", "echo", "--name=Ann", "--age", "7", "--tags", '["a"]')
    assert said == {"name": "Ann", "age": 7, "tags": ["a"]}

    assert live.web.get("/byhand/empty").json() == {}
    answer = live.web.get("/byhand/text")
    assert (answer.status_code, answer.json()["Id"]) == (502, "byhand")
    assert "answered what is no JSON: 'no JSON'" in answer.json()["Detail"]
    answer = live.web.get("/byhand/throws")
    assert (answer.status_code, answer.json()["Detail"]) == (500, "out of cheese")
    answer = live.web.get("/byhand/silent", headers={"Micro-Timeout": "300ms"})
    assert answer.status_code == 504
    answer = live.web.get("/byhand/nothing")
    assert "it has: /byhand/echo, /byhand/empty" in answer.json()["Detail"]

    # Gone as soon as nobody listens: far sooner than the registry forgets.
    node.send_signal(signal.SIGKILL)
    until(lambda: live.web.get("/byhand/pid", headers=SOON).status_code == 404)
    assert "byhand" not in live.micro("services").lines


def test_micro_run_of_a_folder_of_node(live: Live) -> None:
    folder = write(live, "noded")
    live.micro("run", str(folder), "--instances", "2", "--env_vars", "COLOUR=red")
    status = live.status("noded")
    assert status["status"] == "running"
    env = live.call("noded", "env")
    assert (env["COLOUR"], env["MICRO_SERVICE_NAME"]) == ("red", "noded")
    assert {"NATS_URL", "NATS_CREDS", "NATS_INBOX_PREFIX", "MICRO_SERVICE_VERSION"} <= env.keys()
    (found,) = live.micro("registry", "getService", "--service=noded").json["services"]
    replicas = [one["metadata"]["micro.replica"] for one in found["nodes"]]
    assert len({*replicas}) == 2
    assert env["MICRO_REPLICA"] in replicas
    assert live.micro("logs", "noded", "-n", "1").out == "ready\n"

    # It crashes, and is started again; the other one goes on.
    def pids() -> set[int]:
        answers = [live.web.get("/noded/pid", headers=SOON) for _ in range(10)]
        return {answer.json() for answer in answers if answer.status_code == 200}

    victim = min(until(lambda: len(seen := pids()) == 2 and seen))
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(pids() - {victim}) == 2)
    until(lambda: live.status("noded")["status"] == "running")

    write(live, "noded", SERVICE.replace('"no JSON"', '"1"'))
    live.micro("update", str(folder), "--instances", "1")
    # The one before hears that it is to end, and answers until then.
    until(lambda: live.web.get("/noded/text").json() == 1)
    assert live.status("noded")["build"] == status["build"]
    live.micro("kill", "noded")
    until(lambda: live.web.get("/noded/pid", headers=SOON).status_code == 404)


def test_a_core_that_comes_back_knows_its_node_services(another: Callable[..., Live]) -> None:
    live = another().start()
    live.micro("run", str(write(live, "stays")))

    def pid() -> int:
        answer = live.web.get("/stays/pid", headers=SOON)
        return int(answer.text) if answer.status_code == 200 else 0

    first = pid()
    core = live.kill_child("core")
    live.back("core", core)
    until(lambda: '"running"' in live.type("status", "stays", "--output", "json").out)
    assert pid() == first
    with ThreadPoolExecutor() as pool, client(live.url) as web:
        waiting = pool.submit(web.get, "/stays/silent")
        until(lambda: live.type("logs", "stays", "-n", "1").out == "silent has been asked\n")
        os.kill(first, signal.SIGKILL)
        assert waiting.result().status_code == 503, waiting.result().text
    until(lambda: pid() not in (0, first))
    until(lambda: live.status("stays")["status"] == "running")


def test_another_name_than_its_own_is_refused_by_the_engine(live: Live) -> None:
    folder = write(live, "shown")
    live.micro("run", str(folder), "--env_vars", "CALLED=hidden", "--detach")
    refused = "Subscription Violation"
    until(lambda: refused in (log := live.logs()["nats.log"]) and '"hidden.pid"' in log)
    assert live.web.get("/hidden/pid").status_code == 404
    assert live.status("shown")["status"] == "starting"
    live.micro("kill", "shown")


def test_a_command_runs_any_program(live: Live) -> None:
    folder = live.folder("plainly")
    shutil.copy(examples_folder() / "plain" / "main.py", folder / "program.py")
    (folder / "start.sh").write_text('#!/bin/sh\nexec python program.py "$@"\n')
    (folder / "start.sh").chmod(0o755)
    live.micro("run", str(folder), "--command", "./start.sh")
    assert live.call("plainly", "--name=Ann") == {"msg": "Hello Ann"}
    assert live.status("plainly")["metadata"]["command"] == "./start.sh"
    live.micro("kill", "plainly")


@pytest.mark.parametrize(
    ("about", "program", "line"),
    [
        ({"scripts": {}}, "", "no entry: package.json has neither scripts.start nor main"),
        ({}, "const x = {;", "SyntaxError: Unexpected token ';'"),
        ({}, 'import "not-there";', "Cannot find package 'not-there'"),
        ({"scripts": {"start": "no-such-program"}}, "", "no-such-program: not found"),
        (
            {"dependencies": {"@nats-io/services": "0.0.99"}},
            "",
            "the build failed: No matching version found for @nats-io/services@0.0.99",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(
    live: Live, about: dict[str, object], program: str, line: str
) -> None:
    folder = write(live, "wrong", program, **about)
    said = live.type("run", str(folder))
    assert said.code == 127
    assert line in said.err.splitlines()[-1]
    live.type("kill", "wrong")
