"""A child's side: its word that it is ready, and the line that tells it that it is alone."""

from __future__ import annotations

import asyncio
import os

import pytest

from microcosmos.base import lifespan


def test_ready_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = os.pipe()
    monkeypatch.setenv(lifespan.READY, str(theirs))
    lifespan.report_ready()
    lifespan.report_ready()
    assert os.read(mine, 10) == b"1"
    assert os.read(mine, 10) == b""
    os.close(mine)


@pytest.mark.parametrize("value", ["", "none", "-1", "99999"])
def test_without_a_supervisor_nothing_is_said(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(lifespan.READY, value)
    lifespan.report_ready()


async def test_a_closed_lifeline_is_heard_by_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = os.pipe()
    monkeypatch.setenv(lifespan.LIFELINE, str(mine))
    waits = [asyncio.create_task(lifespan.lifeline_closed()) for _ in range(2)]
    done, _ = await asyncio.wait(waits, timeout=0.01)
    assert not done
    os.close(theirs)
    await asyncio.wait_for(asyncio.gather(*waits), 60)
    os.close(mine)


@pytest.mark.parametrize("value", ["", "99999"])
async def test_without_a_lifeline_one_waits_for_ever(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(lifespan.LIFELINE, value)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(lifespan.lifeline_closed(), 0.01)
