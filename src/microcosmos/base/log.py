"""Logs: one line a record, plain for people or JSON, with the trace of the call being handled."""

from __future__ import annotations

import logging
import os
import sys

import msgspec

from . import context


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = self.formatTime(record, "%Y-%m-%d %H:%M:%S")
        line = f"{stamp} {record.levelname.lower():7} {record.name}: {record.getMessage()}"
        if trace := _trace():
            line += f" trace={trace}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "timestamp": record.created,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if trace := _trace():
            fields["trace"] = trace
        if record.exc_info:
            fields["stack"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


def _trace() -> str:
    current = context.current_or_none()
    return current.trace if current else ""


def setup() -> None:
    """Send all logs to stderr; `MICRO_LOG_LEVEL` and `MICRO_LOG_FORMAT` (plain, json) choose."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if os.environ.get("MICRO_LOG_FORMAT") == "json" else _Plain())
    level = os.environ.get("MICRO_LOG_LEVEL", "info").upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(level=known.get(level, logging.INFO), handlers=[handler], force=True)
