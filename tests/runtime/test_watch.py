"""`micro run --watch` sees what matters."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from microcosmos.runtime.watch import changes


def test_a_change_is_told_and_ignored_files_are_not(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.log\n")
    (tmp_path / "__pycache__").mkdir()
    stop, told = threading.Event(), threading.Event()
    found: list[list[str]] = []

    def follow(seen: Iterator[list[str]]) -> None:
        for names in seen:
            found.append(names)
            told.set()

    seen = changes(tmp_path, delay=0.05, stop=stop)
    thread = threading.Thread(target=follow, args=(seen,))
    thread.start()
    try:
        # The watcher has no signal for being ready: write until it has seen something.
        for number in range(100):
            (tmp_path / "noise.log").write_text(str(number))
            (tmp_path / "__pycache__" / "x.pyc").write_text(str(number))
            (tmp_path / "main.py").write_text(str(number))
            if told.wait(0.1):
                break
    finally:
        stop.set()
        thread.join(60)
    assert found
    assert {name for names in found for name in names} == {"main.py"}
