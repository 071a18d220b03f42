"""Functions whose quotas are used up are refused, and nothing reaches a worker."""

from __future__ import annotations

import time

from microcosmos.functions.interface import Exhausted, News, Spent


def told(running, *spent: Exhausted) -> None:
    running.known.apply(News(epoch="e", sequence=2, spent=[*spent]))


async def test_what_is_used_up_is_refused_and_let_in_again(open_functions, live):
    async with open_functions(live("hello"), live("other")) as running:
        assert (await running.http.get("/hello")).status_code == 200
        spent = Spent(time.time() + 100, "the quota is used up")
        told(running, Exhausted(namespace="micro", name="hello", spent=spent))
        for path in ("/hello", "/hello/below?x=1", "/app/hello"):
            answer = await running.http.get(path)
            assert answer.status_code == 429
            assert 98 < int(answer.headers["retry-after"]) <= 100
            assert answer.json() == {
                "Id": "functions.quota",
                "Code": 429,
                "Detail": "the quota is used up",
                "Status": "Too Many Requests",
            }
        assert (await running.http.post("/hello", content=b"x" * 500_000)).status_code == 429
        assert (await running.http.get("/other")).status_code == 200
        assert len(running.worker.seen) == 2
        # What is deployed meanwhile is refused too.
        running.tell(live("hello", number=2))
        assert (await running.http.get("/hello")).status_code == 429
        told(running)
        assert (await running.http.get("/hello")).status_code == 200


async def test_quotas_of_accounts_and_namespaces_refuse_all_their_functions(open_functions, live):
    async with open_functions(live("hello"), live("other")) as running:
        spent = Spent(time.time() + 100, "used up")
        whose = Exhausted(namespace="micro", account="jane", spent=spent)
        for exhausted in (whose, Exhausted(namespace="micro", spent=spent)):
            told(running, exhausted)
            for path in ("/hello", "/other"):
                assert (await running.http.get(path)).status_code == 429
        elsewhere = Exhausted(namespace="tenant", spent=spent)
        told(running, elsewhere, Exhausted(namespace="micro", account="john", spent=spent))
        assert (await running.http.get("/hello")).status_code == 200


async def test_a_new_period_begins_though_nobody_says_so(open_functions, live):
    """The core may be away when it does."""
    async with open_functions(live("hello")) as running:
        spent = Spent(time.time() + 0.3, "used up")
        told(running, Exhausted(namespace="micro", name="hello", spent=spent))
        assert (await running.http.get("/hello")).headers["retry-after"] == "1"
        while (answer := await running.http.get("/hello")).status_code == 429:
            assert time.time() <= spent.until + 0.1
        assert answer.status_code == 200
