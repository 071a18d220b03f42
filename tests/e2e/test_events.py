"""Events of a real server: from the command line, by Micro's clients, and through `kill -9`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from .live import Live, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def site() -> Iterator[Live]:
    server = Live("--gateways=1")
    try:
        yield server.start()
    finally:
        server.close()


def test_events_from_the_command_line(site: Live) -> None:
    topic = "cli.orders"
    assert site.micro("events", "publish", topic, '{"n":1}', "--id", "one").out == "one\n"
    again = site.micro("events", "publish", topic, '{"n":1}', "--id", "one").out
    assert again == "one (was there already)\n"
    site.micro("events", "publish", topic, "{", "--raw", "--key", "k", "--metadata", "a=b")
    first, second = site.micro("events", "read", topic, "--output", "json").json
    assert (first["id"], first["payload"]) == ("one", {"n": 1})
    assert (second["payload"], second["encoding"], second["key"]) == ("ew==", "base64", "k")
    assert second["metadata"] == {"A": "b"}
    words = ("events", "consume", topic, "--group", "g", "--offset", "beginning")
    assert json.loads(site.micro(*words, "--limit", "1").out)["id"] == "one"
    [group] = site.micro("events", "groups", topic, "-o", "json").json
    assert (group["lag"], group["pending"]) == (1, 0)
    shown = site.micro("events", "inspect", topic).out
    assert "durability:   an acknowledged event survives power loss\n" in shown
    assert "an acknowledged event survives power loss" in site.micro("status", "--server").out
    site.micro("events", "replay", topic, "--group", "g")
    assert site.micro("events", "groups", topic, "-o", "json").json[0]["lag"] == 2
    site.micro("events", "purge", topic, "--keep", "1", "--yes")
    site.micro("events", "delete", topic, "--yes")
    assert "no topic" in site.refused(4, "events", "inspect", topic)


def test_a_schedule_publishes_until_it_is_removed(site: Live) -> None:
    site.micro("events", "publish", "cli.due", "{}", "--every", "1s", "--name", "tick")
    until(lambda: site.micro("events", "read", "cli.due").out)
    assert "tick" in site.micro("events", "schedules").out
    site.micro("events", "unschedule", "tick")
    assert "tick" not in site.micro("events", "schedules").out


def test_rules_say_who_may_what_with_a_topic(site: Live) -> None:
    site.micro("events", "publish", "ruled.orders", "{}")
    site.micro("auth", "create", "account", "--scopes=readers", "--secret=password1", "jane")
    read = ("auth", "create", "rule", "--scope=readers", "--resource=topic:ruled.*:read", "reads")
    site.micro(*read)
    home = {"MICRO_HOME": str(site.work / "jane")}
    site.micro("env", "add", "far", site.info.addresses["proxy"], **home)
    login = ("login", "--username=jane", "--password=password1")
    site.micro("--env=far", *login, **home)
    jane = ("--env=far", "events")
    assert site.micro(*jane, "topics", **home).lines[1].split()[0] == "ruled.orders"
    assert "{}" in site.micro(*jane, "read", "ruled.orders", **home).out
    for words in (("publish", "ruled.orders", "{}"), ("consume", "ruled.orders")):
        said = site.refused(2, *jane, *words, **home)
        assert "jane may not" in said
        assert "micro auth create rule" in said


def test_a_client_of_micro_v3_acknowledges_on_the_stream(site: Live, tmp_path: Path) -> None:
    protos = HERE / "protos"
    files = ["events.proto", "broker.proto"]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{protos}"]
    command += [f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}", *files]
    subprocess.run(command, check=True)
    token = site.micro("user", "token").out.strip()
    ran = subprocess.run(
        [sys.executable, HERE / "micro_v3_events.py", site.info.addresses["proxy"], token],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "read": [["0031", "1", 1234567891], ["0032", "2", 1234567892]],
        "consumed": ["0030", "0031", "0032"],
        "again": [True, True],
        "after": "new",
        "plain": ["0030", "0031", "0032"],
        "write": "UNIMPLEMENTED",
        "nobody": ["UNAUTHENTICATED", "UNAUTHENTICATED", "UNAUTHENTICATED"],
        "bad": "INVALID_ARGUMENT",
        "message": ["bar", "007570"],
    }


def test_events_over_http(site: Live) -> None:
    body = {"topic": "web.orders", "payload": "eyJuIjoxfQ==", "id": "web-one"}
    published = site.admin.post("/events/stream/publish", json=body).json()
    assert (published["id"], published["duplicate"]) == ("web-one", False)
    read = site.admin.get("/events/store/read", params={"topic": "web.orders"}).json()
    assert [one["payload"] for one in read["events"]] == ["eyJuIjoxfQ=="]
    assert httpx.post(f"{site.url}/events/store/read", json=body, timeout=60).status_code == 401
    assert site.admin.post("/events/stream/publish", json={"topic": "a b"}).status_code == 400
    assert site.admin.post("/events/store/write", json={}).status_code == 501


PROCESS = "an acknowledged event survives the end of any process, not power loss"


@pytest.mark.parametrize(
    ("flag", "inspected", "told"),
    [
        ("--durability=process", PROCESS, PROCESS),
        (
            "--profile=test",
            "memory: gone when the process ends",
            "nothing survives the end of the server's processes",
        ),
    ],
)
def test_what_an_acknowledged_event_survives_is_told(
    another, flag: str, inspected: str, told: str
) -> None:
    site = another("--gateways=1", flag).start()
    site.micro("events", "publish", "orders", "{}")
    assert f"durability:   {inspected}\n" in site.micro("events", "inspect", "orders").out
    found = site.micro("events", "inspect", "orders", "-o", "json").json
    assert found["durability"] == inspected
    lines = site.micro("status", "--server").lines
    (line,) = (one for one in lines if one.startswith("durability"))
    assert line.split(None, 1)[1] == told


def test_a_consumer_goes_on_and_nothing_is_lost_when_the_engine_is_killed(another) -> None:
    site = another().start()
    consumer = site.typing("events", "consume", "orders", "--group", "g", "--limit", "4")
    until(lambda: site.micro("events", "groups").out)
    for number in range(4):
        before = site.kill_child("nats") if number % 2 else 0
        site.micro("events", "publish", "orders", str(number), "--id", f"o{number}")
        if before:
            site.back("nats", before)
    lines = [json.loads(line) for line in site.ended(consumer).lines]
    assert {one["payload"] for one in lines} == {0, 1, 2, 3}
    site.kill()
    site.start()
    found = site.micro("events", "read", "orders", "-o", "json").json
    assert [one["payload"] for one in found] == [0, 1, 2, 3]
    [group] = site.micro("events", "groups", "-o", "json").json
    assert (group["name"], group["lag"]) == ("g", 0)
