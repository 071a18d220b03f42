"""`micro events`, from publishing to what became of it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from msgspec.structs import replace

from microcosmos.auth.logins import LOCAL, Logins
from microcosmos.events.interface import BEGINNING, Draft, GroupSpec

from .conftest import Micro, Platform


@pytest.fixture
def events(micro: Micro, platform: Platform):
    """Runs `micro events …`, which is to go well unless said."""
    platform.register(platform.record(platform.events))

    def run(*words: str, code: int = 0) -> str:
        done = micro("events", *words)
        assert done.code == code, done
        return done.err if code else done.out

    return run


async def bury(log, topic, group="billing", reason="it is bad") -> None:
    """Let a group give up an event."""
    async with log.group(GroupSpec(topic, group, BEGINNING)) as member:
        for delivery in await member.pull(1):
            await member.bury(delivery, reason)


def test_an_event_is_published_and_read(events) -> None:
    id = events("publish", "orders.placed", '{"n": 1}', "--key", "u1", "--metadata", "who=jane")
    assert events("publish", "orders.placed", "plain", "--raw", "--id", "mine") == "mine\n"
    assert events("publish", "orders.placed", "{}", "--id", "mine") == (
        "mine (was there already)\n"
    )
    first, second = json.loads(events("read", "orders.placed", "--output", "json"))
    assert first["id"] == id.strip()
    assert (first["payload"], first["key"], first["metadata"]) == ({"n": 1}, "u1", {"Who": "jane"})
    assert abs(first["timestamp"] - time.time()) < 60
    assert "encoding" not in first
    assert (second["payload"], second["encoding"]) == ("cGxhaW4=", "base64")
    lines = events("read", "orders.*").splitlines()
    assert lines[0].split() == ["SEQUENCE", "ID", "TOPIC", "KEY", "UPDATED", "PAYLOAD"]
    assert lines[1].endswith('{"n":1}')
    page = json.loads(
        events("read", "orders.placed", "--limit", "1", "--offset", "1", "--output", "json")
    )
    assert [one["id"] for one in page] == ["mine"]
    assert events("read", "nothing", "--output", "json") == "[]\n"
    assert events("read", "nothing") == ""


def test_an_event_has_its_own_time_and_its_end(events, platform: Platform) -> None:
    events("publish", "t", "{}", "--timestamp", "2001-02-03T04:05:06Z", "--ttl", "1h")
    [one] = json.loads(events("read", "t", "-o", "json"))
    assert one["timestamp"] == 981173106
    events("create", "t", "--ttl", "10s")
    assert "ttl:          10s" in events("inspect", "t")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("publish", "t", "{"), "is no JSON"),
        (("publish", "a..b", "{}"), "is no topic"),
        (("publish", "t", "{}", "--ttl", "soon"), "no duration"),
        (("publish", "t", "{}", "--timestamp", "now"), "is no time"),
        (("publish", "t", "{}", "--at", "2031-01-01"), "is no time"),
        (("publish", "t", "{}", "--cron", "x y"), "a schedule is"),
        (("publish", "t", "{}", "--delay", "1m", "--every", "1m"), "give one of"),
        (("publish", "t", "{}", "--zone", "Europe/Berlin"), "are for --at"),
        (("publish", "t", '"' + "x" * 5300000 + '"'), "larger things are blobs"),
        (("publish", "t", "{}", "--metadata", "Nats-Msg-Id=x"), "the platform's"),
        (("publish", "t", "{}", "--metadata", "Authorization=x"), "not for events"),
        (("publish", "t", "{}", "--every", "0.5s"), "between 1s and 876000h"),
        (("read", "a b"), "neither a topic nor a pattern"),
        (("read", "t", "--limit", "0"), "--limit"),
        (("consume", "t", "--offset", "yesterday"), "is no time"),
        (("consume", "t", "--group", "two words"), "is no name of a group"),
        (("purge", "t", "--keep", "1", "--before", "2", "--yes"), "give one of"),
        (("replay", "t"), "--group"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(events, words, says) -> None:
    said = events(*words, code=64)
    assert says in said
    assert "Traceback" not in said


def test_what_is_not_there_is_said_so(events) -> None:
    assert "no topic nothing" in events("inspect", "nothing", code=4)
    assert "no group" in events("replay", "t", "--group", "g", code=4)
    assert "no group" in events("delete", "t", "--group", "g", "--yes", code=4)
    assert "no schedule" in events("unschedule", "s", code=4)


def test_topics_are_listed_inspected_purged_and_removed(events, platform: Platform) -> None:
    for n in range(5):
        events("publish", "orders", str(n))
    events("publish", "chat.1", "{}")
    platform.do(bury(platform.log, "orders"))
    assert events("topics").splitlines() == [
        "TOPIC   EVENTS  DEAD  TTL",
        "chat.1  1       0     for ever",
        "orders  5       1     for ever",
    ]
    assert [one["topic"] for one in json.loads(events("topics", "chat.*", "-o", "json"))] == [
        "chat.1"
    ]
    said = events("inspect", "orders")
    assert "events:       5\n" in said
    assert "durability:   memory: gone when the process ends\n" in said
    assert "group:        billing: 4 waiting, 0 in work, 0 members" in said
    assert json.loads(events("inspect", "orders", "-o", "json"))["groups"][0]["lag"] == 4
    assert events("purge", "orders", "--keep", "2", "--yes") == "3 events of orders forgotten.\n"
    assert events("delete", "orders", "--group", "billing", "--yes") == (
        "Group billing of orders is removed.\n"
    )
    assert events("groups") == ""
    assert events("delete", "orders", "-y") == "Topic orders is removed, with 2 events.\n"
    assert "orders" not in events("topics")


@pytest.mark.parametrize("words", [("delete", "orders"), ("purge", "orders")])
def test_what_cannot_be_undone_asks(micro: Micro, events, monkeypatch, words) -> None:
    events("publish", "orders", "{}")
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    refused = micro("events", *words)
    assert refused.code != 0
    assert "[y/N]" in refused.err
    assert events("read", "orders")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    events(*words)
    assert not events("read", "orders")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    refused = micro("events", *words)
    assert refused.code == 64
    assert refused.err.endswith("\nmicro: there is no terminal to ask at; give --yes\n")


def test_an_event_is_read_from_the_standard_input(events, monkeypatch) -> None:
    for text, code, says in (('"x"', 0, ""), ("", 64, "the standard input is no JSON")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert says in events("publish", "t", "-", code=code)


def test_dead_letters_are_listed_and_driven_again(events, platform: Platform) -> None:
    id = events("publish", "orders", '{"n":1}').strip()
    platform.do(bury(platform.log, "orders"))
    heading, line = events("deadletter").splitlines()
    assert heading.split() == ["NUMBER", "TOPIC", "GROUP", "ATTEMPTS", "UPDATED", "ID", "REASON"]
    assert line.split()[:4] == ["1", "orders", "billing", "1"]
    assert line.endswith("it is bad")
    [letter] = json.loads(events("deadletter", "orders", "--group", "billing", "-o", "json"))
    assert (letter["event"]["id"], letter["event"]["payload"]) == (id, {"n": 1})
    assert events("deadletter", "--group", "other") == ""
    assert events("redrive", "orders", "1") == "1 event of orders given out again.\n"
    assert events("deadletter") == ""


def test_a_group_is_replayed(events, platform: Platform) -> None:
    for n in range(3):
        events("publish", "orders", str(n))
    events("consume", "orders", "--group", "g", "--offset", "beginning", "--limit", "3")
    assert events("groups").splitlines()[1].split()[:5] == ["g", "orders", "no", "0", "0"]
    assert "beginning" in events("replay", "orders", "--group", "g")
    assert json.loads(events("groups", "-o", "json"))[0]["lag"] == 3
    assert events("replay", "orders", "-g", "g", "--sequence", "3") == (
        "Group g of orders goes on from sequence 3.\n"
    )
    assert json.loads(events("groups", "-o", "json"))[0]["lag"] == 1


def test_schedules_are_made_listed_and_removed(events) -> None:
    words = ("publish", "reports.due", "{}", "--name", "nightly", "--zone", "Europe/Berlin")
    assert events(*words, "--cron", "0 3 * * *") == "nightly 0 3 * * * Europe/Berlin\n"
    later = events("publish", "reports.due", "{}", "--delay", "1h").split()[0]
    lines = events("schedules").splitlines()
    assert lines[0].split() == ["ID", "TOPIC", "WHEN", "ZONE"]
    assert any(
        line.split() == ["nightly", "reports.due", *"0 0 3 * * *".split(), "Europe/Berlin"]
        for line in lines
    )
    assert later in events("schedules")
    assert events("unschedule", "nightly") == "Schedule nightly is removed.\n"
    assert "nightly" not in events("schedules")


def test_events_are_consumed_until_the_limit_and_then_done_with(events) -> None:
    for n in range(5):
        events("publish", "orders", json.dumps({"n": n}))
    words = ("consume", "orders", "--group", "g", "--offset", "beginning", "--limit", "2")
    lines = [json.loads(line) for line in events(*words).splitlines()]
    assert [one["payload"]["n"] for one in lines] == [0, 1]
    assert json.loads(events("groups", "-o", "json"))[0] == {
        "name": "g",
        "topic": "orders",
        "ordered": False,
        "lag": 3,
        "pending": 0,
        "members": 0,
    }
    lines = [json.loads(line) for line in events(*words, "--output", "json").splitlines()]
    assert [one["payload"]["n"] for one in lines] == [2, 3]
    alone = events("consume", "orders", "--sequence", "5", "--limit", "1")
    assert json.loads(alone)["payload"] == {"n": 4}


def test_events_are_consumed_until_ctrl_c(events, platform: Platform) -> None:
    command = [sys.executable, "-m", "microcosmos.cli", "events", "consume", "orders", "-g", "g"]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ, text=True
    )
    try:
        until(lambda: platform.do(platform.log.groups()))
        platform.do(platform.log.publish(Draft("orders", b'"first"')))
        assert child.stdout is not None
        assert json.loads(child.stdout.readline())["payload"] == "first"
        until(lambda: not platform.do(platform.log.groups())[0].pending)
    finally:
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert "Traceback" not in said


@pytest.mark.parametrize("flags", [(), ("--group", "g")])
def test_a_token_that_ends_as_the_stream_begins_ends_nothing(
    micro: Micro, guarded: Platform, flags
) -> None:
    guarded.register(guarded.record(guarded.events))
    assert micro("login", "--username", "admin", "--password", "micro").code == 0
    asked = {"id": "admin", "secret": "micro", "token_expiry": 0.3}
    brief = json.loads(micro("call", "auth", "Auth.Token", json.dumps(asked)).out)["token"]
    logins = Logins(guarded.home.path / "tokens")
    kept = logins.last(LOCAL)
    assert kept is not None
    # The command line takes it for one that is good for long.
    login = replace(kept, access_token=brief["access_token"], refresh_token=brief["refresh_token"])
    logins.put(LOCAL, login)

    def publish() -> None:
        until(lambda: logins.last(LOCAL) != login)
        guarded.do(guarded.log.publish(Draft("orders", b'"late"')))

    publishing = threading.Thread(target=publish)
    publishing.start()
    heard = micro("events", "consume", "orders", "--limit", "1", "--offset", "beginning", *flags)
    assert heard.code == 0, heard.err
    assert json.loads(heard.out)["payload"] == "late"
    publishing.join(60)


def until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
