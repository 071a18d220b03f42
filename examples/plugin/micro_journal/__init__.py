"""A store of another package, and a profile that stands on it.

`pyproject.toml` names both as entry points; nothing in the platform knows of them.
"""

from dataclasses import replace

from microcosmos.base.profiles import LOCAL

from .store import JournalStore

JOURNAL = replace(LOCAL, name="journal", store="journal:///{home}/store.journal")
"""As on a laptop, but for the store."""

__all__ = ["JOURNAL", "JournalStore"]
