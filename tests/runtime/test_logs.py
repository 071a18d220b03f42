"""What replicas write: last lines, by time, followed, bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.runtime.logfile import LONGEST_LINE, LogFile
from microcosmos.runtime.logs import Logs, LogsRequest, last_lines

CLOCK = 1_700_000_000.0


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


async def texts(logs: Logs, request: LogsRequest) -> list[str]:
    return [line.text for line in (await logs.read(request)).lines]


async def test_the_last_lines(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    append(logs.path("svc", 0), "".join(f"line {number}\n" for number in range(5000)))
    assert await texts(logs, LogsRequest(name="svc", lines=2)) == ["line 4998", "line 4999"]
    assert len(await texts(logs, LogsRequest(name="svc"))) == 15
    assert await texts(logs, LogsRequest(name="svc", lines=0)) == []
    assert len(await texts(logs, LogsRequest(name="svc", lines=10_000))) == 5000
    append(logs.path("svc", 0), "unfinished")
    assert await texts(logs, LogsRequest(name="svc", lines=2)) == ["line 4999", "unfinished"]
    assert await texts(logs, LogsRequest(name="none")) == []
    for bad in [-1, 10_001]:
        with pytest.raises(errors.BadRequest, match="lines"):
            await logs.read(LogsRequest(name="svc", lines=bad))


async def test_names_that_begin_alike_are_kept_apart(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    for name in ["v1", "v1.foo", "v1.0", "v"]:
        append(logs.path(name, 0), f"{name}\n")
    append(logs.path("v1", "build"), "built\n")
    append(tmp_path / "core.log", "not a service\n")
    for name in ["v1", "v1.foo", "v1.0", "v"]:
        assert await texts(logs, LogsRequest(name=name)) == [name]
    assert await texts(logs, LogsRequest(name="v1", build=True)) == ["built"]
    logs.tend()
    logs.forget("v1")
    assert await texts(logs, LogsRequest(name="v1.foo")) == ["v1.foo"]
    assert [path.name for path in tmp_path.glob("v1.*")] != []
    assert not logs.path("v1", 0).exists()
    assert logs.path("v1.0", 0).exists()


async def test_since_and_the_order_of_replicas(tmp_path: Path) -> None:
    clock = ManualClock(CLOCK)
    logs = Logs(tmp_path, clock)
    for second in range(6):
        append(logs.path("svc", second % 2), f"at {second}\n")
        logs.tend()
        await clock.advance(1)
    answer = await logs.read(LogsRequest(name="svc"))
    assert [line.text for line in answer.lines] == [f"at {second}" for second in range(6)]
    assert [line.replica for line in answer.lines] == ["0", "1"] * 3
    assert [line.time for line in answer.lines] == [CLOCK + second for second in range(6)]
    assert await texts(logs, LogsRequest(name="svc", since=CLOCK + 4)) == ["at 4", "at 5"]
    assert await texts(logs, LogsRequest(name="svc", since=CLOCK + 100)) == []
    # The times are known to the next core too.
    again = Logs(tmp_path, clock)
    assert await texts(again, LogsRequest(name="svc", since=CLOCK + 4)) == ["at 4", "at 5"]


async def test_following_gives_each_whole_line_once(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    append(logs.path("svc", 0), "one\ntwo\nthr")
    answer = await logs.read(LogsRequest(name="svc", lines=1, wait=1))
    assert [line.text for line in answer.lines] == ["two"]
    cursor = answer.cursor

    async def later() -> None:
        await asyncio.sleep(0)
        append(logs.path("svc", 0), "ee\n")
        append(logs.path("svc", 1), "another replica\n")

    writing = asyncio.create_task(later())
    seen: set[str] = set()
    while len(seen) < 2:
        answer = await logs.read(LogsRequest(name="svc", cursor=cursor, wait=10))
        seen |= {line.text for line in answer.lines}
        cursor = answer.cursor
    await writing
    assert seen == {"three", "another replica"}
    assert (await logs.read(LogsRequest(name="svc", cursor=cursor))).lines == []


async def test_following_begins_before_there_is_a_log(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    reading = asyncio.create_task(logs.read(LogsRequest(name="svc", wait=10)))
    await asyncio.sleep(0)
    append(logs.path("svc", 0), "first\n")
    assert [line.text for line in (await reading).lines] == ["first"]


@pytest.mark.parametrize("cursor", ["x", "0:", "0:-1", "../a:1", "0:1,", "a:1"])
async def test_a_bad_cursor_is_refused(tmp_path: Path, cursor: str) -> None:
    with pytest.raises(errors.BadRequest, match="cursor"):
        await Logs(tmp_path).read(LogsRequest(name="svc", cursor=cursor))


async def test_a_cursor_beyond_the_end_is_harmless(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    append(logs.path("svc", 0), "one\n")
    answer = await logs.read(LogsRequest(name="svc", cursor=f"0:{10**18}"))
    assert answer.lines == []
    assert answer.cursor == "0:4"


async def test_bytes_that_are_no_text_and_endless_lines(tmp_path: Path) -> None:
    logs = Logs(tmp_path)
    logs.path("svc", 0).write_bytes(b"\xff\xfe\0\n" + b"x" * 100_000)
    (first, second) = await texts(logs, LogsRequest(name="svc"))
    assert first == "\ufffd\ufffd\0"
    assert second == "x" * LONGEST_LINE
    assert len(await texts(logs, LogsRequest(name="svc", wait=1))) == 2


async def test_a_log_stays_bounded_while_its_writer_goes_on(tmp_path: Path) -> None:
    logs = Logs(tmp_path, rotate=1000)
    path = logs.path("svc", 0)
    cursor, seen = "-", []
    # One writer with the file open all the time, as a real one.
    with path.open("a", buffering=1) as writer:
        for number in range(300):
            writer.write(f"line {number}\n")
            if number % 10 == 0:
                logs.tend()
                answer = await logs.read(LogsRequest(name="svc", cursor=cursor))
                cursor = answer.cursor
                seen += [line.text for line in answer.lines]
                assert path.stat().st_size <= 1100
    answer = await logs.read(LogsRequest(name="svc", cursor=cursor))
    seen += [line.text for line in answer.lines]
    assert seen == [f"line {number}" for number in range(300)]
    assert sum(file.stat().st_size for file in tmp_path.glob("*.log*")) < 6000
    # The last lines reach back into the part before.
    assert await texts(logs, LogsRequest(name="svc", lines=100)) == seen[-100:]
    # A cursor of long ago goes on at the oldest line that is still there.
    (oldest, *_) = await texts(logs, LogsRequest(name="svc", cursor="0:0"))
    assert oldest in seen[1:]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.one_of(st.integers(0, 40), st.just("tend"), st.just("reload")), max_size=40),
    st.integers(0, 60),
)
def test_a_file_reads_like_the_whole_of_what_was_written(
    steps: list[int | str], lines: int
) -> None:
    """Against the plain model: one long text, of which only the end is kept."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "svc.0.log")
        path.touch()
        file, model, written = LogFile(path), b"", 0
        for step in steps:
            if step == "tend":
                file.tend(float(len(model)), 100)
            elif step == "reload":
                file = LogFile(path)
            else:
                text = f"{written}" + "x" * int(step) + "\n"
                append(path, text)
                model += text.encode()
                written += 1
        start, data = file.after(0, 10**6)
        assert model[start:] == data
        start, data = file.last(lines, 0, 10**6)
        assert model[start:] == data
        assert data.count(b"\n") <= lines
        middle = len(model) - len(data) // 2
        assert file.after(middle, 10**6) == (middle, model[middle:])


def test_the_last_lines_that_say_something(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert last_lines(path) == []
    path.write_text("old\n\n new  \n\n")
    assert last_lines(path) == ["old", " new"]
    assert last_lines(path, start=4) == [" new"]
    assert last_lines(path, start=400) == ["old", " new"]
    path.write_text("x\n" * 100_000 + "end")
    assert last_lines(path, count=2) == ["x", "end"]


async def test_logs_are_tended_again_after_a_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(CLOCK)
    logs = Logs(tmp_path, clock)
    append(logs.path("svc", 0), "one\n")
    marks = tmp_path / "svc.0.log.marks"
    # What cannot be written now, as on a full disk, may be written later.
    marks.mkdir()
    keeping = asyncio.create_task(logs.keep())
    async with asyncio.timeout(60):
        while "could not be tended" not in caplog.text:  # noqa: ASYNC110 - a thread says it
            await asyncio.sleep(0.005)
        marks.rmdir()
        while not marks.exists():
            append(logs.path("svc", 0), "more\n")
            await clock.advance(1)
            await asyncio.sleep(0.005)
    keeping.cancel()
    assert caplog.records[0].exc_info is None
