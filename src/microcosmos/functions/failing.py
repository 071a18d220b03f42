"""Failing: how the ledger calls what a request of a function has failed by, and who counts it."""

from __future__ import annotations

from microcosmos.base import errors
from microcosmos.monitor.ledger.interface import MAX_FAILURE

_PREFIX = "functions."
_COUNTED = "_counted_by_worker"

LATE = "functions.limit.wall"
"""The id of the error of a request that was given up: its worker, which is told, counts it."""


def kind_of(id: str) -> str:
    """The kind of failure that an error with this id is: ``limit.cpu`` of ``functions.limit.cpu``.

    It is what stands in the answer and in the log, without what all of them begin with.
    """
    return id.removeprefix(_PREFIX)[:MAX_FAILURE]


def counted(error: errors.Error) -> errors.Error:
    """An error that a worker has said, and so counted."""
    setattr(error, _COUNTED, True)
    return error


def is_uncounted(error: errors.Error) -> bool:
    """Whether no worker has counted the request that is answered by an error of functions."""
    return error.id.startswith(_PREFIX) and error.id != LATE and not getattr(error, _COUNTED, False)
