"""Native code within the walls of each kind: what it tries, and the errno that it gets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .attempts import ALL, ATTEMPTS, ROOT, Attempt
from .conftest import Got, name_of

CONTROLS = {"deno": "executed", "bundler": "piped", "egress": "piped"}
"""Who tries the same without walls; ``forked`` for the others."""

CASES = [pytest.param(kind, one, id=f"{kind}-{one.name}") for kind in ALL for one in ATTEMPTS]


@pytest.mark.parametrize(("kind", "one"), CASES)
def test_the_walls_stop_it(kind: str, one: Attempt, got: Callable[[str], Got]) -> None:
    found, free = got(kind)[one.name], got(CONTROLS.get(kind, "forked"))[one.name]
    if kind in one.spared:
        assert name_of(found) == name_of(one.free)
        return
    assert name_of(found) == name_of(one.expected(kind))
    if ROOT or not one.root:
        # Without the walls it goes on, or gets to where its arguments are looked at.
        assert name_of(free) in (name_of(one.free), "ENOSYS")
