"""What functions on Deno may use beside their own `Limits`; the worker is told when it starts."""

from __future__ import annotations

OPERATIONS = 10_000
"""Timers, sub-requests, uses of bindings and the like that one function has under way."""

LOG_LINE = 16 * 1024
"""Characters of a line of the log; what is longer is cut."""

LOG_LINES = 2000
"""Lines of a function that wait to be told to the host; more are dropped, which the last says."""

LOADING = 10.0
"""Seconds that a function may take to load, unless its requests may take less."""
