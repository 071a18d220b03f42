"""Real processes, killed: what they had begun is brought to its end by the next one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from microcosmos.base import codec

from .money import DONE, START

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TELLER = Path(__file__).with_name("teller.py")


def killed(url: str, place: str) -> None:
    """Let a process come to a place, and kill it there."""
    with subprocess.Popen(
        [sys.executable, str(TELLER), url, place], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()


def at_last(url: str) -> Any:
    """What there is after a process that was not killed."""
    done = subprocess.run(
        [sys.executable, str(TELLER), url, "-"], stdout=subprocess.PIPE, timeout=60, check=True
    )
    return codec.decode(done.stdout)


@pytest.mark.parametrize("place", ["fee before", "fee after", "credit after"])
def test_a_saga_whose_process_is_killed_is_done_by_the_next(tmp_path: Path, place: str) -> None:
    url = f"sqlite://{tmp_path / 'bank.db'}"
    killed(url, place)
    said = at_last(url)
    assert (said["status"], said["balances"]) == ("done", DONE)


def test_a_saga_whose_process_is_killed_on_its_way_back_is_undone(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'bank.db'}"
    killed(url, "undo fee after")
    said = at_last(url)
    assert (said["status"], said["balances"]) == ("undone", START)


def test_an_event_that_was_committed_by_a_process_that_was_killed_leaves(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path / 'bank.db'}"
    killed(url, "commit")
    assert at_last(url) == {"status": "never", "balances": START, "events": 1}
