"""What functions may use beside their own `Limits`."""

from __future__ import annotations

LOAD_CPU = 1.0
"""Seconds of the processor that a function may take to load."""

LINGER = 30.0
"""Seconds that a function may go on with what it has begun after all its answers are given."""

LOG_LINE = 16 * 1024
"""Characters of a line of the log; what is longer is cut."""

LOG_LINES = 2000
"""Lines of a function that wait to be told to the host; more are dropped, which the last says."""

OPERATIONS = 10_000
"""Timers, sub-requests and uses of bindings that one function has under way."""

FETCHED = 8 * 1024 * 1024
"""Bytes of the answer of a sub-request that are read whole; what is longer comes in pieces."""

LOOKS = 0.1
"""Seconds between two looks at how large a heap is, at least."""

LOOKING = 50
"""How many times as long as a look took, for which the engine walks its heap, none follows."""

CHECK_CPU = 2.0
"""Seconds of the processor that looking at a source may take."""

CHECK_HEAP = 256 * 1024 * 1024
"""Bytes of memory that looking at a source may take."""

DRAIN = 60.0
"""Seconds that a worker which ends has for what is under way."""

HOST_PATIENCE = 6.0
"""Seconds that what functions ask of their host waits while that is being started again: longer
than the longest pause of the supervisor between two starts."""
