"""What functions in WebAssembly may use beside their own `Limits`."""

from __future__ import annotations

MIB = 1024 * 1024

STACK = MIB
"""Bytes of the guest's stack: the most that a function's `stack` can be."""

NATIVE_STACK = 4 * MIB
"""Bytes of this process' own stack that compiled code may use; the rest of it is Python's."""

ROOM = 1024 * MIB
"""Bytes of all realms of a worker together. None begins beyond that, and none grows."""

TOUCHED = 512 * 1024
"""Bytes that a realm is counted with as it begins: it writes to that much of what all share."""

COMPILING = 120.0
"""Seconds that compiling the guest may take."""

OFTEN = 0.002
"""Seconds between two looks at an entry whose time is nearly up."""

SELDOM = 0.02
"""Seconds between two other looks."""

QUIET = 1.0
"""Seconds without an entry after which nobody looks any more."""
