"""Which encodings a client accepts, and what it says of its own copy."""

from __future__ import annotations


def accepts(accepted: str, coding: str) -> bool:
    """Whether ``Accept-Encoding`` names a coding, or anything, with a weight that is not 0."""
    weights: dict[str, str] = {}
    for part in accepted.lower().split(","):
        name, _, parameter = part.partition(";")
        weights[name.strip()] = parameter.partition("=")[2].strip()
    weight = weights.get(coding, weights.get("*", "0"))
    return not weight or weight.strip("0.") != ""


def has_copy(if_none_match: str, etag: str) -> bool:
    """Whether ``If-None-Match`` names this ETag; weak and strong ones are alike here."""
    if if_none_match.strip() == "*":
        return True
    bare = etag.removeprefix("W/")
    return any(one.strip().removeprefix("W/") == bare for one in if_none_match.split(","))
