"""The runtime over rpc, for a command line: no event loop, and progress is shown."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from microcosmos.base import codec, errors

from .deployment import CreateRequest, Deployment, UpdateRequest
from .uploads import MAX_CHUNK, Upload

CHANGE_TIMEOUT = 120.0
"""Seconds for unpacking the largest archive, or for draining every replica."""

_UPLOAD_TIMEOUT = 60.0
# How long a core that has ended may take until it answers again.
_PATIENCE = 10.0


class Session(Protocol):
    """What carries the calls and shows the progress."""

    def core(
        self,
        service: str,
        endpoint: str,
        request: Any = None,
        *,
        timeout: float = 10.0,
        retry: bool = True,
    ) -> bytes: ...

    def progress(self, text: str) -> None: ...


class RuntimeClient:
    """The runtime of the environment that a command line has selected.

    Args:
        session: carries the calls and shows the progress.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def ask(
        self,
        method: str,
        request: Any,
        kind: type[Any],
        timeout: float = 10.0,
        *,
        retry: bool = True,
    ) -> Any:
        """Call an endpoint and read its answer."""
        answer = self._session.core("runtime", method, request, timeout=timeout, retry=retry)
        return codec.decode(answer, kind, id="runtime")

    def change(self, method: str, request: CreateRequest | UpdateRequest) -> Deployment:
        """Deploy; the answer does not wait until it runs."""
        # Not tried twice: the second one would find the name taken, or the upload used up.
        found: Deployment = self.ask(
            f"Runtime.{method}", request, Deployment, CHANGE_TIMEOUT, retry=False
        )
        return found

    def upload(self, folder: Path) -> str:
        """Pack a folder and send it; the id of the upload."""
        from . import archive

        with tempfile.TemporaryFile() as file:
            packed = archive.pack(folder, file)
            size = file.tell()
            self._session.progress(f"uploading {packed.files} files, {size / 1024:,.0f} KiB")
            file.seek(0)
            return self._send(file, size)

    def _send(self, file: BinaryIO, size: int) -> str:
        id, offset = "", 0
        while offset < size:
            data = file.read(MAX_CHUNK)
            end = offset + len(data)
            chunk = {"id": id, "offset": offset, "data": data, "last": end == size}
            id = self.ask("Source.Upload", chunk, Upload, _UPLOAD_TIMEOUT).id
            offset = end
        return id

    def settle(self, deployment: Deployment) -> Deployment:
        """Wait until nothing is under way any more: it runs, or it has failed."""
        shown = ""
        while not deployment.settled:
            if deployment.status != shown:
                shown = deployment.status
                self._session.progress(f"{deployment.name}: {shown}")
            deployment = self._later(deployment)
        return deployment

    def _later(self, deployment: Deployment) -> Deployment:
        """The deployment once it has changed; a core that is started again is waited for."""
        wait = {"name": deployment.name, "revision": deployment.revision}
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                found: Deployment = self.ask("Runtime.Wait", wait, Deployment, timeout=60)
            except errors.Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return found
