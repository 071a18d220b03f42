"""Functions of each engine that nothing in it stops: ended from outside, close to their limit."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.functions import cpu, wire
from microcosmos.functions.calling import Caller
from microcosmos.functions.host.faults import Fault
from microcosmos.functions.host.placement import Placement
from microcosmos.functions.interface import Limits, Unit
from microcosmos.functions.lines import Lines
from microcosmos.functions.workers import Where
from microcosmos.functions.zygote.client import ZygoteClient, open_zygote
from microcosmos.functions.zygote.messages import Exit

from ..zygotes import home, until

GET = b"GET\nhttp://functions.test/f\n\n[]\n"

LIMIT = 0.2
"""Seconds of the processor: more than the good ones need on a machine that is busy."""

OVER = 0.3
"""Seconds beyond it: we promise 0.1 where processors are to be had at once."""


class Hosting:
    """A placement with real workers, and what it finds."""

    def __init__(self, zygote: ZygoteClient, lines: Lines) -> None:
        self.codes: dict[str, str] = {}
        self.engine: Any = "quickjs"
        self.faults: list[Fault] = []
        self.exits: list[Exit] = []
        self.placement = Placement(zygote, lines, self.unit, blame=self.blame)
        self.caller: Caller

    async def unit(self, where: Where) -> Unit:
        python = self.engine == "monty"
        strikes = sum(fault.where == where for fault in self.faults)
        return Unit(
            namespace=where.namespace,
            name=where.name,
            number=where.number,
            key=where.key,
            owner="alice",
            language="python" if python else "javascript",
            form="handler",
            engine=self.engine,
            main="main.py" if python else "main.js",
            code=self.codes[where.name],
            limits=Limits(cpu=LIMIT),
            strikes=strikes,
        )

    async def blame(self, fault: Fault) -> None:
        self.faults.append(fault)

    async def run(self, name: str, *, safe: bool = True) -> bytes:
        where = Where("micro", name, 1, name)
        payload = await self.caller.run(where, GET, timeout=30, safe=safe)
        return wire.unpack_reply(payload)[3]

    def pids(self) -> set[int]:
        return {worker.pid for worker in self.placement.workers}


@contextlib.asynccontextmanager
async def hosting() -> AsyncIterator[Hosting]:
    with home() as place:
        async with open_zygote(place) as zygote, Lines() as lines:
            hosted = Hosting(zygote, lines)
            async with hosted.placement as placement, Caller(placement) as hosted.caller:
                told, lost = zygote._exited, zygote._lost

                def exited(exit: Exit) -> None:
                    hosted.exits.append(exit)
                    told(exit)

                zygote.listen(exited, lost)
                yield hosted


# Their time goes by within one operation of the engine, which looks at no clock in it.
ENDLESS = {
    "power": "const a = 3n ** 300000n, b = 7n ** 100000n; let c = 0n;"
    " for (let i = 0; i < 2000; i++) c = (a * a) % b; return String(c > 0n)",
    "digits": "return String(3n ** 600000n).length",
    "search": "const a = 'a'.repeat(2 ** 19); return (a + a).indexOf('a'.repeat(2 ** 18) + 'b')",
    "regexp": "return String(/^(a+)+$/.test('a'.repeat(60) + 'b'))",
    "holes": "const a = []; a.length = 2 ** 32 - 1; a[7] = 1; return a.lastIndexOf(5)",
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_on_quickjs_what_ignores_its_interrupt_is_killed_near_its_limit(name: str) -> None:
    async with hosting() as hosted:
        hosted.codes["bad"] = f"function handler() {{ {ENDLESS[name]} }}"
        hosted.codes["good"] = "function handler() { return 'good' }"
        assert await hosted.run("good") == b"good"
        (pid,) = hosted.pids()
        before = cpu.used(pid)
        with pytest.raises(errors.Unavailable) as caught:
            await hosted.run("bad")
        assert caught.value.id in ("functions.limit.cpu", "functions.limit.memory"), name
        if hosted.exits:
            (exit,) = hosted.exits
            # It was loaded too, which takes some milliseconds.
            assert exit.cpu - before < LIMIT + OVER
            await until(lambda: hosted.faults)
            (fault,) = hosted.faults
            assert (fault.where.name, fault.kind, fault.suspected) == ("bad", "limit.cpu", False)
            assert exit.running.slot == 2
        assert await hosted.run("good") == b"good"
        assert len(hosted.faults) == len(hosted.exits)


async def test_at_least_one_of_them_has_to_be_killed() -> None:
    async with hosting() as hosted:
        hosted.codes["bad"] = f"function handler() {{ {ENDLESS['power']} }}"
        with pytest.raises(errors.Unavailable, match="200 ms are allowed"):
            await hosted.run("bad")
        assert hosted.exits


async def test_on_quickjs_so_is_one_that_does_it_when_it_is_loaded() -> None:
    async with hosting() as hosted:
        hosted.codes["bad"] = f"(() => {{ {ENDLESS['search']} }})(); function handler() {{}}"
        hosted.codes["good"] = "function handler() { return 'good' }"
        assert await hosted.run("good") == b"good"
        with pytest.raises(errors.Unavailable, match="1 s are allowed"):
            await hosted.run("bad")
        await until(lambda: hosted.faults)
        assert [fault.where.name for fault in hosted.faults] == ["bad"]
        assert await hosted.run("good") == b"good"


async def test_on_deno_an_endless_loop_is_killed_near_its_limit() -> None:
    async with hosting() as hosted:
        hosted.engine = "deno"
        hosted.codes["bad"] = "function handler() { for (;;); }"
        hosted.codes["good"] = "function handler() { return 'good' }"
        assert await hosted.run("good") == b"good"
        (pid,) = hosted.pids()
        hosted.codes["bad-warm"] = "let n = 0; function handler() { if (n++) for (;;); return 1 }"
        assert await hosted.run("bad-warm") == b"1"
        before = cpu.used(pid)
        with pytest.raises(errors.Unavailable) as caught:
            await hosted.run("bad-warm")
        assert caught.value.id == "functions.limit.cpu"
        (exit,) = hosted.exits
        assert LIMIT < exit.cpu - before < LIMIT + OVER
        await until(lambda: hosted.faults)
        assert [(one.where.name, one.suspected) for one in hosted.faults] == [("bad-warm", False)]
        assert await hosted.run("good") == b"good"


async def test_on_monty_its_worker_ends_it_and_goes_on() -> None:
    async with hosting() as hosted:
        hosted.engine = "monty"
        hosted.codes["bad"] = "def handler(request, env):\n    while True:\n        pass\n"
        hosted.codes["good"] = "def handler(request, env):\n    return 'good'\n"
        assert await hosted.run("good") == b"good"
        with pytest.raises(errors.Unavailable) as caught:
            await hosted.run("bad")
        assert caught.value.id == "functions.limit.cpu"
        assert await hosted.run("good") == b"good"
        assert not hosted.exits
        assert not hosted.faults
