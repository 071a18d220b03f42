"""The gateways of a server, replaced one after the other while they serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from microcosmos.base import errors

from .tree import Child, Tree

NAME = "gateway"
"""What all of them are called together."""


class Gateways:
    """Replaces gateways; no request is lost, and at least as many serve as before.

    Args:
        children: says how they are started now.
    """

    def __init__(self, children: Callable[[], Sequence[Child]]) -> None:
        self._children = children
        self._tree: Tree | None = None
        self._one_at_a_time = asyncio.Lock()

    def grown(self, tree: Tree) -> None:
        """They are the children of this tree, from now on."""
        self._tree = tree

    async def restart(self, name: str = NAME) -> dict[str, int]:
        """Replace all, or the one of that name; gives the new processes by name.

        Each is ready before the one in whose place it comes leaves; all have left at the end.

        Raises:
            errors.BadRequest: there is none of that name.
            errors.Unavailable: one did not become ready; it and those after it are the old ones.
        """
        tree, children = self._tree, self._children()
        chosen = [child for child in children if name in (NAME, child.spec.name)]
        if not chosen:
            known = ", ".join([NAME, *(child.spec.name for child in children)])
            raise errors.BadRequest("server", f"{name[:80]} cannot be restarted, only: {known}")
        if tree is None:
            raise errors.Unavailable("server", "the server is still starting")
        async with self._one_at_a_time:
            leaving: list[asyncio.Task[None]] = []
            try:
                for child in chosen:
                    leaving.append(await tree.replace(child))  # noqa: PERF401 - one by one
            finally:
                await asyncio.gather(*leaving)
        pids = tree.pids()
        return {one.spec.name: pids[one.spec.name] for one in chosen if one.spec.name in pids}
