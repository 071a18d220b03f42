"""Limits: what a version may use, out of what was said of it, of its account, and by default."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from microcosmos.base import errors

from . import amounts
from .interface import Limits

_MIB = 1024 * 1024

DEFAULTS = Limits()
"""What a version may use of which nothing is said, nor of its account."""

CEILINGS = Limits(
    cpu=10.0,
    wall=300.0,
    heap=512 * _MIB,
    stack=4 * _MIB,
    request=64 * _MIB,
    # In one message; what is longer is streamed.
    response=8 * _MIB,
    logs=1 * _MIB,
    fetches=1000,
    at_once=50,
    concurrency=10_000,
    code=4 * _MIB,
)
"""The most that anybody may say, an admin of accounts too."""

FLOORS = Limits(
    cpu=0.001,
    wall=0.01,
    heap=2 * _MIB,
    stack=64 * 1024,
    request=0,
    response=0,
    logs=0,
    fetches=0,
    at_once=1,
    concurrency=1,
    code=1,
)
"""The least: with less nothing would run at all."""

MEASURES: Mapping[str, amounts.Measure] = {
    **dict.fromkeys(("cpu", "wall"), "seconds"),
    **dict.fromkeys(("heap", "stack", "request", "response", "logs", "code"), "bytes"),
    **dict.fromkeys(("fetches", "at_once", "concurrency"), "number"),
}
"""What each limit is an amount of."""

NAMES = Limits.__struct_fields__

_ID = "functions"


class Allowance(msgspec.Struct, frozen=True):
    """What the functions of an account may use, by the names of `Limits`.

    Attributes:
        defaults: in place of `DEFAULTS`.
        ceilings: below `CEILINGS`.
    """

    defaults: dict[str, float] = {}
    ceilings: dict[str, float] = {}

    @property
    def most(self) -> Limits:
        """The most that a version may be given."""
        return _with(CEILINGS, self.ceilings)

    def limits(self, said: Mapping[str, float]) -> Limits:
        """What a version may use: what was said of it, else the default, within the ceiling.

        A version that was deployed before its account got a lower ceiling keeps to that.
        """
        wanted = {**self.defaults, **said}
        most = self.most
        return _with(
            DEFAULTS,
            {
                name: min(wanted.get(name, getattr(DEFAULTS, name)), getattr(most, name))
                for name in NAMES
            },
        )


def check(what: str, said: Mapping[str, float]) -> dict[str, float]:
    """Limits that are well said, in the order of `NAMES`.

    Args:
        what: they are, for the detail of the error.
        said: by name.

    Raises:
        errors.BadRequest: there is no such limit, or it is no number that it may be.
    """
    for name, amount in said.items():
        if name not in MEASURES:
            raise _bad(what, f"{name!r:.40} is none; one of {', '.join(NAMES)}")
        if not math.isfinite(amount) or amount < 0:
            raise _bad(what, f"{name}: {amount:g} is no amount; {_range(name)}")
        if MEASURES[name] != "seconds" and amount != int(amount):
            raise _bad(what, f"{name}: {amount:g} is no whole number; {_range(name)}")
        if amount > getattr(CEILINGS, name):
            detail = f"{name}={written(name, amount)} is above {_shown(name, CEILINGS)}"
            raise _bad(what, f"{detail}, the most there may be on this server")
        if amount < getattr(FLOORS, name):
            detail = f"{name}={written(name, amount)} is below {_shown(name, FLOORS)}"
            raise _bad(what, f"{detail}, the least that anything runs with")
    return {name: float(said[name]) for name in NAMES if name in said}


def check_allowed(said: Mapping[str, float], account: str, allowance: Allowance) -> Limits:
    """What a version may use that is deployed now.

    Args:
        said: of it, checked.
        account: whose it is.
        allowance: of the account.

    Raises:
        errors.BadRequest: a limit is above what the account may have.
    """
    most = allowance.most
    for name, amount in said.items():
        if amount > getattr(most, name):
            wanted = f"{name}={written(name, amount)}"
            detail = f"{wanted} is above {_shown(name, most)}, the most of {account}; an admin may "
            raise _bad("limits", f"{detail}allow it: micro functions limits {account} --ceiling …")
    return allowance.limits(said)


def changed(
    before: Allowance, defaults: Mapping[str, float], ceilings: Mapping[str, float]
) -> Allowance:
    """An allowance in which some of the limits are others.

    Raises:
        errors.BadRequest: one is not well said, or a default is above its ceiling.
    """
    after = Allowance(
        check("defaults", {**before.defaults, **defaults}),
        check("ceilings", {**before.ceilings, **ceilings}),
    )
    for name, amount in after.defaults.items():
        if amount > getattr(after.most, name):
            wanted = f"{name}={written(name, amount)}"
            raise _bad("defaults", f"{wanted} is above the ceiling of {_shown(name, after.most)}")
    return after


def read(what: str, pairs: Mapping[str, str]) -> dict[str, float]:
    """Limits as people write them, ``100ms`` and ``64MiB``; `check` comes after it.

    Raises:
        errors.BadRequest: there is no such limit, or that is no amount.
    """
    found = {}
    for name, text in pairs.items():
        if name not in MEASURES:
            raise _bad(what, f"{name!r:.40} is none; one of {', '.join(NAMES)}")
        found[name] = amounts.read(text, MEASURES[name], f"{what} {name}")
    return found


def written(name: str, amount: float) -> str:
    """A limit as `read` takes it."""
    return amounts.written(amount, MEASURES[name])


def line(limits: Limits) -> str:
    """All of them in one line, as they are written."""
    return " ".join(f"{name}={written(name, getattr(limits, name))}" for name in NAMES)


def told(allowance: Allowance) -> str:
    """What is said of an account, in one line."""
    parts = {"default": allowance.defaults, "ceiling": allowance.ceilings}
    texts = [
        f"{what} {name}={written(name, amount)}"
        for what, said in parts.items()
        for name, amount in said.items()
    ]
    return ", ".join(texts) or "those of the server"


def _shown(name: str, limits: Limits) -> str:
    return amounts.show(getattr(limits, name), MEASURES[name])


def _range(name: str) -> str:
    least, most = (written(name, getattr(one, name)) for one in (FLOORS, CEILINGS))
    return f"from {least} to {most}"


def _with(limits: Limits, amounts: Mapping[str, float]) -> Limits:
    fields = {
        name: amount if MEASURES[name] == "seconds" else int(amount)
        for name, amount in amounts.items()
    }
    return msgspec.structs.replace(limits, **fields)


def _bad(what: str, detail: str) -> errors.BadRequest:
    return errors.BadRequest(_ID, f"{what}: {detail}")
