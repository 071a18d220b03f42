"""The ledger: what functions, services and apps have used, each count added once."""

from .interface import (
    MEASURES,
    Added,
    Counts,
    Kind,
    Line,
    Listener,
    Measure,
    Subject,
)

__all__ = [
    "MEASURES",
    "Added",
    "Counts",
    "Kind",
    "Line",
    "Listener",
    "Measure",
    "Subject",
]
