"""Showing: functions as people are told of them."""

from __future__ import annotations

from .interface import Finding


def path_of(name: str) -> str:
    """The path of a function on the gateway."""
    return "/" + name.replace(".", "/")


def shown(finding: Finding) -> str:
    """One line: ``file:line:column: message``."""
    places = [finding.file, *(str(at) for at in (finding.line, finding.column) if at)]
    return f"{':'.join(places)}: {' '.join(finding.message.split())}"
