"""Indexes of a table: records found, and ordered, by what a function says of their values.

Built on the promises of `Store` alone, so they work on every backend. Their records are in tables
of the same database whose names are the table's, ``$index``, and more.
"""

from __future__ import annotations

from .catalog import drop_orphans
from .entry import Entry, Indexer, Row, Status
from .generation import Failure
from .index import Index
from .indexed import Indexed
from .order import IndexKey

__all__ = [
    "Entry",
    "Failure",
    "Index",
    "IndexKey",
    "Indexed",
    "Indexer",
    "Row",
    "Status",
    "drop_orphans",
]
