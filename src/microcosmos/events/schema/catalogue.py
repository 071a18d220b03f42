"""The schemas of one namespace: subjects, their versions, what is set for them, who reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from microcosmos.base import codec, errors, topics
from microcosmos.base.clock import Clock
from microcosmos.store import Check, Delete, Op, Record, Store, Write

from . import interface as ids
from .compatibility import compare
from .document import Document, parse
from .interface import (
    MAX_SUBJECT,
    MAX_VERSIONS,
    MODES,
    Breach,
    Consumer,
    Declaration,
    Mode,
    Reader,
    SchemaVersion,
    Settings,
    Subject,
    is_response,
    service_of,
    subject_of,
    subject_of_endpoint,
    topic_of,
    unprocessable,
)
from .kept import (
    KeptConsumers,
    KeptSubject,
    KeptVersion,
    Keys,
    consumers_from,
    settings_from,
    subject_from,
)

LATEST: Literal["latest"] = "latest"
"""Stands for the newest version."""

MAX_CONSUMERS = 1000
"""Topics and patterns that one service may say that it consumes."""

DEFAULTS = Settings("BACKWARD", auto=True)
"""What holds for topics where nothing is set."""

ENDPOINTS = Settings("NONE", auto=True)
"""What holds for endpoints where nothing is set for them or for their service."""

T = TypeVar("T")


class Catalogue:
    """The schemas of one namespace; made by `Registry.of`.

    Every method raises `errors.Unavailable` when the store cannot be written or read. The ids of
    the errors are those of `interface`.
    """

    def __init__(self, store: Store, namespace: str, clock: Clock) -> None:
        self.namespace = namespace
        self._store = store
        self._keys = Keys(namespace)
        self._clock = clock
        self._writing = asyncio.Lock()

    # Reading.

    async def subjects(self, prefix: str = "", *, deleted: bool = False) -> list[str]:
        """The names of the subjects, sorted.

        Args:
            prefix: how they begin.
            deleted: those too of which every version is deleted, though not for good.
        """
        return [name for name, kept in await self._all(prefix) if deleted or kept.active]

    async def describe(self, prefix: str = "", *, deleted: bool = False) -> list[Subject]:
        """The subjects with their newest versions and what holds for them, sorted."""
        found = []
        for name, kept in await self._all(prefix):
            if versions := kept.versions if deleted else kept.active:
                latest = await self._shown(name, versions[-1])
                settings = await self.effective(name)
                mode, auto = settings.mode or "NONE", settings.auto is not False
                numbers = tuple(one.version for one in versions)
                found.append(Subject(name, numbers, latest, mode, auto))
        return found

    async def versions(self, subject: str, *, deleted: bool = False) -> list[int]:
        """The numbers of a subject's versions, growing.

        Raises:
            errors.NotFound: there is no such subject.
        """
        kept = await self._existing(subject, deleted=deleted)
        return [one.version for one in (kept.versions if deleted else kept.active)]

    async def history(self, subject: str, *, deleted: bool = False) -> list[SchemaVersion]:
        """All versions of a subject, growing.

        Raises:
            errors.NotFound: there is no such subject.
        """
        kept = await self._existing(subject, deleted=deleted)
        versions = kept.versions if deleted else kept.active
        return [await self._shown(subject, one) for one in versions]

    async def version(
        self, subject: str, version: int | str = LATEST, *, deleted: bool = False
    ) -> SchemaVersion:
        """A version of a subject.

        Args:
            subject: whose.
            version: its number, or ``latest``; -1 is the latest too, as Confluent has it.
            deleted: find one too that is deleted, though not for good.

        Raises:
            errors.NotFound: there is no such subject, or no such version of it.
            errors.Error: 422: that is no version.
        """
        number = _number(version)
        kept = await self._existing(subject, deleted=deleted)
        return await self._shown(subject, _picked(subject, kept, number, deleted=deleted))

    async def schema(self, id: int) -> str:
        """The JSON text of a schema. Schemas stay when the versions that had them are deleted.

        Raises:
            errors.NotFound: there is none of that id.
        """
        try:
            record = await self._store.read(self._keys.id(id))
        except errors.NotFound:
            detail = f"there is no schema {id} in namespace {self.namespace}"
            raise errors.NotFound(ids.NO_SCHEMA, detail) from None
        return record.value.decode()

    async def uses(self, id: int, *, deleted: bool = False) -> list[tuple[str, int]]:
        """The subjects and versions that have a schema.

        Raises:
            errors.NotFound: there is none of that id.
        """
        await self.schema(id)
        return [
            (name, one.version)
            for name, kept in await self._all()
            for one in (kept.versions if deleted else kept.active)
            if one.id == id
        ]

    async def has(self, subject: str, id: int) -> bool:
        """Whether a version of a subject, deleted or not, has a schema."""
        return any(one.id == id for one in (await self._kept(subject))[1].versions)

    async def lookup(
        self, subject: str, schema: Any, *, normalize: bool = False, deleted: bool = False
    ) -> SchemaVersion:
        """The version of a subject that has a schema.

        Args:
            subject: whose.
            schema: JSON text, a dict or a boolean.
            normalize: what `register` says of it.
            deleted: find one too that is deleted, though not for good.

        Raises:
            errors.NotFound: there is no such subject, or it has no such version.
        """
        kept = await self._existing(subject, deleted=deleted)
        id = await self._id_of(_document(schema, normalize))
        for one in kept.versions if deleted else kept.active:
            if id and one.id == id:
                return await self._shown(subject, one)
        raise errors.NotFound(ids.NO_SCHEMA, f"{subject} has no version with this schema")

    # Writing.

    async def register(
        self,
        subject: str,
        schema: Any,
        *,
        author: str = "",
        normalize: bool = False,
        consumers: bool = True,
    ) -> SchemaVersion:
        """Add a version to a subject; one that has this schema already is given as it stands.

        Two texts that differ in nothing but blanks and the order of names are one schema.

        Args:
            subject: which; it is made if there is none.
            schema: JSON text, a dict or a boolean.
            author: the account that does so.
            normalize: keep the text with its names in order.
            consumers: refuse too what those who said that they consume the topic cannot read.

        Raises:
            errors.Conflict: it is not compatible; the detail names version and path. Or the
                subject has `MAX_VERSIONS`.
            errors.Error: 422: it is no JSON Schema, or one that is not supported.
        """
        check_subject(subject)
        document = _document(schema, normalize)
        async with self._writing:
            while True:
                record, kept = await self._kept(subject)
                id = await self._id_of(document)
                for one in kept.active:
                    if id and one.id == id:
                        return await self._shown(subject, one)
                await self._check_breaches(subject, kept, document, consumers=consumers)
                try:
                    return await self._add(subject, record, kept, document, id, author)
                except errors.Conflict as error:
                    if error.id.startswith("schema"):
                        raise
                    # Another core was faster.

    async def delete(self, subject: str, *, permanent: bool = False) -> list[int]:
        """Delete a subject: its versions can be asked for by their numbers no more.

        Args:
            subject: which.
            permanent: for good; it has to be deleted before.

        Returns:
            The numbers of the versions.

        Raises:
            errors.NotFound: there is no such subject; or it is deleted already; or, for good, it
                is not deleted yet.
        """

        def deleted(kept: KeptSubject) -> tuple[KeptSubject, list[int]]:
            active = kept.active
            if permanent and active:
                raise errors.NotFound(
                    ids.SUBJECT_KEPT, f"{subject} is to be deleted before it is deleted for good"
                )
            if not permanent and not active:
                raise errors.NotFound(ids.SUBJECT_DELETED, f"{subject} is deleted already")
            if permanent:
                return KeptSubject(), [one.version for one in kept.versions]
            gone = [_as_deleted(one) for one in kept.versions]
            return KeptSubject(gone), [one.version for one in active]

        return await self._change(subject, deleted, settings=True)

    async def delete_version(
        self, subject: str, version: int | str, *, permanent: bool = False
    ) -> int:
        """Delete one version; the arguments and errors are those of `delete`.

        Returns:
            Its number.

        Raises:
            errors.NotFound: see `delete`.
            errors.Error: 422: that is no version.
        """
        number = _number(version)

        def deleted(kept: KeptSubject) -> tuple[KeptSubject, int]:
            one = _picked(subject, kept, number, deleted=True)
            if number == 0 and not permanent:
                one = _picked(subject, kept, number, deleted=False)
            named = f"version {one.version} of {subject}"
            if permanent and not one.deleted:
                raise errors.NotFound(
                    ids.VERSION_KEPT, f"{named} is to be deleted before it is deleted for good"
                )
            if not permanent and one.deleted:
                raise errors.NotFound(ids.VERSION_DELETED, f"{named} is deleted already")
            rest = [
                _as_deleted(each) if each is one else each
                for each in kept.versions
                if not (permanent and each is one)
            ]
            return KeptSubject(rest), one.version

        return await self._change(subject, deleted)

    # What is set.

    async def settings(self, subject: str = "") -> Settings:
        """What is set for a subject itself, or with an empty name for all topics."""
        try:
            record = await self._store.read(self._keys.setting(subject))
        except errors.NotFound:
            return Settings()
        return settings_from(record.value)

    async def effective(self, subject: str = "") -> Settings:
        """What holds for a subject; nothing of it is None.

        A topic has its own settings, then those of the namespace, then `DEFAULTS`; an endpoint
        its own, then those of its service (``SERVICE/``), then `ENDPOINTS`.
        """
        if service := service_of(subject):
            above, last = f"{service}/", ENDPOINTS
        else:
            above, last = "", DEFAULTS
        found = last
        for name in dict.fromkeys((above, subject)):
            found = _over(await self.settings(name), found)
        return found

    async def mode(self, subject: str = "") -> Mode:
        """What new versions of a subject are held to; with an empty name, those of all topics."""
        return (await self.effective(subject)).mode or "NONE"

    async def configure(
        self, subject: str = "", *, mode: str | None = None, auto: bool | None = None
    ) -> Settings:
        """Set something for a subject, for a service's endpoints (``SERVICE/``) or for all topics.

        Args:
            subject: which; empty is all topics.
            mode: None leaves it.
            auto: whether types may register themselves; None leaves it.

        Returns:
            What is set there now.

        Raises:
            errors.Error: 422: there is no such mode.
        """
        if mode is not None and mode not in MODES:
            raise unprocessable(ids.BAD_MODE, f"{mode!r:.40} is no mode; one of {', '.join(MODES)}")
        if subject:
            check_subject(subject)
        async with self._writing:
            now = _over(Settings(mode, auto), await self.settings(subject))
            await self._store.write(self._keys.setting(subject), codec.encode(now))
        return now

    async def unset(self, subject: str = "") -> Settings:
        """Let what stands above hold for a subject again.

        Returns:
            What was set.

        Raises:
            errors.NotFound: nothing was set for it.
        """
        async with self._writing:
            was = await self.settings(subject)
            if subject and was == Settings():
                raise errors.NotFound(ids.NO_MODE, f"{subject} has no mode of its own")
            await self._store.delete(self._keys.setting(subject))
        return was

    # Compatibility.

    async def check(
        self,
        subject: str,
        schema: Any,
        *,
        version: int | str | None = None,
        consumers: bool = False,
        mode: Mode | None = None,
    ) -> list[Breach]:
        """What a new version would break, by the subject's mode; nothing is written.

        Args:
            subject: which; a new one breaks nothing.
            schema: JSON text, a dict or a boolean.
            version: look at this one only, whatever would be looked at; None is what the mode says.
            consumers: look at those too who said that they consume the topic, unless the mode is
                ``NONE``.
            mode: another than the subject's.

        Raises:
            errors.NotFound: there is no such version.
            errors.Error: 422: it is no JSON Schema.
        """
        document = parse(schema)
        kept = (await self._kept(check_subject(subject)))[1]
        held = mode or await self.mode(subject)
        if version is not None:
            if not kept.active:
                raise _no_subject(subject)
            against = [_picked(subject, kept, _number(version), deleted=False)]
        else:
            against = kept.active if held.endswith("_TRANSITIVE") else kept.active[-1:]
        return await self._breaches(subject, against, document, held, consumers=consumers)

    async def _check_breaches(
        self, subject: str, kept: KeptSubject, document: Document, *, consumers: bool
    ) -> None:
        mode = await self.mode(subject)
        against = kept.active if mode.endswith("_TRANSITIVE") else kept.active[-1:]
        breaches = await self._breaches(subject, against, document, mode, consumers=consumers)
        if breaches:
            raise _incompatible(topic_of(subject) or subject, mode, breaches)

    async def _breaches(
        self,
        subject: str,
        against: Sequence[KeptVersion],
        document: Document,
        mode: Mode,
        *,
        consumers: bool,
    ) -> list[Breach]:
        if mode == "NONE":
            return []
        backward, forward = _directions(subject, mode)
        found = []
        for one in reversed(against):
            old: Any = codec.decode(await self.schema(one.id))
            named = f"version {one.version}"
            if backward and (problems := await _compared(document.value, old)):
                side = f"what {named} wrote cannot be read"
                found.append(Breach(side, problems, one.version))
            if forward and (problems := await _compared(old, document.value)):
                side = f"who reads by {named} cannot read it"
                found.append(Breach(side, problems, one.version))
        if consumers and (topic := topic_of(subject)):
            for consumer in await self.consumers(topic):
                if problems := await _read_by(consumer, document.value):
                    side = f"consumer {consumer.group} of {consumer.service} cannot read it"
                    found.append(Breach(side, problems, consumer=consumer))
        return found

    # Who consumes what.

    async def consumers(self, topic: str = "") -> list[Consumer]:
        """Who said that it consumes a topic, by pattern or by name; with no topic, everybody."""
        records = await self._store.read(prefix=self._keys.consumers)
        return [
            one
            for record in records
            for one in consumers_from(record.value).consumers
            if not topic or topics.matches(one.topic, topic)
        ]

    async def forget(self, service: str, topic: str = "") -> list[Consumer]:
        """Take it that a service consumes a topic no more, or with no topic nothing at all.

        Returns:
            What it had said and does not count any more.
        """
        key = self._keys.consumer(service)
        async with self._writing:
            try:
                record = await self._store.read(key)
            except errors.NotFound:
                return []
            said = consumers_from(record.value).consumers
            rest = [one for one in said if topic and one.topic != topic]
            if rest:
                await self._store.write(key, codec.encode(KeptConsumers(rest)))
            else:
                await self._store.delete(key)
        return [one for one in said if one not in rest]

    async def declare(self, declaration: Declaration, *, author: str = "") -> None:
        """Take note of what a service reads and writes, if nothing of it breaks anything.

        What it publishes is registered, and what it consumes has to read what the topics have;
        topics whose mode is ``NONE`` are not held to that. Of endpoints those are registered whose
        mode is not ``NONE``. What is refused leaves what the service said before.

        Raises:
            errors.Conflict: the detail names the broken side in one line.
            errors.BadRequest: a topic that cannot be one.
            errors.TooLarge: it consumes more than `MAX_CONSUMERS`.
        """
        now = self._clock.time()
        said = []
        if len(declaration.readers) > MAX_CONSUMERS:
            detail = f"{declaration.service} consumes more than {MAX_CONSUMERS} topics"
            raise errors.TooLarge("schema", detail)
        for reader in declaration.readers:
            topics.check_pattern(reader.topic)
            schema = parse(reader.schema).text if reader.schema else ""
            said.append(Consumer(reader.topic, declaration.service, reader.group, schema, now))
            await self._check_reader(declaration.service, reader)
        for writer in declaration.writers:
            subject = subject_of(topics.check_topic(writer.topic))
            await self.register(subject, writer.schema, author=author)
        for endpoint in declaration.endpoints:
            for side, schema in (("request", endpoint.request), ("response", endpoint.response)):
                name = subject_of_endpoint(declaration.service, endpoint.endpoint, side)  # type: ignore[arg-type]
                if await self.mode(name) != "NONE":
                    await self.register(name, schema, author=author)
        await self._keep_consumers(declaration.service, said)

    async def _keep_consumers(self, service: str, said: list[Consumer]) -> None:
        key = self._keys.consumer(service)
        async with self._writing:
            if said:
                await self._store.write(key, codec.encode(KeptConsumers(said)))
            else:
                await self._store.delete(key)

    async def _check_reader(self, service: str, reader: Reader) -> None:
        if not reader.schema:
            return
        consumer = Consumer(reader.topic, service, reader.group, reader.schema)
        for name, kept in await self._topics(reader.topic):
            mode = await self.mode(name)
            if mode == "NONE":
                continue
            against = kept.active if mode.endswith("_TRANSITIVE") else kept.active[-1:]
            for one in reversed(against):
                schema: Any = codec.decode(await self.schema(one.id))
                if problems := await _read_by(consumer, schema):
                    side = f"consumer {reader.group} of {service} cannot read version {one.version}"
                    breach = Breach(side, problems, one.version, consumer)
                    raise _incompatible(topic_of(name), mode, [breach])

    async def _topics(self, pattern: str) -> list[tuple[str, KeptSubject]]:
        """The subjects of the topics that a pattern stands for."""
        if not topics.is_pattern(pattern):
            subject = subject_of(pattern)
            return [(subject, (await self._kept(subject))[1])]
        return [
            (name, kept)
            for name, kept in await self._all()
            if (topic := topic_of(name)) and topics.matches(pattern, topic)
        ]

    # Records.

    async def _all(self, prefix: str = "") -> list[tuple[str, KeptSubject]]:
        begins = self._keys.subject(prefix)
        records = await self._store.read(prefix=begins)
        return [
            (one.key.removeprefix(self._keys.subjects), subject_from(one.value)) for one in records
        ]

    async def _kept(self, subject: str) -> tuple[Record, KeptSubject]:
        key = self._keys.subject(subject)
        try:
            record = await self._store.read(key)
        except errors.NotFound:
            return Record(key), KeptSubject()
        return record, subject_from(record.value)

    async def _existing(self, subject: str, *, deleted: bool) -> KeptSubject:
        kept = (await self._kept(check_subject(subject)))[1]
        if not (kept.versions if deleted else kept.active):
            raise _no_subject(subject)
        return kept

    async def _shown(self, subject: str, one: KeptVersion) -> SchemaVersion:
        text = await self.schema(one.id)
        return SchemaVersion(
            subject, one.version, one.id, text, one.author, one.time, deleted=one.deleted
        )

    async def _id_of(self, document: Document) -> int:
        """The id of a schema, 0 when it has none."""
        try:
            record = await self._store.read(self._keys.identity(document.identity))
        except errors.NotFound:
            return 0
        return int(record.value)

    async def _add(
        self,
        subject: str,
        record: Record,
        kept: KeptSubject,
        document: Document,
        id: int,
        author: str,
    ) -> SchemaVersion:
        if len(kept.versions) >= MAX_VERSIONS:
            detail = f"{subject} has {MAX_VERSIONS} versions, its limit; delete old ones for good"
            raise errors.Conflict("schema.versions", detail)
        ops: list[Op] = []
        if not id:
            id, ops = await self._new_id(document)
        else:
            text = await self._store.read(self._keys.id(id))
            ops = [Check(text.key, text.version)]
        number = kept.versions[-1].version + 1 if kept.versions else 1
        added = KeptVersion(number, id, author, self._clock.time())
        value = codec.encode(KeptSubject([*kept.versions, added]))
        await self._store.batch([*ops, Write(record.key, value, version=record.version)])
        return await self._shown(subject, added)

    async def _new_id(self, document: Document) -> tuple[int, list[Op]]:
        try:
            last = await self._store.read(self._keys.last_id)
        except errors.NotFound:
            last = Record(self._keys.last_id, b"0")
        id = int(last.value) + 1
        number = str(id).encode()
        return id, [
            Write(last.key, number, version=last.version),
            Write(self._keys.identity(document.identity), number, version=0),
            Write(self._keys.id(id), document.text.encode(), version=0),
        ]

    async def _change(
        self,
        subject: str,
        change: Callable[[KeptSubject], tuple[KeptSubject, T]],
        *,
        settings: bool = False,
    ) -> T:
        """Write what becomes of a subject; one without versions is none, and nor are its settings.

        Raises:
            errors.NotFound: there is no such subject.
        """
        async with self._writing:
            while True:
                record, kept = await self._kept(check_subject(subject))
                if not kept.versions:
                    raise _no_subject(subject)
                left, answer = change(kept)
                ops: list[Op] = [Write(record.key, codec.encode(left), version=record.version)]
                if not left.versions:
                    ops = [Delete(record.key, version=record.version)]
                if settings:
                    ops.append(Delete(self._keys.setting(subject)))
                try:
                    await self._store.batch(ops)
                except errors.Conflict:
                    continue  # another core was faster
                return answer


def check_subject(subject: str) -> str:
    """A name that a subject can have.

    Raises:
        errors.Error: 422: it is empty, too long, or has what cannot be printed.
    """
    if (
        isinstance(subject, str)
        and subject
        and subject.isprintable()
        and len(subject.encode("utf-8", "replace")) <= MAX_SUBJECT
    ):
        return subject
    raise unprocessable(
        "schema.subject.invalid",
        f"{subject!r:.80} is no subject: use up to {MAX_SUBJECT} printable characters",
    )


async def _compared(reader: Any, writer: Any) -> tuple[ids.Problem, ...]:
    # In a thread: large schemas take their time, and others are to be served meanwhile.
    return tuple(await asyncio.to_thread(compare, reader, writer))


async def _read_by(consumer: Consumer, writer: Any) -> tuple[ids.Problem, ...]:
    if not consumer.schema:
        return ()
    return await _compared(codec.decode(consumer.schema), writer)


def _directions(subject: str, mode: Mode) -> tuple[bool, bool]:
    """Whether the new version has to read what was written, and be read by who read before.

    What an endpoint gives is read by its callers: for them, going on with a new version means what
    for a reader of a topic is going on with an old one.
    """
    kind = mode.removesuffix("_TRANSITIVE")
    backward, forward = kind in ("BACKWARD", "FULL"), kind in ("FORWARD", "FULL")
    return (forward, backward) if is_response(subject) else (backward, forward)


def _incompatible(what: str, mode: Mode, breaches: Sequence[Breach]) -> errors.Conflict:
    more = f"; {len(breaches) - 1} more" if len(breaches) > 1 else ""
    return errors.Conflict(ids.INCOMPATIBLE, f"{what} ({mode}): {breaches[0]}{more}")


def _document(schema: Any, normalize: bool) -> Document:
    document = parse(schema)
    return document.normal() if normalize else document


def _over(upper: Settings, lower: Settings) -> Settings:
    return Settings(
        lower.mode if upper.mode is None else upper.mode,
        lower.auto if upper.auto is None else upper.auto,
    )


def _as_deleted(one: KeptVersion) -> KeptVersion:
    return KeptVersion(one.version, one.id, one.author, one.time, deleted=True)


def _number(version: int | str) -> int:
    """The number of a version, 0 for the latest."""
    if version in (LATEST, -1, "-1"):
        return 0
    if isinstance(version, str) and version.isascii() and version.isdigit():
        version = int(version[:12])
    if isinstance(version, int) and 0 < version < 2**31:
        return version
    raise unprocessable(ids.BAD_VERSION, f"{version!r:.40} is no version; 1, 2, … or latest")


def _picked(subject: str, kept: KeptSubject, number: int, *, deleted: bool) -> KeptVersion:
    versions = kept.versions if deleted else kept.active
    if number == 0 and versions:
        return versions[-1]
    for one in versions:
        if one.version == number:
            return one
    detail = f"{subject} has no version {number or LATEST}"
    raise errors.NotFound(ids.NO_VERSION, detail)


def _no_subject(subject: str) -> errors.NotFound:
    return errors.NotFound(ids.NO_SUBJECT, f"there is no subject {subject}")
