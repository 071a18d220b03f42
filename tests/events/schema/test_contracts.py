"""Events are checked when they are published and consumed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pydantic
import pytest

from microcosmos.base import errors
from microcosmos.events.interface import Draft, Event
from microcosmos.events.schema.client import RemoteContracts
from microcosmos.events.schema.contracts import CachedContracts
from microcosmos.events.schema.declaring import declare
from microcosmos.events.schema.local import LocalContracts
from microcosmos.events.schema.types import schema_of

from .conftest import BILLING, SHOP, Platform, opened

TOPIC, SUBJECT = "orders.placed", "orders.placed-value"


class Order(msgspec.Struct):
    id: int
    note: str = ""


class Wider(msgspec.Struct):
    id: float
    note: str = ""
    paid: bool = False


class Renamed(msgspec.Struct):
    number: int


@dataclasses.dataclass
class Plain:
    id: int


class Model(pydantic.BaseModel):
    id: int
    at: str = pydantic.Field(default="", max_length=3)


World = tuple[Platform, CachedContracts]


@pytest.fixture(params=["remote", "local"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.asynccontextmanager
async def world(kind: str) -> AsyncIterator[World]:
    async with opened() as platform:
        made: CachedContracts = platform.contracts()
        if kind == "local":
            made = LocalContracts(platform.registry, "micro")
        async with made:
            yield platform, made


async def tick() -> None:
    """Let others go on."""
    await asyncio.sleep(0.001)


async def followed(platform: Platform, contracts: CachedContracts) -> None:
    """Return once changes are followed."""
    await contracts.writing("probe", {})
    await platform.registry.of("micro").register("probe-value", {"type": "object"})
    async with asyncio.timeout(60):
        while not (await contracts.writing("probe", {}))[1]:
            await tick()


async def test_a_type_registers_itself_the_first_time(kind: str) -> None:
    async with world(kind) as (platform, contracts):
        assert await contracts.writing(TOPIC, Order(7)) == (b'{"id":7,"note":""}', 1)
        assert await contracts.writing(TOPIC, Order(8)) == (b'{"id":8,"note":""}', 1)
        found = await platform.registry.of("micro").version(SUBJECT)
        assert (found.version, found.value["title"]) == (1, "Order")
        assert found.author == ("shop" if kind == "remote" else "")
        assert (await contracts.writing(TOPIC, Wider(7.5)))[1] == 2
        assert (await contracts.writing("other", Order(7)))[1] == 1


@pytest.mark.parametrize("message", [Plain(7), Model(id=7)])
async def test_other_kinds_of_types_do_too(message: Any) -> None:
    async with world("local") as (_, contracts):
        body, id = await contracts.writing(TOPIC, message)
        assert id == 1
        assert msgspec.json.decode(body)["id"] == 7


async def test_a_type_that_breaks_the_topic_is_refused(kind: str) -> None:
    async with world(kind) as (platform, contracts):
        await contracts.writing(TOPIC, Order(7))
        for _ in range(2):
            with pytest.raises(errors.Conflict) as told:
                await contracts.writing(TOPIC, Renamed(7))
            assert told.value.detail == (
                "orders.placed (BACKWARD): what version 1 wrote cannot be read: "
                "$.number: it is required, and is not written"
            )
        assert await platform.registry.of("micro").versions(SUBJECT) == [1]


async def test_where_types_may_not_register_themselves_the_unknown_are_refused(kind: str) -> None:
    async with world(kind) as (platform, contracts):
        orders = platform.registry.of("micro")
        await contracts.writing(TOPIC, Order(7))
        await orders.configure(SUBJECT, auto=False)
        assert (await contracts.writing(TOPIC, Order(7)))[1] == 1
        with pytest.raises(errors.Conflict, match="Wider is not registered"):
            await contracts.writing(TOPIC, Wider(7))


async def test_values_that_are_not_of_their_types_are_refused() -> None:
    async with world("local") as (_, contracts):
        wrong: Any = "seven"
        with pytest.raises(errors.BadRequest, match=r"this Order is none.*\$\.id"):
            await contracts.writing(TOPIC, Order(wrong))
        with pytest.raises(errors.BadRequest, match=r"\$\.id"):
            await contracts.writing(TOPIC, Wider(float("nan")))
        model = Model(id=7)
        model.at = "too long"
        with pytest.raises(errors.BadRequest, match=r"\$\.at"):
            await contracts.writing("models", model)
        with pytest.raises(errors.BadRequest, match="JSON cannot carry it"):
            await contracts.writing(TOPIC, object())


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"note": "x"}, r'\$: "id" is a required property'),
        ({"id": "7"}, r'\$\.id: the value is not of type "integer"'),
        (b'{"id": "7"}', r"\$\.id"),
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        ([1], r"\$: "),
        ("text", r"\$: "),
        (None, r"\$: "),
        ({"id": 7, "extra": 1}, r"undeclared properties \('extra'"),
    ],
)
async def test_a_dict_is_held_against_the_newest_schema(message: Any, why: str) -> None:
    async with world("local") as (_, contracts):
        await contracts.writing(TOPIC, Order(7))
        assert await contracts.writing(TOPIC, {"id": 7}) == (b'{"id":7}', 1)
        assert await contracts.writing(TOPIC, b'{ "id": 7 }') == (b'{ "id": 7 }', 1)
        with pytest.raises(errors.BadRequest, match=why) as told:
            await contracts.writing(TOPIC, message)
        assert told.value.detail.startswith("orders.placed")


async def test_a_topic_without_a_schema_takes_anything(kind: str) -> None:
    async with world(kind) as (platform, contracts):
        assert await contracts.writing(TOPIC, {"a": 1}) == (b'{"a":1}', 0)
        assert await contracts.writing(TOPIC, bytearray(b"\xff")) == (b"\xff", 0)
        assert await platform.registry.of("micro").subjects() == []


async def test_what_changes_in_the_registry_is_known_soon(kind: str) -> None:
    async with world(kind) as (platform, contracts):
        assert (await contracts.writing(TOPIC, {"a": 1}))[1] == 0
        await followed(platform, contracts)
        await platform.registry.of("micro").register(SUBJECT, {"type": "object"})
        async with asyncio.timeout(60):
            while not (await contracts.writing(TOPIC, {"a": 1}))[1]:
                await tick()
        await platform.registry.of("micro").configure(SUBJECT, mode="NONE")
        await platform.registry.of("micro").register(SUBJECT, {"type": "array"})
        with pytest.raises(errors.BadRequest):  # noqa: PT012 - until it is known here too
            async with asyncio.timeout(60):
                while True:
                    await contracts.writing(TOPIC, {"a": 1})
                    await tick()


async def test_an_event_that_breaks_its_schema_is_refused(kind: str) -> None:
    async with world(kind) as (_, contracts):
        body, id = await contracts.writing(TOPIC, Order(7))
        await contracts.reading(Event("1", TOPIC, payload=body, schema=id))
        await contracts.reading(Event("1", TOPIC, payload=b"anything"))
        for payload, schema, why in (
            (b'{"id":"x"}', id, r"does not fit schema 1: \$\.id"),
            (b"\xff", id, "no JSON"),
            (b"[" * 5000, id, "no JSON"),
            (body, 99, "schema, 99, is unknown"),
        ):
            with pytest.raises(errors.BadRequest, match=why):
                await contracts.reading(Event("1", TOPIC, payload=payload, schema=schema))


async def test_while_the_registry_is_away_what_is_known_stands() -> None:
    async with opened() as platform:
        contracts = platform.contracts()
        async with contracts:
            # There already: one's own registration is a change that one is told of, too.
            await platform.registry.of("micro").register(SUBJECT, schema_of(Order))
            await followed(platform, contracts)
            body, id = await contracts.writing(TOPIC, Order(7))
            await contracts.reading(Event("1", TOPIC, payload=body, schema=id))
            platform.away = True
            assert (await contracts.writing(TOPIC, Order(8)))[1] == id
            await contracts.reading(Event("1", TOPIC, payload=body, schema=id))
            with pytest.raises(errors.Error):
                await contracts.writing(TOPIC, Wider(7))


async def test_what_others_want_published_is_checked_on_its_way() -> None:
    async with opened() as platform, LocalContracts(platform.registry, "micro") as contracts:
        _, first = await contracts.writing(TOPIC, Order(7))
        _, second = await contracts.writing(TOPIC, Wider(7))
        await contracts.writing("other", {"a": 1})
        await platform.registry.of("micro").register("other-value", {"type": "string"})
        draft = await contracts.checked(Draft(TOPIC, b'{"id":7}'))
        assert draft.schema == second
        # An older program goes on with the version that it knows.
        old = Draft(TOPIC, b'{"id":7}', schema=first)
        assert await contracts.checked(old) == old
        with pytest.raises(errors.BadRequest, match=r"\$\.id"):
            await contracts.checked(Draft(TOPIC, b'{"id":7.5}', schema=first))
        with pytest.raises(errors.BadRequest, match="no version with schema 3"):
            await contracts.checked(Draft(TOPIC, b'"x"', schema=3))


async def test_a_service_says_what_it_reads_and_writes() -> None:
    async with (
        opened() as platform,
        platform.contracts(SHOP) as shop,
        platform.contracts(BILLING) as billing,
    ):
        await declare(shop, "shop", publishes=[(TOPIC, Order)])
        await declare(billing, "billing", consumes=[(TOPIC, "billing", Order)])
        await declare(billing, "billing", consumes=[(TOPIC, "billing", Plain)])
        (known,) = await platform.registry.of("micro").consumers(TOPIC)
        assert '"Plain"' in known.schema
        with pytest.raises(errors.Conflict, match=r"consumer billing of billing .*\$\.number"):
            await declare(billing, "billing", consumes=[(TOPIC, "billing", Renamed)])
        with pytest.raises(errors.Forbidden, match="shop may not speak for billing"):
            await declare(shop, "billing", consumes=[(TOPIC, "billing", Order)])
        await declare(billing, "billing", consumes=[(">", "all", None), ("x", "y", bytes)])


async def test_a_contract_that_is_closed_may_be_used_again() -> None:
    async with opened() as platform:
        contracts = RemoteContracts(platform.client(SHOP))
        await contracts.writing(TOPIC, Order(7))
        await contracts.close()
        assert (await contracts.writing(TOPIC, Order(7)))[1] == 1
        await contracts.close()
