"""`micro server` with the small core and gateway beside this file."""

import asyncio
import sys
from pathlib import Path

from microcosmos.base import errors, log
from microcosmos.server.main import run
from microcosmos.server.platform import Commands
from microcosmos.server.settings import load

HERE = Path(__file__).parent


def program(name: str) -> list[str]:
    return [sys.executable, str(HERE / name)]


log.setup()
try:
    ready = program("ready.py")
    commands = Commands(program("core.py"), program("gateway.py"), zygote=ready, functions=ready)
    asyncio.run(run(load(), commands))
except errors.Error as error:
    sys.exit(error.detail)
