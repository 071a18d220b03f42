"""How much anyone may ask for: rates and quotas, by address, token or header."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

from microcosmos.base import errors, names
from microcosmos.base.patterns import Pattern, parts_of
from microcosmos.gateway.request import Pairs

from . import settings
from .addresses import counted
from .counters import Counters, Value

# Slots tell times since then: a float of seconds since 1970 has no room for fractions of a µs.
_EPOCH = 1_700_000_000.0
# Of one request: what is lost in sums of fractions.
_ROUNDING = 1e-3


class Verdict(NamedTuple):
    """What a meter says of one request.

    Attributes:
        allowed: whether it may pass.
        left: how many more may.
        wait: seconds until it may pass, or until all may again.
    """

    allowed: bool
    left: int
    wait: float


class Rate:
    """So many in a time, evenly, and some of them at once: the generic cell rate algorithm.

    A slot holds the time at which the bucket will be full again. Past it, the slot says nothing,
    so that a row of slots forgets it first and loses nothing by that.

    Args:
        told: as it stands in the settings, ``100/s``.
        burst: how many at once; 0 for the number of the rate.
    """

    def __init__(self, told: str, burst: int = 0) -> None:
        count, seconds = settings.rate(told)
        self.told = told
        self.size = burst or count
        self._each = seconds / count
        self._depth = self._each * self.size
        self._allowed = self._depth + self._each * _ROUNDING
        self.window = max(1, math.ceil(self._depth - self._each * _ROUNDING))

    def take(self, value: Value | None, now: float) -> tuple[Value, Verdict]:
        """What a slot holds after a request at this time, and what is said of the request."""
        full = self._full(value, now)
        after = full + self._each
        if after - now > self._allowed:
            return (full, 0.0), Verdict(False, 0, after - now - self._depth)
        left = int((self._allowed - (after - now)) / self._each)
        return (after, 0.0), Verdict(True, left, after - now)

    def give_back(self, value: Value | None, now: float) -> Value:
        """What a slot holds when the last request is not counted after all."""
        return max(now, self._full(value, now) - self._each), 0.0

    def _full(self, value: Value | None, now: float) -> float:
        # A clock that was set back, or a damaged file, costs one bucket and no more.
        full = value[0] if value is not None else now
        return min(max(full, now), now + self._depth) if full == full else now


class Quota:
    """So many in each minute, hour or day of UTC.

    Args:
        told: as it stands in the settings, ``10000/day``.
    """

    def __init__(self, told: str) -> None:
        self.size, self._seconds = settings.rate(told)
        self.told = told
        self.window = int(self._seconds)

    def take(self, value: Value | None, now: float) -> tuple[Value, Verdict]:
        """See `Rate.take`."""
        end, used = self._window(value, now)
        if used >= self.size:
            return (end, used), Verdict(False, 0, end - now)
        return (end, used + 1), Verdict(True, int(self.size - used - 1), end - now)

    def give_back(self, value: Value | None, now: float) -> Value:
        """See `Rate.give_back`."""
        end, used = self._window(value, now)
        return end, max(0.0, used - 1)

    def _window(self, value: Value | None, now: float) -> Value:
        end = (now + _EPOCH) // self._seconds * self._seconds + self._seconds - _EPOCH
        if value is not None and value[0] == end and 0 <= value[1] <= self.size:
            return value
        return end, 0.0


Meter = Rate | Quota


class Asked(NamedTuple):
    """What limits look at.

    Attributes:
        path: the path, after routes and hosts were followed.
        address: the client's.
        header: gives the value of a header, or "".
        token: whose token was shown, or ""; never what nobody has looked at.
    """

    path: str
    address: str
    header: Callable[[str], str]
    token: str = ""


class _Limit:
    """One entry of ``[[limits]]``: who and what it counts, and its meters."""

    def __init__(self, number: int, given: settings.Limit) -> None:
        self.name = given.name or f"limit-{number}"
        self._key = given.key
        self._path = Pattern(given.path) if given.path else None
        self._service = given.service
        self.meters: list[tuple[str, str, Meter]] = []
        if given.rate:
            self._add(self.name, given, given.rate, Rate(given.rate, given.burst))
        if given.quota:
            name = f"{self.name}-quota" if given.rate else self.name
            self._add(name, given, given.quota, Quota(given.quota))

    def _add(self, name: str, given: settings.Limit, told: str, meter: Meter) -> None:
        # Counted under what the limit says: a changed limit starts anew, one that moved does not.
        said = (given.key, told, given.burst, given.path, given.service)
        self.meters.append((name, repr((type(meter).__name__, *said)), meter))

    def concerns(self, path: str) -> bool:
        """Whether it counts requests of this path."""
        if self._path is None and not self._service:
            return True
        service, canonical = _named(path)
        if self._service and not fnmatch.fnmatchcase(service, self._service):
            return False
        forms = (parts_of(path), parts_of(canonical))
        return self._path is None or any(self._path.covers(form) for form in forms)

    def who(self, asked: Asked) -> str:
        """The client that a request is counted for. Who shows no key is known by its address."""
        if self._key == "all":
            return ""
        if self._key == "token":
            shown = asked.token
        elif self._key != "address":
            shown = asked.header(self._key.partition(":")[2].lower())
        else:
            shown = ""
        # Only the digest of a secret is handled from here on.
        return hashlib.sha256(shown.encode()).hexdigest() if shown else counted(asked.address)


class TooMany(errors.TooManyRequests):
    """Over a limit; ``headers`` tell the client when to come again."""

    headers: Pairs


class Limits:
    """All limits, in the order of the file.

    Args:
        given: the entries.
        counters: where it is counted.
        clock: gives seconds since the epoch.
    """

    def __init__(
        self, given: list[settings.Limit], counters: Counters, clock: Callable[[], float]
    ) -> None:
        self._limits = [_Limit(number, one) for number, one in enumerate(given, 1)]
        self._counters = counters
        self._clock = clock

    def __bool__(self) -> bool:
        return bool(self._limits)

    def check(self, asked: Asked) -> Pairs:
        """Count a request; gives the headers that tell what is left.

        Raises:
            TooMany: a limit is used up; nothing has been counted then.
        """
        now = self._clock() - _EPOCH
        taken: list[tuple[str, Meter]] = []
        told: list[tuple[str, Meter, Verdict]] = []
        for limit in self._limits:
            if not limit.concerns(asked.path):
                continue
            who = limit.who(asked)
            for name, said, meter in limit.meters:
                key = f"{said}\0{who}"
                verdict = self._take(key, meter, now)
                told.append((name, meter, verdict))
                if not verdict.allowed:
                    self._give_back(taken, now)
                    raise _too_many(told)
                taken.append((key, meter))
        return _headers(told) if told else []

    def _take(self, key: str, meter: Meter, now: float) -> Verdict:
        said: list[Verdict] = []

        def change(value: Value | None) -> Value:
            after, verdict = meter.take(value, now)
            said.append(verdict)
            return after

        self._counters.change(key, change)
        return said[0]

    def _give_back(self, taken: list[tuple[str, Meter]], now: float) -> None:
        for key, meter in taken:
            self._counters.change(key, functools.partial(meter.give_back, now=now))


@functools.lru_cache(maxsize=4096)
def _known(path: str) -> tuple[str, str]:
    try:
        service, endpoint = names.from_path(path)
        return service, names.to_path(service, endpoint)
    except errors.Error:
        return "", path


def _named(path: str) -> tuple[str, str]:
    """The service of a path, and its one canonical form: many paths lead to one endpoint."""
    return _known(path) if len(path) <= 512 else ("", path)


def _headers(told: list[tuple[str, Meter, Verdict]]) -> Pairs:
    """The fields of the IETF's draft, draft-ietf-httpapi-ratelimit-headers (10 and later)."""
    policies = (f'"{name}";q={meter.size};w={meter.window}' for name, meter, _ in told)
    now = (f'"{name}";r={one.left};t={math.ceil(one.wait)}' for name, _, one in told)
    return [("ratelimit-policy", ", ".join(policies)), ("ratelimit", ", ".join(now))]


def _too_many(told: list[tuple[str, Meter, Verdict]]) -> TooMany:
    name, meter, verdict = told[-1]
    wait = max(1, math.ceil(verdict.wait))
    detail = f"the limit {name} of {meter.told} is used up; try again in {wait} s"
    error = TooMany("gateway.limits", detail)
    error.headers = [*_headers(told), ("retry-after", str(wait))]
    return error
