"""The types of topics as a Python module, as source text."""

from __future__ import annotations

import re
import sys

from . import layout
from .layout import Group, Part
from .python_records import Records
from .python_types import NAMES, Imports, Types
from .topics import NOTE, Topics

RESERVED = NAMES | {"ClassVar", "Exception"}
"""Names that no type of a generated module may have."""


def write(topics: Topics, *, again: str) -> str:
    """A module with a struct for each record, and ``TOPICS``: the type of each topic.

    Args:
        topics: read with `RESERVED`.
        again: the command that writes it again.
    """
    imports = Imports()
    types = Types(topics.model, imports)
    body = Records(topics.model, imports, types).declarations()
    if topics.names:
        imports.name("typing", "TypeAlias")
        body.append("")
    for topic, name in topics.names.items():
        body += layout.lines(f"{name}: TypeAlias = ", types.code(topics.types[topic]))
    imports.name("typing", "Any")
    known = tuple(
        Part(f"{layout.text(topic)}: ", topics.names.get(topic) or types.code(kind))
        for topic, kind in topics.types.items()
    )
    table = layout.lines("TOPICS: dict[str, Any] = ", Group("{", known, "}"))
    head = [
        f"# Made by `{again}`; {NOTE}",
        *layout.docstring(["What is published on topics."], 0),
        "",
        "from __future__ import annotations",
        "",
        *imports.lines(frozenset(sys.stdlib_module_names)),
        "",
    ]
    text = "\n".join([*head, *body, "", *table, '"""The type of each topic."""']) + "\n"
    return re.sub(r"\n{4,}", "\n\n\n", text)
