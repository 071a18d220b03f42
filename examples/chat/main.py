"""A chat: what is said is an event on the chat's topic, heard live, heard again, and listed."""

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Annotated

import msgspec

from microcosmos import Event, Service, errors
from microcosmos.events import Taken

User = Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]{1,32}$")]
Own = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{0,64}$")]


class Chat(msgspec.Struct):
    """A chat and who is in it."""

    chat_id: str
    user_ids: list[User]


class Words(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody says; again with the same `client_id`, within two minutes, it is said once."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
    subject: str = ""
    client_id: Own = ""


class Sent(Words, kw_only=True):
    """Words, and who says them where."""

    chat_id: str
    user_id: User


class Message(msgspec.Struct):
    """What somebody has said; `sent_at` is in seconds since the epoch."""

    user_id: str
    text: str
    subject: str = ""
    id: str = ""
    sent_at: float = 0


chat = Service("chat")


def topic(chat_id: str) -> str:
    return f"chat.{chat_id}"


def message(event: Event) -> Message:
    """An event as those see it who are in the chat."""
    said: Message = event.unmarshal(Message)
    return msgspec.structs.replace(said, id=event.id, sent_at=event.timestamp)


async def entered(chat_id: str, user_id: str = "") -> Chat:
    """A chat that there is, and that the user is in."""
    found = await chat.store.get(f"chats/{chat_id}", Chat)
    if found is None:
        raise errors.NotFound("chat", f"there is no chat {chat_id!r}; make one: chat new")
    if user_id and user_id not in found.user_ids:
        raise errors.Forbidden("chat", f"{user_id} is not in chat {chat_id}")
    return found


async def say(chat_id: str, user_id: str, words: Words) -> str:
    """Publish; the id of what was said."""
    said = Message(user_id, words.text, words.subject)
    id = f"{chat_id}:{user_id}:{words.client_id or uuid.uuid4().hex}"
    return (await chat.events.publish(topic(chat_id), said, id=id)).id


@chat.endpoint
async def new(user_ids: Annotated[list[User], msgspec.Meta(min_length=1)]) -> Chat:
    """Make a chat for these users; asked for again, it is the same chat."""
    users = sorted(set(user_ids))
    made = Chat(hashlib.sha256(" ".join(users).encode()).hexdigest()[:12], users)
    await chat.store.set(f"chats/{made.chat_id}", made)
    return made


@chat.endpoint
async def send(words: Sent) -> str:
    """Say something; the answer is its id, once it is stored."""
    await entered(words.chat_id, words.user_id)
    return await say(words.chat_id, words.user_id, words)


@chat.endpoint
async def history(
    chat_id: str, limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100, offset: int = 0
) -> list[Message]:
    """What was said, the oldest first."""
    await entered(chat_id)
    return [message(event) for event in await chat.events.read(topic(chat_id), limit, offset)]


@chat.endpoint
async def connect(
    chat_id: str, user_id: User, words: AsyncIterator[Words], since: float = 0
) -> AsyncIterator[Message]:
    """Say and hear, until you leave: what was said since a time, and what is said from now on."""
    await entered(chat_id, user_id)

    async def speak() -> None:
        async for one in words:
            await say(chat_id, user_id, one)

    heard = chat.events.consume(topic(chat_id), offset=since or time.time())
    async with contextlib.aclosing(heard) as events:
        speaking = asyncio.create_task(speak())
        try:
            while True:
                yield message(await following(events, speaking))
        finally:
            speaking.cancel()


async def following(events: AsyncIterator[Taken], speaking: asyncio.Task[None]) -> Event:
    """The next event; or the error of the caller's own words, should that come first."""
    coming = asyncio.ensure_future(anext(events))
    try:
        while not coming.done():
            running = {coming} if speaking.done() else {coming, speaking}
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            if speaking.done():
                speaking.result()
        return coming.result().event
    finally:
        coming.cancel()
        await asyncio.wait({coming})


if __name__ == "__main__":
    chat.run()
