"""The schema registry served over rpc: a part of the service ``events``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from microcosmos.base import context, errors
from microcosmos.base.audit import Audit, unaudited
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.server import Access, Endpoint

from . import wire
from .catalogue import LATEST, Catalogue
from .interface import SchemaVersion, service_of, topic_of
from .local import LocalSource, author
from .registry import Changed, Registry

Authorise = Callable[[str, str], None]
"""Refuses who calls what they may not do with a topic; see `auth.topics`."""


class SchemasService:
    """Serves the registry.

    Args:
        registry: the core's own.
        authorise: says who may do what with a topic: who may publish to it may register what is
            published, who may consume it may say so, and who administers it may set and delete.
        audit: notes what was set and deleted.
    """

    def __init__(
        self, registry: Registry, authorise: Authorise, *, audit: Audit = unaudited
    ) -> None:
        self._registry = registry
        self._authorise = authorise
        self._audit = audit

    def endpoints(self) -> list[Endpoint]:
        """The endpoints ``Schemas.*``, for the service ``events``."""
        return [
            _endpoint(self.list, "List"),
            _endpoint(self.versions, "Versions"),
            _endpoint(self.read, "Read"),
            _endpoint(self.newest, "Newest"),
            _endpoint(self.register, "Register"),
            _endpoint(self.check, "Check"),
            _endpoint(self.delete, "Delete"),
            _endpoint(self.settings, "Settings"),
            _endpoint(self.configure, "Configure", "admin"),
            _endpoint(self.consumers, "Consumers"),
            _endpoint(self.forget, "Forget", "admin"),
            _endpoint(self.declare, "Declare", "service"),
            _endpoint(self.follow, "Follow"),
        ]

    @property
    def _catalogue(self) -> Catalogue:
        return self._registry.of(context.current().namespace)

    async def list(self, request: wire.ListRequest) -> wire.ListResponse:
        """The subjects with their newest versions."""
        found = await self._catalogue.describe(request.prefix, deleted=request.deleted)
        return wire.ListResponse(found)

    async def versions(self, request: wire.VersionsRequest) -> wire.VersionsResponse:
        """All versions of a subject."""
        found = await self._catalogue.history(request.subject, deleted=request.deleted)
        return wire.VersionsResponse(found)

    async def read(self, request: wire.ReadRequest) -> wire.ReadResponse:
        """A version of a subject, or a schema by its id."""
        if request.id:
            text = await self._catalogue.schema(request.id)
            return wire.ReadResponse(SchemaVersion("", 0, request.id, text))
        found = await self._catalogue.version(request.subject, request.version or LATEST)
        return wire.ReadResponse(found)

    async def newest(self, request: wire.NewestRequest) -> wire.NewestResponse:
        """The newest schema of a topic, if it has one."""
        return await self._source.newest(request.topic)

    async def register(self, request: wire.RegisterRequest) -> SchemaVersion:
        """Add a version to a subject, if it is compatible and not there already."""
        self._permit(request.subject, "publish")
        if request.auto:
            return await self._source.register_type(request.subject, request.schema, request.name)
        return await self._catalogue.register(request.subject, request.schema, author=author())

    async def check(self, request: wire.CheckRequest) -> wire.CheckResponse:
        """What a new version of a subject would break; nothing is written."""
        catalogue, subject = self._catalogue, request.subject
        breaches = await catalogue.check(
            subject, request.schema, version=request.version or None, consumers=True
        )
        topic = topic_of(subject)
        consumers = len(await catalogue.consumers(topic)) if topic else 0
        return wire.CheckResponse(breaches, await catalogue.mode(subject), consumers)

    async def delete(self, request: wire.DeleteRequest) -> wire.DeleteResponse:
        """Delete a version of a subject, or all of them."""
        self._permit(request.subject, "admin")
        subject, permanent = request.subject, request.permanent
        if request.version:
            version = request.version
            gone = [await self._catalogue.delete_version(subject, version, permanent=permanent)]
        else:
            gone = await self._catalogue.delete(subject, permanent=permanent)
        what = f"versions {', '.join(map(str, gone))}{' for good' if permanent else ''}"
        await self._audit("schema deleted", subject, what)
        return wire.DeleteResponse(gone)

    async def settings(self, request: wire.SettingsRequest) -> wire.SettingsResponse:
        """What is set for a subject, and what holds for it."""
        return await self._settings(request.subject)

    async def configure(self, request: wire.ConfigureRequest) -> wire.SettingsResponse:
        """Set the mode of a subject, of a service's endpoints, or of all topics."""
        catalogue, subject = self._catalogue, request.subject
        if request.unset:
            await catalogue.unset(subject)
            what = "as above"
        else:
            now = await catalogue.configure(subject, mode=request.mode, auto=request.auto)
            what = f"mode {now.mode or 'as above'}, auto {_on(now.auto)}"
        await self._audit("schema mode set", subject or "all topics", what)
        return await self._settings(subject)

    async def consumers(self, request: wire.ConsumersRequest) -> wire.ConsumersResponse:
        """Who said that it consumes a topic, or any."""
        return wire.ConsumersResponse(await self._catalogue.consumers(request.topic))

    async def forget(self, request: wire.ForgetRequest) -> wire.ConsumersResponse:
        """Take it that a service consumes a topic no more, or nothing at all."""
        gone = await self._catalogue.forget(request.service, request.topic)
        if gone:
            topics = ", ".join(one.topic for one in gone)
            await self._audit("consumer forgotten", request.service, topics)
        return wire.ConsumersResponse(gone)

    async def declare(self, request: wire.DeclareRequest) -> wire.DeclareResponse:
        """Take note of what a service reads and writes, if it breaks nothing."""
        declaration = request.declaration
        _check_own(declaration.service)
        for reader in declaration.readers:
            self._authorise(reader.topic, "consume")
        for writer in declaration.writers:
            self._authorise(writer.topic, "publish")
        await self._source.declare(declaration)
        return wire.DeclareResponse()

    async def follow(self, request: wire.FollowRequest) -> AsyncIterator[Changed]:
        """What changes from now on."""
        async with aclosing(self._registry.follow(context.current().namespace)) as changes:
            async for change in changes:
                yield change

    @property
    def _source(self) -> LocalSource:
        return LocalSource(self._registry, context.current().namespace)

    async def _settings(self, subject: str) -> wire.SettingsResponse:
        catalogue = self._catalogue
        own, effective = await catalogue.settings(subject), await catalogue.effective(subject)
        return wire.SettingsResponse(own, effective)

    def _permit(self, subject: str, verb: str) -> None:
        """Refuse who may not do this with what a subject is of."""
        if topic := topic_of(subject):
            self._authorise(topic, verb)
        elif verb == "publish" and (service := service_of(subject)):
            _check_own(service)
        else:
            _check_admin(subject)


def _endpoint(function: Callable[..., Any], name: str, who: Access = "account") -> Endpoint:
    return endpoint(function, wire.NAME, name=f"Schemas.{name}", lenient=True, access=who)


def _on(auto: bool | None) -> str:
    return "as above" if auto is None else "on" if auto else "off"


def _check_own(service: str) -> None:
    """Refuse who is neither the service nor an admin."""
    account: Any = context.current().account
    here = context.current().namespace
    if account is None or account.administers(here):
        return
    if not (account.type == "service" and account.id == service):
        detail = f"{account.id} may not speak for {service}: only itself and admins do"
        raise errors.Forbidden("schema", detail)


def _check_admin(subject: str) -> None:
    account: Any = context.current().account
    if account is not None and not account.administers(context.current().namespace):
        detail = f"{account.id} may not change {subject}: that takes the scope admin"
        raise errors.Forbidden("schema", detail)
