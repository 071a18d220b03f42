"""examples/chat: two users talk, whichever way they come, and read again what was said."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import ClientConnection, connect

from ..e2e.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MAIN = Path(__file__).parents[2] / "examples" / "chat" / "main.py"


@pytest.fixture(scope="module")
def chat(live: Live) -> Iterator[Live]:
    live.micro("run", "chat")
    yield live
    live.micro("kill", "chat")


def new(chat: Live, *users: str) -> str:
    """The chat of these users."""
    return str(chat.call("chat", "new", f"--user_ids={','.join(users)}")["chat_id"])


def send(chat: Live, room: str, user: str, text: str, **more: str) -> str:
    said = {"chat_id": room, "user_id": user, "text": text, **more}
    answer = chat.web.post("/chat/send", json=said)
    assert answer.status_code == 200, answer.text
    return str(answer.json())


def texts(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["user_id"], one["text"]) for one in messages]


def path(room: str, user: str, since: float = 0) -> str:
    return f"/chat/connect?chat_id={room}&user_id={user}&since={since}"


def socket(chat: Live, room: str, user: str, since: float = 0) -> ClientConnection:
    url = str(chat.web.base_url).replace("http", "ws", 1).rstrip("/")
    return connect(url + path(room, user, since), proxy=None)


def hear(one: ClientConnection) -> tuple[str, str]:
    said = json.loads(one.recv(timeout=60))
    return said["user_id"], said["text"]


def test_two_users_talk_over_websockets(chat: Live) -> None:
    room = new(chat, "ann", "bob")
    # From the beginning: whoever of the two is there first misses nothing.
    with socket(chat, room, "ann", 1) as ann, socket(chat, room, "bob", 1) as bob:
        ann.send('{"text": "Hi Bob"}')
        assert hear(bob) == hear(ann) == ("ann", "Hi Bob")
        bob.send('{"text": "Hi Ann", "subject": "hello"}')
        assert hear(ann) == hear(bob) == ("bob", "Hi Ann")
    listed = chat.call("chat", "history", f"--chat_id={room}")
    assert texts(listed) == [("ann", "Hi Bob"), ("bob", "Hi Ann")]
    assert listed[1]["subject"] == "hello"
    assert abs(listed[0]["sent_at"] - time.time()) < 60


def test_who_listens_by_server_sent_events_hears_both(chat: Live) -> None:
    room = new(chat, "cora", "dan")
    accept = {"accept": "text/event-stream"}
    with chat.web.stream("GET", path(room, "cora", 1), headers=accept) as answer:
        send(chat, room, "dan", "one")
        with socket(chat, room, "cora") as cora:
            cora.send('{"text": "two"}')
            heard = (line[6:] for line in answer.iter_lines() if line.startswith("data: {"))
            first, second = json.loads(next(heard)), json.loads(next(heard))
    assert texts([first, second]) == [("dan", "one"), ("cora", "two")]


def test_a_terminal_is_in_the_chat_too(chat: Live) -> None:
    room = new(chat, "emil", "fay")
    words = ["chat", "connect", f"--chat_id={room}", "--user_id=emil", "--since=1", "--limit=2"]
    said = subprocess.run(
        [sys.executable, "-m", "microcosmos.cli", *words, "--output=json"],
        env=chat.env,
        input='{"text": "from a terminal"}\n{"text": "and again"}\n',
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    heard = [json.loads(line) for line in said.stdout.splitlines()]
    assert texts(heard) == [("emil", "from a terminal"), ("emil", "and again")]
    (topic,) = [one for one in chat.micro("events", "topics").lines if f"chat.{room}" in one]
    assert topic.split()[1] == "2"


def test_it_is_heard_again_from_any_moment_and_read_in_pages(chat: Live) -> None:
    room = new(chat, "gus", "hal")
    ids = [send(chat, room, "gus", f"{number}") for number in range(5)]
    listed = chat.web.get(f"/chat/history?chat_id={room}").json()
    assert [one["id"] for one in listed] == ids
    page = chat.web.get(f"/chat/history?chat_id={room}&limit=2&offset=1").json()
    assert [one["text"] for one in page] == ["1", "2"]
    with socket(chat, room, "hal", listed[3]["sent_at"]) as hal:
        assert [hear(hal), hear(hal)] == [("gus", "3"), ("gus", "4")]
    # What was said outlives the service.
    chat.micro("update", "chat")
    assert chat.web.get(f"/chat/history?chat_id={room}").json() == listed


def test_words_that_are_sent_again_are_said_once(chat: Live) -> None:
    room = new(chat, "ina", "joe")
    assert new(chat, "joe", "ina", "joe") == room
    first = send(chat, room, "ina", "hello", client_id="c1")
    assert send(chat, room, "ina", "hello", client_id="c1") == first
    send(chat, room, "joe", "hello", client_id="c1")
    listed = chat.web.get(f"/chat/history?chat_id={room}").json()
    assert texts(listed) == [("ina", "hello"), ("joe", "hello")]


def test_strangers_and_bad_words_are_refused(chat: Live) -> None:
    room = new(chat, "kim", "leo")
    to = f"--chat_id={room}"
    assert "eve is not in chat" in chat.refused(2, "chat", "send", to, "--user_id=eve", "--text=x")
    none = chat.refused(4, "chat", "history", "--chat_id=none")
    assert "there is no chat 'none'; make one: chat new" in none
    for words in ("--text=", f"--text={'x' * 4001}", "--text=x --client_id=a.b"):
        chat.refused(127, "chat", "send", to, "--user_id=kim", *words.split(" "))
    chat.refused(127, "chat", "new", "--user_ids=")
    chat.refused(127, "chat", "new", "--user_ids=a b")
    chat.refused(127, "chat", "history", to, "--offset=-1")
    assert chat.web.get(path(room, "eve")).status_code == 403
    with socket(chat, room, "kim") as kim:
        kim.send('{"text": ""}')
        assert "$.text" in json.loads(kim.recv(timeout=60))["error"]["Detail"]
        with pytest.raises(ConnectionClosedError) as ended:
            kim.recv(timeout=60)
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code == 4400
    assert chat.web.get(f"/chat/history?chat_id={room}").json() == []


def test_it_runs_alone(live: Live, tmp_path: Path) -> None:
    env = {**live.env, "MICRO_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(MAIN)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, env=env, stdout=pipe, stderr=subprocess.STDOUT, text=True
    ) as one:
        assert one.stdout is not None
        try:
            url = next(line.split()[-1] for line in one.stdout if "this service is alone" in line)
            with httpx.Client(base_url=url, trust_env=False, timeout=60) as web:
                room = web.post("/chat/new", json={"user_ids": ["ann"]}).json()["chat_id"]
                said = {"chat_id": room, "user_id": "ann", "text": "anybody?"}
                assert web.post("/chat/send", json=said).status_code == 200
                with web.stream("GET", path(room, "ann", 1)) as answer:
                    assert json.loads(next(answer.iter_lines()))["text"] == "anybody?"
        finally:
            one.terminate()
