"""Whose worker a version runs in, and how much memory that is started with."""

from __future__ import annotations

import pytest

from microcosmos.functions.host.owners import HEAPS, owner_for, owner_of
from microcosmos.functions.interface import Limits, Unit

MIB = 1024 * 1024


def unit(engine: str = "deno", heap: int = 64 * MIB, **said: object) -> Unit:
    return Unit(
        namespace="micro",
        name="shop.cart",
        number=1,
        key="k",
        owner="alice",
        language="javascript",
        form="handler",
        engine=engine,  # type: ignore[arg-type]
        main="index.js",
        code="",
        limits=Limits(heap=heap),
        **said,  # type: ignore[arg-type]
    )


def test_those_of_an_owner_share_a_worker() -> None:
    for engine in ("quickjs", "deno", "monty"):
        owner = owner_for(unit(engine))
        assert (owner.account, owner.kind, owner.apart, owner.heap) == ("alice", engine, "", 0)


@pytest.mark.parametrize("engine", ["quickjs", "monty"])
def test_a_heap_of_its_own_is_no_reason_for_a_process(engine: str) -> None:
    assert owner_for(unit(engine, 512 * MIB)).apart == ""


@pytest.mark.parametrize(
    ("said", "heap"),
    [
        ({"isolation": "process"}, 64 * MIB),
        ({"strikes": 1}, 64 * MIB),
        ({"heap": HEAPS["deno"] + MIB}, HEAPS["deno"] + MIB),
        ({"heap": 64 * MIB + 1, "isolation": "process"}, 65 * MIB),
    ],
)
def test_on_deno_a_process_of_its_own_has_the_heap_of_its_function(
    said: dict[str, object], heap: int
) -> None:
    owner = owner_for(unit(**said))  # type: ignore[arg-type]
    assert owner.apart.startswith("shop.cart")
    assert owner.heap == heap
    # A host that is started anew finds it by what its worker is called.
    assert owner_of(owner.name, "deno") == owner


def test_a_version_with_another_heap_needs_another_process() -> None:
    small, large = (owner_for(unit(heap=heap, isolation="process")) for heap in (MIB, 2 * MIB))
    assert small != large
