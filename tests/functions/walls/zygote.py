"""A zygote whose workers are attackers: within the walls of each kind, and without any."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from microcosmos.base import lifespan, log
from microcosmos.base.home import Home
from microcosmos.functions import deno, walls
from microcosmos.functions.deno.command import SCRIPTS
from microcosmos.functions.monty import looker
from microcosmos.functions.monty.program import program
from microcosmos.functions.walls import profiles, report
from microcosmos.functions.zygote.kinds import Executed, Forked
from microcosmos.functions.zygote.process import Zygote

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
attacker = importlib.import_module("attacker")


def command(path: Path, heap: int) -> tuple[list[str], dict[str, str]]:
    argv, env = deno.command(path, heap=heap, folder=path.parent / "deno")
    words = [word for word in argv[: argv.index(str(SCRIPTS / "main.js"))] if "allow" not in word]
    return [*words, "--allow-all", str(HERE / "attacker.js"), str(path)], env


KINDS = {
    "quickjs": Forked(lambda: attacker.run, lambda _: profiles.quickjs()),
    "wasm": Forked(lambda: attacker.run, lambda _: profiles.wasm()),
    "looker": Forked(lambda: attacker.run, lambda _: profiles.looker()),
    "monty": Forked(lambda: attacker.run, lambda _: profiles.monty(program()), looker.begin),
    "deno": Executed(command, lambda folder: profiles.deno(deno.binary(), (SCRIPTS, HERE), folder)),
    "forked": Forked(lambda: attacker.run, None),
    "executed": Executed(command, None),
}

if __name__ == "__main__":
    log.setup()
    home = Home()
    measured = walls.measure(walls.allowed())
    report.leave(home, measured)
    lifeline = int(os.environ[lifespan.LIFELINE])
    zygote = Zygote(home.zygote_socket, KINDS, home.lanes, lifeline, walls=measured)
    zygote.open(("quickjs",))
    lifespan.report_ready()
    zygote.run()
