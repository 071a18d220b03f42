"""What the files of a function say of npm packages and of JSX, as Deno is to hear it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from .interface import Finding

_VERSION = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"
_NAME = r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-zA-Z0-9~_-][a-zA-Z0-9._~-]*"

EXACT = re.compile(rf"npm:/?{_NAME}@{_VERSION}(?:/.*)?")
"""The specifier of a package, or of a file in it, of an exact version."""

_PINNED = re.compile(_VERSION)
_RELATIVE = re.compile(r"\./.*")
_JSX = ("jsx", "jsxImportSource", "jsxFactory", "jsxFragmentFactory")


def settings_of(files: Mapping[str, str]) -> tuple[dict[str, object], list[Finding]]:
    """The configuration for Deno, from ``package.json``, ``deno.json`` and ``tsconfig.json``.

    Only exact dependencies, an import map of such, and how JSX is written are taken from them.
    """
    findings: list[Finding] = []
    package = _read(files, "package.json", findings)
    own = _read(files, "deno.json", findings)
    types = _read(files, "tsconfig.json", [])
    imports: dict[str, str] = {}
    for name, target in _dependencies(files, package, findings):
        imports[name] = f"npm:{target}"
        imports[f"{name}/"] = f"npm:/{target}/"
    for name, target in _mapping(own.get("imports")).items():
        if EXACT.fullmatch(target):
            imports[name] = target
            imports.setdefault(f"{name}/", f"npm:/{target.removeprefix('npm:').lstrip('/')}/")
        elif _RELATIVE.fullmatch(target):
            imports[name] = "./src/" + target.removeprefix("./")
        else:
            message = f'"{name}" is neither a file nor a package of an exact version: "{target}"'
            findings.append(_at(files, "deno.json", name, message))
    options = {**_jsx(types), **_jsx(own)}
    config: dict[str, object] = {
        "imports": imports,
        "unstable": ["sloppy-imports"],
        "nodeModulesDir": "none",
        "lock": False,
        "compilerOptions": options,
    }
    return config, findings


def _dependencies(
    files: Mapping[str, str], package: Mapping[str, Any], findings: list[Finding]
) -> Iterator[tuple[str, str]]:
    for name, said in _mapping(package.get("dependencies")).items():
        if _PINNED.fullmatch(said):
            yield name, f"{name}@{said}"
        elif EXACT.fullmatch(said):
            yield name, said.removeprefix("npm:")
        else:
            message = f'"{name}" has no exact version: "{said}"; say one, like "1.2.3"'
            findings.append(_at(files, "package.json", name, message))


def _read(files: Mapping[str, str], name: str, findings: list[Finding]) -> Mapping[str, Any]:
    if name not in files:
        return {}
    try:
        return msgspec.json.decode(files[name].encode(errors="replace"), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        findings.append(Finding(file=name, message=f"is no JSON: {error}"))
        return {}


def _mapping(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {name: target for name, target in value.items() if isinstance(target, str)}


def _jsx(config: Mapping[str, Any]) -> dict[str, str]:
    options = _mapping(config.get("compilerOptions"))
    return {name: options[name] for name in _JSX if name in options}


def _at(files: Mapping[str, str], file: str, name: str, message: str) -> Finding:
    """A finding where a name stands in a file of JSON."""
    before, found, _ = files[file].partition(f'"{name}"')
    if not found:
        return Finding(file=file, message=message)
    line = before.count("\n") + 1
    return Finding(file=file, line=line, column=len(before) - before.rfind("\n"), message=message)
