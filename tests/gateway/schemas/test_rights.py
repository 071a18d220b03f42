"""Who may do what with the registry, and how it is shown who asks."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import argon2
import httpx
import msgspec
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from microcosmos.auth.authority import Authority
from microcosmos.auth.interface import Account, Resource, Rule
from microcosmos.auth.keys import TokenKeys
from microcosmos.auth.passwords import Passwords
from microcosmos.auth.topics import authorising
from microcosmos.base import errors
from microcosmos.gateway.schemas.service import by_passwords
from microcosmos.gateway.schemas.visitors import Visitors
from microcosmos.store import open_store
from microcosmos.testing import Bench

from .conftest import ADA, EVE, ROOT, Front

USER = Schema(json.dumps({"type": "object", "properties": {"name": {"type": "string"}}}), "JSON")
BODY = {"schemaType": "JSON", "schema": USER.schema_str}


def bearer(front: Front, account: Account) -> dict[str, str]:
    return {"authorization": f"Bearer {front.token(account)}"}


async def test_nobody_reads_without_an_account(guarded: Front) -> None:
    answer = await guarded.site.http.get("/schemas/subjects")
    assert (answer.status_code, answer.json()["error_code"]) == (401, 40101)
    assert answer.headers["www-authenticate"].startswith("Basic")
    seen = await guarded.site.http.get("/schemas/subjects", headers=bearer(guarded, EVE))
    assert seen.json() == []


async def test_who_may_publish_registers_and_who_administers_deletes(guarded: Front) -> None:
    http = guarded.site.http
    place = "/schemas/subjects/users-value"

    async def status(method: str, path: str, account: Account, body: object = None) -> int:
        headers = bearer(guarded, account)
        answer = await http.request(method, path, headers=headers, json=body)
        return answer.status_code

    assert await status("POST", f"{place}/versions", EVE, BODY) == 403
    assert await status("POST", f"{place}/versions", ADA, BODY) == 200
    assert await status("POST", place, EVE, BODY) == 200
    for change in ("DELETE", "PUT"):
        for account in (EVE, ADA):
            path = place if change == "DELETE" else "/schemas/config/users-value"
            assert await status(change, path, account, {"compatibility": "NONE"}) == 403
    assert await status("PUT", "/schemas/config", ADA, {"compatibility": "NONE"}) == 403
    assert await status("PUT", "/schemas/config", ROOT, {"compatibility": "NONE"}) == 200
    assert await status("DELETE", place, ROOT) == 200
    kept = await guarded.registry.of("micro").history("users-value", deleted=True)
    assert [one.author for one in kept] == ["ada"]


async def test_what_is_no_topics_is_registered_by_services_only(guarded: Front) -> None:
    for account, status in ((EVE, 403), (ADA, 200)):
        answer = await guarded.site.http.post(
            "/schemas/subjects/com.acme.User/versions", headers=bearer(guarded, account), json=BODY
        )
        assert answer.status_code == status, account


async def test_a_rule_lets_an_account_register_for_a_topic(guarded: Front) -> None:
    accounts = guarded.site.bench.accounts
    assert accounts is not None
    resource = Resource("topic", "users", "publish")
    accounts.allow([Rule(id="eve", scope="*", resource=resource)])
    for topic, status in (("users", 200), ("orders", 403)):
        answer = await guarded.site.http.post(
            f"/schemas/subjects/{topic}-value/versions", headers=bearer(guarded, EVE), json=BODY
        )
        assert answer.status_code == status, topic


async def test_confluents_client_shows_a_password_or_a_token(guarded: Front) -> None:
    def use() -> None:
        conf = {"url": guarded.url, "max.retries": 0}
        with SchemaRegistryClient({**conf, "basic.auth.user.info": "ada:ada-secret"}) as registry:
            registry.register_schema("users-value", USER)
            assert registry.get_subjects() == ["users-value"]
        named = {**conf, "basic.auth.user.info": "micro/ada:ada-secret"}
        with SchemaRegistryClient(named) as registry:
            assert registry.get_subjects() == ["users-value"]
        shown = {
            "bearer.auth.credentials.source": "STATIC_TOKEN",
            "bearer.auth.token": guarded.token(EVE),
            "bearer.auth.logical.cluster": "any",
        }
        with SchemaRegistryClient({**conf, **shown}) as registry:
            assert registry.get_subjects() == ["users-value"]
        with (
            SchemaRegistryClient({**conf, "basic.auth.user.info": "ada:wrong"}) as registry,
            pytest.raises(SchemaRegistryError, match="wrong id or secret") as refused,
        ):
            registry.get_subjects()
        assert refused.value.error_code == 40101

    await asyncio.to_thread(use)


async def test_a_password_is_looked_at_once_until_its_token_ends(guarded: Front) -> None:
    auth = httpx.BasicAuth("ada", "ada-secret")
    http = guarded.site.http
    for _ in range(3):
        assert (await http.get("/schemas/subjects", auth=auth)).status_code == 200
    assert guarded.logins == 1
    accounts = guarded.site.bench.accounts
    assert accounts is not None
    policy = accounts.access.policy
    assert policy is not None
    revoked = {"account/micro/ada": time.time() + 60}
    accounts.access.follow(msgspec.structs.replace(policy, revoked=revoked))
    assert (await http.get("/schemas/subjects", auth=auth)).status_code == 401
    assert guarded.logins == 2


@pytest.mark.parametrize("shown", ["Basic !!!", "Basic", "Basic YWRh", "Basic /////w=="])
async def test_what_is_no_password_is_refused(guarded: Front, shown: str) -> None:
    answer = await guarded.site.http.get("/schemas/subjects", headers={"authorization": shown})
    assert (answer.status_code, answer.json()["error_code"]) == (401, 40101)


async def test_another_namespace_is_another_registry(guarded: Front) -> None:
    accounts = guarded.site.bench.accounts
    assert accounts is not None
    accounts.allow([], "shop")
    await guarded.registry.of("shop").register("users-value", {"type": "object"})
    auth = httpx.BasicAuth("shop/root", "root-secret")
    assert (await guarded.site.http.get("/schemas/subjects", auth=auth)).json() == ["users-value"]
    assert (
        await guarded.site.http.get("/schemas/subjects", headers=bearer(guarded, ROOT))
    ).json() == []


async def test_passwords_are_those_of_accounts(platform: Bench) -> None:
    quick = Passwords(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    async with (
        open_store("memory://") as store,
        Authority(store, TokenKeys(), passwords=quick) as authority,
    ):
        await authority.people.create(Account(id="ada", scopes=("service",)), "ada-secret-1")
        access = authority.access
        visitors = Visitors(access, authorising(access), by_passwords(authority.logins))
        for password, good in (("ada-secret-1", True), ("ada-secret-2", False)):
            shown = base64.b64encode(f"ada:{password}".encode()).decode()
            if good:
                await visitors.enter({"authorization": f"Basic {shown}"}, "127.0.0.1")
                visitors.reading()
                visitors.registering("users-value")
                with pytest.raises(errors.Forbidden):
                    visitors.administering("users-value")
            else:
                with pytest.raises(errors.Unauthorized):
                    await visitors.enter({"authorization": f"Basic {shown}"}, "127.0.0.1")
