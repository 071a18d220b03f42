"""What both ends of a stream agree on: how far ahead, and how long silent, one may be."""

from __future__ import annotations

WINDOW = 256 * 1024
"""Bytes that a sender may be ahead of its reader."""

WEIGHT = 64
"""Bytes that each message counts beside its own, so that tiny ones are bounded too."""

BEATS = 5.0
"""Seconds of silence after which an end says that it is still there."""

LOST_AFTER = 3
"""Silences of `BEATS` seconds after which the other end is taken for lost."""
