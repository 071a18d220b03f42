"""Archives on their way in: begun, appended to chunk by chunk, finished, swept when abandoned."""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path

import msgspec

from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM, Clock
from microcosmos.base.context import DEFAULT_NAMESPACE

from .folder import MAX_SIZE

MAX_CHUNK = 4 * 1024 * 1024
"""The most bytes of one chunk."""

MAX_OPEN = 64
"""The most uploads at one time, in each namespace."""

ABANDONED = 3600.0
"""Seconds after its last chunk at which an upload is swept."""

_ID = "runtime.uploads"
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """An upload as its client sees it.

    Attributes:
        id: names it; who does not know it cannot touch it.
        size: how many bytes have arrived.
        finished: whether it may be deployed.
    """

    id: str
    size: int = 0
    finished: bool = False


class Uploads:
    """Temporary files of archives.

    Args:
        folder: where they are; what an earlier core left there is swept.
        clock: what `ABANDONED` is measured by.
        max_size: the most bytes of one archive.
    """

    def __init__(self, folder: Path, clock: Clock = SYSTEM, max_size: int = MAX_SIZE) -> None:
        self._folder = folder
        self._clock = clock
        self._max_size = max_size
        self._open: dict[str, Upload] = {}
        self._touched: dict[str, float] = {}
        self._of: dict[str, str] = {}

    async def begin(self, namespace: str = DEFAULT_NAMESPACE) -> Upload:
        """A new, empty upload, for something of this namespace.

        Raises:
            errors.TooManyRequests: too many are open.
        """
        self.sweep()
        if sum(where == namespace for where in self._of.values()) >= MAX_OPEN:
            raise errors.TooManyRequests(_ID, f"{MAX_OPEN} uploads are open; try again later")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        upload = Upload(id=secrets.token_hex(16))
        self._path(upload).touch(mode=0o600)
        self._of[upload.id] = namespace
        return self._note(upload)

    async def append(
        self, id: str, offset: int, data: bytes, namespace: str = DEFAULT_NAMESPACE
    ) -> Upload:
        """Add a chunk; one that was sent again after a lost answer is not added twice.

        Raises:
            errors.NotFound: there is no such upload.
            errors.Conflict: the chunk does not begin where the last one ended, or it is finished.
            errors.TooLarge: the chunk or the archive is over its limit.
        """
        upload = self._known(id, namespace)
        if len(data) > MAX_CHUNK:
            raise errors.TooLarge(_ID, f"a chunk has at most {MAX_CHUNK} bytes")
        if offset + len(data) == upload.size and data:
            return upload
        if offset != upload.size or upload.finished:
            raise errors.Conflict(_ID, f"the upload has {upload.size} bytes, not {offset}")
        if upload.size + len(data) > self._max_size:
            self.discard(id)
            limit = self._max_size // (1024 * 1024)
            raise errors.TooLarge(
                _ID, f"the archive has more than {limit} MiB; use .gitignore to leave files out"
            )
        # Noted before the write, so that a chunk sent twice at once is seen to be there.
        grown = self._note(msgspec.structs.replace(upload, size=upload.size + len(data)))
        try:
            await asyncio.to_thread(_append, self._path(upload), data)
        except OSError as exc:
            self.discard(id)
            raise errors.Unavailable(_ID, f"the upload could not be kept: {exc.strerror}") from None
        return grown

    async def finish(self, id: str, namespace: str = DEFAULT_NAMESPACE) -> Upload:
        """All chunks have come.

        Raises:
            errors.NotFound: there is no such upload.
        """
        return self._note(msgspec.structs.replace(self._known(id, namespace), finished=True))

    def archive(self, id: str, namespace: str = DEFAULT_NAMESPACE) -> Path:
        """The file of a finished upload.

        Raises:
            errors.NotFound: there is no such upload.
            errors.Conflict: it is not finished.
        """
        upload = self._known(id, namespace)
        if not upload.finished:
            raise errors.Conflict(_ID, "the upload is not finished")
        return self._path(upload)

    def discard(self, id: str) -> None:
        """Remove an upload; an unknown one is no error."""
        self._touched.pop(id, None)
        self._of.pop(id, None)
        if upload := self._open.pop(id, None):
            self._path(upload).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the abandoned uploads, and files that belong to none."""
        limit = self._clock.monotonic() - ABANDONED
        for id in [id for id, touched in self._touched.items() if touched <= limit]:
            self.discard(id)
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.name.partition(".")[0] not in self._open:
                path.unlink(missing_ok=True)

    def _known(self, id: str, namespace: str) -> Upload:
        upload = self._open.get(id) if _TOKEN.fullmatch(id) else None
        if upload is None or self._of.get(id) != namespace:
            raise errors.NotFound(_ID, "there is no such upload (any more); start it again")
        return upload

    def _note(self, upload: Upload) -> Upload:
        self._open[upload.id] = upload
        self._touched[upload.id] = self._clock.monotonic()
        return upload

    def _path(self, upload: Upload) -> Path:
        return self._folder / f"{upload.id}.tar.gz"


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
