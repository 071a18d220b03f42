"""examples/bank: money moves once or not at all, also when the bank is killed in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from ..e2e.live import Live, client, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

FOLDER = Path(__file__).parents[2] / "examples" / "bank"


@pytest.fixture(scope="module")
def bank(live: Live) -> Iterator[Live]:
    live.micro("run", str(FOLDER))
    for owner, cents in (("ann", 10_000), ("bob", 0), ("dora", 10_000), ("emil", 10_000)):
        live.call("bank", "open", f"--owner={owner}", f"--cents={cents}")
    yield live
    live.micro("kill", "bank")


def transfer(live: Live, source: str, target: str, cents: int, id: str) -> Any:
    words = [f"--source={source}", f"--target={target}", f"--cents={cents}", f"--id={id}"]
    return live.call("bank", "transfer", *words)


def balance(live: Live, owner: str) -> int:
    return int(live.call("bank", "balance", f"--owner={owner}")["cents"])


def lines(live: Live, owner: str) -> list[tuple[str, int]]:
    found = live.web.get(f"/bank/statement?owner={owner}").json()
    return [(line["transfer"], line["cents"]) for line in found]


def test_a_transfer_moves_money_once(bank: Live) -> None:
    done = {"id": "t1", "status": "done", "reason": ""}
    assert transfer(bank, "ann", "bob", 2500, "t1") == done
    assert transfer(bank, "ann", "bob", 2500, "t1") == done
    assert (balance(bank, "ann"), balance(bank, "bob")) == (7500, 2500)
    until(lambda: lines(bank, "bob") == [("t1", 2500)])
    until(lambda: lines(bank, "ann") == [("t1", -2500)])


def test_a_transfer_that_cannot_be_is_undone(bank: Live) -> None:
    before = balance(bank, "ann")
    told = transfer(bank, "ann", "carl", 100, "t2")
    assert told == {"id": "t2", "status": "undone", "reason": "credit: carl has no account"}
    told = transfer(bank, "ann", "bob", 10**9, "t3")
    assert told["reason"] == f"debit: ann has only {before} cents"
    assert balance(bank, "ann") == before
    assert bank.call("bank", "outcome", "--id=t2")["status"] == "undone"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--source=ann --target=ann --cents=1", "ann cannot pay ann"),
        ("--source=ann --target=bob --cents=0", "cents"),
        ("--source=ann --target=bob --cents=-5", "cents"),
        ("--source=Ann --target=bob --cents=1", "source"),
        ("--source=ann --target=bob --cents=1 --id=a\tb", "id of a saga"),
    ],
)
def test_bad_transfers_are_refused(bank: Live, words: str, says: str) -> None:
    assert says in bank.refused(127, "bank", "transfer", *words.split(" "))


def test_an_id_is_of_one_transfer(bank: Live) -> None:
    transfer(bank, "ann", "bob", 1, "t4")
    words = ["--source=ann", "--target=bob", "--cents=2", "--id=t4"]
    assert "with another input" in bank.refused(127, "bank", "transfer", *words)


def test_a_bank_that_is_killed_in_the_middle_neither_makes_nor_loses_money(bank: Live) -> None:
    with client(bank.url) as web:
        before = web.get("/bank/total").json()
        ids = [f"k{number}" for number in range(60)]
        asking = [threading.Thread(target=_ask, args=(bank.url, id), daemon=True) for id in ids]
        for thread in asking[:30]:
            thread.start()
        until(lambda: _some_status(web, ids))
        os.kill(_pid(bank), signal.SIGKILL)
        for thread in asking[30:]:
            thread.start()
        for thread in asking:
            thread.join(60)

        def ended() -> bool:
            return {_status(web, id) for id in ids} <= {"done", "undone", "never"}

        until(ended)
        assert web.get("/bank/total").json() == before
        outcomes = Counter(_status(web, id) for id in ids)
        # Every fourth one is to nobody, and some were never begun.
        assert outcomes["done"] > 20
        moved = sum(_status(web, id) == "done" for id in ids)
        assert 10_000 - web.get("/bank/balance?owner=dora").json()["cents"] == 10 * moved
        done = sorted(id for id in ids if _status(web, id) == "done")
        until(lambda: sorted(id for id, _ in lines(bank, "emil")) == done)


def _ask(url: str, id: str) -> None:
    target = "nobody" if int(id[1:]) % 4 == 3 else "emil"
    asked = {"source": "dora", "target": target, "cents": 10, "id": id}
    with client(url) as web, contextlib.suppress(httpx.HTTPError):
        web.post("/bank/transfer", json=asked)


def _status(web: httpx.Client, id: str) -> str:
    answer = web.get(f"/bank/outcome?id={id}")
    if answer.status_code == 404 and "there is no transfer" in answer.text:
        return "never"
    return str(answer.json()["status"]) if answer.status_code == 200 else "away"


def _some_status(web: httpx.Client, ids: list[str]) -> bool:
    return any(_status(web, id) == "done" for id in ids)


def _pid(live: Live) -> int:
    """The process that runs the bank."""
    found = live.micro("registry", "getService", "--service=bank").json["services"]
    replica = found[0]["nodes"][0]["metadata"]["micro.replica"]
    for pid in live.children():
        try:
            if psutil.Process(pid).environ().get("MICRO_REPLICA") == replica:
                return pid
        except psutil.Error:
            continue
    raise AssertionError("nobody runs the bank")
