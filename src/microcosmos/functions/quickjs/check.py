"""Looking at a source without running it."""

from __future__ import annotations

import re

import msgspec
from _quickjs import Context  # type: ignore[import-not-found]

from microcosmos.functions.limits import DEFAULTS
from microcosmos.functions.wire import Checked, Source

from .limits import CHECK_CPU, CHECK_HEAP
from .realm import Failure

_STOP = "throw 0;"
"""Put before a source on its first line, so that no statement of it is reached."""

_STRICT = re.compile(
    r"""(?:\s|//[^\n]*\n|/\*[^]*?\*/)*(?:"use strict"|'use strict')""".replace("[^]", r"[\s\S]")
)
_MODULE = re.compile(r"^\s*(?:import\b(?!\s*\()|export\b)", re.MULTILINE)
_MODULAR = re.compile(r"\b(?:import|export)\b")
_AT = re.compile(r"<input>:(\d+):(\d+)")
_NAMES = ("handler", "consume", "scheduled")
_WAITS = (
    "await is for functions and modules: write `async function handler(request, env) { … }`, "
    "or `export default { fetch }`"
)


def check(source: Source) -> Checked:
    """What is wrong with a source, or else its form."""
    if source.language != "javascript":
        return Checked(message=f"{source.language} is not checked here")
    if "\0" in source.code:
        before = source.code.partition("\0")[0]
        line = before.count("\n") + 1
        return Checked(
            line=line, column=len(before) - before.rfind("\n"), message="a NUL character"
        )
    context = _fresh()
    wrong = _wrong(context.eval, source.code)
    if wrong is None:
        handlers = _handlers(context)
        return Checked(form="handler" if handlers else "script", handlers=handlers)
    as_module = _wrong(_fresh().module, source.code)
    if as_module is None and not _MODULAR.search(source.code):
        # Only for its `await` it is one, and nothing in it answers.
        return msgspec.structs.replace(wrong, message=_WAITS)
    if as_module is None:
        return Checked(form="module")
    return as_module if _MODULE.search(source.code) else wrong


def _fresh() -> Context:
    context = Context()
    context.set_max_stack_size(DEFAULTS.stack)
    context.set_memory_limit(CHECK_HEAP)
    context.set_time_limit(CHECK_CPU)
    return context


def _wrong(parse: object, code: str) -> Checked | None:
    """The error of syntax in a code; None if there is none."""
    stop = ("'use strict';" if _STRICT.match(code) else "") + _STOP
    try:
        parse(stop + code)  # type: ignore[operator]
    except Failure as error:
        text = str(error)
    except (ValueError, TypeError) as error:
        return Checked(message=str(error))
    else:
        # A module has run into the stop, but tells it by a promise.
        return None
    if text.startswith("SyntaxError: "):
        return _found(text.removeprefix("SyntaxError: "), len(stop))
    if text.startswith(("0", "ReferenceError: could not load module")):
        return None
    if text.startswith("InternalError: interrupted"):
        return Checked(message=f"it takes more than {CHECK_CPU:g} s to read")
    if text.startswith("RangeError: Maximum call stack size exceeded"):
        return Checked(message="it is nested too deeply")
    return Checked(message=text.partition("\n")[0])


def _found(text: str, shift: int) -> Checked:
    message, _, rest = text.partition("\n")
    at = _AT.search(rest)
    line, column = (int(at[1]), int(at[2])) if at else (0, 0)
    if line == 1:
        column = max(column - shift, 1)
    return Checked(line=line, column=column, message=message)


def _handlers(context: Context) -> list[str]:
    """The handlers at the top of a source that was read, but not run.

    Functions are there already; names of the others are known, but without a value yet.
    """
    return [name for name in _NAMES if _handles(context, name)]


def _handles(context: Context, name: str) -> bool:
    try:
        return bool(context.eval(f"typeof {name} === 'function' || '{name}' in globalThis"))
    except Failure as error:
        return "is not initialized" in str(error)
