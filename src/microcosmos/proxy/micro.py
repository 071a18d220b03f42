"""Where a core service's own endpoint differs from Micro v3's of that name: one as the other.

Only protobuf is adapted: the messages of Micro come in and go out, and what is asked of the
service between them are its own endpoints, in JSON.
"""

from __future__ import annotations

import base64
import datetime
import itertools
import shlex
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec

from microcosmos.base import codec, errors
from microcosmos.rpc import Client
from microcosmos.runtime.deployment import CreateRequest, Deployment, Options, UpdateRequest
from microcosmos.runtime.logs import MAX_LINES, LogLine, LogsAnswer, LogsRequest
from microcosmos.runtime.source import Source, parse
from microcosmos.runtime.uploads import Upload

from .headers import Headers

Requests = AsyncIterator[Any]
Adapter = Callable[["Ask", Requests], AsyncIterator[Any]]
"""Takes the requests of a call in Micro's form, and gives the answers in that form."""

_STATUSES = (
    *("unknown", "pending", "building", "starting", "running"),
    *("stopping", "stopped", "error"),
)
_UPLOADED = "source://"
_CHUNK = 1024 * 1024
_GZIP = b"\x1f\x8b"
# For all that fetching, unpacking and draining take.
_PATIENCE = 120.0
_FOLLOW = 20.0


class Ask:
    """Asks a core service for what Micro's endpoint needs.

    Args:
        client: carries the calls.
        service: whom.
        headers: of the call that is adapted.
    """

    def __init__(self, client: Client, service: str, headers: Headers) -> None:
        self._client = client
        self._service = service
        self._headers = headers

    async def __call__(
        self, endpoint: str, request: Any, kind: Any = Any, *, timeout: float = _PATIENCE
    ) -> Any:
        """The answer of an endpoint, as ``kind``."""
        left = self._headers.timeout
        answer = await self._client.call(
            self._service,
            endpoint,
            codec.encode(request),
            metadata=self._headers.metadata,
            timeout=timeout if left is None else left,
        )
        return msgspec.json.decode(answer, type=kind)


async def _only(requests: Requests) -> Any:
    return await anext(requests)


# The runtime.


async def _create(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    request = await _only(requests)
    service, options = _service(request), request.get("options", {})
    if options.get("secrets"):
        detail = "secrets are not taken yet; set variables with env"
        raise errors.Unimplemented("runtime", detail)
    source, upload = _source(service)
    metadata = {
        name: text
        for name, text in service.get("metadata", {}).items()
        if name not in ("source", "owner", "group", "error")
    }
    wanted = Options(
        command=shlex.join(options.get("command", ())),
        args=options.get("args", []),
        env_vars=dict(_pair(text) for text in options.get("env", ())),
        instances=options.get("instances", 0) or 1,
        metadata=metadata,
    )
    name, force = service.get("name", ""), options.get("force", False)
    await ask(
        "Runtime.Create",
        CreateRequest(source=source, name=name, upload=upload, options=wanted, force=force),
    )
    yield {}


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _service(request: Any) -> dict[str, Any]:
    """The service that a request is about: the one kind of resource that there is."""
    resource: dict[str, Any] = request.get("resource", {})
    for kind in ("namespace", "networkpolicy", "resourcequota"):
        if kind in resource:
            raise errors.Unimplemented("runtime", f"there is no resource {kind}; use a service")
    found: dict[str, Any] | None = resource.get("service")
    if found is None:
        raise errors.BadRequest("runtime", "resource.service: name what should run")
    return found


class _NoDisk:
    """A client's folders are not here."""

    def folder(self, path: str) -> bool:
        return False

    def repository(self, path: str) -> bool:
        return False


def _source(service: dict[str, Any]) -> tuple[Source, str]:
    """Where a service's code comes from, and the upload that has it."""
    text, version = service.get("source", ""), service.get("version", "")
    if text.startswith(_UPLOADED):
        shown = f"{_UPLOADED}{service.get('name', '')}:{version or 'latest'}"
        return Source(kind="folder", location=shown), text.removeprefix(_UPLOADED)
    ref = "" if version in ("", "latest") else f"@{version}"
    return parse(text + ref, disk=_NoDisk()), ""


async def _read(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    options = (await _only(requests)).get("options", {})
    found = await ask("Runtime.Read", {"name": options.get("service", "")}, list[Deployment])
    version = options.get("version", "")
    yield {"services": [_shown(one) for one in found if version in ("", one.version)]}


def _shown(deployment: Deployment) -> dict[str, Any]:
    updated = datetime.datetime.fromtimestamp(deployment.updated, datetime.UTC)
    about = {
        "build": deployment.build,
        "status": deployment.status,
        "started": updated.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    return {
        "name": deployment.name,
        "version": deployment.version,
        "source": str(deployment.source),
        "metadata": {**about, **deployment.metadata()},
        "status": _STATUSES.index(deployment.status),
    }


async def _update(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    request = await _only(requests)
    service = _service(request)
    name, text, version = (service.get(word, "") for word in ("name", "source", "version"))
    instances = request.get("options", {}).get("instances", 0)
    change = UpdateRequest(name=name, instances=instances)
    if text.startswith(_UPLOADED):
        source, upload = _source(service)
        change = msgspec.structs.replace(change, source=source, upload=upload)
    elif version not in ("", "latest"):
        change = msgspec.structs.replace(change, ref=version)
    await ask("Runtime.Update", change)
    yield {}


async def _delete(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    await ask("Runtime.Delete", {"name": _service(await _only(requests)).get("name", "")})
    yield {}


async def _logs(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    request = await _only(requests)
    wanted = LogsRequest(
        name=request.get("service", ""),
        lines=min(request.get("count", 0) or MAX_LINES, MAX_LINES),
        since=float(request.get("since", 0)),
    )
    while True:
        answer = await ask("Runtime.Logs", wanted, LogsAnswer, timeout=wanted.wait + 10)
        for line in answer.lines:
            yield _line(line)
        if not request.get("stream", False):
            return
        wanted = LogsRequest(name=wanted.name, cursor=answer.cursor, wait=_FOLLOW)


def _line(line: LogLine) -> dict[str, Any]:
    about = {"replica": line.replica}
    return {"timestamp": int(line.time), "metadata": about, "message": line.text}


async def _upload(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    id, offset = "", 0
    async for chunk, last in _chunks(requests):
        request = {"id": id, "offset": offset, "data": chunk, "last": last}
        id = (await ask("Source.Upload", request, Upload)).id
        offset += len(chunk)
    yield {"id": f"{_UPLOADED}{id}"}


async def _chunks(requests: Requests) -> AsyncIterator[tuple[bytes, bool]]:
    """An archive in larger pieces, packed if its client has not done so; and which is the last."""
    held = bytearray()
    packer: Any = None
    begun = False
    async for request in requests:
        data = base64.b64decode(request.get("data", ""))
        if data and not begun:
            begun = True
            packer = None if data.startswith(_GZIP) else zlib.compressobj(wbits=31)
        held += packer.compress(data) if packer else data
        if len(held) >= _CHUNK:
            yield bytes(held), False
            held.clear()
    yield bytes(held) + (packer.flush() if packer else b""), True


async def _build(ask: Ask, requests: Requests) -> AsyncIterator[Any]:
    request = {"name": (await _only(requests)).get("name", ""), "lines": MAX_LINES}
    answer = await ask("Build.Read", request, LogsAnswer)
    for lines in _batches(answer.lines, 1000):
        yield {"data": "".join(f"{line.text}\n" for line in lines).encode()}


def _batches(lines: list[LogLine], size: int) -> Iterator[list[LogLine]]:
    rest = iter(lines)
    while batch := list(itertools.islice(rest, size)):
        yield batch


ADAPTED: dict[tuple[str, str], Adapter] = {
    ("runtime", "Runtime.Create"): _create,
    ("runtime", "Runtime.Read"): _read,
    ("runtime", "Runtime.Update"): _update,
    ("runtime", "Runtime.Delete"): _delete,
    ("runtime", "Runtime.Logs"): _logs,
    ("runtime", "Source.Upload"): _upload,
    ("runtime", "Build.Read"): _build,
}
"""By service and endpoint."""
