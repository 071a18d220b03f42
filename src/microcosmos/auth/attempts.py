"""Attempts: how often passwords may be tried, so that nobody guesses one.

What is counted are attempts that failed. Waiting does not get longer by trying: one more attempt
is granted every few seconds, whoever uses it up. An address from which the account has logged in
before is not held up by what others do elsewhere, and neither is a login that already is.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from microcosmos.base import errors
from microcosmos.base.clock import Clock


class Pace(NamedTuple):
    """How often something may be done.

    Attributes:
        burst: times in a row.
        every: seconds until one more time is granted.
    """

    burst: int
    every: float


TRIES = 10
"""Wrong passwords in a row for one account from one address, before one has to wait."""

TRIES_EVERY = 6.0
"""Seconds between further ones."""

ACCOUNT_TRIES = 100
"""Wrong passwords in a row for one account from anywhere it has not logged in from before."""

ACCOUNT_TRIES_EVERY = 2.0
"""Seconds between further ones."""

ADDRESS_TRIES = 100
"""Wrong passwords in a row from one address for any accounts."""

ADDRESS_TRIES_EVERY = 1.0
"""Seconds between further ones."""

REMEMBERED = 16 * 1024
"""Accounts and addresses whose attempts are remembered; beyond them the oldest are forgotten."""

_PLACE = Pace(TRIES, TRIES_EVERY)
_ACCOUNT = Pace(ACCOUNT_TRIES, ACCOUNT_TRIES_EVERY)
_ADDRESS = Pace(ADDRESS_TRIES, ADDRESS_TRIES_EVERY)
_NOTHING = 1e-6


class Attempt(NamedTuple):
    """One try to log in."""

    namespace: str
    account: str
    address: str

    def places(self) -> tuple[str, str, str]:
        """What it counts for: the account here, the account, the address."""
        account, address = f"{self.namespace}/{self.account}", network(self.address)
        return f"{account} {address}", account, f" {address}"


class Counted(NamedTuple):
    """An attempt, and what it was counted for."""

    attempt: Attempt
    paces: list[tuple[str, Pace]]


class Attempts:
    """Counts them.

    Args:
        clock: by which more are granted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # When the last of the attempts made so far will have been granted again.
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._good: OrderedDict[str, None] = OrderedDict()

    def begin(self, attempt: Attempt) -> Counted:
        """Count an attempt, before its outcome is known.

        Raises:
            errors.TooManyRequests: it may not be made yet; the detail says how long to wait.
        """
        now = self._clock.monotonic()
        paces = [*self._paces(attempt)]
        wait = max(self._wait(key, pace, now) for key, pace in paces)
        if wait > _NOTHING:
            detail = (
                f"too many wrong passwords for {attempt.account[:80]}; "
                f"try again in {math.ceil(wait)} s"
            )
            raise errors.TooManyRequests("auth", detail)
        for key, pace in paces:
            self._full_at[key] = max(self._full_at.get(key, 0.0), now) + pace.every
            self._full_at.move_to_end(key)
        while len(self._full_at) > REMEMBERED:
            self._full_at.popitem(last=False)
        return Counted(attempt, paces)

    def succeeded(self, counted: Counted) -> None:
        """It was the right password: it does not count, nor do those before it from there."""
        for key, pace in counted.paces:
            if key in self._full_at:
                self._full_at[key] -= pace.every
        place = counted.attempt.places()[0]
        self._full_at.pop(place, None)
        self._good[place] = None
        self._good.move_to_end(place)
        if len(self._good) > REMEMBERED:
            self._good.popitem(last=False)

    def _paces(self, attempt: Attempt) -> Iterable[tuple[str, Pace]]:
        place, account, address = attempt.places()
        yield place, _PLACE
        # Those without an address are inside: services, whose logins must not wait for others'.
        if attempt.address:
            yield address, _ADDRESS
        if place not in self._good:
            yield account, _ACCOUNT

    def _wait(self, key: str, pace: Pace, now: float) -> float:
        """Seconds until one more is granted."""
        used = max(self._full_at.get(key, 0.0) - now, 0.0)
        return used + pace.every - pace.burst * pace.every


def network(address: str) -> str:
    """What stands for whoever has an address: of IPv6 the first 64 bits, which one host owns."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
