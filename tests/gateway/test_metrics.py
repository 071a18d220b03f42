"""`/metrics`: the ledger as Prometheus reads it, over HTTP."""

from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from microcosmos.monitor.ledger import Counts, Subject
from microcosmos.monitor.ledger.ledger import Ledger
from microcosmos.monitor.ledger.service import LedgerService
from microcosmos.store import open_store
from microcosmos.testing import Bench


async def test_what_is_counted_is_read_by_prometheus(platform: Bench, open_site: Any) -> None:
    async with open_store("memory://") as store:
        ledger = Ledger(store)
        for n in range(30):
            subject = Subject(namespace="micro", kind="function", account="ann", name=f"f{n}")
            await ledger.add(f"w{n}", 1, {subject: Counts(requests=n)})
        async with (
            platform.platform.host([LedgerService(ledger).hosted()]),
            open_site(platform) as site,
        ):
            answer = await site.http.get("/metrics")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert answer.headers["content-encoding"] == "gzip"
            families = {one.name: one for one in text_string_to_metric_families(answer.text)}
            requests = families["microcosmos_function_requests"].samples
            assert {one.labels["function"]: one.value for one in requests} == {
                f"f{n}": n for n in range(30)
            }
            plain = await site.http.get("/metrics", headers={"accept-encoding": "identity"})
            assert "content-encoding" not in plain.headers
            assert plain.text == answer.text
            head = await site.http.head("/metrics")
            assert (head.status_code, head.content) == (200, b"")
            assert (await site.http.post("/metrics")).status_code == 405


async def test_where_nobody_counts_there_is_nothing_to_read(
    platform: Bench, open_site: Any
) -> None:
    async with open_site(platform) as site:
        answer = await site.http.get("/metrics")
        assert (answer.status_code, answer.text) == (200, "")
