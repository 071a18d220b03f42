"""Namespaces on a live server: one name in two of them, and every wall between."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import codec, context, errors
from microcosmos.rpc import Call, blocking
from microcosmos.rpc.interface import Unreachable

from .live import Live, alive, client, program, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

CORE = (
    *("api", "auth", "broker", "config", "events", "functions", "monitor"),
    *("registry", "runtime"),
    *("schemas", "store"),
)

# Calls whatever it is told to, by NATS and as itself.
PEEK = """
import asyncio, os
import nats

async def main():
    refused = []
    async def note(error):
        refused.append(str(error))
    nc = await nats.connect(
        os.environ["NATS_URL"],
        user_credentials=os.environ["NATS_CREDS"],
        inbox_prefix=os.environ.get("NATS_INBOX_PREFIX", "_INBOX"),
        error_cb=note,
    )
    heard = await nc.subscribe(os.environ["SUBJECT"])
    await nc.flush()
    try:
        answer = await nc.request(os.environ["CALL"], b"{}", timeout=2)
        print((answer.headers or {}).get("Nats-Service-Error-Code", "200"), answer.data.decode())
    except Exception as error:
        print(type(error).__name__)
    print("refused" if refused else "heard")
    await nc.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Live]:
    """A server with a namespace `staging`, and the service `twin` in both."""
    server = Live("--gateways=1")
    try:
        server.start()
        server.micro("auth", "create", "namespace", "staging")
        for name, says in (("micro", "here"), ("staging", "there")):
            folder = server.folder(f"{name}/twin", program("twin", says=says))
            server.micro("--namespace", name, "run", str(folder))
        yield server
    finally:
        server.close()


def said(site: Live, namespace: str) -> Any:
    return site.micro("--namespace", namespace, "twin").json["says"]


def test_one_name_is_two_services(site: Live) -> None:
    assert (said(site, "micro"), said(site, "staging")) == ("here", "there")
    assert site.web.get("/twin").json()["says"] == "here"
    there = site.web.get("/twin", headers={"Micro-Namespace": "staging"})
    assert there.json()["says"] == "there"
    for name, owner in (("micro", "here"), ("staging", "there")):
        assert site.micro("--namespace", name, "services").lines == sorted([*CORE, "twin"])
        (row,) = site.micro("--namespace", name, "status", "--output", "json").json
        assert (row["name"], row["status"]) == ("twin", "running")
        log = site.micro("--namespace", name, "logs", "twin").out
        assert "twin answers" in log
        assert owner not in log


def test_every_endpoint_of_the_core_says_who_may_call_it(site: Live) -> None:
    for namespace in ("micro", "staging"):
        listed = site.micro("--namespace", namespace, "registry", "listServices").json["services"]
        of_core = {one["name"]: one for one in listed if one["name"] in CORE}
        assert set(of_core) == set(CORE)
        for service in of_core.values():
            for endpoint in service["endpoints"]:
                access = endpoint["metadata"].get("micro.access", "rules")
                assert access != "rules", (service["name"], endpoint["name"])


def test_who_is_of_one_namespace_is_nobody_in_another(site: Live) -> None:
    made = site.micro(
        "--namespace",
        "staging",
        "auth",
        "create",
        "account",
        "--secret=s3cret-s3",
        "--scopes=admin",
        "ann",
    ).out
    assert "ann" in made
    login = {"id": "ann", "secret": "s3cret-s3", "options": {"namespace": "staging"}}
    token = site.web.post("/auth/token", json=login).json()["token"]["access_token"]
    with client(site.url) as web:
        web.headers["Authorization"] = f"Bearer {token}"
        for path, body in (
            ("/runtime/read", {}),
            ("/runtime/logs", {"name": "twin"}),
            ("/runtime/delete", {"name": "twin"}),
            ("/runtime/create", {"source": {"kind": "example", "location": "helloworld"}}),
            ("/runtime/source/upload", {"data": "eA=="}),
            ("/registry/register", {"name": "x", "nodes": [{"id": "x"}]}),
        ):
            answer = web.post(path, json=body, headers={"Micro-Namespace": "micro"})
            assert answer.status_code == 403, (path, answer.text)
        (own,) = web.post("/runtime/read", json={}).json()
        assert (own["name"], own["namespace"]) == ("twin", "staging")
        assert web.post("/runtime/logs", json={"name": "twin"}).status_code == 200
    assert said(site, "micro") == "here"


JUDGE = """
from microcosmos import Service
from microcosmos.events import Event, Reject

judge = Service("judge")


@judge.subscribe("meet")
async def hear(message: str) -> None:
    print(f"heard {message}", flush=True)


@judge.consume("meet", start="beginning")
async def weigh(payload: dict[str, str], event: Event) -> None:
    raise Reject("refused " + payload["at"])


@judge.endpoint
async def publish(topic: str) -> str:
    return (await judge.events.publish(topic, {"at": "SAYS"}, id="mine")).id


if __name__ == "__main__":
    judge.run()
"""


def test_topics_of_two_namespaces_never_meet(site: Live) -> None:
    both = {"micro": "here", "staging": "there"}

    def typed(namespace: str, *words: str) -> Any:
        return site.micro("--namespace", namespace, *words)

    schema = '{"type":"object","properties":{"%s":{"type":"string"}}}'
    for name, says in both.items():
        folder = site.folder(f"{name}/judge", JUDGE.replace("SAYS", says))
        typed(name, "run", str(folder))
        # One id, one key, one group, one schedule, one subject: in each there is its own.
        words = ("meet", f'{{"at":"{says}"}}', "--id", "one", "--key", "k")
        assert typed(name, "events", "publish", *words).out == "one\n"
        words = ("meet", f'{{"at":"{says}"}}', "--delay", "1h", "--name", "later")
        typed(name, "events", "publish", *words)
        typed(name, "broker", "publish", "meet", f'"{says}"')
        body = {"schemaType": "JSON", "schema": schema % says}
        headers = {"Micro-Namespace": name}
        path = "/schemas/subjects/shapes-value/versions"
        answer = site.admin.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["id"]) == (200, 1)
    for name, says in both.items():

        def letters(name: str = name) -> list[str]:
            found = typed(name, "events", "deadletter", "-o", "json").json
            return [one["reason"] for one in found]

        assert until(letters) == [f"refused {says}"]
        assert typed(name, "judge", "publish", "--topic", "own").json == "mine"
        events = typed(name, "events", "read", ">", "-o", "json").json
        found = [(one["id"], one["payload"]) for one in events]
        assert found == [("one", {"at": says}), ("mine", {"at": says})]
        (group,) = typed(name, "events", "groups", "-o", "json").json
        assert (group["name"], group["lag"]) == ("judge", 0)
        (later,) = typed(name, "events", "schedules", "-o", "json").json
        assert says.encode() in base64.b64decode(later["draft"]["payload"])
        (shape,) = typed(name, "events", "schema", "list", "-o", "json").json
        assert shape["topic"] == "shapes"
        assert says in typed(name, "events", "schema", "get", "shapes").out
        heard = until(lambda name=name: typed(name, "logs", "judge").out)  # type: ignore[misc]
        assert [line for line in heard.splitlines() if "heard" in line] == [f"heard {says}"]
    site.micro("events", "delete", "meet", "--yes")
    assert letters() == ["refused there"]
    assert len(typed("staging", "events", "read", "meet", "-o", "json").json) == 1
    for name in both:
        typed(name, "kill", "judge")


def test_a_service_reaches_no_events_but_by_its_core(site: Live) -> None:
    creds = creds_of(site, "twin")
    inbox = "_INBOX." + creds.stem.replace("@", "-")
    for call, subject in (
        ("STREAM.MSG.GET.events", "events.log.>"),
        ("CONSUMER.CREATE.events.x", "_INBOX.core.>"),
    ):
        first, second = peek(site, creds, f"$JS.API.{call}", subject, inbox)
        assert (first, second) == ("TimeoutError", "refused")


def peek(site: Live, creds: Path, call: str, subject: str, inbox: str = "_INBOX") -> list[str]:
    """What a program sees that connects to the engine with these credentials."""
    told = site.micro("nats", "--output", "json").json
    env = {**site.env, "NATS_URL": told["url"], "NATS_CREDS": str(creds)}
    ran = subprocess.run(
        [sys.executable, "-c", PEEK],
        env={**env, "CALL": call, "SUBJECT": subject, "NATS_INBOX_PREFIX": inbox},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def creds_of(site: Live, pattern: str) -> Path:
    (found,) = (site.home.server / "keys" / "replicas").glob(f"{pattern}-*.creds")
    return found


def test_the_engine_keeps_them_apart(site: Live) -> None:
    for label, says in (("twin", "here"), ("twin@staging", "there")):
        creds = creds_of(site, label)
        inbox = "_INBOX." + creds.stem.replace("@", "-")
        # Its own inbox, its own namespace's service; the subjects of others are refused.
        first, second = peek(site, creds, "rpc.twin.Twin.Call", "rpc.registry.>", inbox)
        assert f'"says":"{says}"' in first
        assert second == "refused"
        first, second = peek(site, creds, "registry.said", "rpc.twin.>", inbox)
        assert (first, second) == ("TimeoutError", "refused")
    log = site.logs()["nats.log"]
    assert "Subscription Violation" in log
    assert "Publish Violation" in log


def test_what_it_says_on_nats_of_its_namespace_does_not_count(site: Live) -> None:
    admin = site.home.server / "keys" / "admin@staging.creds"
    (first, _) = peek(site, admin, "rpc.runtime.Runtime.Read", "x")
    assert first.startswith("401")
    (first, _) = peek(site, admin, "rpc.registry.Registry.ListServices", "x")
    assert '"domain":"staging"' in first
    assert '"domain":"micro"' not in first


def test_they_survive_whoever_is_killed(site: Live) -> None:
    pids = {
        name: site.micro("--namespace", name, "twin").json["pid"] for name in ("micro", "staging")
    }
    for child in ("core", "nats", "gateway-1"):
        before = site.kill_child(child)
        site.back(child, before)
        for name, pid in pids.items():
            until(lambda name=name: site.type("--namespace", name, "twin").code == 0)  # type: ignore[misc]
            assert site.micro("--namespace", name, "twin").json["pid"] == pid
    os.kill(int(pids["staging"]), signal.SIGKILL)
    until(lambda: site.type("--namespace", "staging", "twin").code == 0)
    assert said(site, "staging") == "there"
    assert site.micro("twin").json["pid"] == pids["micro"]


def test_a_namespace_goes_with_all_that_was_in_it(another: Callable[..., Live]) -> None:
    site = another().start()
    site.micro("auth", "create", "namespace", "brief")
    site.micro("--namespace", "brief", "run", "helloworld", "--name", "gone")
    (replica,) = site.micro(
        "--namespace", "brief", "registry", "getService", "--service=gone"
    ).json["services"]
    site.micro("--namespace", "brief", "events", "publish", "orders", '"of brief"')
    streams = site.home.server / "nats" / "jetstream"
    holding = [one for one in streams.iterdir() if _holds(one, b"of brief")]
    assert len(holding) == 1
    line = site.refused(127, "auth", "delete", "namespace", "brief")
    assert "gone" in line
    assert "force" in line
    pids = [pid for pid in site.children() if "examples/helloworld" in _command(pid)]
    site.micro("auth", "delete", "namespace", "brief", "--force")
    keys = site.home.server / "keys"
    until(lambda: not list(keys.rglob("*brief*")))
    assert not any(alive(pid) for pid in pids)
    assert "there is no namespace 'brief'" in site.type("--namespace", "brief", "services").err
    assert not [one for one in holding[0].rglob("*") if one.is_file()]
    # One of the same name is empty.
    site.micro("auth", "create", "namespace", "brief")
    assert site.micro("--namespace", "brief", "events", "topics", "-o", "json").json == []
    assert site.micro("--namespace", "brief", "services").lines == sorted(CORE)
    assert site.micro("--namespace", "brief", "status").out == ""
    assert replica["name"] == "gone"


def _holds(folder: Path, text: bytes) -> bool:
    return any(text in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_a_server_that_is_started_again_has_them_all(another: Callable[..., Live]) -> None:
    site = another().start()
    site.micro("auth", "create", "namespace", "lasting")
    site.micro("--namespace", "lasting", "run", "helloworld")
    site.kill()
    site.start()
    until(lambda: site.type("--namespace", "lasting", "helloworld").code == 0)
    assert "helloworld" not in site.micro("services").lines


def test_a_core_that_comes_back_never_says_that_a_service_is_not_there(site: Live) -> None:
    core = site.kill_child("core")
    until(lambda: not alive(core))
    asked = [(name, method) for name in ("micro", "staging") for method in READS]
    said = set()

    def found_by_all() -> bool:
        answers = {_look(site, *one) for one in asked}
        said.update(answers)
        return answers == {"found"}

    until(found_by_all)
    assert said <= {"away", "503", "found"}


READS = {"GetService": {"service": "store"}, "ListServices": {}, "Describe": {"service": "store"}}


def _look(site: Live, namespace: str, method: str) -> str:
    """What the registry says of the service ``store``, asked without any patience."""
    metadata = {context.NAMESPACE: namespace}
    body = codec.encode(READS[method])
    try:
        answer = blocking.call(
            site.home.core_lane, Call("registry", f"Registry.{method}", body, metadata, 60)
        )
    except (Unreachable, errors.ConnectionLost):
        return "away"
    except errors.Error as error:
        return str(error.code)
    return "found" if b'"store"' in answer else "not listed"
