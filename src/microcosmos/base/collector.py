"""The collector of cycles, made to look less often in processes that answer calls."""

from __future__ import annotations

import gc


def calm() -> None:
    """Look at cycles less often, and never at what is here to stay.

    A call leaves no cycles behind, so most looks find nothing, and each takes time from all the
    calls that are being handled. Call it once everything is imported.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
