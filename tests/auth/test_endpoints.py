"""Every endpoint of auth by whoever should not get in, and by those who should."""

from __future__ import annotations

import re
from typing import Any

import jwt
import pytest

from microcosmos.auth.interface import Account
from microcosmos.auth.keys import TokenKeys, platform_token
from microcosmos.auth.tokens import Signer
from microcosmos.base import errors
from microcosmos.base.clock import SYSTEM

from .test_tokens import encoded, parts
from .world import World, world

BODIES: dict[str, dict[str, Any]] = {
    "Auth.Generate": {"id": "new", "secret": "long enough"},
    "Auth.Inspect": {"token": "x.y.z"},
    "Auth.Token": {"id": "admin"},
    "Auth.Logout": {},
    "Auth.Revoke": {"id": "admin"},
    "Auth.Keys": {},
    "Auth.Rotate": {},
    "Accounts.List": {},
    "Accounts.Read": {"id": "admin"},
    "Accounts.Delete": {"id": "victim"},
    "Accounts.ChangeSecret": {"id": "admin", "old_secret": "micro", "new_secret": "long enough"},
    "Accounts.Update": {"id": "victim", "scopes": ["admin"]},
    "Rules.Create": {"rule": {"id": "mine", "access": "GRANTED"}},
    "Rules.Delete": {"id": "default"},
    "Rules.List": {},
    "Rules.Why": {"account": "admin", "service": "foo"},
    "Namespaces.Create": {"name": "green"},
    "Namespaces.Delete": {"name": "blue", "force": True},
    "Namespaces.List": {},
    "Audit.List": {},
    "Policy.Follow": {},
}
OPEN = {"Auth.Inspect", "Auth.Token", "Auth.Logout", "Auth.Keys"}
OWN = {"Namespaces.List"}
"""What any account may have of itself."""

BAD = ["expired", "of another key", "without an algorithm", "with other claims", "HS256", "rubbish"]


async def called(world: World, endpoint: str, shown: str = "", /, **fields: Any) -> Any:
    if endpoint != "Policy.Follow":
        return await world.ask(endpoint, shown, **{**BODIES[endpoint], **fields})
    metadata = {"Authorization": f"Bearer {shown}"} if shown else {}
    if "at" in fields:
        metadata["Micro-Namespace"] = fields["at"]
    async with world.client.stream("auth", endpoint, b"{}", metadata=metadata) as stream:
        return await anext(stream)


async def code(world: World, endpoint: str, shown: str = "", /, **fields: Any) -> int:
    try:
        await called(world, endpoint, shown, **fields)
    except errors.Error as error:
        return error.code
    return 200


def bad(at: World, kind: str) -> str:
    """A token that looks like an admin's."""
    admin, now = Account(id="admin", scopes=("admin",)), SYSTEM.time()
    signer = at.keys.signer
    if kind == "expired":
        return signer.sign(admin, "", now - 901, 900)
    if kind == "of another key":
        return Signer(signer.id, TokenKeys().signer._key).sign(admin, "", now, 900)
    good = signer.sign(admin, "", now, 900)
    header, payload, signature = parts(good)
    claims = jwt.decode(good, options={"verify_signature": False})
    if kind == "without an algorithm":
        return f"{encoded({'alg': 'none', 'kid': signer.id})}.{payload}."
    if kind == "with other claims":
        lower = signer.sign(Account(id="admin"), "", now, 900)
        return ".".join([parts(lower)[0], payload, parts(lower)[2]])
    if kind == "HS256":
        key = signer.public.encode()
        return jwt.encode(claims, key, algorithm="HS256", headers={"kid": signer.id})
    return f"{header}.{payload}.{signature[:-4]}AAAA"


async def test_no_endpoint_is_left_out() -> None:
    async with world() as at:
        assert set(at.hosted.endpoints) == set(BODIES)


@pytest.mark.parametrize("endpoint", BODIES)
async def test_nobody_gets_in_without_a_token(endpoint: str) -> None:
    async with world() as at:
        before = at.authority.policy
        got = await code(at, endpoint)
        if endpoint == "Auth.Keys":
            assert got == 200
        elif endpoint in ("Auth.Token", "Auth.Logout"):
            assert got == 400
        else:
            assert got == 401
        assert at.authority.policy == before


async def test_the_endpoints_look_for_themselves_though_nobody_verifies() -> None:
    async with world() as at:
        at.server._verifier = None
        for endpoint in BODIES.keys() - OPEN:
            assert await code(at, endpoint) == 401, endpoint


@pytest.mark.parametrize("kind", BAD)
async def test_nobody_gets_in_with_a_bad_token(kind: str) -> None:
    async with world() as at:
        before = at.authority.policy
        for endpoint in BODIES:
            assert await code(at, endpoint, bad(at, kind)) == 401, endpoint
        assert at.authority.policy == before


async def test_nobody_gets_in_with_a_token_that_was_revoked() -> None:
    async with world() as at:
        shown = await at.make("other", "admin")
        await at.authority.people.revoke("micro", "other")
        for endpoint in BODIES:
            assert await code(at, endpoint, shown) == 401, endpoint


@pytest.mark.parametrize("where", ["", "blue"])
async def test_an_admin_of_another_namespace_gets_nothing_here(where: str) -> None:
    """By the door of ``micro``, and by that of its own while it names ``micro`` in the request."""
    async with world() as at:
        shown = await at.make("jane", "admin", namespace="blue")
        await at.make("victim")
        before = at.authority.policy
        for endpoint in BODIES.keys() - {"Auth.Inspect", "Auth.Keys", "Auth.Logout"}:
            fields: dict[str, Any] = {"at": where} if where else {}
            if endpoint not in ("Policy.Follow", *OWN):
                fields["options"] = {"namespace": "micro"}
            got = await code(at, endpoint, shown, **fields)
            if endpoint in OWN and where == "blue":
                assert got == 200
            elif endpoint == "Auth.Token" and not where:
                assert got == 400  # nobody, who would have to give the secret
            else:
                assert got == 403, endpoint
        assert at.authority.policy == before


@pytest.mark.parametrize("scopes", [(), ("editor",), ("service",)])
async def test_a_lower_scope_gets_nothing_of_admins(scopes: tuple[str, ...]) -> None:
    async with world() as at:
        shown = await at.make("jane", *scopes)
        await at.make("victim")
        before = at.authority.policy
        for endpoint in BODIES.keys() - {"Auth.Inspect", "Auth.Keys", "Auth.Logout"}:
            got = await code(at, endpoint, shown)
            assert got == (200 if endpoint in OWN else 403), endpoint
        assert at.authority.policy == before


async def test_a_service_follows_its_own_namespace_and_no_other() -> None:
    async with world() as at:
        await at.authority.create_namespace("blue")
        secret = await at.authority.service_secret("micro", "foo", "foo-0")
        shown = await at.login("foo", secret)
        metadata = {"Authorization": f"Bearer {shown}"}
        stream = at.client.stream("auth", "Policy.Follow", b'{"namespace":"micro"}',
                                  metadata=metadata)  # fmt: skip
        async with stream as messages:
            policy = await anext(messages)
        assert b"blue" not in policy
        other = at.client.stream("auth", "Policy.Follow", b'{"namespace":"blue"}',
                                 metadata=metadata)  # fmt: skip
        async with other as messages:
            with pytest.raises(errors.Forbidden):
                await anext(messages)


async def test_an_admin_of_a_namespace_has_all_of_it_and_nothing_of_the_platform() -> None:
    async with world() as at:
        shown = await at.make("jane", "admin", namespace="blue")
        await at.make("victim", namespace="blue")
        platform = {"Auth.Rotate", "Namespaces.Create", "Namespaces.Delete", "Policy.Follow"}
        here: dict[str, Any] = {"at": "blue"}
        for endpoint in BODIES.keys() - {"Auth.Inspect", "Auth.Logout", "Accounts.Delete"}:
            own = {"id": "jane"} if BODIES[endpoint].get("id") == "admin" else {}
            if endpoint == "Accounts.ChangeSecret":
                own["id"] = "victim"
            if endpoint == "Rules.Why":
                own = {"account": "jane"}
            if endpoint == "Auth.Revoke":
                own = {"id": "victim"}
            got = await code(at, endpoint, shown, **here, **own)
            assert got == (403 if endpoint in platform else 200), endpoint
        assert await code(at, "Accounts.Delete", shown, **here) == 200


async def test_a_process_of_the_platform_and_an_admin_have_everything() -> None:
    async with world() as at:
        for shown in (platform_token(at.keys, "core"), await at.make("root", "admin")):
            await at.make("victim")
            for endpoint in ("Accounts.List", "Rules.List", "Audit.List", "Policy.Follow"):
                assert await code(at, endpoint, shown) == 200
            assert await code(at, "Accounts.Delete", shown) == 200


async def test_refusals_read_as_the_contract_says() -> None:
    async with world() as at:
        jane = await at.make("jane")
        with pytest.raises(
            errors.Unauthorized, match=re.escape("Unauthorized call made to auth:Accounts.List")
        ):
            await at.ask("Accounts.List")
        with pytest.raises(
            errors.Forbidden, match=re.escape("Forbidden call made to auth:Accounts.List by jane")
        ):
            await at.ask("Accounts.List", jane)


@pytest.mark.parametrize("body", [b"[]", b'{"options": 1}', b"\xff", b'{"what": 1}', b"{"])
async def test_bad_requests_are_refused(body: bytes) -> None:
    async with world() as at:
        shown = platform_token(at.keys, "core")
        metadata = {"Authorization": f"Bearer {shown}"}
        for endpoint in BODIES.keys() - {"Policy.Follow"}:
            with pytest.raises(errors.BadRequest):
                await at.client.call("auth", endpoint, body, metadata=metadata)
