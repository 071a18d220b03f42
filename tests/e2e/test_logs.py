"""`micro status` and `micro logs`, as services run, crash and come back."""

from __future__ import annotations

import queue
import re
import signal
import subprocess
import threading

import pytest

from .live import Live, program, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SPEAKS = """
@service.endpoint
async def speak(line: str) -> None:
    print(line, flush=True)
"""


class Reader:
    """The lines of a command that goes on."""

    def __init__(self, typed: subprocess.Popen[str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        self._thread = threading.Thread(target=self._read, args=(typed,), daemon=True)
        self._thread.start()

    def _read(self, typed: subprocess.Popen[str]) -> None:
        assert typed.stdout is not None
        for line in typed.stdout:
            self._lines.put(line.rstrip("\n"))

    def next(self) -> str:
        return self._lines.get(timeout=60)

    def rest(self) -> list[str]:
        self._thread.join(60)
        return list(self._lines.queue)


def test_status_is_the_references_table(live: Live) -> None:
    with live.running("shown", program("shown"), "--metadata", "team=web") as folder:
        heading, row = live.micro("status", "shown").lines
        names = ["NAME", "VERSION", "SOURCE", "STATUS", "BUILD", "UPDATED", "METADATA"]
        assert heading.split() == names
        pattern = rf"shown +latest +{folder} +running +n/a +\d+s ago +(.*)"
        match = re.fullmatch(pattern, row)
        assert match is not None, row
        assert match[1] == "team=web, owner=admin, group=micro"
        assert row.index("running") == heading.index("STATUS")
        assert row.index("team=web") == heading.index("METADATA")
    live.refused(4, "status", "shown")
    live.refused(4, "kill", "shown")
    live.refused(4, "logs", "shown")


def test_logs_show_the_last_lines_and_follow(live: Live) -> None:
    with live.running("talks", program("talks", more=SPEAKS)):
        for number in range(20):
            live.web.get(f"/talks/speak?line=line+{number}")
        last = live.micro("logs", "talks").lines
        assert last == [f"line {number}" for number in range(5, 20)]
        assert live.micro("logs", "talks", "-n", "2").lines == ["line 18", "line 19"]
        assert len(live.micro("logs", "talks", "--lines", "100").lines) == 21
        assert len(live.micro("logs", "talks", "--since", "1h", "-n", "100").lines) == 21
        following = live.typing("logs", "-f", "-n", "1", "talks")
        reader = Reader(following)
        assert reader.next() == "line 19"
        for word in ("one", "two"):
            live.web.get(f"/talks/speak?line={word}")
            assert reader.next() == word
        following.send_signal(signal.SIGINT)
        assert following.wait(60) == 130
        assert reader.rest() == []
        assert following.stderr is not None
        assert following.stderr.read() == ""


def test_since_leaves_out_what_is_older(live: Live) -> None:
    with live.running("ages", program("ages", more=SPEAKS)):
        live.web.get("/ages/speak?line=old")
        # Times are marked once a second: wait until the old line lies behind a mark.
        until(lambda: "old" not in live.micro("logs", "ages", "--since", "1s").lines)

        def shown() -> list[str]:
            # On a busy machine the command may begin when the line is older than that.
            live.web.get("/ages/speak?line=new")
            return live.micro("logs", "ages", "--since", "1s").lines

        assert {*until(shown)} == {"new"}
        assert "old" in live.micro("logs", "ages", "--since", "10m").lines


def test_a_trace_finds_its_lines(live: Live) -> None:
    more = "@service.endpoint\nasync def broken() -> str:\n    return 1 / 0\n"
    with live.running("traced", program("traced", more=more)):
        line = live.refused(127, "traced", "broken")
        assert line.startswith("micro: the handler failed; its log has the cause (trace ")
        trace = line.rpartition("(trace ")[2].rstrip(")")
        found = live.micro("logs", "--trace", trace).out
        assert trace in found
        assert live.micro("logs", "traced", "-n", "1").lines == [
            "ZeroDivisionError: division by zero"
        ]
        told = live.web.get("/traced/broken")
        assert told.status_code == 500
        assert "ZeroDivision" not in told.text


def test_a_service_that_crashes_shows_its_last_words_and_comes_back(live: Live) -> None:
    down = live.folder("crashy") / "down"
    more = f"""
from pathlib import Path

down = Path({str(down)!r})


@service.endpoint(retry=False)
async def crash() -> None:
    down.touch()
    end()


def end() -> None:
    print("the last words", flush=True)
    os._exit(3)


# It stays down until it has been seen.
if down.exists():
    end()
"""
    with live.running("crashy", program("crashy", more=more)):
        before = live.call("crashy")["pid"]
        assert live.web.get("/crashy/crash").status_code == 503

        def shown() -> str:
            row = live.admin.post("/runtime/read", json={"name": "crashy"}).json()[0]
            return f"{row['status']} {row['error']}"

        until(lambda: shown() == "error the last words")
        down.unlink()
        until(lambda: live.status("crashy")["status"] == "running")
        row = live.status("crashy")
        assert "error" not in row["metadata"]
        assert live.call("crashy")["pid"] != before
        assert "the last words" in live.micro("logs", "crashy").lines


def test_a_service_that_never_starts_shows_why(live: Live) -> None:
    folder = live.folder("stillborn", "import sys\nsys.exit('no database here')\n")
    said = live.type("run", str(folder))
    assert said.code == 127
    # The last lines of its log, and then one of ours.
    last = "no database here"
    assert said.err.splitlines()[-2] == last
    assert said.err.splitlines()[-1].startswith(f"micro: {last} (trace ")
    row = live.status("stillborn")
    assert (row["status"], row["metadata"]["error"]) == ("error", last)
    (folder / "main.py").write_text(program("stillborn"))
    live.micro("update", str(folder))
    assert live.status("stillborn")["status"] == "running"
    live.micro("kill", "stillborn")


def test_after_a_kill_nothing_of_it_is_left(live: Live) -> None:
    with live.running("brief", program("brief")):
        pid = int(live.web.get("/brief").json()["pid"])
        live.micro("kill", "brief")
        answer = live.web.get("/brief")
        assert answer.status_code == 404
        assert (
            answer.json()["Detail"] == "service brief not found; /registry/listServices lists them"
        )
        assert pid not in live.children()
        assert "brief" not in live.micro("status").out
        assert "brief" not in live.micro("services").lines
        line = live.refused(4, "brief")
        assert "brief" in line
        assert not list(live.home.logs.glob("brief.*"))
        assert not (live.home.server / "sources" / "brief").exists()
