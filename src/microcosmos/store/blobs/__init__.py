"""Blobs: content of any size under a key, in chunks, each verified when it is read.

Built on the promises of `Store` alone, so they work on every backend. Their records are in parts of
a table, ``TABLE$blobs`` and below.
"""

from __future__ import annotations

from .blob import MAX_BLOB, Blob, Upload
from .blobs import Blobs, Source

__all__ = ["MAX_BLOB", "Blob", "Blobs", "Source", "Upload"]
