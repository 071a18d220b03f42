"""Config through the command line and over HTTP: the reference's section, lost keys, kills."""

# ruff: noqa: E501 - answers are as long as they are

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Iterator

import pytest

from microcosmos.config.keys import FILE
from microcosmos.config.secrets import new_key

from .live import Live, client, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# As the reference prints it: `$` what is typed, and below what is answered.
REFERENCE = """\
$ set helloworld.somekey hello
$ get helloworld.somekey
hello
$ set helloworld.someotherkey "Hi there!"
$ get helloworld
{"somekey":"hello","someotherkey":"Hi there!"}
$ set helloworld.someboolkey true
$ get helloworld.someboolkey
true
$ get helloworld
{"someboolkey":true,"somekey":"hello","someotherkey":"Hi there!"}
$ set helloworld.keywithsubs.subkey1 "So easy!"
$ get helloworld
{"keywithsubs":{"subkey1":"So easy!"},"someboolkey":true,"somekey":"hello","someotherkey":"Hi there!"}
$ del helloworld.someotherkey
$ get helloworld
{"keywithsubs":{"subkey1":"So easy!"},"someboolkey":true,"somekey":"hello"}
$ del helloworld.keywithsubs
$ get helloworld
{"someboolkey":true,"somekey":"hello"}
$ set --secret helloworld.hushkey "Very secret stuff"
$ get helloworld.hushkey
[secret]
$ get --secret helloworld.hushkey
Very secret stuff
$ get helloworld
{"hushkey":"[secret]","someboolkey":true,"somekey":"hello"}
$ get --secret helloworld
{"hushkey":"Very secret stuff","someboolkey":true,"somekey":"hello"}
$ set --secret helloworld.hush_number_key 42
$ get helloworld
{"hush_number_key":"[secret]","hushkey":"[secret]","someboolkey":true,"somekey":"hello"}
$ get --secret helloworld
{"hush_number_key":42,"hushkey":"Very secret stuff","someboolkey":true,"somekey":"hello"}
$ set helloworld '{"a": "val1", "b": "val2"}'
$ get helloworld.a
val1
$ del helloworld
$ set helloworld '{"a":1}'
$ get helloworld
{"a":1}
$ set helloworld '{"b":2}'
$ get helloworld
{"a":1,"b":2}
"""


@pytest.fixture(scope="module")
def own() -> Iterator[Live]:
    server = Live("--gateways=1")
    try:
        yield server.start()
    finally:
        server.close()


def steps() -> Iterator[tuple[list[str], str]]:
    for part in REFERENCE.removeprefix("$ ").split("\n$ "):
        typed, _, answer = part.strip("\n").partition("\n")
        yield shlex.split(typed), answer


def test_the_section_of_the_reference_in_its_order(own: Live) -> None:
    for words, answer in steps():
        said = own.micro("config", *words)
        assert (said.out.rstrip("\n"), said.err) == (answer, ""), words


@pytest.mark.parametrize(
    ("code", "words", "told"),
    [
        (4, ("get", "nope.x"), "nope.x is not set in namespace micro"),
        (4, ("del", "nope"), "nope is not set"),
        (64, ("get", "a..b"), "empty key"),
        (64, ("set", "a\\b", "1"), "backslash"),
        (64, ("set", "", "5"), "name a path"),
        (64, ("del", ""), "name a path"),
        (64, ("set", "a"), "missing argument 'VALUE'"),
        (64, ("set", "a", "b", "c"), "unexpected extra argument"),
        (64, ("set", "a", "[secret]"), "what a secret reads as"),
        (64, ("set", "a", '{"": 1}'), "a key of a map is empty"),
        (64, ("get", "x" * 2000), "at most 1024"),
        (4, ("rollback", "99999"), "there is no revision 99999"),
        (64, ("rollback", "-1"), "such option"),
        (64, ("history", "--limit", "0"), "--limit"),
    ],
)
def test_bad_input_is_one_line(own: Live, code: int, words: tuple[str, ...], told: str) -> None:
    assert told in own.refused(code, "config", *words)


def test_values_as_they_are_typed(own: Live) -> None:
    typed = ["-5", "1e2", '"42"', "{bad", "", "NaN", "zwölf Boxkämpfer ☃"]
    for number, text in enumerate(typed):
        own.micro("config", "set", f"typed.v{number}", text)
    found = own.micro("config", "get", "typed", "--output", "json").json
    assert [*found.values()] == [-5, 100.0, "42", "{bad", "", "NaN", "zwölf Boxkämpfer ☃"]
    own.micro("config", "set", r"hosts.example\.com", "[1, 2]")
    assert own.micro("config", "get", "hosts").out == '{"example.com":[1,2]}\n'


def test_changes_are_printed_as_they_are_made(own: Live) -> None:
    own.micro("config", "set", "seen.before", "1")
    watching = own.typing("config", "watch", "seen", "--output", "json")
    lines: list[str] = []
    assert watching.stdout is not None
    reader = threading.Thread(target=lambda: lines.extend(watching.stdout or ()), daemon=True)
    reader.start()
    numbers = iter(range(1000))
    # It sees what is changed from when it has begun.
    until(lambda: own.micro("config", "set", "seen.now", str(next(numbers))) and lines)
    own.micro("config", "set", "--secret", "seen.hush", "hunter2")
    until(lambda: "hush" in lines[-1])
    watching.terminate()
    watching.wait(60)
    assert not any("before" in line for line in lines)
    assert json.loads(lines[-1])["value"]["data"] == '"[secret]"'


def test_a_key_that_is_lost_is_told_and_put_back(another: Callable[..., Live]) -> None:
    server = another().start()
    path = server.home.path / FILE
    server.micro("config", "set", "a", '{"plain": 1}')
    server.micro("config", "set", "-s", "a.hush", "hunter2")
    assert path.stat().st_mode & 0o777 == 0o600
    kept = path.read_text()
    path.unlink()
    server.stop()
    server.start()
    line = server.refused(127, "config", "get", "-s", "a.hush")
    assert str(path) in line
    assert "micro config del a.hush" in line
    server.refused(127, "config", "set", "-s", "b", "1")
    server.refused(127, "config", "rotate-key")
    server.micro("config", "set", "a.plain", "2")
    assert server.micro("config", "get", "a").out == '{"hush":"[secret]","plain":2}\n'
    assert not path.exists()
    path.write_text(kept)
    assert server.micro("config", "get", "-s", "a.hush").out == "hunter2\n"
    server.micro("config", "rotate-key")
    assert path.read_text() != kept
    # The same key, given by the operator; and then a bad one.
    key = path.read_text().strip()
    path.unlink()
    server.stop()
    server.env["MICRO_CONFIG_SECRET_KEY"] = f"{new_key().text()},{key}"
    server.start()
    assert server.micro("config", "get", "-s", "a.hush").out == "hunter2\n"
    assert not path.exists()
    server.stop()
    server.env["MICRO_CONFIG_SECRET_KEY"] = "nonsense"
    server.start()
    line = server.refused(127, "config", "get", "-s", "a.hush")
    assert "MICRO_CONFIG_SECRET_KEY" in line
    assert server.micro("config", "get", "a.plain").out == "2\n"
    for name, text in server.logs().items():
        assert "hunter2" not in text, name
        assert key not in text, name
        assert kept.strip() not in text, name


def test_what_was_acknowledged_survives_kills(another: Callable[..., Live]) -> None:
    server = another().start()
    token = server.micro("user", "token").out.strip()
    journal: dict[str, int] = {}
    stop = threading.Event()

    def write(writer: int) -> None:
        with client(server.url) as web:
            number = 0
            while not stop.is_set():
                number += 1
                path = f"w{writer}.k{number % 7}"
                secret = {"secret": number % 3 == 0}
                body = {"path": path, "value": {"data": str(number)}, "options": secret}
                answer = web.post(
                    "/config/set", json=body, headers={"Authorization": f"Bearer {token}"}
                )
                if answer.status_code == 200:
                    journal[path] = number
                else:
                    # It may have been done all the same: what is there then is this or that.
                    journal.pop(path, None)
                    stop.wait(0.05)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(2):
            before = len(journal), dict(journal)
            until(lambda before=before: dict(journal) != before[1] and len(journal) > 10)
            pid = server.kill_child("core")
            server.back("core", pid)
            until(lambda: server.type("config", "get", "w0").code == 0)
        until(lambda: len(journal) > 10)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    found = server.micro("config", "get", "-s", "--output", "json").json
    for path, number in journal.items():
        writer, _, key = path.partition(".")
        assert found[writer][key] == number
