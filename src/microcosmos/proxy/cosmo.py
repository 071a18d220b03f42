"""``greet.ControlPlane``: CosmoCompute's control plane, for clients that were built for it.

An organisation is the function of that name in small letters. As there, every error is part of an
answer, and none the status of a call.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import grpc
import msgspec
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError, Message
from grpc import aio

from microcosmos.base import codec, context, errors
from microcosmos.functions.interface import Counts, Draft
from microcosmos.rpc import Client

from . import notation, wire
from .files import message_class
from .headers import Headers

log = logging.getLogger("microcosmos.proxy")

PACKAGE = "greet"
"""The package, called as its template was."""

NAME = f"{PACKAGE}.ControlPlane"
"""The service."""

FUNCTIONS = "functions"
"""The service that does what is asked."""

DEPLOYING = 60.0
"""Seconds that a commit may take."""

_ORGANISATION = re.compile(r"[A-Za-z0-9-]+")
_EVERYWHERE = frozenset(("", "/", "*", "/*", "/**"))
_JAVASCRIPT = (0, 1)
_HOW = (
    "send the metadata `authorization: Bearer TOKEN`; `micro user token` prints one. Without one a "
    "server is open to its own machine alone, until admin's password is changed"
)
_LOCAL = re.compile(r"ipv4:127\.[\d.]+:\d+|ipv6:(?:\[|%5B)::1(?:\]|%5D):\d+", re.IGNORECASE)

Admin = Callable[[], Awaitable[str]]
"""Gives what this machine's own clients may show for themselves; empty if they must log in."""

_Context = aio.ServicerContext[Any, Any]


class Visitor(NamedTuple):
    """Who calls.

    Attributes:
        client: carries calls in the namespace that this one is for.
        headers: what it says beside its message.
        known: whether it has shown a token.
    """

    client: Client
    headers: Headers
    known: bool


Enter = Callable[[_Context], Awaitable[Visitor]]
"""Lets a call in."""


def file() -> FileDescriptorProto:
    """Its protobuf file."""
    made = notation.read(PACKAGE, wire.GREET)
    answer = next(one for one in made.message_type if one.name == "GetCurrentConsumptionResponse")
    answer.oneof_decl.add(name="Result")
    for field in answer.field:
        field.oneof_index = 0
    return made


_FILE = file()


def _class(name: str) -> Any:
    # Their fields are known to a pool, not to a type checker.
    return message_class(_FILE, f"{PACKAGE}.{name}")


_Commit, _Committed = _class("CommitRouteHandlerRequest"), _class("CommitRouteHandlerResponse")
_Asked, _Consumed = _class("GetCurrentConsumptionRequest"), _class("GetCurrentConsumptionResponse")


def handlers(enter: Enter, admin: Admin | None) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
    """What answers its two methods, by path.

    Args:
        enter: lets calls in.
        admin: stands for those that show no token and come from this machine; None for none.
    """
    plane = ControlPlane(enter, admin)
    return {
        f"/{NAME}/CommitRouteHandler": grpc.unary_unary_rpc_method_handler(plane.commit),
        f"/{NAME}/GetCurrentConsumption": grpc.unary_unary_rpc_method_handler(plane.consumption),
    }


class ControlPlane:
    """Answers both methods; see `handlers`."""

    def __init__(self, enter: Enter, admin: Admin | None) -> None:
        self._enter = enter
        self._admin = admin

    async def commit(self, request: bytes, context: _Context) -> bytes:
        """Deploy the script of an organisation."""

        async def answer() -> Message:
            draft = _draft(_read(_Commit, request))
            await self._ask(context, "Functions.Deploy", draft)
            return _packed(_Committed, Success=True)

        return await _in_band(answer, lambda error: _packed(_Committed, Error=error))

    async def consumption(self, request: bytes, context: _Context) -> bytes:
        """Tell what an organisation has used."""

        async def answer() -> Message:
            name = _organisation(_read(_Asked, request).OrganizationId)
            said = await self._ask(context, "Functions.Consumption", {"name": name})
            used = msgspec.json.decode(said, type=Counts)
            return _packed(
                _Consumed,
                Details={
                    "TotalRequestCount": used.requests,
                    "TotalResponseBytes": used.response_bytes,
                    "TotalExecutionTimeMicroseconds": used.execution_ns // 1000,
                    "TotalConsumptionByteMilliseconds": used.byte_ms,
                },
            )

        return await _in_band(answer, lambda error: _packed(_Consumed, Error={"Message": error}))

    async def _ask(self, call: _Context, endpoint: str, request: Any) -> bytes:
        """Ask the functions, for whoever calls.

        Raises:
            errors.Unauthorized: nobody knows who it is.
            errors.Error: what they say.
        """
        visitor = await self._enter(call)
        metadata = visitor.headers.metadata
        if not visitor.known:
            metadata = {**metadata, context.AUTHORIZATION: await self._stand_in(call.peer())}
        left = visitor.headers.timeout
        return await visitor.client.call(
            FUNCTIONS,
            endpoint,
            codec.encode(request),
            metadata=metadata,
            timeout=DEPLOYING if left is None else left,
            retry=False,
        )

    async def _stand_in(self, peer: str) -> str:
        # What a gateway passes on comes by a socket: a page in a browser may have sent it.
        if self._admin is not None and _LOCAL.fullmatch(peer) and (shown := await self._admin()):
            return shown
        raise errors.Unauthorized(FUNCTIONS, _HOW)


async def _in_band(
    answer: Callable[[], Awaitable[Message]], failed: Callable[[str], Message]
) -> bytes:
    try:
        made = await answer()
    except errors.Error as error:
        made = failed(error.detail or error.status)
    except Exception:
        log.exception("%s failed", NAME)
        made = failed("the platform failed; its log says why")
    return made.SerializeToString()


def _draft(request: Any) -> Draft:
    """What a commit deploys.

    Raises:
        errors.BadRequest: it is nothing that can be deployed.
    """
    name = _organisation(request.OrganizationId)
    if request.HandlerScriptLanguage not in _JAVASCRIPT:
        detail = f"language {request.HandlerScriptLanguage} is not known; 1 is JavaScript"
        raise errors.BadRequest(FUNCTIONS, detail)
    route = request.Route.strip()
    committer = f"\n\nCommitted-by: {request.Committer}" if request.Committer else ""
    return Draft(
        name=name,
        files={"index.js": request.HandlerScriptBody},
        language="javascript",
        message=(request.CommitMessage + committer).strip(),
        routes=[] if route in _EVERYWHERE else [f"/{route.lstrip('/')}"],
    )


def _organisation(id: str) -> str:
    """The function that an organisation is.

    Raises:
        errors.BadRequest: it is none.
    """
    if not id:
        raise errors.BadRequest(FUNCTIONS, "Organization ID is empty")
    if not _ORGANISATION.fullmatch(id):
        raise errors.BadRequest(FUNCTIONS, "Organization ID contains invalid characters")
    return id.lower()


def _read(kind: Any, data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise errors.BadRequest(FUNCTIONS, "the request is no message of this method") from None


def _packed(kind: Any, **fields: Any) -> Message:
    made: Message = kind(**fields)
    return made
