"""Server-Sent Events: what a browser's EventSource reads."""

from __future__ import annotations

from microcosmos.base import errors

from .ndjson import one_line

KIND = "text/event-stream"

RETRY = 2.0
"""Seconds after which an EventSource opens a stream again that broke."""


class Events:
    """Answers as events; a break is told from an end by the event ``end``. See `outlet.Form`."""

    kind = KIND
    opening = b"retry: %d\n\n" % (RETRY * 1000)
    beat = b": ping\n\n"
    ending = b"event: end\ndata:\n\n"

    @staticmethod
    def message(message: bytes) -> bytes:
        """An event without a name."""
        return b"data: %b\n\n" % one_line(message)

    @staticmethod
    def failure(error: errors.Error) -> bytes:
        """The last event: ``error``."""
        return b"event: error\ndata: %b\n\n" % one_line(error.to_http())
