"""Making: from a draft to a program that an engine can load, or to what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol, cast

from microcosmos.base import codec, errors

from . import forms
from .drafts import EVENTS, Plan
from .interface import Finding, Form, Limits
from .limits import DEFAULTS
from .showing import shown
from .versions import Made
from .wire import Checked, Source
from .workers import Bundle, Bundling

MAX_PROGRAM = 7 * 1024 * 1024
"""The most bytes of a program with all that is linked into it, as JSON."""

_ID = "functions"
_MISSING = tuple(f"functions.{name}" for name in ("bundle", "deno", "monty", "walls", "wasm"))
_NO_DEFAULT = "a module answers by `export default { fetch(request, env, ctx) { … } }`; it has none"


class Engines(Protocol):
    """What looks at sources; `workers.WorkersClient` does."""

    async def check(self, source: Source) -> Checked:
        """Look for errors of syntax."""

    async def bundle(self, bundling: Bundling) -> Bundle:
        """Make several files one program."""


async def make(plan: Plan, engines: Engines, limits: Limits = DEFAULTS) -> Made | Sequence[Finding]:
    """What a plan becomes, or what is wrong with its sources.

    Args:
        plan: a draft that is well said.
        engines: look at sources.
        limits: what it may use.

    Raises:
        errors.BadRequest: something else about it is wrong.
        errors.TooLarge: the program would be over `MAX_PROGRAM`, or its own limit.
        errors.Unavailable: nobody is there who could look at it.
    """
    draft, main, language = plan.draft, plan.main, plan.language
    files = draft.files
    if language == "python" and sum(path.endswith(".py") for path in files) > 1:
        raise errors.BadRequest(_ID, "files: a function in Python is one file")
    code = files[main]
    try:
        checked = await engines.check(Source(file=main, code=code, language=language))
        if checked.message:
            return [
                Finding(
                    file=main, line=checked.line, column=checked.column, message=checked.message
                )
            ]
        form = cast("Form", checked.form)
        engine = forms.engine_of(language, form, draft.engine)
        isolation = forms.isolation_of(engine, language, form, draft.isolation)
        _check_triggers(draft.on, form, checked.handlers, main)
        if form == "module" and forms.links(files, main, language):
            bundle = await engines.bundle(Bundling(files=files, main=main, language=language))
            if bundle.findings:
                return bundle.findings
            code = bundle.code
    except errors.Unavailable as error:
        if error.id in _MISSING:
            raise
        detail = "sources cannot be checked: the host of functions does not answer; try again"
        raise errors.Unavailable(_ID, detail) from None
    if form == "module" and "default" not in files[main]:
        return [Finding(file=main, message=_NO_DEFAULT)]
    if (size := len(code.encode())) > limits.code:
        most = f"{limits.code:,}; deploy with --limit code=…"
        raise errors.TooLarge("functions.limit.code", f"{main}: {size:,} bytes; at most {most}")
    if (size := len(codec.encode(code))) > MAX_PROGRAM:
        limit = MAX_PROGRAM // (1024 * 1024)
        detail = f"{main}: with all that it imports it has {size:,} bytes; at most {limit} MiB"
        raise errors.TooLarge(_ID, detail)
    return Made(
        draft=draft,
        main=main,
        language=language,
        form=form,
        engine=engine,
        code=code,
        linked=code != files[main],
        isolation=isolation,
    )


def _check_triggers(on: Sequence[str], form: Form, handlers: Collection[str], main: str) -> None:
    """Refuse triggers that nothing handles; what a module handles is known when it is loaded.

    Raises:
        errors.BadRequest: there is such a trigger.
    """
    for trigger in on if form != "module" else ():
        handler = "consume" if trigger.startswith(EVENTS) else "scheduled"
        if handler not in handlers:
            raise errors.BadRequest(_ID, f"on: {trigger}: {main} has no {handler}(event, env)")


def refusal(findings: Sequence[Finding]) -> errors.BadRequest:
    """The error of a draft whose sources are wrong."""
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return errors.BadRequest("functions.source", f"{shown(findings[0])}{more}")
