"""What an egress is told by its supervisor, in its environment, from which it takes it out."""

from __future__ import annotations

KEY = "MICRO_EGRESS_KEY"
"""What only the egress and the core of a server know: it makes the core tell values of secrets."""

OWN = "MICRO_EGRESS_OWN"
"""The platform's own doors, ``host:port`` with commas between, which no function is let through."""
