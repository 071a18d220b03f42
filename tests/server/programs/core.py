"""A core that asks the supervisor for one replica, which has a child of its own."""

import asyncio
import os
import signal
import sys

from journal import note

from microcosmos.base import lifespan
from microcosmos.base.home import Home
from microcosmos.rpc import Client
from microcosmos.rpc.lane import LaneTransport
from microcosmos.rpc.one_socket import OneSocket
from microcosmos.runtime.interface import ProcessSpec
from microcosmos.server.control import SERVICE, SupervisorClient

REPLICA = """
import os, signal, subprocess, sys
def note(text):
    with open(os.environ["JOURNAL"], "a") as file: file.write(text + "\\n")
def stop(*_):
    note("replica-stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
note(f"grandchild {child.pid}")
note(f"replica {os.getpid()}")
while True: signal.pause()
"""


async def main() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    if os.environ.get("CORE") == "broken":
        sys.exit("the core cannot find its head")
    if os.environ.get("CORE") == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    home = Home()
    transport = LaneTransport(OneSocket(SERVICE, home.supervisor_lane))
    supervisor = SupervisorClient(Client([transport]))
    if "replica" not in await supervisor.running():
        argv = [sys.executable, "-c", REPLICA]
        env = {"JOURNAL": os.environ["JOURNAL"]}
        log = str(home.logs / "replica.log")
        await supervisor.spawn(
            ProcessSpec(name="replica", argv=argv, env=env, cwd=str(home.path), log=log)
        )
    note(f"core {os.getpid()}")
    if os.environ.get("CORE") != "silent":
        lifespan.report_ready()
    await stopped.wait()
    await transport.close()
    note("core-stopped")


asyncio.run(main())
