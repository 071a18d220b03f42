"""Monty's program: the sandbox that a worker starts processes of."""

from __future__ import annotations

import functools

from microcosmos.base import errors


@functools.cache
def program() -> str:
    """The path of Monty's program.

    Raises:
        errors.Unavailable: it is not installed.
    """
    try:
        from pydantic_monty._binary import find_monty_binary

        return find_monty_binary()
    except (ImportError, FileNotFoundError):
        raise errors.Unavailable(
            "functions.monty",
            "Python functions run on Monty, which is not installed here;"
            " pip install 'microcosmos[monty]'",
        ) from None
