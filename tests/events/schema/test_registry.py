"""Subjects, versions, ids, modes: what the registry keeps."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.events.schema import interface as ids
from microcosmos.events.schema.catalogue import MAX_CONSUMERS
from microcosmos.events.schema.document import MAX_NESTING
from microcosmos.events.schema.interface import (
    MAX_SCHEMA,
    MAX_SUBJECT,
    MODES,
    Declaration,
    EndpointSchemas,
    Reader,
    Writer,
)
from microcosmos.events.schema.registry import Registry
from microcosmos.store import open_store

from .conftest import registered

TEXT = {"type": "string"}
ONE: dict[str, Any] = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
MORE: dict[str, Any] = {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["a"]}
LESS: dict[str, Any] = {"type": "object", "properties": {}}
OTHER: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
STRICT: dict[str, Any] = {**MORE, "required": ["a", "b"]}
SUBJECT = "orders-value"


async def test_a_schema_is_a_version_with_an_id() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        first = await orders.register(SUBJECT, json.dumps(ONE), author="jane")
        assert (first.version, first.id, first.author) == (1, 1, "jane")
        assert first.time == 1_700_000_000.0
        assert first.value == ONE
        second = await orders.register(SUBJECT, MORE)
        assert (second.version, second.id) == (2, 2)
        assert await orders.versions(SUBJECT) == [1, 2]
        assert await orders.version(SUBJECT) == second
        assert await orders.version(SUBJECT, -1) == second
        assert await orders.version(SUBJECT, "1") == first
        assert json.loads(await orders.schema(1)) == ONE
        assert await orders.lookup(SUBJECT, ONE) == first


async def test_a_schema_has_one_id_and_one_version_whatever_the_order_of_its_names() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        first = await orders.register(SUBJECT, '{"type": "object", "title": "A"}')
        again = await orders.register(SUBJECT, ' {"title":"A",  "type":"object"}')
        assert again == first
        assert first.schema == '{"type":"object","title":"A"}'
        elsewhere = await orders.register("stock-value", {"title": "A", "type": "object"})
        assert (elsewhere.id, elsewhere.version) == (first.id, 1)
        assert await orders.uses(first.id) == [(SUBJECT, 1), ("stock-value", 1)]
        tidy = await orders.register("tidy-value", '{"b": 1, "a": 2}', normalize=True)
        assert tidy.schema == '{"a":2,"b":1}'


async def test_namespaces_do_not_see_each_other() -> None:
    async with registered() as registry:
        await registry.of("micro").register(SUBJECT, ONE)
        other = registry.of("acme")
        assert await other.subjects() == []
        with pytest.raises(errors.NotFound):
            await other.schema(1)
        assert (await other.register(SUBJECT, OTHER)).id == 1
        await registry.clear("acme")
        assert await registry.of("acme").subjects(deleted=True) == []
        assert await registry.of("micro").subjects() == [SUBJECT]
        with pytest.raises(errors.BadRequest, match="is no namespace"):
            registry.of("a/b")


async def test_what_was_registered_is_there_after_a_restart(tmp_path: Any) -> None:
    url = f"sqlite://{tmp_path}/s.db"
    async with open_store(url) as store:
        await Registry(store).of("micro").register(SUBJECT, ONE)
    async with open_store(url) as store:
        orders = Registry(store).of("micro")
        assert (await orders.version(SUBJECT)).value == ONE
        assert (await orders.register(SUBJECT, MORE)).id == 2


async def test_registries_of_two_cores_at_once_give_each_schema_one_id(tmp_path: Any) -> None:
    async with open_store("memory://") as store:
        cores = [Registry(store).of("micro") for _ in range(4)]
        schemas = [{"title": str(number)} for number in range(10)]
        found = await asyncio.gather(
            *(core.register(SUBJECT, one) for one in schemas for core in cores)
        )
        assert len({one.id for one in found}) == len({one.version for one in found}) == 10
        assert await cores[0].versions(SUBJECT) == list(range(1, 11))


@pytest.mark.parametrize(
    ("mode", "fine", "refused", "side"),
    [
        ("BACKWARD", [MORE, LESS], [STRICT, OTHER], "what version 1 wrote cannot be read"),
        ("FORWARD", [MORE, STRICT], [LESS, OTHER], "who reads by version 1 cannot read it"),
        ("FULL", [MORE], [STRICT, LESS, OTHER], ""),
        ("NONE", [STRICT, LESS, OTHER], [], ""),
    ],
)
async def test_modes(mode: str, fine: list[Any], refused: list[Any], side: str) -> None:
    for schema in fine + refused:
        async with registered() as registry:
            orders = registry.of("micro")
            await orders.configure(SUBJECT, mode=mode)
            await orders.register(SUBJECT, ONE)
            with contextlib.ExitStack() as stack:
                if schema in refused:
                    told = stack.enter_context(pytest.raises(errors.Conflict))
                await orders.register(SUBJECT, schema)
            assert await orders.versions(SUBJECT) == ([1] if schema in refused else [1, 2])
            if schema in refused:
                assert told.value.id == ids.INCOMPATIBLE
                assert told.value.detail.startswith(f"orders ({mode}): {side}")
                assert "$." in told.value.detail
            breaches = await orders.check(SUBJECT, schema, version=1)
            assert bool(breaches) == (schema in refused)


@pytest.mark.parametrize("kind", ["BACKWARD", "FORWARD", "FULL"])
async def test_transitive_modes_look_at_all_versions(kind: str) -> None:
    text, gone, number = MORE, ONE, {**ONE, "properties": {"a": TEXT, "b": {"type": "integer"}}}
    for mode in (kind, f"{kind}_TRANSITIVE"):
        async with registered() as registry:
            orders = registry.of("micro")
            await orders.configure(mode=mode)
            await orders.register(SUBJECT, text)
            await orders.register(SUBJECT, gone)
            if mode == kind:
                assert (await orders.register(SUBJECT, number)).version == 3
            else:
                with pytest.raises(errors.Conflict, match=r"version 1 .*\$\.b: "):
                    await orders.register(SUBJECT, number)


async def test_a_deleted_version_counts_no_more_and_its_schema_stays() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        await orders.register(SUBJECT, ONE)
        await orders.register(SUBJECT, MORE)
        assert await orders.delete_version(SUBJECT, 1) == 1
        assert await orders.versions(SUBJECT) == [2]
        assert await orders.versions(SUBJECT, deleted=True) == [1, 2]
        assert (await orders.version(SUBJECT, 1, deleted=True)).deleted
        with pytest.raises(errors.NotFound) as told:
            await orders.version(SUBJECT, 1)
        assert told.value.id == ids.NO_VERSION
        with pytest.raises(errors.NotFound) as told:
            await orders.delete_version(SUBJECT, 1)
        assert told.value.id == ids.VERSION_DELETED
        with pytest.raises(errors.NotFound) as told:
            await orders.delete_version(SUBJECT, 2, permanent=True)
        assert told.value.id == ids.VERSION_KEPT
        assert await orders.delete_version(SUBJECT, 1, permanent=True) == 1
        assert await orders.versions(SUBJECT, deleted=True) == [2]
        assert json.loads(await orders.schema(1)) == ONE
        assert (await orders.register(SUBJECT, LESS)).version == 3


async def test_a_deleted_subject_comes_back_with_new_versions() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        with pytest.raises(errors.NotFound) as told:
            await orders.delete(SUBJECT)
        assert told.value.id == ids.NO_SUBJECT
        await orders.register(SUBJECT, ONE)
        with pytest.raises(errors.NotFound) as told:
            await orders.delete(SUBJECT, permanent=True)
        assert told.value.id == ids.SUBJECT_KEPT
        assert await orders.delete(SUBJECT) == [1]
        assert await orders.subjects() == []
        assert await orders.subjects(deleted=True) == [SUBJECT]
        with pytest.raises(errors.NotFound) as told:
            await orders.delete(SUBJECT)
        assert told.value.id == ids.SUBJECT_DELETED
        again = await orders.register(SUBJECT, ONE)
        assert (again.id, again.version) == (1, 2)
        await orders.delete(SUBJECT)
        assert await orders.delete(SUBJECT, permanent=True) == [1, 2]
        assert await orders.subjects(deleted=True) == []
        assert (await orders.register(SUBJECT, OTHER)).version == 1


async def test_what_is_set_stands_for_those_below() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        assert await orders.mode(SUBJECT) == "BACKWARD"
        assert await orders.mode("users/Users.Read-request") == "NONE"
        await orders.configure(mode="FULL", auto=False)
        assert await orders.mode(SUBJECT) == "FULL"
        assert (await orders.effective(SUBJECT)).auto is False
        assert await orders.mode("users/Users.Read-request") == "NONE"
        await orders.configure(SUBJECT, auto=True)
        assert (await orders.effective(SUBJECT)).auto is True
        assert await orders.mode(SUBJECT) == "FULL"
        await orders.configure("users/", mode="BACKWARD")
        assert await orders.mode("users/Users.Read-response") == "BACKWARD"
        assert await orders.mode("other/Users.Read-response") == "NONE"
        assert (await orders.unset(SUBJECT)).auto is True
        with pytest.raises(errors.NotFound) as told:
            await orders.unset(SUBJECT)
        assert told.value.id == ids.NO_MODE
        with pytest.raises(errors.Error, match="is no mode") as odd:
            await orders.configure(mode="SIDEWAYS")
        assert (odd.value.code, odd.value.id) == (422, ids.BAD_MODE)
        assert len(MODES) == 7


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("", "it is no JSON"),
        ("{", "it is no JSON"),
        ("[]", "an object or a boolean"),
        ("5", "an object or a boolean"),
        ('"record"', "an object or a boolean"),
        ('{"type": "record"}', r"\$\.type: "),
        ('{"properties": 5}', r"\$\.properties: "),
        ('{"pattern": "("}', "pattern"),
        ('{"$ref": "http://localhost/other.json"}', "points elsewhere"),
        ('{"$ref": "other.json#/a"}', "points elsewhere"),
        ('{"properties": {"a": {"$ref": "#named"}}}', r"\$\.properties\.a\.\$ref"),
        ('{"$ref": "#/$defs/none"}', "does not exist"),
        ('{"$dynamicRef": "#"}', "not supported"),
        ('{"properties": {"a": {"$id": "b"}}}', "only the whole schema"),
        ('{"$schema": "http://example.com/own"}', "meta-schema"),
        ('{"not":' * (MAX_NESTING + 2) + "{}" + "}" * (MAX_NESTING + 2), "nested"),
        ("[" * 100_000, "it is no JSON"),
        ('{"title": "\ud800"}', "it cannot be written|it is no JSON"),
    ],
)
async def test_this_is_no_schema(schema: str, why: str) -> None:
    async with registered() as registry:
        with pytest.raises(errors.Error, match=why) as told:
            await registry.of("micro").register(SUBJECT, schema)
        assert (told.value.code, told.value.id) == (422, ids.BAD_SCHEMA)
        assert "\n" not in told.value.detail


async def test_names_of_properties_are_no_keywords() -> None:
    schema = {"properties": {"$ref": TEXT, "$id": TEXT, "enum": {"type": "integer"}}}
    async with registered() as registry:
        assert (await registry.of("micro").register(SUBJECT, schema)).value == schema


async def test_limits() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        with pytest.raises(errors.TooLarge):
            await orders.register(SUBJECT, {"title": "x" * MAX_SCHEMA})
        for subject in ("", "x" * (MAX_SUBJECT + 1), "a\nb", "é" * MAX_SUBJECT):
            with pytest.raises(errors.Error, match="is no subject"):
                await orders.register(subject, ONE)
        for version in (0, -2, "newest", "1.0", 2**31, "\u0661"):
            with pytest.raises(errors.Error, match="is no version") as told:
                await orders.version(SUBJECT, version)
            assert told.value.code == 422
        many = tuple(Reader(f"t{number}", "g") for number in range(MAX_CONSUMERS + 1))
        with pytest.raises(errors.TooLarge):
            await orders.declare(Declaration("shop", many))


async def test_a_subject_has_an_end_of_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microcosmos.events.schema.catalogue.MAX_VERSIONS", 2)
    async with registered() as registry:
        orders = registry.of("micro")
        await orders.register(SUBJECT, ONE)
        await orders.register(SUBJECT, MORE)
        with pytest.raises(errors.Conflict, match="its limit"):
            await orders.register(SUBJECT, LESS)


# Who reads and writes.


def declared(service: str, *readers: Reader, **more: Any) -> Declaration:
    return Declaration(service, readers, **more)


ORDER = json.dumps(ONE)
ANY: dict[str, Any] = {"type": "object"}


async def test_a_consumer_that_cannot_read_the_topic_is_refused() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        await orders.register(SUBJECT, ONE)
        await orders.declare(declared("billing", Reader("orders", "g", ORDER)))
        (known,) = await orders.consumers("orders")
        assert (known.service, known.group, known.time) == ("billing", "g", 1_700_000_000.0)
        with pytest.raises(errors.Conflict) as told:
            await orders.declare(declared("billing", Reader("orders", "h", json.dumps(OTHER))))
        assert told.value.detail == (
            "orders (BACKWARD): consumer h of billing cannot read version 1: "
            "$.a: a string may be written, and only an integer is taken"
        )
        assert await orders.consumers() == [known]
        await orders.declare(declared("billing"))
        assert await orders.consumers() == []


async def test_patterns_consume_all_their_topics() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        await orders.register("orders.placed-value", ONE)
        await orders.register("orders.paid-value", OTHER)
        with pytest.raises(errors.Conflict, match=r"orders\.paid .*consumer g of audit"):
            await orders.declare(declared("audit", Reader("orders.*", "g", ORDER)))
        await orders.declare(declared("audit", Reader("orders.>", "g")))
        await orders.configure("orders.paid-value", mode="NONE")
        await orders.declare(declared("audit", Reader("orders.*", "g", ORDER)))
        assert [one.topic for one in await orders.consumers("orders.paid")] == ["orders.*"]
        assert await orders.consumers("users") == []


async def test_a_new_version_that_breaks_a_consumer_is_refused_and_names_it() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        await orders.register(SUBJECT, ONE)
        await orders.declare(declared("billing", Reader("orders", "g", ORDER)))
        await orders.declare(declared("audit", Reader("orders", "log")))
        (breach,) = await orders.check(SUBJECT, LESS, consumers=True)
        assert breach.consumer is not None
        assert breach.consumer.service == "billing"
        with pytest.raises(errors.Conflict) as told:
            await orders.register(SUBJECT, LESS)
        assert told.value.detail == (
            "orders (BACKWARD): consumer g of billing cannot read it: "
            "$.a: it is required, and is not written"
        )
        assert [one.topic for one in await orders.forget("billing", "orders")] == ["orders"]
        assert (await orders.register(SUBJECT, LESS)).version == 2


async def test_what_a_service_publishes_is_registered_at_its_start() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        await orders.declare(declared("shop", writers=(Writer("orders", ORDER),)), author="shop")
        assert (await orders.version(SUBJECT)).author == "shop"
        with pytest.raises(errors.Conflict, match=r"orders \(BACKWARD\)"):
            await orders.declare(declared("shop", writers=(Writer("orders", json.dumps(OTHER)),)))


async def test_a_service_may_change_what_it_writes_and_reads_itself_at_once() -> None:
    def both(schema: Any, read: Any) -> Declaration:
        reader = Reader("orders", "g", json.dumps(read))
        return declared("shop", reader, writers=(Writer("orders", json.dumps(schema)),))

    number = {"type": "object", "properties": {"a": {"type": "number"}}}
    async with registered() as registry:
        orders = registry.of("micro")
        await orders.declare(both(OTHER, OTHER))
        # Its replicas of before cannot read this, but they are on their way out.
        await orders.declare(both(number, number))
        assert await orders.versions(SUBJECT) == [1, 2]
        with pytest.raises(errors.Conflict, match="consumer g of shop cannot read what it writes"):
            await orders.declare(both(ANY, number))
        assert await orders.versions(SUBJECT) == [1, 2]


async def test_endpoints_are_held_to_their_callers() -> None:
    def served(request: Any, response: Any) -> Declaration:
        one = EndpointSchemas("Users.Read", json.dumps(request), json.dumps(response))
        return Declaration("users", endpoints=(one,))

    async with registered() as registry:
        users = registry.of("micro")
        await users.declare(served(ONE, ONE))
        assert await users.subjects() == []
        await users.configure("users/", mode="BACKWARD")
        await users.declare(served(ONE, ONE))
        assert await users.subjects() == ["users/Users.Read-request", "users/Users.Read-response"]
        # An old caller sends less, and reads what it knows.
        await users.declare(served(MORE, STRICT))
        with pytest.raises(errors.Conflict, match=r"-request .*what version 2 wrote.*\$\.b"):
            await users.declare(served(STRICT, STRICT))
        with pytest.raises(errors.Conflict, match=r"-response .*who reads by version 2.*\$\.a"):
            await users.declare(served(MORE, LESS))


async def test_followers_are_told_what_changes() -> None:
    async with registered() as registry:
        orders = registry.of("micro")
        async with contextlib.aclosing(registry.follow("micro")) as changes:
            assert (await anext(changes)).everything
            await registry.of("acme").register(SUBJECT, ONE)
            await orders.register(SUBJECT, ONE)
            assert (await anext(changes)).subjects == [SUBJECT]
            await orders.configure(SUBJECT, mode="NONE")
            assert (await anext(changes)).subjects == [SUBJECT]
            await orders.configure(mode="NONE")
            assert (await anext(changes)).everything
            waiting = asyncio.ensure_future(anext(changes))
            await asyncio.sleep(0)
            registry.close()
            with pytest.raises(errors.Unavailable):
                await waiting
