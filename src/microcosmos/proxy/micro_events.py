"""How Micro v3's clients consume events: acknowledgements come on the stream of the request.

To the proxy's own eyes the first message of ``Stream.Consume`` is what the others go with, in a
field ``acks``. On the wire of Micro the first message is a ConsumeRequest, and all that follow are
AckRequests as they are.
"""

from __future__ import annotations

from typing import Any

from microcosmos.base import codec

from .files import File
from .forms import Forms, Proto3Json, Protobuf
from .messages import Form

SERVICE, ENDPOINT = "events", "Stream.Consume"

_ACK = "AckRequest"
_ITEMS = "acks"
_ACK_FIELDS = {"success": False}
# What protobuf does not tell from what is not set, and is not what we take it for then.
_FIELDS = {"auto_ack": False, "retry_limit": 0}


class Consuming:
    """The messages of one call of ``Stream.Consume``; see `forms.Forms`.

    Args:
        forms: how its messages are written.
        file: of the service.
    """

    def __init__(self, forms: Forms, file: File) -> None:
        self._forms = forms
        self._acks = file.message(_ACK)
        self._begun = False

    async def read(self, message: bytes) -> bytes:
        begun, self._begun = self._begun, True
        if not begun:
            body = await self._forms.read(message)
            return _filled(body, _FIELDS) if isinstance(self._forms, Protobuf) else body
        ack = _filled(_read(self._acks, self._forms, message), _ACK_FIELDS)
        return b'{"%s":%s}' % (_ITEMS.encode(), ack)

    async def write(self, body: bytes) -> bytes:
        return await self._forms.write(body)


def _read(form: Form, forms: Forms, message: bytes) -> bytes:
    if isinstance(forms, Proto3Json):
        return form.from_proto3(message, SERVICE)
    if isinstance(forms, Protobuf):
        return form.to_json(message, SERVICE)
    # A client that knows our own endpoint says in which field its acknowledgement is.
    value: Any = codec.decode(message, id=SERVICE)
    named = value.get(_ITEMS) if isinstance(value, dict) else None
    return message if named is None else codec.encode(named)


def _filled(body: bytes, fields: dict[str, Any]) -> bytes:
    """A JSON object with what it does not say."""
    value: Any = codec.decode(body, id=SERVICE)
    return codec.encode({**fields, **value}) if isinstance(value, dict) else body
