"""The ledger as Prometheus reads it: by Prometheus' own parser."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from microcosmos.base.clock import SystemClock
from microcosmos.monitor.ledger import Counts, exposition
from microcosmos.monitor.ledger.exposition import exposition as told
from microcosmos.store import open_store

from .books import HOUR, Leaping, book, one, subject


def read(text: str) -> dict[str, Any]:
    """Families by name; the parser raises where the text is none."""
    return {family.name: family for family in text_string_to_metric_families(text)}


async def test_all_that_is_counted_is_told() -> None:
    async with open_store("memory://") as store:
        ledger = book(store)
        used = Counts(
            requests=3,
            errors=2,
            failures={"limit.cpu": 1, "exception": 1},
            execution_ns=2_500_000_000,
            cpu_ns=500_000_000,
            byte_ms=4000,
            heap=123,
            response_bytes=7,
        )
        await ledger.add(
            "w", 1, {subject("shop", "v2", kind="function"): used, subject("users", "1.0"): one()}
        )
        families = read(await told(ledger.reading, lambda _: True))
        labels = {"namespace": "micro", "function": "shop", "version": "v2", "account": "ann"}
        values = {
            "requests": 3,
            "errors": 2,
            "duration_seconds": 2.5,
            "cpu_seconds": 0.5,
            "memory_byte_seconds": 4,
            "response_bytes": 7,
            "request_bytes": 0,
            "fetches": 0,
            "cold_starts": 0,
        }
        for name, value in values.items():
            family = families[f"microcosmos_function_{name}"]
            assert family.type == "counter"
            (sample,) = family.samples
            assert (sample.name, sample.labels, sample.value) == (
                f"microcosmos_function_{name}_total",
                labels,
                value,
            )
        assert families["microcosmos_function_memory_max_bytes"].type == "gauge"
        failures = families["microcosmos_function_failures"].samples
        assert {sample.labels["failure"]: sample.value for sample in failures} == {
            "limit.cpu": 1,
            "exception": 1,
        }
        (sample,) = families["microcosmos_service_requests"].samples
        assert sample.labels["service"] == "users"
        assert families["microcosmos_ledger_versions_left_out"].samples[0].value == 0


async def test_whatever_stands_in_a_label_comes_back() -> None:
    strange = ['a"b', "a\\b", "a\nb", "\\n", "ü", "{}", 'a",b="c', "a b\\"]
    async with open_store("memory://") as store:
        ledger = book(store)
        for n, text in enumerate(strange):
            await ledger.add(f"w{n}", 1, {subject(account=text, name=f"s{n}"): one()})
        (families,) = [read(await told(ledger.reading, lambda _: True))]
        samples = families["microcosmos_service_requests"].samples
        assert [sample.labels["account"] for sample in samples] == strange


async def test_what_is_too_much_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "MAX_VERSIONS", 5)
    monkeypatch.setattr(exposition, "PAGE", 3)
    clock = Leaping(SystemClock().time())
    async with open_store("memory://", clock=clock) as store:
        ledger = book(store, clock)
        for n in range(9):
            clock.leap(HOUR)
            await ledger.add(f"w{n}", 1, {subject(f"s{n}"): one()})
        families = read(await told(ledger.reading, lambda _: True))
        samples = families["microcosmos_service_requests"].samples
        # Those that were used last.
        assert [sample.labels["service"] for sample in samples] == [f"s{n}" for n in range(4, 9)]
        assert families["microcosmos_ledger_versions_left_out"].samples[0].value == 4


async def test_only_what_may_be_looked_at_is_told() -> None:
    async with open_store("memory://") as store:
        ledger = book(store)
        await ledger.add("w", 1, {subject(): one(), subject(namespace="dev"): one()})
        families = read(await told(ledger.reading, lambda line: line.namespace == "dev"))
        (sample,) = families["microcosmos_service_requests"].samples
        assert sample.labels["namespace"] == "dev"
        assert set(read(await told(ledger.reading, lambda _: False))) == {
            "microcosmos_ledger_versions_left_out"
        }
