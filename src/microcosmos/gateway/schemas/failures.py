"""Errors as clients of the Confluent Schema Registry know them: ``{"error_code", "message"}``."""

from __future__ import annotations

import msgspec

from microcosmos.base import errors
from microcosmos.events.schema import interface as ids

NO_MODE = 40409
NOT_PERMITTED = 42205

CODES = {
    ids.NO_SUBJECT: 40401,
    ids.NO_VERSION: 40402,
    ids.NO_SCHEMA: 40403,
    ids.SUBJECT_DELETED: 40404,
    ids.SUBJECT_KEPT: 40405,
    ids.VERSION_DELETED: 40406,
    ids.VERSION_KEPT: 40407,
    ids.NO_MODE: 40408,
    ids.BAD_SCHEMA: 42201,
    ids.BAD_VERSION: 42202,
    ids.BAD_MODE: 42203,
    "schema.subject.invalid": 42208,
    ids.INCOMPATIBLE: 409,
}
"""Confluent's codes by the ids of ours; the first three digits are the status."""

_OTHERS = {401: 40101, 403: 40301, 500: 50001, 503: 50003}


class Failure(errors.Error):
    """An error that has a code of Confluent's, but not in the registry itself.

    Args:
        number: Confluent's code.
        detail: one line that names the cause and the way out.
    """

    def __init__(self, number: int, detail: str) -> None:
        super().__init__("schemas", detail, code=int(str(number)[:3]), status="Error")
        self.number = number


def unsupported(detail: str) -> Failure:
    """Something that a schema may be elsewhere, but not here."""
    return Failure(42201, detail)


def body_of(error: errors.Error) -> tuple[int, bytes]:
    """The status and the body that an error is answered with."""
    if isinstance(error, Failure):
        number = error.number
    else:
        number = CODES.get(error.id) or _OTHERS.get(error.code, error.code)
    told = {"error_code": number, "message": error.detail or str(error)}
    return int(str(number)[:3]), msgspec.json.encode(told)
