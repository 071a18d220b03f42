"""The schema registry: what the events of a topic look like, and what may change about them.

`Registry` keeps the schemas of all namespaces in a store; `Contracts` is what publishers and
consumers check events by.
"""

from __future__ import annotations

from .interface import (
    BACKWARD,
    NONE,
    Breach,
    Consumer,
    Contracts,
    Declaration,
    EndpointSchemas,
    Mode,
    Problem,
    Reader,
    SchemaVersion,
    Settings,
    Subject,
    Writer,
    subject_of,
    subject_of_endpoint,
)

__all__ = [
    "BACKWARD",
    "NONE",
    "Breach",
    "Consumer",
    "Contracts",
    "Declaration",
    "EndpointSchemas",
    "Mode",
    "Problem",
    "Reader",
    "SchemaVersion",
    "Settings",
    "Subject",
    "Writer",
    "subject_of",
    "subject_of_endpoint",
]
