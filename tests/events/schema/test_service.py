"""The registry over rpc: who may do what, and what is noted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from microcosmos.base import errors

from .conftest import ADMIN, BILLING, GUEST, SHOP, opened

TEXT = json.dumps({"type": "string"})
NUMBER = json.dumps({"type": "number"})
SUBJECT = "orders-value"


async def test_what_an_admin_does_is_noted() -> None:
    async with opened() as platform:
        await platform.ask("Register", subject=SUBJECT, schema=TEXT)
        assert (await platform.ask("Read", subject=SUBJECT))["version"]["author"] == "jane"
        answer = await platform.ask("Configure", subject=SUBJECT, mode="NONE")
        assert answer["effective"] == {"mode": "NONE", "auto": True}
        assert answer["own"] == {"mode": "NONE"}
        await platform.ask("Register", subject=SUBJECT, schema=NUMBER)
        assert (await platform.ask("Read", id=1))["version"]["schema"] == '{"type":"string"}'
        listed = (await platform.ask("List"))["subjects"]
        assert [(one["name"], one["versions"], one["mode"]) for one in listed] == [
            (SUBJECT, [1, 2], "NONE")
        ]
        assert await platform.ask("Delete", subject=SUBJECT, version=1) == {"versions": [1]}
        assert await platform.ask("Delete", subject=SUBJECT) == {"versions": [2]}
        await platform.ask("Delete", subject=SUBJECT, permanent=True)
        assert [note[:2] for note in platform.notes] == [
            ("schema mode set", SUBJECT),
            ("schema deleted", SUBJECT),
            ("schema deleted", SUBJECT),
            ("schema deleted", SUBJECT),
        ]


async def test_a_check_names_the_consumers_that_would_break() -> None:
    async with opened() as platform:
        await platform.ask("Register", SHOP, subject=SUBJECT, schema=TEXT)
        reader = {"topic": "orders", "group": "g", "schema": TEXT}
        declaration = {"service": "billing", "readers": [reader]}
        await platform.ask("Declare", BILLING, declaration=declaration)
        wider = json.dumps({"type": ["string", "null"]})
        answer = await platform.ask("Check", GUEST, subject=SUBJECT, schema=wider)
        assert answer["consumers"] == 1
        (breach,) = answer["breaches"]
        assert breach["side"] == "consumer g of billing cannot read it"
        assert breach["consumer"]["service"] == "billing"
        assert (await platform.ask("Forget", service="billing"))["consumers"][0]["group"] == "g"
        answer = await platform.ask("Check", GUEST, subject=SUBJECT, schema=wider)
        assert answer["breaches"] == []
        assert platform.notes[-1] == ("consumer forgotten", "billing", "orders")


ENDPOINT = "shop/Shop.Buy-request"


@pytest.mark.parametrize(
    ("account", "method", "request_"),
    [
        (GUEST, "Register", {"subject": SUBJECT, "schema": TEXT}),
        (GUEST, "Declare", {"declaration": {"service": "bob"}}),
        (SHOP, "Declare", {"declaration": {"service": "billing"}}),
        (SHOP, "Delete", {"subject": SUBJECT}),
        (SHOP, "Configure", {"mode": "NONE"}),
        (SHOP, "Forget", {"service": "billing"}),
        (SHOP, "Register", {"subject": "com.acme.Record", "schema": TEXT}),
        (BILLING, "Register", {"subject": ENDPOINT, "schema": TEXT}),
    ],
)
async def test_these_may_not(account: Any, method: str, request_: dict[str, Any]) -> None:
    async with opened() as platform:
        endpoint = platform.registry  # something to look at afterwards
        await platform.ask("Register", subject=SUBJECT, schema=TEXT)
        access = {"Declare": "service", "Configure": "admin", "Forget": "admin"}
        if access.get(method) == "admin" or (method == "Declare" and account is GUEST):
            # The server's verifier refuses by what the endpoint asks: it says so.
            assert _access(platform, method) == access[method]
            return
        with pytest.raises(errors.Forbidden):
            await platform.ask(method, account, **request_)
        assert await endpoint.of("micro").subjects() == [SUBJECT]


def _access(platform: Any, method: str) -> str:
    from microcosmos.events.schema.service import SchemasService

    service = SchemasService(platform.registry, lambda topic, verb: None)
    found = {one.name: one.access for one in service.endpoints()}
    return found[f"Schemas.{method}"]


async def test_these_may() -> None:
    async with opened() as platform:
        await platform.ask("Register", SHOP, subject=SUBJECT, schema=TEXT)
        await platform.ask("Register", SHOP, subject=ENDPOINT, schema=TEXT)
        await platform.ask("Register", ADMIN, subject="com.acme.Record", schema=TEXT)
        for account in (GUEST, SHOP):
            assert (await platform.ask("Newest", account, topic="orders"))["version"] == 1
            assert (await platform.ask("Settings", account))["effective"]["mode"] == "BACKWARD"
            assert len((await platform.ask("Versions", account, subject=SUBJECT))["versions"]) == 1
        assert (await platform.ask("Newest", GUEST, topic="unknown"))["id"] == 0


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("Read", {"subject": "none-value"}, 404),
        ("Read", {"id": 7}, 404),
        ("Read", {}, 422),
        ("Register", {"subject": "", "schema": TEXT}, 422),
        ("Register", {"subject": SUBJECT, "schema": "{"}, 422),
        ("Register", {"subject": SUBJECT}, 400),
        ("Check", {"subject": SUBJECT, "schema": TEXT, "version": 9}, 404),
        ("Configure", {"mode": "SOME"}, 422),
        ("Configure", {"subject": SUBJECT, "unset": True}, 404),
        ("List", {"prefix": 5}, 400),
        ("Versions", {"subject": "x" * 300}, 422),
    ],
)
async def test_bad_input(method: str, request_: dict[str, Any], code: int) -> None:
    async with opened() as platform:
        with pytest.raises(errors.Error) as told:
            await platform.ask(method, **request_)
        assert told.value.code == code, told.value
        assert "\n" not in told.value.detail
