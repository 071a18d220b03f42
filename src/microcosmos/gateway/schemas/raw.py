"""An answer that is JSON already."""

from __future__ import annotations

from typing import NamedTuple


class Raw(NamedTuple):
    """The text of a schema, as it was registered."""

    text: str
