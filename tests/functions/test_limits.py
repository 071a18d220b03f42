"""Limits and isolation through the control plane: what is said, kept, refused and told."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.functions import amounts, limits
from microcosmos.functions.following import Known
from microcosmos.functions.interface import Draft, Limits
from microcosmos.functions.limits import CEILINGS, DEFAULTS, FLOORS, NAMES
from microcosmos.functions.requests import AccountLimits

from .plane import draft, opened

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("text", "measure", "amount"),
    [
        *[("100ms", "seconds", 0.1), ("30s", "seconds", 30.0), ("0.25", "seconds", 0.25)],
        *[("1.5 s", "seconds", 1.5), ("2m", "seconds", 120.0), ("500us", "seconds", 0.0005)],
        *[("64MiB", "bytes", 64 * MIB), ("512 kib", "bytes", 512 * 1024), ("7", "bytes", 7)],
        *[("1GiB", "bytes", 1024 * MIB), ("100B", "bytes", 100), ("50", "number", 50)],
        *[("1_000", "number", 1000)],
    ],
)
def test_an_amount_is_read(text: str, measure: Any, amount: float) -> None:
    assert amounts.read(text, measure, "limit") == pytest.approx(amount)


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        *[("", "seconds"), ("nan", "seconds"), ("inf", "seconds"), ("-1s", "seconds")],
        *[("1w", "seconds"), ("5MB", "bytes"), ("1e3", "bytes"), ("10s", "bytes")],
        *[("six", "number"), ("3 MiB", "number"), ("٣", "number"), ("9" * 40, "number")],
    ],
)
def test_what_is_no_amount_is_refused(text: str, measure: Any) -> None:
    with pytest.raises(errors.BadRequest, match="is no amount; write it like") as caught:
        amounts.read(text, measure, "--limit cpu")
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", [DEFAULTS, CEILINGS, FLOORS])
def test_a_limit_is_written_as_it_is_read(of: Limits, name: str) -> None:
    text = limits.written(name, getattr(of, name))
    assert limits.read("limits", {name: text}) == {name: pytest.approx(getattr(of, name))}


def test_defaults_are_within_floors_and_ceilings() -> None:
    for name in NAMES:
        assert getattr(FLOORS, name) <= getattr(DEFAULTS, name) <= getattr(CEILINGS, name)


def test_amounts_are_shown_short() -> None:
    shown = [amounts.show(one, "seconds") for one in (0.05, 0.0526, 30, 1.25, 0, 119.9996)]
    assert shown == ["50 ms", "52.6 ms", "30 s", "1.25 s", "0 s", "119.9 s"]
    shown = [amounts.show(one, "bytes") for one in (0, 1, 100, 1536, 8 * MIB, 9 * MIB + 1)]
    assert shown == ["0 bytes", "1 byte", "100 bytes", "1.5 KiB", "8 MiB", "9 MiB"]


async def test_a_version_keeps_its_limits_and_runs_with_the_effective_ones() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        plain = await functions.deploy(draft())
        before = await plane.platform.unit("micro", "hello", 1)
        assert (plain.limits, plain.isolation, before.limits) == ({}, "isolate", Limits())
        said = draft(limits={"heap": 128 * MIB, "cpu": 0.1, "wall": 5}, isolation="process")
        version = await functions.deploy(said)
        assert version.limits == {"cpu": 0.1, "wall": 5, "heap": 128 * MIB}
        assert version.isolation == "process"
        unit = await plane.platform.unit("micro", "hello", 2)
        assert unit.limits == Limits(cpu=0.1, wall=5, heap=128 * MIB)
        assert (unit.isolation, unit.runner, type(unit.limits.heap)) == ("process", "quickjs", int)
        assert (await functions.get("hello")).limits == unit.limits
        assert await functions.verify("hello") == []
        # A version goes on as it was deployed; the hash says that it was.
        again = await functions.rollback("hello", 2)
        assert (again.limits, again.isolation) == (version.limits, version.isolation)
        without = await functions.deploy(draft())
        assert (without.limits, without.isolation) == ({}, "isolate")
        assert await functions.verify("hello") == []
        async with Known(plane.badge) as known:
            await known.settle(5)
            live = known.get("micro", "hello")
            assert live
            assert live.shares[0].wall == 30.0


async def test_wasm_is_for_javascript_on_quickjs() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        version = await functions.deploy(draft(isolation="wasm"))
        assert (version.engine, version.isolation) == ("quickjs", "wasm")
        assert (await plane.platform.unit("micro", "hello", 1)).runner == "wasm"
        module = Draft(name="m", files={"m.js": "export default {}"}, isolation="wasm")
        with pytest.raises(errors.BadRequest) as caught:
            await functions.deploy(module)
        assert caught.value.detail == (
            "isolation: wasm runs a script or handler in JavaScript on quickjs; a module in "
            "javascript on deno can have --isolation process"
        )
        with pytest.raises(errors.BadRequest, match="wasm runs a script or handler"):
            await functions.validate(draft(engine="deno", isolation="wasm"))
        with pytest.raises(errors.BadRequest, match="isolation: 'vm' is none; one of isolate, pro"):
            await functions.validate(draft(isolation="vm"))


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ({"memory": 1}, "limits: 'memory' is none; one of cpu, wall, heap, stack, request,"),
        ({"cpu": -1}, "limits: cpu: -1 is no amount; from 1ms to 10s"),
        ({"fetches": 1.5}, "limits: fetches: 1.5 is no whole number; from 0 to 1000"),
        ({"cpu": 11}, "limits: cpu=11s is above 10 s, the most there may be on this server"),
        ({"heap": 1000}, "limits: heap=1000B is below 2 MiB, the least that anything runs with"),
        ({"wall": 1e300}, "limits: wall=1e+300s is above 300 s"),
        ({"x\ny" * 30: 1}, r"limits: 'x\nyx\nyx\ny"),
    ],
)
async def test_limits_that_are_badly_said(said: dict[str, float], detail: str) -> None:
    async with opened() as plane:
        functions = await plane.admin()
        with pytest.raises(errors.BadRequest) as caught:
            await functions.deploy(draft(limits=said))
        assert caught.value.detail.startswith(detail)
        assert "\n" not in caught.value.detail
        with pytest.raises(errors.NotFound):
            await functions.get("hello")


@pytest.mark.parametrize("amount", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(amount: float) -> None:
    with pytest.raises(errors.BadRequest, match="is no amount"):
        limits.check("limits", {"cpu": amount})


async def test_limits_that_are_no_numbers_are_refused() -> None:
    async with opened() as plane:
        client = plane.calling(await plane.auth.login())
        for amount in ('"100ms"', "null", "[]", "NaN", "1e999"):
            body = f'{{"name":"h","files":{{"h.js":"1"}},"limits":{{"cpu":{amount}}}}}'.encode()
            with pytest.raises(errors.BadRequest) as caught:
                await client.call("functions", "Functions.Deploy", body)
            assert "\n" not in caught.value.detail


async def test_a_program_that_is_too_long() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        long = draft(code=f"'{'x' * 100}'", limits={"code": 100})
        with pytest.raises(errors.TooLarge) as caught:
            await functions.validate(long)
        assert caught.value.id == "functions.limit.code"
        assert caught.value.detail == (
            "index.js: 102 bytes; at most 100; deploy with --limit code=…"
        )


async def test_the_limits_of_an_account_hold_at_once_for_what_runs() -> None:
    async with opened() as plane:
        admin, alice = await plane.admin(), await plane.of("alice")
        await alice.deploy(draft("mine", limits={"wall": 20}))
        await alice.deploy(draft("plain"))
        await admin.deploy(draft("other"))
        async with Known(plane.badge) as known:
            await known.settle(5)

            def shares() -> dict[str, tuple[str, float]]:
                return {one.name: (one.shares[0].key, one.shares[0].wall) for one in known}

            changed = asyncio.Event()
            known.listen(lambda *_: changed.set())

            async def until(true: Callable[[], bool]) -> dict[str, tuple[str, float]]:
                async with asyncio.timeout(5):
                    while not true():
                        changed.clear()
                        await changed.wait()
                return shares()

            async def told(before: dict[str, tuple[str, float]]) -> dict[str, tuple[str, float]]:
                both = ("mine", "plain")
                return await until(lambda: all(shares()[name] != before[name] for name in both))

            first = shares()
            said = await admin.set_limits("alice", defaults={"cpu": 0.2, "wall": 10})
            assert said.default == Limits(cpu=0.2, wall=10)
            assert said.defaults == {"cpu": 0.2, "wall": 10}
            second = await told(first)
            assert second["other"] == first["other"]
            assert (second["mine"][1], second["plain"][1]) == (20, 10)
            unit = await plane.platform.unit("micro", "mine", 1)
            assert unit.limits == Limits(cpu=0.2, wall=20)
            assert unit.key == second["mine"][0]

            # A ceiling holds for versions that were deployed before it, too.
            said = await admin.set_limits("alice", ceilings={"wall": 15, "cpu": 0.5})
            assert said.ceiling == Limits(
                **{name: getattr(CEILINGS, name) for name in NAMES if name not in ("wall", "cpu")},
                wall=15,
                cpu=0.5,
            )
            assert said.default == Limits(cpu=0.2, wall=10)
            await until(lambda: shares()["mine"][1] == 15)
            assert shares()["plain"] == second["plain"]
            assert (await alice.get("mine")).limits.wall == 15
            assert (await alice.get("mine")).version.limits == {"wall": 20}
            again = await alice.rollback("mine", 1)
            assert again.limits == {"wall": 20}
            assert (await alice.get("mine")).limits.wall == 15

            third = shares()
            await admin.set_limits("alice", reset=True)
            last = await told(third)
            assert last["plain"] == first["plain"]
            assert last["mine"][1] == 20
        assert await alice.verify("mine") == []


async def test_a_draft_above_the_ceiling_of_its_account_is_refused() -> None:
    async with opened() as plane:
        admin, alice = await plane.admin(), await plane.of("alice")
        await admin.set_limits("alice", ceilings={"heap": 32 * MIB, "code": 50})
        with pytest.raises(errors.BadRequest) as caught:
            await alice.deploy(draft("mine", limits={"heap": 48 * MIB}))
        assert caught.value.detail == (
            "limits: heap=48MiB is above 32 MiB, the most of alice; an admin may allow it: "
            "micro functions limits alice --ceiling …"
        )
        with pytest.raises(errors.TooLarge):
            await alice.deploy(draft("mine", code=f"'{'x' * 100}'"))
        await alice.deploy(draft("mine"))
        unit = await plane.platform.unit("micro", "mine", 1)
        assert unit.limits == Limits(heap=32 * MIB, code=50)
        # An admin who deploys what is alice's is held to what is alice's.
        with pytest.raises(errors.BadRequest, match="the most of alice"):
            await admin.deploy(draft("mine", limits={"heap": 48 * MIB}))
        with pytest.raises(errors.BadRequest, match="the most of alice"):
            await admin.validate(draft("mine.more", limits={"heap": 48 * MIB}))


async def test_who_may_see_and_set_the_limits_of_an_account() -> None:
    async with opened() as plane:
        admin, alice, bob = await plane.admin(), await plane.of("alice"), await plane.of("bob")
        own = await alice.limits()
        assert own == AccountLimits(
            account="alice", defaults={}, ceilings={}, default=DEFAULTS, ceiling=CEILINGS
        )
        await admin.set_limits("alice", defaults={"fetches": 10})
        assert (await alice.limits("alice")).default.fetches == 10
        with pytest.raises(errors.Forbidden, match="the limits of alice are not yours to see"):
            await bob.limits("alice")
        for account in ("alice", "bob", ""):
            with pytest.raises(errors.Forbidden, match="only an admin"):
                await alice.set_limits(account, defaults={"fetches": 20})
        for one in (admin.limits, admin.set_limits):
            with pytest.raises(errors.NotFound, match="there is no account 'nobody'"):
                await one("nobody")
        with pytest.raises(errors.NotFound):
            await admin.set_limits("a/b/c\n", defaults={"cpu": 1})
        assert (await admin.limits()).account == "admin"


async def test_limits_of_an_account_that_are_badly_said() -> None:
    async with opened() as plane:
        admin = await plane.admin()
        await admin.set_limits(ceilings={"cpu": 1})
        bad: list[tuple[dict[str, Any], str]] = [
            ({"defaults": {"cpu": 2}}, "defaults: cpu=2s is above the ceiling of 1 s"),
            ({"ceilings": {"cpu": 20}}, "ceilings: cpu=20s is above 10 s"),
            ({"ceilings": {"heap": 1}}, "ceilings: heap=1B is below 2 MiB"),
            ({"defaults": {"speed": 1}}, "defaults: 'speed' is none; one of"),
        ]
        for said, detail in bad:
            with pytest.raises(errors.BadRequest) as caught:
                await admin.set_limits(**said)
            assert caught.value.detail.startswith(detail)
        assert (await admin.limits()).ceilings == {"cpu": 1}


async def test_deploys_and_changes_of_limits_at_once_leave_nothing_behind(tmp_path: Path) -> None:
    async with opened(f"sqlite://{tmp_path}/store.db") as plane:
        admin = await plane.admin()

        async def deploys(which: int) -> None:
            for number in range(6):
                await admin.deploy(
                    draft("again", code=f"'{number}'") if not which else draft(f"f{which}-{number}")
                )

        async def changes() -> None:
            for number in range(12):
                await admin.set_limits(defaults={"wall": 10 + number})

        await asyncio.gather(changes(), *map(deploys, range(6)))
        async with Known(plane.badge) as known:
            await known.settle(5)
            assert len(known) == 31
            assert {one.shares[0].wall for one in known} == {21}
            for live in known:
                (share,) = live.shares
                unit = await plane.platform.unit("micro", live.name, share.number)
                assert (unit.key, unit.limits.wall) == (share.key, 21)


async def test_a_namespace_that_is_no_more_leaves_no_limits() -> None:
    async with opened() as plane:
        await plane.auth.authority.create_namespace("team")
        boss = await plane.of("boss", "admin", namespace="team")
        await boss.set_limits(defaults={"cpu": 0.1})
        assert (await boss.limits()).default.cpu == 0.1
        await plane.service.clear("team")
        assert (await boss.limits()).default.cpu == 0.05
