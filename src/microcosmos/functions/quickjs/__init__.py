"""The worker that runs scripts and handlers on QuickJS, each function in a heap of its own.

Importing it starts nothing: no thread, no loop, no context. So the zygote can load it and fork.
"""

from __future__ import annotations

from .worker import run

__all__ = ["run"]
