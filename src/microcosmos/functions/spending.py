"""Spending: functions whose quotas are used up are refused, by everything that runs them."""

from __future__ import annotations

import time

from microcosmos.base import errors

from .interface import Live, Spent

QUOTA = "functions.quota"
"""The id of the error of a request that a quota does not allow."""


def check_spent(live: Live) -> None:
    """Refuse a request if a quota of a function is used up.

    Raises:
        errors.TooManyRequests: it is; the error tells when it is worth trying again.
    """
    if live.spent is not None:
        refuse(live.spent)


def refuse(spent: Spent) -> None:
    """The same of a quota that is used up until some time, which may be over by now.

    Raises:
        errors.TooManyRequests: it is not.
    """
    left = spent.until - time.time()
    if left > 0:
        error = errors.TooManyRequests(QUOTA, spent.detail)
        error.retry_after = left
        raise error
