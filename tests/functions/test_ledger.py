"""What functions have used, in the ledger: by versions, and gone with them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from microcosmos.base import codec, errors
from microcosmos.functions.heads import Tables
from microcosmos.functions.interface import Counts
from microcosmos.monitor.ledger import Line
from microcosmos.monitor.ledger.interface import SUMMED

from .plane import draft, opened


def counts(**given: Any) -> Counts:
    return Counts(requests=1, **given)


async def test_consumption_is_what_was_counted() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        used = Counts(
            **{name: n for n, name in enumerate(SUMMED, 1)}, heap=7, failures={"x": 2}, shared=True
        )
        await plane.platform.count("w", 1, {"micro/hello/v1": used})
        await plane.platform.count("w", 1, {"micro/hello/v1": used})
        found = await functions.consumption("hello")
        assert {name: getattr(found, name) for name in Counts.__struct_fields__} == {
            name: getattr(used, name) for name in Counts.__struct_fields__
        }
        await functions.deploy(draft(code="2"))
        assert (await functions.consumption("hello")).requests == used.requests


async def test_versions_are_kept_apart_and_told_together() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        for code in ("1", "2"):
            await functions.deploy(draft(code=code))
        told = {"micro/hello/v1": counts(), "micro/hello/v2": counts(), "micro/hello": counts()}
        await plane.platform.count("w", 1, told)
        await plane.platform.count("w", 2, {"micro/hello/v2": counts()})
        found = await functions.consumption("hello", by="version")
        assert found.requests == 4
        rows = [(row.version, row.counts.requests) for row in found.rows]
        assert rows == [("v2", 2), ("v1", 1), ("", 1)]
        hours = await functions.consumption("hello", since="1h", by="hour")
        assert sum(row.counts.requests for row in hours.rows) == 4


async def test_who_may_see_what() -> None:
    async with opened() as plane:
        ann, ben, admin = await plane.of("ann"), await plane.of("ben"), await plane.admin()
        await ann.deploy(draft("a"))
        await ann.deploy(draft("c"))
        await ben.deploy(draft("b"))
        told = {"micro/a/v1": counts(), "micro/b/v1": counts(), "micro/c/v1": counts()}
        await plane.platform.count("w", 1, told)
        listed = await ann.consumption()
        assert ([row.name for row in listed.rows], listed.requests) == (["a", "c"], 2)
        assert [row.name for row in (await admin.consumption()).rows] == ["a", "b", "c"]
        assert [
            (row.account, row.counts.requests) for row in (await ben.consumption(by="account")).rows
        ] == [("ben", 1)]
        accounts = (await admin.consumption(by="account")).rows
        assert [(row.account, row.counts.requests) for row in accounts] == [("ann", 2), ("ben", 1)]
        spaces = (await admin.consumption(by="namespace")).rows
        assert [(row.namespace, row.kind, row.counts.requests) for row in spaces] == [
            ("micro", "function", 3)
        ]
        # Of another namespace nothing is told, and of one's own all of the account.
        assert [row.counts.requests for row in (await ben.consumption(by="namespace")).rows] == [1]
        with pytest.raises(errors.Forbidden, match="belongs to ben"):
            await ann.consumption("b")
        with pytest.raises(errors.NotFound):
            await ann.consumption("none")


@pytest.mark.parametrize(
    ("asked", "detail"),
    [
        (
            {"since": "yesterday"},
            "since: 'yesterday' is no time; write it like 24h, 7d, 2026-11-01",
        ),
        ({"since": "2999-01-01"}, "since: 2999-01-01 has not come yet"),
        ({"name": "hello", "by": "account"}, "leave the name out"),
        ({"by": "minute"}, "by"),
    ],
)
async def test_what_is_no_question(asked: dict[str, Any], detail: str) -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        with pytest.raises(errors.BadRequest, match=detail):
            await functions.consumption(**asked)


async def test_what_is_gone_is_passed_over_and_gone_with_its_name() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        await plane.platform.count("w", 1, {"micro/hello/v1": counts(), "micro/none/v1": counts()})
        await functions.delete("hello")
        # What its worker tells after its end.
        await plane.platform.count("w", 2, {"micro/hello/v1": counts(), "micro/hello/v2": counts()})
        await functions.deploy(draft())
        assert (await functions.consumption("hello")).requests == 0
        await plane.platform.count("w", 3, {"micro/hello/v1": counts()})
        assert (await functions.consumption("hello")).requests == 1
        # Its account has used it all the same.
        assert (await functions.consumption(by="account")).requests == 2


async def test_a_version_that_is_first_told_of_after_its_end_is_not_kept() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        # So that it is known whose it is.
        await plane.platform.count("w", 1, {"micro/hello/v1": counts()})
        await functions.delete("hello")
        await plane.platform.count("w", 2, {"micro/hello/v2": counts()})
        assert not await plane.store.table("ledger").list("v/")


async def test_a_deletion_that_was_killed_leaves_the_next_of_its_name_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        await plane.platform.count("w", 1, {"micro/hello/v1": counts()})

        async def killed(*_: object) -> None:
            """It dies when the function is gone, and before what is left of it is."""

        with monkeypatch.context() as patched:
            patched.setattr(plane.catalogue.removal, "_sweep", killed)
            await functions.delete("hello")
        await functions.deploy(draft())
        await plane.platform.count("w", 2, {"micro/hello/v1": counts(cpu_ns=3)})
        await plane.catalogue.tidy()
        found = await functions.consumption("hello")
        assert (found.requests, found.cpu_ns) == (1, 3)


async def test_a_deploy_between_two_counts_loses_none() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())

        async def counting(worker: str) -> None:
            for sequence in range(1, 8):
                await plane.platform.count(worker, sequence, {"micro/hello/v1": counts()})

        async def deploying() -> None:
            for n in range(5):
                await functions.deploy(draft(code=f"{n}"))

        await asyncio.gather(counting("a"), counting("b"), deploying())
        assert (await functions.consumption("hello")).requests == 14


@pytest.mark.parametrize(
    "wrong",
    [
        Counts(requests=-1),
        Counts(cpu_ns=-1),
        Counts(heap=-1),
        Counts(failures={"x": -1}),
        Counts(failures={"x" * 65: 1}),
        Counts(failures={f"{n}": 1 for n in range(33)}),
    ],
)
async def test_counts_that_cannot_be_are_refused(wrong: Counts) -> None:
    async with opened() as plane:
        with pytest.raises(errors.BadRequest, match="'micro/a/v1'"):
            await plane.platform.count("w", 1, {"micro/a/v1": wrong})


async def test_what_was_counted_before_there_was_a_ledger_moves_into_it() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        for name in ("a", "b"):
            await functions.deploy(draft(name))
        old = {"requests": 7, "response_bytes": 5, "execution_ns": 3, "byte_ms": 2, "errors": 1}
        tables = Tables(plane.store)
        for name in ("a", "b", "gone"):
            await tables.counts.write(f"micro/{name}", codec.encode(old))
        await plane.catalogue.tidy()
        for name in ("a", "b"):
            found = await functions.consumption(name)
            assert (found.requests, found.byte_ms, found.errors) == (7, 2, 1)
        assert await tables.counts.count() == 0
        space = Line(namespace="micro", kind="function")
        assert (await plane.catalogue.ledger.used(space)).requests == 14


async def test_moving_goes_on_where_it_was_killed() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft("a"))
        tables = Tables(plane.store)
        await tables.counts.write("micro/a", codec.encode({"requests": 7}))
        record = await tables.counts.read("micro/a")
        # It was added, but the record is there yet.
        await plane.platform.count(f"$moved/micro/a@{record.version}", 1, {"micro/a": counts()})
        await plane.catalogue.tidy()
        assert (await functions.consumption("a")).requests == 1
