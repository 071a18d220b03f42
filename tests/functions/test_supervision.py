"""Supervision: who is to blame for a worker that hangs or dies, and what becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.functions import cpu, wire
from microcosmos.functions.calling import Caller
from microcosmos.functions.host import upkeep
from microcosmos.functions.host.faults import Fault
from microcosmos.functions.host.placement import Placement
from microcosmos.functions.interface import Limits, Unit
from microcosmos.functions.lines import Lines, Lost
from microcosmos.functions.workers import Where
from microcosmos.functions.zygote.client import ZygoteClient
from microcosmos.functions.zygote.messages import Exit

from .zygotes import lives, peers, until


def where(name: str, number: int = 1) -> Where:
    return Where("micro", name, number, f"micro/{name}/{number}")


class Core:
    """Keeps units and strikes: a function belongs to what its name begins with, ``alice-shop``."""

    def __init__(self) -> None:
        self.codes: dict[str, str] = {}
        self.engines: dict[str, Any] = {}
        self.more: dict[str, dict[str, Any]] = {}
        self.strikes: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.refused = False
        self.asked = 0

    async def unit(self, where: Where) -> Unit:
        self.asked += 1
        name = where.name
        if self.refused:
            error = errors.Unavailable("functions.quarantine", "it has 2 strikes")
            error.retry_after = 30.0
            raise error
        return Unit(
            namespace=where.namespace,
            name=name,
            number=where.number,
            key=where.key,
            owner=name.partition("-")[0],
            language="javascript",
            form="handler",
            engine=self.engines.get(name, "quickjs"),
            main="index.js",
            code=self.codes.get(name, ""),
            strikes=self.strikes.get(name, 0),
            **self.more.get(name, {}),
        )

    async def blame(self, fault: Fault) -> None:
        await asyncio.sleep(0.01)
        self.faults.append(fault)
        self.strikes[fault.where.name] = self.strikes.get(fault.where.name, 0) + 1

    @property
    def blamed(self) -> list[str]:
        return sorted(fault.where.name for fault in self.faults)


class Hosting:
    """A host's placement, and the caller of a gateway with lines of its own."""

    def __init__(self, placement: Placement, caller: Caller, core: Core, zygote: ZygoteClient):
        self.placement = placement
        self.caller = caller
        self.core = core
        self.zygote = zygote

    async def run(self, name: str, head: str = "pid", *, safe: bool = False) -> bytes:
        payload = await self.caller.run(where(name), head.encode(), b"", timeout=20, safe=safe)
        return wire.unpack_reply(payload)[3]

    async def pid(self, name: str) -> int:
        return int(await self.run(name))

    def begin(self, name: str, head: str, *, safe: bool = False) -> asyncio.Task[bytes]:
        return asyncio.create_task(self.run(name, head, safe=safe))


@contextlib.asynccontextmanager
async def host(**options: Any) -> AsyncIterator[Hosting]:
    core = Core()
    async with (
        peers() as (_, zygote),
        Lines() as lines,
        Placement(zygote, lines, core.unit, blame=core.blame, **options) as placed,
        Caller(placed) as caller,
    ):
        yield Hosting(placed, caller, core, zygote)


async def sent(*requests: asyncio.Task[bytes]) -> None:
    """Wait until requests are on their way."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(request.done() for request in requests)


class TestHangs:
    async def test_the_guilty_is_named_and_the_others_are_run_again(self) -> None:
        async with host() as hosted:
            first = await hosted.pid("alice-bad")
            assert await hosted.pid("alice-good") == first
            safe = hosted.begin("alice-good", "wait 0.2", safe=True)
            unsafe = hosted.begin("alice-good", "wait 0.2")
            await sent(safe, unsafe)
            with pytest.raises(errors.Unavailable) as caught:
                await hosted.run("alice-bad", "burn 30", safe=True)
            assert caught.value.id == "functions.limit.cpu"
            assert "ended here after" in caught.value.detail
            assert "50 ms are allowed" in caught.value.detail
            assert await safe == b""
            with pytest.raises(Lost, match="because of another function of its owner"):
                await unsafe
            await until(lambda: hosted.core.faults)
            (fault,) = hosted.core.faults
            assert (fault.where.name, fault.kind, fault.suspected) == (
                "alice-bad",
                "limit.cpu",
                False,
            )
            assert (fault.requests, fault.unit is not None) == (1, True)
            assert 0.05 < fault.cpu < 1.0
            # It runs again, but where it harms nobody.
            shared = await hosted.pid("alice-good")
            assert await hosted.pid("alice-bad") != shared
            assert await hosted.pid("alice-good") == shared
            assert not lives(first)

    async def test_it_is_killed_within_100_ms_of_the_limit_whatever_the_others_may(self) -> None:
        async with host() as hosted:
            hosted.core.more["alice-may"] = {"limits": Limits(cpu=20.0)}
            pid = await hosted.pid("alice-bad")
            assert await hosted.pid("alice-may") == pid
            exits: list[Exit] = []
            told = hosted.zygote._exited
            hosted.zygote.listen(
                lambda exit: (exits.append(exit), told(exit))[1], hosted.zygote._lost
            )
            waiting = hosted.begin("alice-may", "wait 1", safe=True)
            await sent(waiting)
            before = cpu.used(pid)
            with pytest.raises(errors.Unavailable):
                await hosted.run("alice-bad", "burn 30")
            (exit,) = exits
            # By the clock of the worker; it is 0.1 s where processors are to be had at once.
            assert 0.05 < exit.cpu - before < 0.05 + 0.3
            assert await waiting == b""

    async def test_one_that_may_use_more_is_let_live(self) -> None:
        async with host() as hosted:
            hosted.core.more["alice-may"] = {"limits": Limits(cpu=20.0)}
            pid = await hosted.pid("alice-may")
            await hosted.run("alice-may", "burn 0.5")
            assert await hosted.pid("alice-may") == pid
            assert not hosted.core.faults

    async def test_of_several_all_are_suspects_where_nobody_tells_until_one_is_alone(self) -> None:
        async with host() as hosted:
            names = ("alice-bad", "alice-one", "alice-two", "alice-idle")
            hosted.core.engines = dict.fromkeys(names, "monty")
            (first,) = {await hosted.pid(name) for name in names}
            others = [
                hosted.begin(name, "wait 0.05", safe=True) for name in ("alice-one", "alice-two")
            ]
            await sent(*others)
            with pytest.raises(errors.Unavailable) as caught:
                await hosted.run("alice-bad", "burn 30", safe=True)
            # It was run once more, where it was alone, and was seen to be the one.
            assert caught.value.id == "functions.limit.cpu"
            assert [await other for other in others] == [b"", b""]
            await until(lambda: len(hosted.core.faults) == 4)
            assert hosted.core.blamed == ["alice-bad", "alice-bad", "alice-one", "alice-two"]
            assert [one.suspected for one in hosted.core.faults] == [True, True, True, False]
            assert len({await hosted.pid(name) for name in names}) == 4
            assert not lives(first)


class TestLoading:
    async def test_a_slow_load_harms_nobody(self) -> None:
        async with host() as hosted:
            pid = await hosted.pid("alice-good")
            hosted.core.codes["alice-slow"] = "burn 0.5"
            waiting = hosted.begin("alice-good", "wait 0.1")
            await sent(waiting)
            assert await hosted.pid("alice-slow") == pid
            assert await waiting == b""
            assert not hosted.core.faults

    async def test_an_endless_one_is_ended_and_alone_guilty(self) -> None:
        async with host() as hosted:
            pid = await hosted.pid("alice-good")
            hosted.core.codes["alice-endless"] = "burn 30"
            loading = hosted.begin("alice-endless", "pid", safe=True)
            await until(lambda: any(one.loading for one in hosted.placement.workers))
            waiting = hosted.begin("alice-good", "wait 0.01", safe=True)
            with pytest.raises(errors.Unavailable) as caught:
                await loading
            assert caught.value.id == "functions.limit.cpu"
            assert "1 s are allowed" in caught.value.detail
            assert await waiting == b""
            await until(lambda: hosted.core.blamed == ["alice-endless"])
            assert await hosted.pid("alice-good") != pid


class TestDeaths:
    async def test_a_crash_is_a_strike_and_not_tried_again(self) -> None:
        async with host() as hosted:
            first = await hosted.pid("alice-bad")
            await hosted.pid("alice-good")
            other = hosted.begin("alice-good", "wait 0.05", safe=True)
            await sent(other)
            with pytest.raises(errors.Unavailable) as caught:
                await hosted.run("alice-bad", "exit 3", safe=True)
            assert (caught.value.id, type(caught.value)) == ("functions.lost", errors.Unavailable)
            assert "with status 3" in caught.value.detail
            assert await other == b""
            await until(lambda: hosted.core.faults)
            (fault,) = hosted.core.faults
            assert (fault.where.name, fault.kind, fault.suspected) == ("alice-bad", "lost", False)
            assert await hosted.pid("alice-bad") != await hosted.pid("alice-good")
            assert not lives(first)

    async def test_a_kill_from_outside_is_only_a_suspicion(self) -> None:
        async with host() as hosted:
            pid = await hosted.pid("alice-bad")
            await hosted.pid("alice-good")
            with pytest.raises(Lost):
                await hosted.run("alice-bad", "die", safe=True)
            # Once with the others, and once alone.
            await until(lambda: len(hosted.core.faults) == 2)
            assert [one.suspected for one in hosted.core.faults] == [True, True]
            assert hosted.core.blamed == ["alice-bad", "alice-bad"]
            assert not lives(pid)
            assert await hosted.pid("alice-good")

    async def test_nobody_gets_away_by_a_friendly_end(self) -> None:
        async with host() as hosted:
            with pytest.raises(errors.Unavailable, match="which died with status 0"):
                await hosted.run("alice-bad", "exit 0", safe=True)
            await until(lambda: hosted.core.blamed == ["alice-bad"])

    async def test_what_ran_just_now_is_suspected_of_a_crash_between_requests(self) -> None:
        async with host() as hosted:
            hosted.core.engines = dict.fromkeys(("alice-bad", "alice-good"), "monty")
            pid = await hosted.pid("alice-bad")
            os.kill(pid, signal.SIGSEGV)
            await until(lambda: not lives(pid))
            await until(lambda: hosted.core.blamed == ["alice-bad"])
            assert hosted.core.faults[0].suspected

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
    async def test_one_in_which_nothing_runs_is_nobodys_fault(self, number: int) -> None:
        async with host() as hosted:
            pid = await hosted.pid("alice-a")
            waiting = hosted.begin("alice-a", "wait 0.3", safe=True)
            await sent(waiting)
            # What comes after it on the same line is answered: it waits, and nothing else is done.
            assert await hosted.pid("alice-a") == pid
            await until(lambda: cpu.asleep(pid))
            os.kill(pid, number)
            assert await waiting == b""
            await until(lambda: not lives(pid))
            assert await hosted.pid("alice-a") == await hosted.pid("alice-b")
            assert not hosted.core.faults

    async def test_those_that_are_wanted_are_nobodys_fault(self) -> None:
        async with host() as hosted:
            await hosted.pid("alice-a")
            (worker,) = hosted.placement.workers
            burning = hosted.begin("alice-a", "wait 0.1", safe=True)
            await sent(burning)
            hosted.placement._fleet.retire(worker)
            assert await burning == b""
            await until(lambda: not lives(worker.pid))
            again = await hosted.pid("alice-a")
            hosted.placement.workers[0].line.abort()
            await until(lambda: not lives(again))
            assert await hosted.pid("alice-a")
            assert not hosted.core.faults

    async def test_nor_is_the_end_of_the_zygote(self) -> None:
        async with host() as hosted:
            pid = await hosted.pid("alice-a")
            burning = hosted.begin("alice-a", "burn 0.04")
            await sent(burning)
            parent = int(Path(f"/proc/{pid}/stat").read_text().split()[3])
            os.kill(parent, signal.SIGKILL)
            with pytest.raises(Lost):
                await burning
            await until(lambda: not hosted.placement.workers)
            assert not hosted.core.faults

    async def test_on_deno_what_was_alone_under_way_is_guilty(self) -> None:
        async with host() as hosted:
            hosted.core.engines = dict.fromkeys(("alice-bad", "alice-good"), "deno")
            await hosted.pid("alice-good")
            await hosted.pid("alice-bad")
            with pytest.raises(errors.Unavailable, match="which died with status 3"):
                await hosted.run("alice-bad", "exit 3", safe=True)
            await until(lambda: hosted.core.blamed == ["alice-bad"])
            with pytest.raises(errors.Unavailable) as caught:
                await hosted.run("alice-bad", "exit 133")
            assert caught.value.id == "functions.limit.memory"

    async def test_those_who_share_need_not_wait_for_the_next_worker(self) -> None:
        async with host() as hosted:
            for number in range(8):
                with pytest.raises(errors.Unavailable):
                    await hosted.run(f"alice-{number}", "exit 3")
                assert await hosted.pid("alice-good")
            await until(lambda: len(hosted.core.faults) == 8)


class TestApart:
    async def test_the_level_process_has_a_worker_of_its_own(self) -> None:
        async with host() as hosted:
            for name in ("alice-one", "alice-two"):
                hosted.core.more[name] = {"isolation": "process"}
            names = ("alice-one", "alice-two", "alice-three", "alice-four")
            pids = [await hosted.pid(name) for name in names]
            assert len(set(pids)) == 3
            assert pids[2] == pids[3]
            owners = {one.whom for one in hosted.placement.workers}
            assert owners == {"micro/alice", "micro/alice/alice-one", "micro/alice/alice-two"}

    async def test_it_leaves_all_workers_that_others_are_in(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upkeep, "SWEEP", 0.02)
        monkeypatch.setattr(upkeep, "BUSY_FOR", 0.04)
        monkeypatch.setattr(upkeep, "BUSY", 0.2)
        async with host(cores=2) as hosted:
            async with asyncio.timeout(10):
                while sum(one.has("alice-bad") for one in hosted.placement.workers) < 2:
                    await hosted.run("alice-bad", "burn 0.02")
            monkeypatch.setattr(upkeep, "BUSY", 2.0)
            with pytest.raises(errors.Unavailable):
                await hosted.run("alice-bad", "exit 3")
            await hosted.run("alice-bad")
            (only,) = [one for one in hosted.placement.workers if one.has("alice-bad")]
            assert only.whom == "micro/alice/alice-bad"

    async def test_it_goes_back_when_that_is_forgotten(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upkeep, "SWEEP", 0.01)
        monkeypatch.setattr(upkeep, "RECONSIDER", 0.02)
        async with host() as hosted:
            with pytest.raises(errors.Unavailable):
                await hosted.run("alice-bad", "exit 3")
            shared, apart = await hosted.pid("alice-good"), await hosted.pid("alice-bad")
            assert shared != apart
            waiting = hosted.begin("alice-bad", "wait 0.1")
            await sent(waiting)
            before = hosted.core.asked
            await until(lambda: hosted.core.asked > before + 1)
            assert await hosted.pid("alice-bad") == apart
            hosted.core.strikes.clear()
            async with asyncio.timeout(10):
                while await hosted.pid("alice-bad") != shared:
                    await hosted.run("alice-bad", "wait 0.01")
            assert await waiting == b"", "what was under way is not cut off"

    async def test_one_that_is_refused_is_not_asked_for_all_the_time(self) -> None:
        async with host() as hosted:
            hosted.core.refused = True
            for _ in range(5):
                with pytest.raises(errors.Unavailable) as caught:
                    await hosted.run("alice-bad")
                assert caught.value.id == "functions.quarantine"
                assert caught.value.retry_after == 30.0
            assert hosted.core.asked == 1

    async def test_another_version_is_not_set_apart(self) -> None:
        async with host() as hosted:
            shared = await hosted.pid("alice-good")
            with pytest.raises(errors.Unavailable):
                await hosted.run("alice-bad", "exit 3")
            hosted.core.strikes.clear()
            at = msgspec.structs.replace(where("alice-bad", 2))
            payload = await hosted.caller.run(at, b"pid", timeout=10)
            assert wire.unpack_reply(payload)[3] == b"%d" % await hosted.pid("alice-good")
            assert not lives(shared)
