"""``python -m microcosmos.functions.walls``: what is enforced here, as a table or ``--json``."""

from __future__ import annotations

import sys

import msgspec

from microcosmos.base import errors

from .measuring import measure
from .names import WALLS, allowed


def main() -> int:
    """Print what was measured; 1 if functions would not be run."""
    if sys.argv[1:] not in ([], ["--json"]):
        sys.stderr.write("usage: python -m microcosmos.functions.walls [--json]\n")
        return 64
    try:
        measured = measure(allowed())
    except errors.Error as error:
        sys.stderr.write(f"{error.detail}\n")
        return 64
    if sys.argv[1:]:
        sys.stdout.write(msgspec.json.encode(measured).decode() + "\n")
        return 0
    width = max(map(len, WALLS))
    for wall in measured.walls:
        said = "enforced" if wall.enforced else "missing "
        end = WALLS[wall.name] if wall.enforced else wall.why
        sys.stdout.write(f"{wall.name:<{width}}  {said}  {end}\n")
    sys.stdout.write(f"level {measured.level}\n")
    if measured.refusal:
        sys.stderr.write(f"{measured.refusal}\n")
    return 1 if measured.refusal else 0


if __name__ == "__main__":
    sys.exit(main())
