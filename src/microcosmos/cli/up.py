"""`make up`: the platform with an example on it, in the foreground."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from microcosmos.base.home import Home

EXAMPLE = "helloworld"
PATIENCE = 60.0
_MICRO = [sys.executable, "-m", "microcosmos.cli"]


def main() -> int:
    """Start a server, run the example on it, say what to try, and stay until it ends.

    Ctrl-C reaches the server too, which is of the same process group, and drains it.
    """
    home = Home()
    if (running := home.server_info()) is not None:
        print(f"a server runs already, PID {running.pids['server']}; `micro stop` ends it")
        return 1
    server = subprocess.Popen([*_MICRO, "server"])
    try:
        if not _ready(home, server):
            return server.wait()
        if EXAMPLE not in _deployed():
            subprocess.run([*_MICRO, "run", EXAMPLE], check=False, stdout=subprocess.DEVNULL)
        _say(home)
        return server.wait()
    except KeyboardInterrupt:
        return server.wait()


def _ready(home: Home, server: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        info = home.server_info()
        if info is not None and info.pids["server"] == server.pid:
            return True
        time.sleep(0.02)
    return False


def _deployed() -> set[str]:
    said = subprocess.run(
        [*_MICRO, "status", "--output", "json"], check=False, capture_output=True
    ).stdout
    try:
        return {str(row["name"]) for row in json.loads(said)}
    except (ValueError, KeyError, TypeError):
        return set()


def _say(home: Home) -> None:
    info = home.server_info()
    if info is None:
        return
    micro = Path(sys.executable).with_name("micro")
    shown = micro.relative_to(Path.cwd()) if micro.is_relative_to(Path.cwd()) else micro
    print(
        f"""
{EXAMPLE} answers. From another shell, try

  {shown} {EXAMPLE} --name=John
  curl '{info.api}/{EXAMPLE}/call?name=John'
  {shown} services

Ctrl-C stops the platform; what runs on it comes back with the next start.""",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
