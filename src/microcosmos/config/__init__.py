"""Settings and secrets, by dot path."""

from .interface import MASK, MAX_DOCUMENT, MAX_REVISIONS

__all__ = ["MASK", "MAX_DOCUMENT", "MAX_REVISIONS"]
