"""Every error a user can meet, one tree, with the same codes over RPC, HTTP, gRPC and the CLI.

    Error                       id, code, detail, status
    ├── BadRequest              400  the input is wrong: detail carries the path of the field
    ├── Unauthorized            401  no token, or a bad one
    ├── Forbidden               403  known, but not allowed
    ├── NotFound                404  unknown service, endpoint or key (also a LookupError)
    ├── MethodNotAllowed        405
    ├── RequestTimeout          408  the client was too slow (also a TimeoutError), retryable
    ├── Conflict                409  taken, or changed by someone else
    ├── TooLarge                413  over a published limit
    ├── TooManyRequests         429  over a quota or a concurrency limit
    ├── ClientClosed            499  the caller went away before the answer
    ├── InternalServerError     500  anything else, retryable
    ├── Unimplemented           501
    ├── BadGateway              502
    ├── Unavailable             503  none alive
    │   └── ConnectionLost      503  the line broke before the answer, retryable
    └── DeadlineExceeded        504  late (also a TimeoutError), retryable

The wire form is ``{"id", "code", "detail", "status"}``; HTTP answers capitalise the keys as
Micro v3 did. A code comes back as its class on the caller's side, an unknown one as `Error`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

__all__ = [
    "BadGateway",
    "BadRequest",
    "ClientClosed",
    "Conflict",
    "ConnectionLost",
    "DeadlineExceeded",
    "Error",
    "Forbidden",
    "InternalServerError",
    "MethodNotAllowed",
    "NotFound",
    "RequestTimeout",
    "TooLarge",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "Unimplemented",
    "from_exception",
    "from_wire",
    "of_code",
]


LONGEST_DETAIL = 64 * 1024
"""Characters of a detail that travel; what is longer is cut."""

LONGEST_RETRY = 31 * 86400.0
"""The most seconds that an error tells to wait before another try."""


class Error(Exception):
    """The root: an id that says where it arose, an HTTP code, a detail for people.

    Args:
        id: a stable, dotted name (``users.Read.MissingID``) or the service's name.
        detail: one line that names the cause and, where there is one, the way out.
        code: an HTTP status code; the classes below fix it.
    """

    code: int = 500
    status: str = "Internal Server Error"
    retryable: ClassVar[bool] = False
    retry_after: float = 0.0
    """Seconds after which it is worth trying again; 0 if nobody knows."""

    def __init__(self, id: str, detail: str = "", *, code: int = 0, status: str = "") -> None:
        super().__init__(id, detail)
        # An exception or a path given as the detail must not fail on its way to the caller.
        self.id = str(id)
        self.detail = str(detail)
        if code:
            self.code = code
            self.status = status or "Error"

    def __str__(self) -> str:
        return f"{self.id}: {self.detail}" if self.detail else self.id

    def to_wire(self) -> bytes:
        """JSON of ``{"id", "code", "detail", "status"}``, as it travels between services.

        It has ``retry_after`` too where that is known.
        """
        fields = {
            "id": _sendable(self.id),
            "code": self.code,
            "detail": _sendable(self.detail),
            "status": self.status,
        }
        if self.retry_after > 0:
            fields["retry_after"] = self.retry_after
        return msgspec.json.encode(fields)

    def to_http(self) -> bytes:
        """JSON of ``{"Id", "Code", "Detail", "Status"}``, the body of an HTTP answer."""
        return msgspec.json.encode(
            {
                "Id": _sendable(self.id),
                "Code": self.code,
                "Detail": _sendable(self.detail),
                "Status": self.status,
            }
        )


def _sendable(text: str) -> str:
    """A text that JSON can carry: not endless, and without the halves of broken characters."""
    return text[:LONGEST_DETAIL].encode("utf-8", "replace").decode()


class BadRequest(Error):
    code = 400
    status = "Bad Request"


class Unauthorized(Error):
    code = 401
    status = "Unauthorized"


class Forbidden(Error):
    code = 403
    status = "Forbidden"


class NotFound(Error, LookupError):
    code = 404
    status = "Not Found"


class MethodNotAllowed(Error):
    code = 405
    status = "Method Not Allowed"


class RequestTimeout(Error, TimeoutError):
    code = 408
    status = "Request Timeout"
    retryable = True


class Conflict(Error):
    code = 409
    status = "Conflict"


class TooLarge(Error):
    code = 413
    status = "Content Too Large"


class TooManyRequests(Error):
    code = 429
    status = "Too Many Requests"


class ClientClosed(Error):
    code = 499
    status = "Client Closed Request"


class InternalServerError(Error):
    code = 500
    status = "Internal Server Error"
    retryable = True


class Unimplemented(Error):
    code = 501
    status = "Not Implemented"


class BadGateway(Error):
    code = 502
    status = "Bad Gateway"


class Unavailable(Error):
    code = 503
    status = "Service Unavailable"


class ConnectionLost(Unavailable):
    retryable = True


class DeadlineExceeded(Error, TimeoutError):
    code = 504
    status = "Gateway Timeout"
    retryable = True


_BY_CODE: dict[int, type[Error]] = {
    kind.code: kind
    for kind in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        MethodNotAllowed,
        RequestTimeout,
        Conflict,
        TooLarge,
        TooManyRequests,
        ClientClosed,
        InternalServerError,
        Unimplemented,
        BadGateway,
        Unavailable,
        DeadlineExceeded,
    )
}


def of_code(code: int, id: str, detail: str = "", status: str = "") -> Error:
    """The error of an HTTP code, as its class where it has one; what is no error's is a 500."""
    if kind := _BY_CODE.get(code):
        return kind(id, detail)
    if 400 <= code <= 599:
        return Error(id, detail, code=code, status=status)
    return InternalServerError(id, detail)


def from_wire(data: bytes) -> Error:
    """Read the JSON of `Error.to_wire` or of an HTTP answer; never raises.

    What is no error body becomes an `InternalServerError` that quotes its first 200 bytes.
    """
    try:
        body: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = None
    if isinstance(body, dict):
        fields = {str(key).lower(): value for key, value in body.items()}
        if isinstance(code := fields.get("code"), int):
            id, detail = str(fields.get("id") or ""), str(fields.get("detail") or "")
            error = of_code(code, id, detail, str(fields.get("status") or ""))
            if isinstance(after := fields.get("retry_after"), int | float) and after > 0:
                error.retry_after = min(float(after), LONGEST_RETRY)
            return error
    return InternalServerError("rpc", data[:200].decode("utf-8", "replace"))


def from_exception(exc: BaseException, id: str) -> Error:
    """What a caller may know of an exception in a handler: a 500 that tells nothing private."""
    if isinstance(exc, Error):
        return exc
    return InternalServerError(id, "the handler failed; its log has the cause")
