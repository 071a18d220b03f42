"""Notes of workers: lines that are read as those of services are, counts that the core keeps."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.host.asked import unknown
from microcosmos.functions.host.logs import MAX_BYTES, MAX_LINES, FunctionLogs
from microcosmos.functions.host.notes import NoteTaker
from microcosmos.functions.interface import Counts, Unit
from microcosmos.runtime.logs import Logs, LogsRequest

from ..plane import draft, opened


class Names:
    """What a worker has loaded: two versions of shop, and cart."""

    def __init__(self) -> None:
        self.slots = {1: ("micro", "shop"), 2: ("micro", "shop"), 3: ("dev", "cart")}

    def name(self, slot: int) -> tuple[str, str] | None:
        return self.slots.get(slot)

    def number(self, slot: int) -> int:
        return {1: 1, 2: 2, 3: 7}.get(slot, 0)

    async def unit(self, slot: int) -> Unit:
        raise unknown(slot)


def line(text: str, slot: int = 1, level: str = "info", **about: object) -> wire.Line:
    return wire.Line(slot=slot, level=level, text=text, time=1e9, **about)  # type: ignore[arg-type]


async def read(folder: Path, name: str) -> list[str]:
    logs = Logs(folder)
    logs.tend()
    answer = await logs.read(LogsRequest(name=name, lines=10_000))
    return [one.text for one in answer.lines]


async def nothing(*_: object) -> None:
    pass


async def test_lines_are_read_like_those_of_services(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    taker = NoteTaker(logs, nothing)
    lines = [
        line("hello"),
        line("two\nlines", level="error", trace="abc"),
        line("of another", slot=3),
        line("of nobody", slot=9),
        line("loud", level="SHOUT"),
    ]
    await taker.take("w1", Names(), wire.Notes(sequence=1, lines=lines))
    logs.close()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1e9))
    assert await read(tmp_path, "shop") == [
        f"{stamp} info    shop: hello",
        f"{stamp} error   shop: two",
        "lines trace=abc",
        f"{stamp} info    shop: loud",
    ]
    assert await read(tmp_path, "cart@dev") == [f"{stamp} info    cart: of another"]


async def test_lines_as_json(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path, "json")
    logs.write("micro", "shop", "warn", 'a "b"\n\x1b[0m', at=5.0, trace="abc")
    logs.close()
    (text,) = await read(tmp_path, "shop")
    assert json.loads(text) == {
        "timestamp": 5.0,
        "level": "warn",
        "logger": "shop",
        "message": 'a "b"\n\x1b[0m',
        "trace": "abc",
    }


async def test_what_a_terminal_would_obey_is_written_out(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    logs.write("micro", "shop", "info", "\x1b[2Jgone\r\tkept\ud800\x9b", trace="\x1b")
    logs.close()
    (text,) = await read(tmp_path, "shop")
    assert text.endswith("shop: \\x1b[2Jgone\\x0d\tkept?\\x9b trace=\\x1b")


async def test_a_flood_is_cut_each_second_and_said(tmp_path: Path) -> None:
    now = 100.5
    logs = FunctionLogs(tmp_path, clock=lambda: now)
    for number in range(MAX_LINES + 50):
        logs.write("micro", "shop", "info", f"{number}")
    logs.write("micro", "other", "info", "not flooding")
    now = 101.2
    logs.write("micro", "shop", "info", "next")
    logs.settle()
    lines = await read(tmp_path, "shop")
    assert len(lines) == MAX_LINES + 2
    assert "50 lines were dropped" in lines[-2]
    assert lines[-1].endswith("next")
    assert len(await read(tmp_path, "other")) == 1
    for _ in range(100):
        logs.write("micro", "shop", "info", "x" * 20_000)
    now = 102.0
    logs.settle()
    size = logs.path("micro", "shop").stat().st_size
    assert MAX_BYTES - 40_000 < size < MAX_BYTES + 150_000
    assert "lines were dropped" in (await read(tmp_path, "shop"))[-1]
    logs.close()


async def test_a_log_that_was_removed_begins_anew(tmp_path: Path) -> None:
    logs = FunctionLogs(tmp_path)
    logs.write("micro", "shop", "info", "old")
    Logs(tmp_path).forget("shop")
    logs.write("micro", "shop", "info", "new")
    (text,) = await read(tmp_path, "shop")
    assert text.endswith("new")
    logs.close()


async def test_a_folder_that_cannot_be_written_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logs = FunctionLogs(tmp_path / "nowhere")
    for _ in range(3):
        logs.write("micro", "shop", "info", "lost")
    logs.close()
    assert caplog.text.count("cannot be written") == 1


async def test_counts_are_told_by_versions_and_kept_by_the_core(tmp_path: Path) -> None:
    async with opened() as plane:
        admin = await plane.admin()
        await admin.deploy(draft("shop"))
        taker = NoteTaker(FunctionLogs(tmp_path), plane.platform.count)
        counts = {1: Counts(requests=2, response_bytes=10), 2: Counts(requests=3, errors=1)}
        await taker.take("w1", Names(), wire.Notes(sequence=1, counts=counts))
        found = await admin.consumption("shop", by="version")
        assert (found.requests, found.response_bytes, found.errors) == (5, 10, 1)
        assert [(row.version, row.counts.requests) for row in found.rows] == [("v2", 3), ("v1", 2)]


async def test_what_is_told_again_is_not_added_again(tmp_path: Path) -> None:
    """A host that died before it had answered: the next one is told the same."""
    async with opened() as plane:
        admin = await plane.admin()
        await admin.deploy(draft("shop"))
        counts = {1: Counts(requests=2)}
        notes = wire.Notes(sequence=1, counts=counts, lines=[line("once")])
        logs = FunctionLogs(tmp_path)
        first = NoteTaker(logs, plane.platform.count)
        await first.take("w1", Names(), notes)
        await first.take("w1", Names(), notes)
        assert len(await read(tmp_path, "shop")) == 1
        await NoteTaker(logs, plane.platform.count).take("w1", Names(), notes)
        assert (await admin.consumption("shop")).requests == 2
        more = wire.Notes(sequence=2, counts=counts)
        await first.take("w1", Names(), more)
        await first.take("w2", Names(), notes)
        assert (await admin.consumption("shop")).requests == 6
        logs.close()


async def test_counts_wait_for_a_core_that_is_away(tmp_path: Path) -> None:
    async with opened() as plane:
        admin = await plane.admin()
        await admin.deploy(draft("shop"))
        logs = FunctionLogs(tmp_path)
        taker = NoteTaker(logs, plane.platform.count)
        plane.network.cut(plane.server)
        notes = wire.Notes(sequence=1, counts={1: Counts(requests=2)}, lines=[line("at once")])
        taking = asyncio.create_task(taker.take("w1", Names(), notes))
        while not (tmp_path / "shop.0.log").exists():  # noqa: ASYNC110 - of a file nobody tells us
            await asyncio.sleep(0.001)
        assert not taking.done()
        assert taker.counting == 1
        plane.network.join(plane.server)
        async with asyncio.timeout(60):
            await taking
        assert (await admin.consumption("shop")).requests == 2
        assert taker.counting == 0
        logs.close()


async def test_counts_that_are_refused_for_ever_are_let_go(tmp_path: Path) -> None:
    async def refuse(*_: object) -> None:
        raise errors.BadRequest("functions", "no such form")

    taker = NoteTaker(FunctionLogs(tmp_path), refuse)
    async with asyncio.timeout(60):
        await taker.take("w1", Names(), wire.Notes(sequence=1, counts={1: Counts(requests=1)}))
