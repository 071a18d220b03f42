"""The schemas of one namespace: subjects, their versions, what is set for them, who reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

from microcosmos.base import codec, errors, topics
from microcosmos.base.clock import Clock
from microcosmos.store import Delete, Op, Store, Write

from . import breaking
from . import interface as ids
from .breaking import held_against
from .consumers import Consumers
from .document import Document, parse
from .held import DEFAULTS, ENDPOINTS, Held
from .interface import (
    MAX_VERSIONS,
    Breach,
    Consumer,
    Declaration,
    EndpointSchemas,
    Mode,
    Reader,
    SchemaVersion,
    Subject,
    Writer,
    subject_of,
    subject_of_endpoint,
    topic_of,
)
from .kept import KeptSubject, KeptVersion, Keys
from .picking import LATEST, check_subject, no_subject, number, picked
from .records import Records

MAX_CONSUMERS = 1000
"""Topics and patterns that one service may say that it consumes."""

__all__ = ["DEFAULTS", "ENDPOINTS", "LATEST", "MAX_CONSUMERS", "Catalogue", "check_subject"]

T = TypeVar("T")


class Catalogue(Held):
    """The schemas of one namespace; made by `Registry.of`.

    Every method raises `errors.Unavailable` when the store cannot be written or read. The ids of
    the errors are those of `interface`.
    """

    def __init__(self, store: Store, namespace: str, clock: Clock) -> None:
        super().__init__(store, Keys(namespace))
        self.namespace = namespace
        self._records = Records(store, self._keys, namespace)
        self._consumers = Consumers(store, self._keys)
        self._clock = clock

    # Reading.

    async def subjects(self, prefix: str = "", *, deleted: bool = False) -> list[str]:
        """The names of the subjects, sorted.

        Args:
            prefix: how they begin.
            deleted: those too of which every version is deleted, though not for good.
        """
        return [name for name, kept in await self._records.all(prefix) if deleted or kept.active]

    async def describe(self, prefix: str = "", *, deleted: bool = False) -> list[Subject]:
        """The subjects with their newest versions and what holds for them, sorted."""
        found = []
        for name, kept in await self._records.all(prefix):
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
        wanted = number(version)
        kept = await self._existing(subject, deleted=deleted)
        return await self._shown(subject, picked(subject, kept, wanted, deleted=deleted))

    async def schema(self, id: int) -> str:
        """The JSON text of a schema. Schemas stay when the versions that had them are deleted.

        Raises:
            errors.NotFound: there is none of that id.
        """
        return await self._records.text(id)

    async def uses(self, id: int, *, deleted: bool = False) -> list[tuple[str, int]]:
        """The subjects and versions that have a schema.

        Raises:
            errors.NotFound: there is none of that id.
        """
        await self.schema(id)
        return [
            (name, one.version)
            for name, kept in await self._records.all()
            for one in (kept.versions if deleted else kept.active)
            if one.id == id
        ]

    async def has(self, subject: str, id: int) -> bool:
        """Whether a version of a subject, deleted or not, has a schema."""
        return any(one.id == id for one in (await self._records.subject(subject))[1].versions)

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
        id = await self._records.id_of(_document(schema, normalize))
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
        beside: str = "",
    ) -> SchemaVersion:
        """Add a version to a subject; one that has this schema already is given as it stands.

        Two texts that differ in nothing but blanks and the order of names are one schema.

        Args:
            subject: which; it is made if there is none.
            schema: JSON text, a dict or a boolean.
            author: the account that does so.
            normalize: keep the text with its names in order.
            consumers: refuse too what those who said that they consume the topic cannot read.
            beside: but for those of this service.

        Raises:
            errors.Conflict: it is not compatible; the detail names version and path. Or the
                subject has `MAX_VERSIONS`.
            errors.Error: 422: it is no JSON Schema, or one that is not supported.
        """
        check_subject(subject)
        document = _document(schema, normalize)
        async with self._writing:
            while True:
                record, kept = await self._records.subject(subject)
                id = await self._records.id_of(document)
                for one in kept.active:
                    if id and one.id == id:
                        return await self._shown(subject, one)
                if len(kept.versions) >= MAX_VERSIONS:
                    detail = f"{subject} has {MAX_VERSIONS} versions, its limit"
                    way_out = "delete old ones for good"
                    raise errors.Conflict("schema.versions", f"{detail}; {way_out}")
                mode = await self.mode(subject)
                olders = await self._olders(held_against(kept, mode))
                asked = await self._readers(subject, mode, beside) if consumers else []
                breaches = await breaking.of_versions(subject, mode, document.value, olders)
                breaches += await breaking.of_consumers(document.value, asked)
                breaking.refuse(topic_of(subject) or subject, mode, breaches)
                try:
                    now = self._clock.time()
                    added = await self._records.add(record, kept, document, author, now)
                except errors.Conflict:
                    continue  # another core was faster
                return await self._shown(subject, added)

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
        wanted = number(version)

        def deleted(kept: KeptSubject) -> tuple[KeptSubject, int]:
            one = picked(subject, kept, wanted, deleted=True)
            if wanted == 0 and not permanent:
                one = picked(subject, kept, wanted, deleted=False)
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
        kept = (await self._records.subject(check_subject(subject)))[1]
        held = mode or await self.mode(subject)
        against = held_against(kept, held)
        if version is not None:
            if not kept.active:
                raise no_subject(subject)
            one = picked(subject, kept, number(version), deleted=False)
            against = [one] if held != "NONE" else []
        asked = await self._readers(subject, held, "") if consumers else []
        olders = await self._olders(against)
        found = await breaking.of_versions(subject, held, document.value, olders)
        return found + await breaking.of_consumers(document.value, asked)

    async def _olders(self, versions: Iterable[KeptVersion]) -> list[breaking.Older]:
        return [
            breaking.Older(one.version, codec.decode(await self.schema(one.id))) for one in versions
        ]

    async def _readers(self, subject: str, mode: Mode, beside: str) -> list[Consumer]:
        """Those who have to be able to read what is written by a new version."""
        topic = topic_of(subject)
        if not topic or mode == "NONE":
            return []
        return [one for one in await self.consumers(topic) if one.service != beside]

    # Who consumes what.

    async def consumers(self, topic: str = "") -> list[Consumer]:
        """Who said that it consumes a topic, by pattern or by name; with no topic, everybody."""
        return await self._consumers.of(topic)

    async def forget(self, service: str, topic: str = "") -> list[Consumer]:
        """Take it that a service consumes a topic no more, or with no topic nothing at all.

        Returns:
            What it had said and does not count any more.
        """
        async with self._writing:
            return await self._consumers.forget(service, topic)

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
        service, readers = declaration.service, declaration.readers
        if len(readers) > MAX_CONSUMERS:
            raise errors.TooLarge("schema", f"{service} consumes more than {MAX_CONSUMERS} topics")
        said = [self._said(service, reader) for reader in readers]
        for reader in readers:
            await self._check_reader(service, reader)
        for writer in declaration.writers:
            await self._check_own(declaration, writer)
        for writer in declaration.writers:
            # What it reads itself was looked at, and is about to stand in place of what it said.
            subject = subject_of(writer.topic)
            await self.register(subject, writer.schema, author=author, beside=service)
        for endpoint in declaration.endpoints:
            await self._declare_endpoint(service, endpoint, author)
        async with self._writing:
            await self._consumers.keep(service, said)

    def _said(self, service: str, reader: Reader) -> Consumer:
        topics.check_pattern(reader.topic)
        schema = parse(reader.schema).text if reader.schema else ""
        return Consumer(reader.topic, service, reader.group, schema, self._clock.time())

    async def _check_reader(self, service: str, reader: Reader) -> None:
        for name, kept in await self._topics(reader.topic) if reader.schema else ():
            mode = await self.mode(name)
            for one in await self._olders(held_against(kept, mode)):
                what = f"version {one.number}"
                found = await breaking.of_reader(service, reader, one.schema, what, one.number)
                breaking.refuse(topic_of(name), mode, found)

    async def _check_own(self, declaration: Declaration, writer: Writer) -> None:
        """What a service reads of what it writes itself."""
        mode = await self.mode(subject_of(topics.check_topic(writer.topic)))
        schema = parse(writer.schema).value
        for reader in declaration.readers if mode != "NONE" else ():
            if topics.matches(reader.topic, writer.topic):
                service = declaration.service
                found = await breaking.of_reader(service, reader, schema, "what it writes")
                breaking.refuse(writer.topic, mode, found)

    async def _declare_endpoint(self, service: str, endpoint: EndpointSchemas, author: str) -> None:
        sides: tuple[tuple[Literal["request", "response"], str], ...] = (
            ("request", endpoint.request),
            ("response", endpoint.response),
        )
        for side, schema in sides:
            name = subject_of_endpoint(service, endpoint.endpoint, side)
            if await self.mode(name) != "NONE":
                await self.register(name, schema, author=author)

    async def _topics(self, pattern: str) -> list[tuple[str, KeptSubject]]:
        """The subjects of the topics that a pattern stands for."""
        if not topics.is_pattern(pattern):
            subject = subject_of(pattern)
            return [(subject, (await self._records.subject(subject))[1])]
        return [
            (name, kept)
            for name, kept in await self._records.all()
            if (topic := topic_of(name)) and topics.matches(pattern, topic)
        ]

    # Records.

    async def _existing(self, subject: str, *, deleted: bool) -> KeptSubject:
        kept = (await self._records.subject(check_subject(subject)))[1]
        if not (kept.versions if deleted else kept.active):
            raise no_subject(subject)
        return kept

    async def _shown(self, subject: str, one: KeptVersion) -> SchemaVersion:
        text = await self.schema(one.id)
        return SchemaVersion(
            subject, one.version, one.id, text, one.author, one.time, deleted=one.deleted
        )

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
                record, kept = await self._records.subject(check_subject(subject))
                if not kept.versions:
                    raise no_subject(subject)
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


def _document(schema: Any, normalize: bool) -> Document:
    document = parse(schema)
    return document.normal() if normalize else document


def _as_deleted(one: KeptVersion) -> KeptVersion:
    return KeptVersion(one.version, one.id, one.author, one.time, deleted=True)
