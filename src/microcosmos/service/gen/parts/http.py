"""The part of a Python client by HTTP that calls."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import httpx
import msgspec

# The part.


class Error(Exception):
    """What a call came to; the classes below are by code.

    Attributes:
        id: where it arose: `users.Read.MissingID`, or the service's name.
        code: the HTTP status.
        detail: one line for people.
        status: the code in words.
        retryable: whether the same call may succeed a moment later.
    """

    code: int = 500
    status: str = "Internal Server Error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        id: str,
        detail: str = "",
        code: int = 0,
        status: str = "",
    ) -> None:
        super().__init__(f"{id}: {detail}" if detail else id)
        self.id = id
        self.detail = detail
        self.code = code or self.code
        self.status = status or self.status


class BadRequest(Error):
    """The input is wrong; the detail has the path of the field."""

    code = 400
    status = "Bad Request"


class Unauthorized(Error):
    """No token, or a bad one."""

    code = 401
    status = "Unauthorized"


class Forbidden(Error):
    """Known, but not allowed."""

    code = 403
    status = "Forbidden"


class NotFound(Error, LookupError):
    """An unknown service, endpoint or key."""

    code = 404
    status = "Not Found"


class MethodNotAllowed(Error):
    """A method that has no meaning here."""

    code = 405
    status = "Method Not Allowed"


class RequestTimeout(Error, TimeoutError):
    """The request took too long to arrive."""

    code = 408
    status = "Request Timeout"
    retryable = True


class Conflict(Error):
    """Taken, or changed by someone else."""

    code = 409
    status = "Conflict"


class TooLarge(Error):
    """Over a published limit."""

    code = 413
    status = "Content Too Large"


class TooManyRequests(Error):
    """Over a quota or a limit of calls at once."""

    code = 429
    status = "Too Many Requests"


class ClientClosed(Error):
    """The caller went away before the answer."""

    code = 499
    status = "Client Closed Request"


class InternalServerError(Error):
    """Anything else."""

    code = 500
    status = "Internal Server Error"
    retryable = True


class Unimplemented(Error):
    """Not built."""

    code = 501
    status = "Not Implemented"


class BadGateway(Error):
    """An answer that is not what was promised."""

    code = 502
    status = "Bad Gateway"


class Unavailable(Error):
    """None alive."""

    code = 503
    status = "Service Unavailable"


class ConnectionLost(Unavailable):
    """The line broke before the answer."""

    retryable = True


class DeadlineExceeded(Error, TimeoutError):
    """Late."""

    code = 504
    status = "Gateway Timeout"
    retryable = True


_CLASSES: dict[int, type[Error]] = {
    kind.code: kind for kind in Error.__subclasses__() if kind is not ConnectionLost
}


def _error(body: bytes | str, code: int = 500, status: str = "") -> Error:
    """The error of an answer's body."""
    try:
        told = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = {}
    told = {name.lower(): value for name, value in told.items()}
    if isinstance(told.get("error"), dict):
        told = {name.lower(): value for name, value in told["error"].items()}
    given = told.get("code")
    code = given if isinstance(given, int) and given else code
    return _CLASSES.get(code, Error)(
        str(told.get("id") or "gateway"),
        str(told.get("detail") or status or "the gateway answered without a reason"),
        code,
        str(told.get("status") or status),
    )


def _decode(body: bytes | str, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        detail = f"the answer is not what was promised: {error}"
        raise BadGateway("client", detail) from None


class _Service:
    """Calls the service: `async with ...:` closes its connections at the end.

    Args:
        url: where the gateway is.
        token: an access token, as `micro user token` prints it.
        timeout: seconds that a call may take.
        metadata: sent as headers with every call.
        http: carries the calls; one of its own unless given, then it stays open.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        token: str = "",
        timeout: float = 10.0,
        metadata: Mapping[str, str] | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._headers = {"content-type": "application/json", **(metadata or {})}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._http = http or httpx.AsyncClient()
        self._own = http is None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._own:
            await self._http.aclose()

    async def _call(
        self,
        endpoint: str,
        path: str,
        request: object,
        kind: Any,
        *,
        retry: bool = True,
    ) -> Any:
        body = msgspec.json.encode({} if request is None else request)
        deadline = time.monotonic() + self._timeout
        try:
            return _decode(await self._send(endpoint, path, body, self._timeout), kind)
        except Error as error:
            left = deadline - time.monotonic()
            if not (retry and error.retryable) or left <= 0:
                raise
        return _decode(await self._send(endpoint, path, body, left), kind)

    async def _send(
        self,
        endpoint: str,
        path: str,
        body: bytes,
        timeout: float,
    ) -> bytes:
        headers = {**self._headers, "micro-timeout": f"{timeout * 1000:.0f}ms"}
        url = self._url + path
        try:
            answer = await self._http.post(
                url,
                content=body,
                headers=headers,
                timeout=timeout,
            )
        except httpx.TimeoutException:
            detail = f"no answer within {timeout:g} s"
            raise DeadlineExceeded(endpoint, detail) from None
        except httpx.ConnectError as error:
            detail = f"{self._url} does not answer: {error}"
            raise ConnectionLost(endpoint, detail) from None
        except httpx.TransportError as error:
            detail = f"the connection broke: {str(error) or type(error).__name__}"
            raise ConnectionLost(endpoint, detail) from None
        if answer.is_success:
            return answer.content
        raise _error(answer.content, answer.status_code, answer.reason_phrase)
