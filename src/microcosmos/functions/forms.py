"""Forms: in which language a function is, how it answers, and which engine runs it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import get_args

from microcosmos.base import errors

from .interface import Engine, Form, Isolation, Language

LANGUAGES: Mapping[str, Language] = {
    ".js": "javascript",
    ".mjs": "javascript",
    ".cjs": "javascript",
    ".ts": "typescript",
    ".mts": "typescript",
    ".py": "python",
}
"""The language of a file that a function may begin with, by its suffix."""

ENGINES: Mapping[tuple[Language, Form], tuple[Engine, ...]] = {
    ("javascript", "script"): ("quickjs", "deno"),
    ("javascript", "handler"): ("quickjs", "deno"),
    ("javascript", "module"): ("deno",),
    ("typescript", "handler"): ("deno",),
    ("typescript", "module"): ("deno",),
    ("python", "handler"): ("monty",),
    ("python", "script"): ("monty",),
}
"""What may run a form, the one that does unless another is asked for first."""

_ID = "functions"

# What may be a word of these within a text or a comment only costs a look at the imports.
_IMPORTS = re.compile(r"\bimport\b|\bexport\b[^;]*?\bfrom\b|\brequire\s*\(", re.DOTALL)


def suffix_of(path: str) -> str:
    """The suffix of a file's name with its dot; empty if it has none."""
    name = path.rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def language_of(main: str, said: str = "") -> Language:
    """The language of a file.

    Args:
        main: the file that a function begins with.
        said: what was said of it; empty goes by the suffix.

    Raises:
        errors.BadRequest: there is no such language, or the suffix tells none.
    """
    if said:
        for language in get_args(Language):
            if said.lower() == language:
                return language  # type: ignore[no-any-return]
        known = ", ".join(get_args(Language))
        raise errors.BadRequest(_ID, f"language: {said!r:.40} is none; one of {known}")
    if found := LANGUAGES.get(suffix_of(main)):
        return found
    suffixes = " ".join(LANGUAGES)
    detail = f"{main}: its suffix tells no language ({suffixes}); say it with --language"
    raise errors.BadRequest(_ID, detail)


def main_of(paths: Iterable[str], name: str, said: str = "") -> str:
    """The file that a function begins with.

    Args:
        paths: of all files.
        name: of the function.
        said: which one; empty is the only one, or ``index``, ``main`` or the function's name with
            any suffix.

    Raises:
        errors.BadRequest: there is none, or more than one.
    """
    paths = sorted(paths)
    if said:
        if said in paths:
            return said
        raise errors.BadRequest(_ID, f"main: there is no file {said!r:.200}")
    if len(paths) == 1:
        return paths[0]
    runnable = [path for path in paths if suffix_of(path) in LANGUAGES]
    for stem in ("index", "main", name, name.rpartition(".")[2]):
        found = [path for path in runnable if path == f"{stem}{suffix_of(path)}"]
        if len(found) == 1:
            return found[0]
        if found:
            detail = f"it may begin with {' or '.join(found)}; say which with --main"
            raise errors.BadRequest(_ID, detail)
    if len(runnable) == 1:
        return runnable[0]
    detail = f"main: none of its {len(paths)} files is index, main or {name}: say which with --main"
    raise errors.BadRequest(_ID, detail)


def check_engine(said: str) -> None:
    """Refuse an engine that there is not.

    Raises:
        errors.BadRequest: it is none.
    """
    if said and said not in get_args(Engine):
        known = ", ".join(get_args(Engine))
        raise errors.BadRequest(_ID, f"engine: {said!r:.40} is none; one of {known}")


def engine_of(language: Language, form: Form, said: str = "") -> Engine:
    """What runs a form.

    Raises:
        errors.BadRequest: nothing does, or not the engine that was said.
    """
    engines = ENGINES.get((language, form))
    if engines is None:
        raise errors.BadRequest(_ID, f"form: {language} cannot be a {form}: {_WAYS[language]}")
    if not said:
        return engines[0]
    for engine in engines:
        if engine == said:
            return engine
    detail = f"engine: a {form} in {language} runs on {' or '.join(engines)}, not on {said}"
    raise errors.BadRequest(_ID, detail)


def check_isolation(said: str) -> None:
    """Refuse a level of isolation that there is not.

    Raises:
        errors.BadRequest: it is none.
    """
    if said and said not in get_args(Isolation):
        known = ", ".join(get_args(Isolation))
        raise errors.BadRequest(_ID, f"isolation: {said!r:.40} is none; one of {known}")


def isolation_of(engine: Engine, language: Language, form: Form, said: str = "") -> Isolation:
    """What a version is kept apart by.

    Raises:
        errors.BadRequest: its engine cannot be.
    """
    for isolation in get_args(Isolation):
        if isolation == (said or "isolate") and (said != "wasm" or engine == "quickjs"):
            return isolation  # type: ignore[no-any-return]
    detail = f"isolation: wasm runs a script or handler in JavaScript on quickjs; a {form} in "
    raise errors.BadRequest(_ID, f"{detail}{language} on {engine} can have --isolation process")


def links(files: Mapping[str, str], main: str, language: Language) -> bool:
    """Whether the files have to be linked to one program before they can run."""
    return language != "python" and _IMPORTS.search(files[main]) is not None


_WAYS: Mapping[Language, str] = {
    "javascript": "write a script, a function `handler`, or `export default { fetch }`",
    "typescript": "write a function `handler`, or `export default { fetch }`",
    "python": "write a function `handler`",
}
