"""Functions on Deno: the whole web platform, one process or more per owner.

The worker itself is JavaScript, in ``worker/``; it speaks `functions.wire` like every other one.
"""

from __future__ import annotations

from .command import BUILTINS, LEAST_HEAP, SCRIPTS, binary, command, quiet

__all__ = ["BUILTINS", "LEAST_HEAP", "SCRIPTS", "binary", "command", "quiet"]
