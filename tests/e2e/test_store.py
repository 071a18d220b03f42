"""The store of a real server: from the command line, over HTTP, and through `kill -9`."""

from __future__ import annotations

import base64
import json
import random
import threading
from collections.abc import Iterator

import httpx
import pytest

from .live import Live, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def site() -> Iterator[Live]:
    server = Live("--gateways=1")
    try:
        yield server.start()
    finally:
        server.close()


def test_records_from_the_command_line(site: Live) -> None:
    students = {
        "usersById/id1": '{"id":"id1", "name":"Jane", "class":"firstGrade", "avgScore": 98}',
        "usersById/id2": '{"id":"id2", "name":"Alice","class":"secondGrade", "avgScore": 92}',
        "usersByClass/secondGrade/id2": '{"id":"id2", "name":"Alice"}',
    }
    for key, value in students.items():
        assert site.micro("store", "write", key, value).out == ""
    assert site.micro("store", "list").lines == sorted(students)
    assert site.micro("store", "list", "usersById/").lines == ["usersById/id1", "usersById/id2"]
    listed = site.micro("store", "list", "--prefix", "usersById/", "--order=desc", "-l", "1")
    assert listed.lines == ["usersById/id2"]
    assert site.micro("store", "list", "-o", "2").lines == ["usersById/id2"]
    assert site.micro("store", "read", "usersById/id1").lines == [students["usersById/id1"]]
    for words in (("usersById/", "--prefix"), ("--prefix", "usersById/"), ("-p", "usersById/")):
        read = site.micro("store", "read", *words)
        assert read.lines == [students["usersById/id1"], students["usersById/id2"]]
    assert len(site.micro("store", "read", "id2", "-s").lines) == 2
    assert len(site.micro("store", "read", "-p", "usersBy", "-s", "id1").lines) == 1
    [record] = site.micro("store", "read", "usersById/id1", "--output=json").json
    assert base64.b64decode(record["value"]).decode() == students["usersById/id1"]
    site.micro("store", "write", "-e", "1h", "--table", "other", "a", "b")
    shown = site.micro("store", "read", "a", "-t", "other", "-v").lines
    assert shown[0].split() == ["KEY", "VALUE", "EXPIRY"]
    assert shown[1].split()[:2] == ["a", "b"]
    assert site.micro("store", "tables").lines == ["micro", "other"]
    assert site.micro("store", "databases").lines == ["micro"]
    site.micro("store", "delete", "usersById/id1")
    missing = site.type("store", "read", "usersById/id1")
    assert missing.code == 4
    assert "there is no key 'usersById/id1'" in missing.err
    assert len(missing.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("read",), "give a KEY"),
        (("read", "--prefix"), "stands for KEY"),
        (("read", "a", "--prefix", "b"), "either KEY"),
        (("read", "a", "--limit", "-1", "-p"), "limit"),
        (("list", "--order", "up"), "order"),
        (("write", "a", "b", "--expiry", "soon"), "no duration"),
        (("write", "", "b"), "not empty"),
        (("list", "-t", "a\nb"), "no name of a table"),
        (("list", "-d", "$platform"), "no namespace"),
        (("grant", "shop", "shop"), "own table"),
    ],
)
def test_bad_input_is_refused_in_one_line(site: Live, words: tuple[str, ...], said: str) -> None:
    ended = site.type("store", *words)
    assert ended.code not in (0, 1), ended
    assert said in ended.err
    assert len(ended.err.splitlines()) == 1, ended.err


def test_no_acknowledged_write_is_lost_when_processes_are_killed(site: Live) -> None:
    token = site.micro("user", "token").out.strip()
    journal: dict[str, str] = {}
    tried: dict[str, str] = {}
    ending = threading.Event()

    def write(number: int) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=5) as web:
            for count in range(100_000):
                if ending.is_set():
                    return
                key, value = f"{number}/{count}", str(random.random())
                tried[key] = value
                record = {"key": key, "value": base64.b64encode(value.encode()).decode()}
                body = {"record": record, "options": {"table": "journal"}}
                try:
                    answer = web.post(f"{site.url}/store/write", json=body)
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    journal[key] = value

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    try:
        for name in ("core", "gateway-1", "nats", "core"):
            before = len(journal)
            until(lambda before=before: len(journal) > before + 100)  # type: ignore[misc]
            site.back(name, site.kill_child(name))
        before = len(journal)
        until(lambda: len(journal) > before + 100)
    finally:
        ending.set()
        for writer in writers:
            writer.join()
    site.kill()
    site.start()
    read = site.micro("store", "read", "--prefix", "", "-t", "journal", "--output=json")
    kept = {one["key"]: base64.b64decode(one["value"]).decode() for one in json.loads(read.out)}
    lost = {key for key, value in journal.items() if kept.get(key) != value}
    invented = {key for key, value in kept.items() if tried.get(key) != value}
    assert not lost
    assert not invented
