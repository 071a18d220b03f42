"""The places of versions: in which workers each of them runs."""

from __future__ import annotations

from collections.abc import Set

from microcosmos.functions.workers import Where

from .worker import Running, Worker


class Places:
    """Where versions run; the oldest place of each comes first."""

    def __init__(self) -> None:
        self._places: dict[str, list[Worker]] = {}
        # The versions that run of each function.
        self._names: dict[tuple[str, str], set[str]] = {}

    def of(self, key: str) -> list[tuple[Worker, Running]]:
        """Where a version runs, and new requests may go."""
        return [
            (worker, worker.running[key])
            for worker in self._places.get(key, ())
            if worker.usable and key in worker.running
        ]

    def keys(self, namespace: str, name: str) -> Set[str]:
        """The keys of a function's versions that run."""
        return self._names.get((namespace, name), set())

    def add(self, worker: Worker, where: Where) -> None:
        """A version runs in a worker."""
        places = self._places.setdefault(where.key, [])
        if worker not in places:
            places.append(worker)
        self._names.setdefault((where.namespace, where.name), set()).add(where.key)

    def remove(self, worker: Worker, where: Where) -> None:
        """A version does not run in a worker any more."""
        places = [one for one in self._places.get(where.key, ()) if one is not worker]
        if places:
            self._places[where.key] = places
            return
        self._places.pop(where.key, None)
        name = (where.namespace, where.name)
        keys = self._names.get(name)
        if keys is not None:
            keys.discard(where.key)
            if not keys:
                del self._names[name]

    def gone(self, worker: Worker) -> None:
        """A worker has ended, with all that ran in it."""
        for running in worker.running.values():
            self.remove(worker, running.where)
