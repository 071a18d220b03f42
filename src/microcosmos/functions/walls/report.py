"""What was measured, as the zygote leaves it for whoever asks what the server enforces."""

from __future__ import annotations

from pathlib import Path

import msgspec

from microcosmos.base import codec
from microcosmos.base.home import Home, indented, write_atomically

from .names import Measured


def place(home: Home) -> Path:
    """The file."""
    return home.running / "walls.json"


def leave(home: Home, measured: Measured) -> None:
    """Tell the others."""
    write_atomically(place(home), indented(measured))


def left(home: Home) -> Measured | None:
    """What the server that runs, or the last one, has measured; None if there is none."""
    try:
        return msgspec.json.decode(place(home).read_bytes(), type=Measured)
    except (OSError, *codec.DECODE_ERRORS):
        return None
