"""Streams at the command line: `micro stream`, and services called by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from microcosmos.cli.items import InputLines

from .conftest import STOPPED, TICKER, Micro, Platform

MICRO = [sys.executable, "-m", "microcosmos.cli"]
TICKS = ("stream", "ticker", "Ticks")


@pytest.fixture(autouse=True)
def ticker(platform: Platform) -> None:
    platform.register(platform.record(TICKER))


def piped(text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MICRO, *words], input=text, capture_output=True, text=True)


def test_messages_are_printed_as_answers_are(micro: Micro) -> None:
    result = micro(*TICKS, '{"count": 2}')
    assert (result.code, result.err) == (0, "")
    assert result.out == '{\n  "n": 0\n}\n{\n  "n": 1\n}\n'


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        ((*TICKS, '{"count": 2}', "-o", "json"), [0, 1]),
        ((*TICKS, "--output=json"), [0, 1, 2]),
        (("stream", "ticker", "Ticker.Ticks", '{"count": 0}', "-o", "json"), []),
        (("ticker", "ticks", "--count=2", "--output", "json"), [0, 1]),
        (("ticker", "ticks", "--count", "99999999", "--limit", "2", "-o", "json"), [0, 1]),
        ((*TICKS, '{"count": 99999999}', "--limit=1", "-o", "json"), [0]),
    ],
)
def test_a_line_of_json_is_a_message(
    micro: Micro, words: tuple[str, ...], messages: list[int]
) -> None:
    result = micro(*words)
    assert (result.code, result.err) == (0, "")
    assert [json.loads(line) for line in result.out.splitlines()] == [{"n": n} for n in messages]


def test_an_endpoint_of_one_answer_is_a_stream_of_one(micro: Micro) -> None:
    assert micro("stream", "helloworld", "Call", '{"name": "x"}', "-o", "json").out == (
        '{"msg":"Hello x"}\n'
    )


@pytest.mark.parametrize(
    ("words", "text", "out"),
    [
        (("stream", "ticker", "Total"), '{"n":1}\n\n{"n":2}', '{"n":3}\n'),
        (("ticker", "total"), "", '{"n":0}\n'),
        (("ticker", "times", "--factor=3"), '{"n":1}\n{"n":2}\n', '{"n":3}\n{"n":6}\n'),
        (("stream", "ticker", "Times", '{"factor":3}'), '{"n":1}\n', '{"n":3}\n'),
    ],
)
def test_lines_of_the_input_are_sent(words: tuple[str, ...], text: str, out: str) -> None:
    ended = piped(text, *words, "-o", "json")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, out, "")


def test_a_message_comes_back_before_the_input_ends() -> None:
    child = subprocess.Popen(
        [*MICRO, "ticker", "times", "--factor=2", "-o", "json"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    for n in range(3):
        child.stdin.write(f'{{"n":{n}}}\n')
        child.stdin.flush()
        assert child.stdout.readline() == f'{{"n":{2 * n}}}\n'
    out, _ = child.communicate(timeout=60)
    assert (child.returncode, out) == (0, "")


def test_ctrl_c_ends_it_here_and_there() -> None:
    STOPPED.clear()
    child = subprocess.Popen(
        [*MICRO, "ticker", "ticks", "--count=9", "--pause=60", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == '{"n":0}\n'
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "")
    assert STOPPED.wait(60)


def test_ctrl_c_does_not_wait_for_the_input() -> None:
    reader, writer = os.pipe()
    child = subprocess.Popen(
        [*MICRO, "ticker", "times", "--factor=2", "-o", "json"],
        stdin=reader,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(writer, b'{"n":1}\n')
    assert child.stdout is not None
    assert child.stdout.readline() == '{"n":2}\n'
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "")
    os.close(reader)
    os.close(writer)


def test_what_is_typed_after_the_end_is_left_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as stdin, open(writer, "wb", buffering=0) as keys:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", stdin)
        lines = InputLines()
        read: list[bytes] = []
        keys.write(b"{}\n")
        iterated = iter(lines)
        assert next(iterated) == b"{}"
        thread = threading.Thread(target=lambda: read.extend(iterated), daemon=True)
        thread.start()
        lines.close()
        keys.write(b"services\n")
        thread.join(60)
        assert (read, stdin.read(100)) == ([], b"services\n")


def test_a_reader_that_goes_away_ends_it() -> None:
    line = f"{sys.executable} -m microcosmos.cli ticker ticks --count=99999999 -o json | head -n1"
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ('{"n":0}\n', "")


@pytest.mark.parametrize(
    ("words", "text", "code", "told"),
    [
        ((*TICKS, '{"count": -1}'), "", 127, "nothing to be counted"),
        ((*TICKS, '{"count": "x"}'), "", 127, "expected `int`, got `str`"),
        ((*TICKS, "{"), "", 64, "the request is no JSON"),
        ((*TICKS, "--limit=-1"), "", 64, "--limit"),
        ((*TICKS, "--request_timeout=0"), "", 64, "nothing answers in no time"),
        ((*TICKS, '{"pause": 60}', "--request_timeout=80ms"), "", 1, "did not answer within 0.08"),
        (("stream", "ticker", "Nope"), "", 5, "ticker has no endpoint Ticker.Nope"),
        (("stream", "tickr", "Ticks"), "", 4, "did you mean ticker?"),
        (("stream", "a*b", "Ticks"), "", 64, "is no service name"),
        (("ticker", "ticks", "--limit=x"), "", 64, "'x' is no number of messages"),
        (("ticker", "ticks", "--output=xml"), "", 64, "--output json"),
        (("ticker", "times", "--items_n=1"), "", 64, "no such option '--items_n'"),
        (("ticker", "total", "--n=1"), "", 64, "no such option '--n'"),
        (("ticker", "total"), '{"n":1}\nnope\n', 64, "line 2 of the input is no JSON"),
        (("ticker", "total"), '{"n":"x"}\n', 127, "expected `int`, got `str`"),
        (("ticker", "times"), "", 127, "missing required field `factor`"),
        (("call", "ticker", "Ticks"), "", 127, "`micro stream`"),
    ],
)
def test_what_goes_wrong_is_one_line(
    words: tuple[str, ...], text: str, code: int, told: str
) -> None:
    ended = piped(text, *words)
    assert (ended.returncode, ended.stderr.count("\n")) == (code, 1), ended.stderr
    assert ended.stderr.startswith("micro: ")
    assert told in ended.stderr


def test_the_page_of_a_stream_says_what_it_takes(micro: Micro) -> None:
    page = micro("ticker", "times", "--help").out
    assert "Each line of the standard input is sent" in page
    assert "--factor int64" in page
    assert "items" not in page
    assert "--limit int64" in micro("ticker", "ticks", "--help").out
