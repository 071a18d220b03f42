"""Errors in a Python source, found without running it."""

from __future__ import annotations

import re

from pydantic_monty import (
    AsyncMonty,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from microcosmos.base import errors
from microcosmos.functions import wire
from microcosmos.functions.interface import Limits

from .sandbox import Died, open_sandbox

CHECK_CPU = 2.0
"""Seconds of the processor that looking at a source may take."""

_HEAP = 256 * 1024 * 1024

_STOP = "_stop()\n"
"""Comes first: reading is done by then, and the source itself is never reached."""

_HANDLER = re.compile(
    r"^((async[ \t]+)?def[ \t]+)?(handler|consume|scheduled)\b[^=\n]*[(=]", re.MULTILINE
)
_NOT_YET = "The monty syntax parser does not yet support "


class _Read(Exception):
    """The source was read, without an error."""


async def check(pool: AsyncMonty, source: wire.Source) -> wire.Checked:
    """What is wrong with a source: what Monty cannot read, or that nothing in it handles."""
    sandbox = await open_sandbox(pool, name=source.file, limits=Limits(cpu=CHECK_CPU, heap=_HEAP))
    try:
        await sandbox.run(_STOP + source.code, limit=CHECK_CPU, asks={"_stop": _stop})
    except _Read:
        pass
    except Died:
        return wire.Checked(message="it cannot be read: the sandbox died of it")
    except errors.Error as error:
        return wire.Checked(message=f"it cannot be read: {error.detail}")
    except MontyError as error:
        return _checked(error)
    finally:
        sandbox.process.kill()
        await sandbox.close()
    found = {match[3] for match in _HANDLER.finditer(source.code)}
    if not found:
        return wire.Checked(message="there is no handler(request, env), consume or scheduled")
    return wire.Checked(form="handler", handlers=sorted(found))


async def _stop() -> None:
    raise _Read


def _checked(error: MontyError) -> wire.Checked:
    message = str(error.exception())
    if message.startswith(_NOT_YET):
        message = f"{message.removeprefix(_NOT_YET)} cannot be used in functions"
    frames = error.traceback() if isinstance(error, MontySyntaxError | MontyRuntimeError) else []
    if not frames:
        return wire.Checked(message=message)
    return wire.Checked(line=max(frames[-1].line - 1, 1), column=frames[-1].column, message=message)
