"""Placement: which worker runs what, with a real zygote and workers that do what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import context, errors
from microcosmos.base.home import Home
from microcosmos.functions import wire
from microcosmos.functions.calling import Caller
from microcosmos.functions.host import owners, upkeep
from microcosmos.functions.host.placement import Placement
from microcosmos.functions.host.worker import Worker
from microcosmos.functions.interface import Counts, Live, Share, Unit
from microcosmos.functions.lines import Lines, Lost
from microcosmos.functions.workers import Place, Where
from microcosmos.functions.zygote.client import ZygoteClient

from .zygotes import lives, peers, until, until_living


def where(name: str, number: int = 1, namespace: str = "micro") -> Where:
    return Where(namespace, name, number, f"{namespace}/{name}/{number}")


class Core:
    """Keeps units: a function belongs to what its name begins with, ``alice-shop``."""

    def __init__(self) -> None:
        self.asked: list[Where] = []
        self.codes: dict[str, str] = {}
        self.engines: dict[str, Any] = {}

    async def unit(self, where: Where) -> Unit:
        self.asked.append(where)
        await asyncio.sleep(0)
        if where.name == "absent":
            raise errors.NotFound("functions", "there is no such version")
        return Unit(
            namespace=where.namespace,
            name=where.name,
            number=where.number,
            key=where.key,
            owner=where.name.partition("-")[0],
            language="javascript",
            form="handler",
            engine=self.engines.get(where.name, "quickjs"),
            main="index.js",
            code=self.codes.get(where.name, ""),
        )


class Hosting:
    """A host's placement, and a gateway's caller beside it."""

    def __init__(self, placement: Placement, caller: Caller, core: Core) -> None:
        self.placement = placement
        self.caller = caller
        self.core = core

    async def run(self, at: Where, head: str = "pid", *, safe: bool = False) -> bytes:
        payload = await self.caller.run(at, head.encode(), b"", timeout=60, safe=safe)
        return wire.unpack_reply(payload)[3]

    async def place(self, *names: str) -> list[Place]:
        return [(await self.placement.place(where(name)))[0] for name in names]

    def running(self) -> set[str]:
        return {key for worker in self.placement.workers for key in worker.running}


@contextlib.asynccontextmanager
async def hosting(zygote: ZygoteClient, **options: Any) -> AsyncIterator[Hosting]:
    core = Core()
    async with (
        Lines() as lines,
        Placement(zygote, lines, core.unit, **options) as placed,
        Caller(placed) as caller,
    ):
        yield Hosting(placed, caller, core)


@contextlib.asynccontextmanager
async def host(**options: Any) -> AsyncIterator[tuple[Hosting, Home, ZygoteClient]]:
    async with peers() as (home, zygote), hosting(zygote, **options) as hosted:
        yield hosted, home, zygote


class TestPlaces:
    async def test_functions_of_one_owner_share_a_worker_and_nobody_else_does(self) -> None:
        async with host() as (hosted, _, _):
            places = await hosted.place("alice-a", "alice-b", "bob-a")
            elsewhere = (await hosted.placement.place(where("alice-a", namespace="other")))[0]
            hosted.core.engines["alice-c"] = "deno"
            deno = (await hosted.place("alice-c"))[0]
            assert places[0].pid == places[1].pid
            assert places[0].slot != places[1].slot
            assert len({places[0].pid, places[2].pid, elsewhere.pid, deno.pid}) == 4

    async def test_many_first_requests_share_one_load(self) -> None:
        async with host() as (hosted, _, _):
            at = where("alice-a")
            places = await asyncio.gather(*(hosted.placement.place(at) for _ in range(50)))
            assert len({place.pid for (place,) in places}) == 1
            assert hosted.core.asked == [at]

    async def test_many_functions_at_once_start_one_worker(self) -> None:
        async with host() as (hosted, _, zygote):
            wheres = [where(f"alice-{number}") for number in range(50)]
            await asyncio.gather(*(hosted.placement.place(at) for at in wheres))
            assert len(await zygote.living()) == 1

    async def test_errors_are_those_of_who_knows(self) -> None:
        async with host() as (hosted, _, _):
            with pytest.raises(errors.NotFound, match="no such version"):
                await hosted.run(where("absent"))
            hosted.core.codes["alice-broken"] = "broken"
            for _ in range(3):
                with pytest.raises(errors.InternalServerError) as caught:
                    await hosted.run(where("alice-broken"))
                assert caught.value.id == "functions.load"
            assert len(hosted.core.asked) == 2, "what fails is not loaded again at once"

    async def test_why_code_cannot_be_loaded_is_for_its_log_alone(self) -> None:
        told: list[tuple[str, str, str]] = []

        def tell(unit: Unit, level: str, text: str, trace: str) -> None:
            told.append((unit.name, level, text))

        async with host(tell=tell) as (hosted, _, _):
            hosted.core.codes["alice-broken"] = "broken"
            for _ in range(2):
                with pytest.raises(errors.InternalServerError) as caught:
                    await hosted.run(where("alice-broken"))
                detail = "function alice-broken could not be loaded; its log says why"
                assert caught.value.detail == detail
            assert told == [("alice-broken", "error", "broken")]

    async def test_nothing_of_the_first_request_is_anybody_elses(self) -> None:
        async with host() as (hosted, _, _):
            seen: list[float | None] = []
            units = hosted.core.unit

            async def unit(at: Where) -> Unit:
                seen.append(context.current().remaining())
                return await units(at)

            hosted.placement._units = unit
            context.set_current(context.Unasked(context.Metadata(), time.monotonic() + 10))
            await hosted.place("alice-a")
            assert seen == [None], "a deadline would end the load for all who wait for it"

    async def test_code_that_kills_its_worker_is_slowed_down(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with host() as (hosted, _, _):
            hosted.core.codes["alice-deadly"] = "deadly"
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                with pytest.raises(errors.Unavailable):
                    await hosted.run(where("alice-deadly"))
            deaths = [one for one in caplog.records if "has ended" in one.getMessage()]
            assert owners.FREE_DEATHS <= len(deaths) < 10
            assert await hosted.run(where("bob-a"))

    async def test_a_worker_that_cannot_be_started_is_an_error(self) -> None:
        async with host() as (hosted, _, _):
            hosted.core.engines["alice-a"] = "wasm"
            with pytest.raises(errors.Unavailable, match="no kind of worker"):
                await hosted.run(where("alice-a"))

    async def test_sources_are_checked_in_a_worker_of_their_own(self) -> None:
        async with host() as (hosted, _, zygote):
            place = (await hosted.place("alice-a"))[0]
            checked = await hosted.placement.check(wire.Source(file="a.js", code="1"))
            assert checked.form == "handler"
            pids = {worker.pid for worker in await zygote.living()}
            assert len(pids) == 2
            assert place.pid in pids
            for worker in await zygote.living():
                if worker.pid != place.pid:
                    os.kill(worker.pid, signal.SIGKILL)
            assert (await hosted.placement.check(wire.Source(file="a.js", code="1"))).form
            with pytest.raises(errors.BadRequest, match="'cobol' is none"):
                await hosted.placement.check(wire.Source(file="a", code="", language="cobol"))


class TestDeath:
    async def test_a_worker_that_dies_is_replaced(self) -> None:
        async with host() as (hosted, _, _):
            at = where("alice-a")
            first = int(await hosted.run(at))
            with pytest.raises(Lost):
                await hosted.run(at, "die")
            second = int(await hosted.run(at))
            assert first != second
            await until(lambda: not lives(first))
            assert lives(second)

    async def test_a_worker_that_cannot_be_talked_to_is_killed(self) -> None:
        async with host() as (hosted, _, _):
            at = where("alice-a")
            pid = int(await hosted.run(at))
            worker = hosted.placement.workers[0]
            worker.line.abort()
            await until(lambda: not lives(pid))
            assert int(await hosted.run(at)) != pid

    async def test_one_that_hangs_is_killed_within_100_ms_of_its_limit(self) -> None:
        async with host() as (hosted, _, _):
            at, other = where("alice-a"), where("bob-a")
            pid, neighbour = int(await hosted.run(at)), await hosted.run(other)
            began = time.monotonic()
            with pytest.raises(errors.Unavailable) as caught:
                await hosted.run(at, "burn 30", safe=True)
            took = time.monotonic() - began
            assert caught.value.id == "functions.limit.cpu"
            await until(lambda: not lives(pid))
            # Beside other tests a processor is not always to be had; it would burn for 30 s.
            assert took < 20
            assert await hosted.run(other) == neighbour

    async def test_one_that_is_only_slow_is_let_live(self) -> None:
        async with host() as (hosted, _, _):
            at = where("alice-a")
            pid = await hosted.run(at)
            for head in ("block 0.3", "wait 0.3", "burn 0.04"):
                await hosted.run(at, head)
            assert await hosted.run(at) == pid

    async def test_the_loss_of_the_zygote_is_the_loss_of_all(self) -> None:
        async with host() as (hosted, _, _):
            at = where("alice-a")
            pid = int(await hosted.run(at))
            parent = int(Path(f"/proc/{pid}/stat").read_text().split()[3])
            os.kill(parent, signal.SIGKILL)
            await until(lambda: not hosted.placement.workers)
            await until(lambda: not lives(pid))


class TestRoom:
    async def test_what_nobody_uses_is_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quick(monkeypatch)
        async with host() as (hosted, _, _):
            for name in ("alice-a", "alice-b"):
                await hosted.run(where(name))
            pid = hosted.placement.workers[0].pid
            monkeypatch.setattr(upkeep, "IDLE", 0.5)
            async with asyncio.timeout(60):
                while "micro/alice-b/1" in hosted.running():
                    hosted.placement.noted(hosted.placement.workers[0].id, used(1))
                    await asyncio.sleep(0.01)
            assert hosted.running() == {"micro/alice-a/1"}
            # A request finds out by itself.
            assert int(await hosted.run(where("alice-b"))) == pid
            assert hosted.running() == {"micro/alice-a/1", "micro/alice-b/1"}

    async def test_a_worker_without_anything_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quick(monkeypatch)
        async with host() as (hosted, _, zygote):
            pid = int(await hosted.run(where("alice-a")))
            monkeypatch.setattr(upkeep, "IDLE", 0.05)
            monkeypatch.setattr(upkeep, "EMPTY_IDLE", 0.05)
            await until_living(zygote, 0)
            monkeypatch.setattr(upkeep, "IDLE", 60)
            assert int(await hosted.run(where("alice-a"))) != pid

    async def test_what_a_worker_has_lost_is_loaded_again(self) -> None:
        async with host() as (hosted, _, _):
            at = where("alice-a")
            pid = await hosted.run(at)
            worker = hosted.placement.workers[0]
            await worker.line.ask(wire.DROP, wire.encode(wire.Slot(1)), 5)
            assert await hosted.run(at) == pid
            assert len(hosted.core.asked) == 2
            assert await hosted.run(at) == pid

    async def test_what_was_used_longest_ago_makes_room(self) -> None:
        async with host(memory=10_000) as (hosted, _, _):
            for number in range(10):
                await hosted.run(where(f"alice-{number}"))
            hosted.placement.noted(hosted.placement.workers[0].id, used(1))
            # Each takes 1000 bytes, says the peer.
            await hosted.run(where("alice-10"))
            assert "micro/alice-0/1" in hosted.running()
            assert "micro/alice-1/1" not in hosted.running()
            assert "micro/alice-10/1" in hosted.running()
            assert len(hosted.running()) == 9
            await hosted.run(where("alice-1"))
            assert "micro/alice-1/1" in hosted.running()

    async def test_heaps_that_grow_are_noticed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        quick(monkeypatch)
        async with host(memory=100_000) as (hosted, _, _):
            for number in range(3):
                await hosted.run(where(f"alice-{number}"))
            worker = hosted.placement.workers[0].id
            hosted.placement.noted(worker, wire.Notes(sequence=1, heaps={2: 99_500}))
            hosted.placement.noted("1-1.5", wire.Notes(sequence=1, heaps={2: 99_500}))
            await until(lambda: len(hosted.running()) == 1)
            assert hosted.running() == {"micro/alice-2/1"}

    async def test_a_full_heap_is_left_for_a_fresh_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quick(monkeypatch)
        monkeypatch.setattr(upkeep, "RECYCLE_EVERY", 0.0)
        async with host(heaps={"quickjs": 100_000}) as (hosted, _, _):
            at = where("alice-a")
            pid = int(await hosted.run(at))
            slow = asyncio.create_task(hosted.run(at, "wait 2"))
            await asyncio.sleep(0)
            notes = wire.Notes(sequence=1, heaps={1: 80_000})
            hosted.placement.noted(hosted.placement.workers[0].id, notes)
            async with asyncio.timeout(60):
                while int(await hosted.run(at, "pid")) == pid:
                    await hosted.run(at, "wait 0.005")
            assert not slow.done()
            assert await slow == b""
            await until(lambda: not lives(pid))


class TestNews:
    async def test_a_new_version_of_a_warm_function_is_loaded_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quick(monkeypatch)
        monkeypatch.setattr(upkeep, "OLD_IDLE", 0.1)
        async with host() as (hosted, _, _):
            await hosted.run(where("alice-a"))
            hosted.placement.changed("micro", "alice-a", live("alice-a", 2))
            await until(lambda: "micro/alice-a/2" in hosted.running())
            await until(lambda: hosted.running() == {"micro/alice-a/2"})
            hosted.placement.changed("micro", "alice-a", None)
            await until(lambda: not hosted.running())

    async def test_one_of_a_cold_function_is_not(self) -> None:
        async with host() as (hosted, _, _):
            hosted.placement.changed("micro", "alice-a", live("alice-a", 1))
            await hosted.run(where("alice-b"))
            assert hosted.running() == {"micro/alice-b/1"}
            assert len(hosted.core.asked) == 1

    async def test_an_old_one_that_is_live_again_stays(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quick(monkeypatch)
        async with host() as (hosted, _, _):
            await hosted.run(where("alice-a"))
            hosted.placement.changed("micro", "alice-a", live("alice-a", 2))
            hosted.placement.changed("micro", "alice-a", live("alice-a", 1, 2))
            await until(lambda: "micro/alice-a/2" in hosted.running())
            monkeypatch.setattr(upkeep, "OLD_IDLE", 0.0)
            await asyncio.sleep(0.05)
            assert hosted.running() == {"micro/alice-a/1", "micro/alice-a/2"}

    async def test_one_that_cannot_be_loaded_leaves_the_old_one_alone(self) -> None:
        async with host() as (hosted, _, _):
            await hosted.run(where("alice-a"))
            hosted.core.codes["alice-a"] = "broken"
            hosted.placement.changed("micro", "alice-a", live("alice-a", 2))
            with pytest.raises(errors.InternalServerError):
                await hosted.run(where("alice-a", 2))
            assert await hosted.run(where("alice-a"))


class TestSpreading:
    async def test_a_busy_owner_gets_another_worker_and_loses_it_when_calm(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upkeep, "SWEEP", 0.05)
        monkeypatch.setattr(upkeep, "BUSY_FOR", 0.1)
        monkeypatch.setattr(upkeep, "BUSY", 0.2)
        monkeypatch.setattr("microcosmos.functions.calling.REFRESH", 0.05)
        async with host(cores=2) as (hosted, _, zygote):
            at = where("alice-a")
            pids: set[bytes] = set()
            async with asyncio.timeout(60):
                while len(pids) < 2:
                    await hosted.run(at, "burn 0.02")
                    # Two, as workers take turns.
                    pids |= {await hosted.run(at), await hosted.run(at)}
            assert len(await zygote.living()) == 2
            hosted.placement.changed("micro", "alice-a", live("alice-a", 2))
            await until(
                lambda: all("micro/alice-a/2" in one.running for one in hosted.placement.workers)
            )
            monkeypatch.setattr(upkeep, "CALM_FOR", 0.1)
            async with asyncio.timeout(10):
                while len(await zygote.living()) > 1:
                    await hosted.run(at)
                    await asyncio.sleep(0.02)
            assert await hosted.run(at) in pids

    async def test_on_one_core_it_does_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upkeep, "SWEEP", 0.05)
        monkeypatch.setattr(upkeep, "BUSY_FOR", 0.05)
        monkeypatch.setattr(upkeep, "BUSY", 0.2)
        async with host(cores=1) as (hosted, _, zygote):
            for _ in range(20):
                await hosted.run(where("alice-a"), "burn 0.02")
            assert len(await zygote.living()) == 1


class TestTheNextHost:
    async def test_it_finds_what_is_warm(self) -> None:
        async with peers() as (_, zygote), Gateway() as gateway:
            async with hosting(zygote) as first:
                gateway.placing = first.placement
                names = ("alice-a", "alice-b", "bob-a")
                before = [await gateway.run(where(name)) for name in names]
            # Without any host, what is warm goes on.
            gateway.placing = None
            assert [await gateway.run(where(name)) for name in names] == before
            async with hosting(zygote) as second:
                gateway.placing = second.placement
                assert second.running() == {where(name).key for name in names}
                assert [await second.run(where(name)) for name in names] == before
                assert [await gateway.run(where(name)) for name in names] == before
                assert second.core.asked == []
                worker = next(one for one in second.placement.workers if len(one.running) == 2)
                assert worker.name(1) == ("micro", "alice-a")
                assert (await worker.unit(1)).owner == "alice"
                assert await second.run(where("alice-c")) == before[0]

    async def test_it_ends_what_does_not_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("microcosmos.functions.host.worker._VERB_LIMIT", 0.1)
        async with peers() as (_, zygote):
            worker = await zygote.start("quickjs", "micro/alice")
            os.kill(worker.pid, signal.SIGSTOP)
            async with hosting(zygote) as hosted:
                await until(lambda: not lives(worker.pid))
                assert await hosted.run(where("alice-a"))

    async def test_workers_know_whom_to_ask(self) -> None:
        asked: list[tuple[str, Worker]] = []

        class Silent:
            def __init__(self, send: Any, slots: Any, worker: str) -> None:
                asked.append((worker, slots))

            def received(self, kind: int, stream: int, payload: bytes) -> None:
                pass

            def lost(self) -> None:
                asked.append(("lost", None))  # type: ignore[arg-type]

        async with host(asking=Silent) as (hosted, _, _):
            await hosted.run(where("alice-a"))
            worker = hosted.placement.workers[0]
            assert asked == [(worker.id, worker)]
            assert worker.name(1) == ("micro", "alice-a")
            assert worker.name(2) is None
            with pytest.raises(errors.NotFound):
                await worker.unit(2)
            os.kill(worker.pid, signal.SIGKILL)
            await until(lambda: len(asked) == 2)


class Gateway:
    """Another process' caller, which outlives hosts."""

    def __init__(self) -> None:
        self.placing: Placement | None = None

    async def __aenter__(self) -> Gateway:
        self.caller = await Caller(self).__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.caller.__aexit__(None, None, None)

    async def place(self, at: Where) -> list[Place]:
        if self.placing is None:
            raise errors.Unavailable("workers", "no replica of workers is alive")
        return await self.placing.place(at)

    async def suspect(self, suspicion: Any) -> Any:
        raise errors.Unavailable("workers", "no replica of workers is alive")

    async def run(self, at: Where) -> bytes:
        return wire.unpack_reply(await self.caller.run(at, b"pid", timeout=60))[3]


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "SWEEP", 0.01)


def used(*slots: int) -> wire.Notes:
    return wire.Notes(sequence=1, counts={slot: Counts(requests=1) for slot in slots})


def live(name: str, *numbers: int) -> Live:
    shares = [
        Share(number=number, key=where(name, number).key, engine="quickjs") for number in numbers
    ]
    return Live(namespace="micro", name=name, owner="alice", shares=shares)
