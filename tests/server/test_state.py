"""The state of a server that is to leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.base.home import Home
from microcosmos.base.profiles import LOCAL, TEST
from microcosmos.server.state import kept


def test_a_state_on_the_disk_is_the_homes(home: Home) -> None:
    with kept(home, LOCAL):
        assert home.server == home.path / "server"
    assert home.server.is_dir()


def test_a_state_in_memory_is_gone_after_the_block(home: Home) -> None:
    with kept(home, TEST):
        state = home.server
        assert home.path not in state.parents
        assert state.stat().st_mode & 0o777 == 0o700
        (state / "keys" / "seed").write_text("x")
    assert not state.exists()
    assert home.server == home.path / "server"


def test_of_a_start_that_failed_the_logs_stay_until_the_next(home: Home) -> None:
    with pytest.raises(errors.Unavailable):
        _failing(home, errors.Unavailable("server", "it could not start"))
    with kept(home, TEST):
        state = home.server
        assert not list(home.logs.iterdir())
    with pytest.raises(errors.Unavailable):
        _failing(home, errors.Unavailable("server", "it could not start"))
    assert [path for path in state.rglob("*") if path.is_file()] == [state / "logs" / "core.log"]
    # Of one that was ended nothing stays.
    with pytest.raises(KeyboardInterrupt):
        _failing(home, KeyboardInterrupt())
    assert not state.exists()


def _failing(home: Home, error: BaseException) -> None:
    with kept(home, TEST):
        (home.server / "keys" / "seed").write_text("x")
        (home.logs / "core.log").write_text("why")
        raise error


def test_a_place_that_another_has_taken_is_refused(home: Home, tmp_path: Path) -> None:
    with kept(home, TEST):
        state = home.server
    (tmp_path / "theirs").mkdir()
    state.symlink_to(tmp_path / "theirs")
    try:
        with pytest.raises(errors.Forbidden, match="belongs to another"), kept(home, TEST):
            pass
        assert list((tmp_path / "theirs").iterdir()) == []
    finally:
        state.unlink()
