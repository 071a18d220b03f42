"""`package.json`: what a folder of Node starts, and which packages it stands on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from microcosmos.base import codec, errors

FILE = "package.json"
LOCKS = ("package-lock.json", "npm-shrinkwrap.json")
SUFFIXES = (".js", ".mjs", ".cjs")

_ID = "runtime.entry"
_CANDIDATES = ("index.js", "server.js", "main.mjs", "index.mjs", "server.mjs", "main.js")
_DEPENDENCIES = ("dependencies", "optionalDependencies")
# What else of it decides what is installed.
_DECIDING = (*_DEPENDENCIES, "peerDependencies", "overrides", "bundleDependencies")
# Scripts that npm runs when it installs: they may need any file of the source.
_HOOKS = ("preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare")
# Versions that mean files of the source itself.
_LOCAL = re.compile(r"(file|link|portal|workspace):|\.{0,2}/|~/")


class Packages(msgspec.Struct, frozen=True, kw_only=True):
    """What npm has to install.

    Attributes:
        files: of the source, which npm needs; none means the whole source.
        locked: whether a lock file says exactly which versions.
        texts: what decides what is installed.
    """

    files: list[str]
    locked: bool
    texts: list[str]


def there(folder: Path) -> bool:
    """Whether a folder is one of Node."""
    return (folder / FILE).is_file()


def start(folder: Path) -> list[str]:
    """The words of the command that starts its program.

    Raises:
        errors.BadRequest: it is no JSON object, or names nothing to start.
    """
    about = _read(folder)
    scripts = _table(about, "scripts")
    if script := _text(scripts, "start"):
        before = _text(scripts, "prestart")
        # As npm would, but without npm: it would stand between us and the program.
        line = f"{before} && {script}" if before else script
        return ["sh", "-c", f'{line} "$@"', "start"]
    if main := _text(about, "main"):
        return ["node", _main(folder, main)]
    for name in _CANDIDATES:
        if (folder / name).is_file():
            return ["node", name]
    raise errors.BadRequest(
        _ID,
        f"no entry: {FILE} has neither scripts.start nor main, and there is no {_CANDIDATES[0]}; "
        "add one of them, or say what to start with --command",
    )


def packages(folder: Path) -> Packages | None:
    """What npm has to install; None if there is nothing, or it stands in the source already.

    Raises:
        errors.BadRequest: it is no JSON object.
    """
    if not there(folder):
        return None
    about = _read(folder)
    beside = folder / "node_modules"
    vendored = beside.is_dir() and not beside.is_symlink()
    if vendored or not (any(about.get(key) for key in _DEPENDENCIES) or "workspaces" in about):
        return None
    locks = [name for name in LOCKS if (folder / name).is_file()]
    files = [FILE, *locks, *(name for name in (".npmrc",) if (folder / name).is_file())]
    deciding = {key: about[key] for key in _DECIDING if key in about}
    whole = "workspaces" in about or _runs_hooks(about) or _is_local(about)
    others = [(folder / name).read_text("utf-8", "replace") for name in files[1:]]
    texts = [codec.encode(deciding).decode(), *others]
    if whole:
        # The folder's name is the hash of its content.
        texts.append(folder.name)
    return Packages(files=[] if whole else files, locked=bool(locks), texts=texts)


def _read(folder: Path) -> dict[str, Any]:
    try:
        return codec.decode((folder / FILE).read_bytes(), dict[str, Any], id=_ID)
    except errors.BadRequest as exc:
        raise errors.BadRequest(_ID, f"{FILE}: {exc.detail}") from None
    except OSError as exc:
        raise errors.BadRequest(_ID, f"{FILE}: {exc.strerror}") from None


def _table(about: dict[str, Any], key: str) -> dict[str, Any]:
    value = about.get(key)
    return value if isinstance(value, dict) else {}


def _text(table: dict[str, Any], key: str) -> str:
    value = table.get(key)
    return value.strip() if isinstance(value, str) else ""


def _main(folder: Path, main: str) -> str:
    """The file that `main` means: itself, with a suffix, or the index of a folder."""
    inside = not main.startswith(("/", "-")) and ".." not in Path(main).parts and "\0" not in main
    names = (main, f"{main}.js", f"{main}/index.js")
    for name in names if inside else ():
        if (folder / name).is_file():
            return str(Path(name))
    raise errors.BadRequest(_ID, f"{FILE}: main {main[:80]!r} is no file of the folder")


def _runs_hooks(about: dict[str, Any]) -> bool:
    scripts = _table(about, "scripts")
    return any(_text(scripts, name) for name in _HOOKS)


def _is_local(about: dict[str, Any]) -> bool:
    versions = [version for key in _DEPENDENCIES for version in _table(about, key).values()]
    return any(isinstance(version, str) and _LOCAL.match(version) for version in versions)
