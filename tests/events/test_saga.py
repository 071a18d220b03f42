"""Sagas: what authors are promised, one thing at a time; for what fails see test_saga_faults."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.base.context import carrying, current
from microcosmos.events.memory import MemoryLog
from microcosmos.events.saga import Attempt, Refused, Saga, Step
from microcosmos.events.saga.journal import KEEP_ENDED
from microcosmos.events.saga.step import MAX_OUTPUT
from microcosmos.events.transactions.outbox import Outbox
from microcosmos.events.transactions.transaction import MARKS
from microcosmos.store import open_store

from .money import DONE, START, Faults, Transfer, balances, opened, transfers
from .mortal import Life, seen_by, until

LEASE = 0.2


async def test_all_steps_happen_in_their_order() -> None:
    faults = Faults()
    async with open_store("memory://") as store, transfers(faults).on(await opened(store)) as saga:
        begun = await saga.start("t1", Transfer())
        assert (begun.status, begun.input) == (
            "running",
            {"source": "ann", "target": "bob", "amount": 30},
        )
        ended = await saga.result("t1")
        assert ended.status == "done"
        assert ended.error == ""
        assert ended.outputs == {"debit": "debit -30", "fee": "fee 1", "credit": "credit 29"}
        assert [one.state for one in ended.steps.values()] == ["done"] * 3
        assert await balances(store) == DONE
        assert list(faults.passed) == [
            f"{step} {when}" for step in ("debit", "fee", "credit") for when in ("before", "after")
        ]


async def test_a_step_that_fails_for_good_has_those_before_taken_back_the_last_one_first() -> None:
    done: list[str] = []

    def step(name: str, fails: bool = False) -> Step[int]:
        async def action(_: int) -> None:
            done.append(name)
            if fails:
                raise ValueError("no")

        async def undo(_: int) -> None:
            done.append(f"undo {name}")

        return Step(action, undo, name=name, retry_limit=1, pause=0.001)

    saga = Saga("s", int, [step("a"), step("b"), step("c", fails=True), step("d")])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("1", 0)
        ended = await saga.result("1")
    assert done == ["a", "b", "c", "c", "undo c", "undo b", "undo a"]
    assert (ended.status, ended.error) == ("undone", "c: ValueError: no")
    assert [one.state for one in ended.steps.values()] == ["undone"] * 3


async def test_a_refusal_is_not_tried_again_and_needs_no_undo() -> None:
    done: list[str] = []

    async def pay(_: int, attempt: Attempt) -> None:
        done.append(f"pay {attempt.number}")
        raise Refused("no money")

    async def refund(_: int) -> None:
        done.append("refund")

    saga = Saga("s", int, [Step(pay, undo=refund)])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("1", 0)
        ended = await saga.result("1")
    assert done == ["pay 1"]
    assert (ended.status, ended.error) == ("undone", "pay: no money")
    assert ended.steps["pay"].state == "refused"


async def test_a_refusal_after_a_try_that_nobody_knows_of_needs_one() -> None:
    done: list[str] = []

    async def pay(_: int, attempt: Attempt) -> None:
        done.append(f"pay {attempt.number}")
        raise ValueError if attempt.number == 1 else Refused("not again")

    async def refund(_: int) -> None:
        done.append("refund")

    saga = Saga("s", int, [Step(pay, undo=refund, pause=0.001)])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("1", 0)
        assert (await saga.result("1")).error == "pay: not again"
    assert done == ["pay 1", "pay 2", "refund"]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (errors.BadRequest("x", "bad"), 1),
        (errors.TooLarge("x", "bad"), 1),
        (errors.NotFound("x", "bad"), 3),
        (errors.Forbidden("x", "bad"), 3),
        (errors.Conflict("x", "bad"), 3),
        (errors.TooManyRequests("x", "bad"), 3),
        (errors.Unavailable("x", "bad"), 3),
        (errors.DeadlineExceeded("x", "bad"), 3),
        (KeyError("bad"), 3),
    ],
)
async def test_what_another_try_does_not_mend_is_not_tried_again(
    error: Exception, tries: int
) -> None:
    undone = 0

    async def act(_: int) -> None:
        raise error

    async def undo(_: int) -> None:
        nonlocal undone
        undone += 1

    saga = Saga("s", int, [Step(act, undo, retry_limit=2, pause=0.001)])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("1", 0)
        ended = await saga.result("1")
    # It may have had an effect all the same.
    assert (ended.status, ended.steps["act"].attempts, undone) == ("undone", tries, 1)
    assert "bad" in ended.error


async def test_a_try_that_takes_too_long_has_failed() -> None:
    async def act(_: int, attempt: Attempt) -> str:
        if attempt.number == 1:
            await asyncio.sleep(60)
        return "quick"

    saga = Saga("s", int, [Step(act, timeout=0.02, pause=0.001)])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("1", 0)
        ended = await saga.result("1")
    assert (ended.status, ended.outputs) == ("done", {"act": "quick"})
    assert "longer than 0.02 seconds" not in ended.error


async def test_actions_see_what_those_before_returned() -> None:
    class Room(msgspec.Struct):
        number: int

    seen: list[Any] = []

    async def book(_: int) -> Room:
        return Room(7)

    async def pay(_: int, attempt: Attempt) -> None:
        seen.append((attempt.output("book", Room), attempt.outputs))
        raise Refused("no")

    async def unbook(_: int, attempt: Attempt) -> None:
        seen.append(attempt.output("book", Room))

    saga = Saga("s", int, [Step(book, undo=unbook), Step(pay)])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("1", 0)
        await saga.result("1")
    assert seen == [(Room(7), {"book": {"number": 7}}), Room(7)]


async def test_the_key_of_a_step_is_the_same_at_every_try_and_for_its_undo() -> None:
    keys: list[str] = []

    async def act(_: int, attempt: Attempt) -> None:
        keys.append(attempt.key)
        raise ValueError

    async def undo(_: int, attempt: Attempt) -> None:
        keys.append(attempt.key)

    saga = Saga("s", int, [Step(act, undo, retry_limit=1, pause=0.001)])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("x/1", 0)
        await saga.result("x/1")
    assert keys == ["s/x/1/act"] * 3


async def test_an_event_leaves_with_a_step() -> None:
    async def act(amount: int, attempt: Attempt) -> None:
        async with attempt.once() as tx:
            if not tx.done:
                await tx.publish("paid", amount)
        if attempt.number == 1:
            raise ValueError("after the commit")

    log = MemoryLog()
    saga = Saga("s", int, [Step(act, pause=0.001)])
    async with open_store("memory://") as store, Outbox(store, log) as box, saga.on(store, box):
        await saga.start("1", 5)
        assert (await saga.result("1")).status == "done"

        async def empty() -> bool:
            return not (await box.backlog()).waiting

        await until(empty)
        assert [event.unmarshal(int) for event in await log.read("paid")] == [5]


# Starting.


async def test_it_is_started_once_for_an_id() -> None:
    async with open_store("memory://") as store, transfers().on(await opened(store)) as saga:
        first, second = await asyncio.gather(
            saga.start("t1", Transfer()), saga.start("t1", Transfer())
        )
        assert first.started == second.started
        assert (await saga.result("t1")).status == "done"
        assert (await saga.start("t1", Transfer())).status == "done"
        assert await balances(store) == DONE
        with pytest.raises(errors.Conflict, match="another input"):
            await saga.start("t1", Transfer(amount=5))


@pytest.mark.parametrize(
    ("id", "input", "error"),
    [
        ("", Transfer(), errors.BadRequest),
        ("a b", Transfer(), errors.BadRequest),
        ("x" * 201, Transfer(), errors.BadRequest),
        ("1", 7, errors.BadRequest),
        ("1", object(), errors.BadRequest),
        ("1", Transfer("x" * MAX_OUTPUT), errors.TooLarge),
    ],
)
async def test_bad_starts_are_refused(id: str, input: Any, error: type[errors.Error]) -> None:
    async with open_store("memory://") as store, transfers().on(store) as saga:
        with pytest.raises(error):
            await saga.start(id, input)
        assert await saga.list() == []


async def test_it_needs_a_store() -> None:
    with pytest.raises(RuntimeError, match="enter `on`"):
        await transfers().start("t1", Transfer())


async def _act(_: int) -> None: ...


async def _three(_: int, __: Attempt, ___: int) -> None: ...


def _plain(_: int) -> None: ...


@pytest.mark.parametrize(
    ("name", "steps", "error"),
    [
        ("s", [Step(_act), Step(_act)], "same name"),
        ("s", [Step(_three)], "takes 3 arguments"),  # type: ignore[arg-type]
        ("s", [Step(_plain)], "no async function"),  # type: ignore[arg-type]
        ("s", [Step(_act, undo=_plain)], "no async function"),  # type: ignore[arg-type]
        ("a/b", [Step(_act)], "has a /"),
        ("s", [Step(_act, name="a/b")], "has a /"),
        ("", [Step(_act)], "name of a saga"),
    ],
)
def test_bad_sagas_fail_where_they_are_written(
    name: str, steps: list[Step[int]], error: str
) -> None:
    with pytest.raises((TypeError, errors.BadRequest), match=error):
        Saga(name, int, steps)


@pytest.mark.parametrize("output", [object(), b"x" * MAX_OUTPUT, 1j])
async def test_an_output_that_cannot_be_kept_is_a_failure(output: Any) -> None:
    async def act(_: int) -> Any:
        return output

    saga = Saga("s", int, [Step(act)])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("1", 0)
        ended = await saga.result("1")
        assert ended.status == "undone"
        assert "its output" in ended.error


async def test_the_trace_of_who_starts_it_goes_on_but_not_its_metadata() -> None:
    seen = []

    async def act(_: int) -> None:
        here = current()
        seen.append((here.trace, here.metadata.get("Foo"), here.outside))

    saga = Saga("s", int, [Step(act)])
    async with open_store("memory://") as store, saga.on(store):
        with carrying({"Micro-Trace": "a" * 32, "Foo": "bar"}):
            await saga.start("1", 0)
            await saga.result("1")
    assert seen == [("a" * 32, None, True)]


# Looking.


async def test_they_are_listed_by_status() -> None:
    async def act(number: int) -> None:
        if number % 2:
            raise Refused("odd")

    saga = Saga("s", int, [Step(act)])
    async with open_store("memory://") as store, saga.on(store):
        for number in range(6):
            await saga.start(f"s{number}", number)
            await saga.result(f"s{number}")
        assert [one.id for one in await saga.list()] == [f"s{number}" for number in range(6)]
        assert [one.id for one in await saga.list("done")] == ["s0", "s2", "s4"]
        assert [one.id for one in await saga.list("undone", limit=2)] == ["s1", "s3"]
        assert [one.id for one in await saga.list("undone", after="s3")] == ["s5"]
        for status in ("running", "undoing", "stuck"):
            assert await saga.list(status) == []  # type: ignore[arg-type]
        with pytest.raises(errors.NotFound, match="there is no s s9"):
            await saga.get("s9")
        with pytest.raises(errors.NotFound):
            await saga.result("s9")


async def test_ids_that_begin_alike_are_not_taken_for_each_other() -> None:
    gate = asyncio.Event()

    async def act(wait: bool) -> None:
        if wait:
            await gate.wait()

    saga = Saga("s", bool, [Step(act)])
    async with open_store("memory://") as store, saga.on(store):
        await saga.start("1", True)
        waiting = asyncio.create_task(saga.result("1"))
        await saga.start("11", False)
        await saga.result("11")
        assert [one.id for one in await saga.list("running")] == ["1"]
        assert not waiting.done()
        gate.set()
        assert (await waiting).id == "1"


async def test_sagas_of_several_names_share_a_store() -> None:
    ran: list[str] = []

    def named(name: str) -> Saga[int]:
        async def act(_: int) -> None:
            ran.append(name)

        return Saga(name, int, [Step(act)])

    a, b = named("a"), named("b")
    async with open_store("memory://") as store, a.on(store), b.on(store):
        await a.start("1", 0)
        await b.start("1", 0)
        await a.result("1")
        await b.result("1")
    assert sorted(ran) == ["a", "b"]


async def test_what_ended_is_forgotten_after_a_while_with_its_keys() -> None:
    async with open_store("memory://") as store, transfers().on(await opened(store)) as saga:
        await saga.start("t1", Transfer())
        await saga.result("t1")
        kept = [one for one in await store.part("sagas").read() if "/runner/" not in one.key]
        assert [one.key for one in kept] == ["transfer/saga/t1"]
        marks = await store.part(MARKS).read()
        assert len(marks) == 3
        for record in (*kept, *marks):
            assert KEEP_ENDED - 60 < record.expiry <= KEEP_ENDED


# Stuck.


async def test_an_undo_that_fails_for_good_is_stuck_and_goes_on_when_it_is_mended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The exchange of the retro: its compensation raised a TypeError, and the money was gone."""
    faults = Faults(lambda: TypeError("not enough arguments"))
    faults.times["credit before"] = faults.times["undo fee before"] = 1000
    async with open_store("memory://") as store, transfers(faults).on(await opened(store)) as saga:
        await saga.start("t1", Transfer())
        stuck = await saga.result("t1")
        assert stuck.status == "stuck"
        assert stuck.error == (
            "fee cannot be undone: TypeError: not enough arguments "
            "(after credit: TypeError: not enough arguments)"
        )
        assert "transfer t1 is stuck: fee cannot be undone" in caplog.text
        assert [one.id for one in await saga.list("stuck")] == ["t1"]
        assert await saga.list("undoing") == []
        assert await balances(store) == {"ann": 70, "bob": 0, "house": 1}
        assert faults.passed["undo fee before"] == 6
        assert faults.passed["undo debit before"] == 0
        faults.times.clear()
        assert (await saga.resume("t1")).status == "undoing"
        assert (await saga.result("t1")).status == "undone"
        assert await balances(store) == START
        assert await saga.list("stuck") == []
        with pytest.raises(errors.Conflict, match="is undone, not stuck"):
            await saga.resume("t1")


async def test_a_step_that_a_new_version_does_not_know_is_stuck() -> None:
    async with open_store("memory://") as store:
        gate = asyncio.Event()

        async def old(_: int) -> None:
            gate.set()
            await asyncio.sleep(60)

        async def new(_: int) -> None: ...

        async with Saga("s", int, [Step(old)]).on(store) as saga:
            await saga.start("1", 0)
            await gate.wait()
            saga._runner._task.cancel()  # type: ignore[union-attr]
        async with Saga("s", int, [Step(new)]).on(store) as saga:
            stuck = await saga.result("1")
            assert (stuck.status, stuck.error) == (
                "stuck",
                "this version of the saga has no step old",
            )
        async with Saga("s", int, [Step(new, name="old")]).on(store) as saga:
            assert (await saga.resume("1")).status == "running"
            assert (await saga.result("1")).status == "done"


async def test_an_input_that_a_new_version_cannot_read_is_stuck() -> None:
    async with open_store("memory://") as store:
        async with Saga("s", int, [Step(_act)]).on(store) as saga:
            saga._runner._leaving.set()  # type: ignore[union-attr]
            await saga.start("1", 7)
        async with Saga("s", str, [Step(_text)]).on(store) as other:
            stuck = await other.result("1")
            assert stuck.status == "stuck"
            assert "cannot read its input" in stuck.error
        async with Saga("s", int, [Step(_act)]).on(store) as saga:
            await saga.resume("1")
            assert (await saga.result("1")).status == "done"


async def _text(_: str) -> None: ...


# Several replicas.


async def test_those_of_a_replica_that_leaves_go_on_at_once_elsewhere() -> None:
    began: list[int] = []

    async def act(_: int, attempt: Attempt) -> None:
        began.append(attempt.number)
        if attempt.number == 1:
            raise ValueError("later")

    def replica() -> Saga[int]:
        return Saga("s", int, [Step(act, pause=30)])

    async with open_store("memory://") as store, replica().on(store, lease=60) as other:
        async with replica().on(store, lease=60) as saga:
            await until(lambda: _ready(saga))
            await saga.start("1", 0)
            await until(lambda: _true(began))
            began.clear()
        # The other one has it, though it was in the middle of a pause of half a minute.
        assert (await asyncio.wait_for(other.result("1"), 60)).status == "done"
        assert began == [2]


async def test_nobody_takes_a_saga_from_a_replica_that_lives() -> None:
    gate = asyncio.Event()
    tries: list[int] = []

    async def act(_: int, attempt: Attempt) -> None:
        tries.append(attempt.number)
        await gate.wait()

    def replica() -> Saga[int]:
        return Saga("s", int, [Step(act)])

    async with open_store("memory://") as store, replica().on(store, lease=LEASE) as saga:
        life = Life()
        async with replica().on(seen_by(store, life), lease=LEASE) as other:
            await saga.start("1", 0)
            # The other one has looked several times, longer than a lease lasts.
            await until(lambda: _true(tries and life.operations > 30))
            gate.set()
            assert (await other.result("1")).status == "done"
    assert tries == [1]


async def _ready(saga: Saga[Any]) -> bool:
    return saga._runner is not None and saga._runner._group is not None


async def _true(value: object) -> bool:
    return bool(value)


async def test_more_than_one_replica_can_carry_wait_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("microcosmos.events.saga.runner.CONCURRENCY", 2)
    at_once = most = 0

    async def act(_: int) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.005)
        at_once -= 1

    saga = Saga("s", int, [Step(act)])
    async with open_store("memory://") as store, saga.on(store, lease=LEASE):
        await asyncio.gather(*(saga.start(f"{number}", number) for number in range(12)))
        ended = await asyncio.gather(*(saga.result(f"{number}") for number in range(12)))
        assert {one.status for one in ended} == {"done"}
        assert most == 2


async def test_it_is_kept_in_a_file(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'store.db'}"
    faults = Faults()
    faults.times["credit after"] = 1000
    async with (
        open_store(url) as store,
        transfers(faults, pause=30).on(await opened(store)) as saga,
    ):
        await saga.start("t1", Transfer())
        await until(lambda: _true(faults.passed["credit after"]))
    async with open_store(url) as store, transfers().on(store, lease=LEASE) as saga:
        assert (await saga.result("t1")).status == "done"
        assert await balances(store) == DONE


async def test_pauses_grow() -> None:
    clock = ManualClock()
    tries: list[float] = []

    async def act(_: int) -> None:
        tries.append(clock.time())
        raise ValueError

    saga = Saga("s", int, [Step(act, pause=1, retry_limit=3)])
    async with open_store("memory://") as store, saga.on(store, clock=clock):
        await saga.start("1", 0)
        for _ in range(200):
            await clock.advance(0.1)
            await asyncio.sleep(0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert len(gaps) == 3
    for gap, most in zip(gaps, (1, 2, 4), strict=True):
        assert most / 2 <= gap <= most + 0.2
