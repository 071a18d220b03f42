"""Deploying functions over rpc: what is kept, what is refused, and who may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.base.clock import ManualClock
from microcosmos.functions.claiming import Claimant
from microcosmos.functions.client import PlatformFunctions, RemoteFunctions
from microcosmos.functions.egress.policy import Policy
from microcosmos.functions.egress.values import CoreValues
from microcosmos.functions.interface import Counts, Draft, SecretUse
from microcosmos.functions.placeholders import PATTERN

from .plane import HELLO, PROOF, draft, opened

BACKENDS = ["memory", "sqlite"]


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite://{tmp_path}/store.db"


async def test_a_deploy_makes_a_version_that_gets_all_requests(url: str) -> None:
    async with opened(url, clock=ManualClock(1_700_000_000.25)) as plane:
        functions = await plane.admin()
        first = await functions.deploy(draft(message="first", env={"B": "2", "A": "1"}))
        assert (first.number, first.parent, first.form, first.engine) == (
            *(1, ""),
            *("script", "quickjs"),
        )
        assert (first.author, first.message, first.env) == ("admin", "first", ["A", "B"])
        assert first.date == "2023-11-14T22:13:20.250000Z"
        second = await functions.deploy(draft(code="function handler() { return 1 }"))
        assert (second.number, second.parent, second.form) == (2, first.hash, "handler")
        one = await functions.get("hello")
        assert (one.owner, one.url, one.shares, one.version) == (
            *("admin", "/hello", {"v2": 100}),
            second,
        )
        assert [version.number for version in await functions.history("hello")] == [2, 1]
        assert await functions.sources("hello", 1) == {"index.js": HELLO}
        assert [one.name for one in await functions.list()] == ["hello"]
        assert await functions.verify("hello") == []
        unit = await plane.platform.unit("micro", "hello", 1)
        assert (unit.code, unit.env, unit.language) == (HELLO, {"A": "1", "B": "2"}, "javascript")


async def test_what_is_wrong_with_sources_is_told_with_its_place_and_nothing_is_stored() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        bad = draft(code="let a = 1;\nlet = ;")
        (finding,) = await functions.validate(bad)
        assert (finding.file, finding.line) == ("index.js", 2)
        with pytest.raises(errors.BadRequest, match=r"^functions\.source: index\.js:2:"):
            await functions.deploy(bad)
        assert len(await functions.history("hello")) == 1
        missing = Draft(name="m", files={"index.js": 'import a from "./b.js"; export default a'})
        with pytest.raises(errors.BadRequest, match=r"^functions\.source: index\.js:1:1: there is"):
            await functions.deploy(missing)
        with pytest.raises(errors.NotFound):
            await functions.get("m")


async def test_modules_are_linked_and_run_as_javascript() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        files = {"index.ts": 'import { a } from "./a.ts"\nexport default a', "a.ts": "1"}
        version = await functions.deploy(Draft(name="m", files=files))
        assert (version.form, version.engine, version.language) == ("module", "deno", "typescript")
        unit = await plane.platform.unit("micro", "m", 1)
        assert unit.language == "javascript"
        assert unit.code.startswith("// linked")
        assert await functions.verify("m") == []
        alone = Draft(name="n", files={"index.ts": "export default { fetch: () => null }"})
        await functions.deploy(alone)
        assert (await plane.platform.unit("micro", "n", 1)).language == "typescript"


async def test_of_two_deploys_at_once_one_is_refused(url: str) -> None:
    async with opened(url) as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        plane.engines.meeting = asyncio.Barrier(8)
        done = await asyncio.gather(
            *(functions.deploy(draft(code=f"{n}")) for n in range(8)), return_exceptions=True
        )
        (version,) = (one for one in done if not isinstance(one, BaseException))
        assert version.number == 2
        for error in done:
            if error is not version:
                assert isinstance(error, errors.Conflict)
                assert "function hello was changed meanwhile: its newest is v2" in error.detail
        assert await functions.verify("hello") == []


async def test_two_first_deploys_at_once_make_one_function(url: str) -> None:
    async with opened(url) as plane:
        functions = await plane.admin()
        plane.engines.meeting = asyncio.Barrier(4)
        done = await asyncio.gather(
            *(functions.deploy(draft(code=f"{n}")) for n in range(4)), return_exceptions=True
        )
        assert sum(isinstance(one, errors.Conflict) for one in done) == 3
        assert len(await functions.history("hello")) == 1


async def test_a_function_belongs_to_who_deployed_it_first() -> None:
    async with opened() as plane:
        ann, bob, admin = await plane.of("ann"), await plane.of("bob"), await plane.admin()
        await ann.deploy(draft("shop"))
        with pytest.raises(errors.Conflict, match="/shop belongs to ann; choose another name"):
            await bob.deploy(draft("shop"))
        with pytest.raises(errors.Conflict, match="/shop/cart belongs to ann"):
            await bob.deploy(draft("shop.cart"))
        await ann.deploy(draft("shop.cart"))
        for refused in (
            bob.get("shop"),
            bob.delete("shop"),
            bob.rollback("shop"),
            bob.consumption("shop"),
            bob.sources("shop"),
            bob.split("shop", {1: 100}),
            bob.forget_secret("shop", "A"),
        ):
            with pytest.raises(errors.Forbidden, match="function shop belongs to ann"):
                await refused
        assert await bob.list() == []
        assert [one.name for one in await admin.list()] == ["shop", "shop.cart"]
        assert (await admin.deploy(draft("shop"))).author == "admin"
        assert (await admin.get("shop")).owner == "ann"
        await admin.deploy(draft("shop.new"))
        assert (await ann.get("shop.new")).owner == "ann"


async def test_accounts_of_another_namespace_own_nothing_here() -> None:
    async with opened() as plane:
        await plane.auth.make("ann", namespace="acme")
        here, there = await plane.of("eve"), await plane.of("eve", namespace="acme")
        await here.deploy(draft("shop"))
        await there.deploy(draft("shop", code="2"))
        assert (await here.get("shop")).version.number == 1
        admin = await plane.auth.login()
        visiting = RemoteFunctions(plane.calling(admin, "acme"))
        await visiting.deploy(draft("other"))
        assert (await visiting.get("other")).owner == "micro/admin"


async def test_nobody_gets_in_without_an_account() -> None:
    async with opened() as plane:
        nobody = RemoteFunctions(plane.calling())
        with pytest.raises(errors.Unauthorized):
            await nobody.deploy(draft())
        with pytest.raises(errors.Unauthorized):
            await nobody.list()


async def test_what_is_for_the_platform_is_not_for_admins() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft(secrets={"KEY": "s3cret"}))
        client = plane.calling(await plane.auth.login())
        admin = PlatformFunctions(client)
        for refused in (
            admin.unit("micro", "hello", 1),
            admin.grant("micro", "hello"),
            admin.count("w", 1, {}),
        ):
            with pytest.raises(errors.Forbidden, match="for the platform's own processes"):
                await refused
        with pytest.raises(errors.Forbidden):
            async with client.stream("functions", "Functions.Follow", b"{}") as stream:
                await anext(stream)


async def test_secrets_are_encrypted_and_given_to_workers_only(tmp_path: Path) -> None:
    async with opened(f"sqlite://{tmp_path}/store.db") as plane:
        functions = await plane.admin()
        version = await functions.deploy(draft(secrets={"KEY": "s3cret-value"}))
        assert version.secrets == ["KEY"]
        unit = await plane.platform.unit("micro", "hello", 1)
        assert unit.env == {"KEY": "s3cret-value"}
        kept = await functions.deploy(draft(secrets={"KEY": None}))
        assert (await plane.platform.unit("micro", "hello", 2)).env == {"KEY": "s3cret-value"}
        with pytest.raises(errors.BadRequest, match="secrets: there is no secret OTHER of hello"):
            await functions.deploy(draft(secrets={"OTHER": None}))
        assert "s3cret" not in str(kept)
        assert "s3cret" not in str(await functions.get("hello"))
        stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"s3cret-value" not in stored
        assert b"hello ${path}" in stored


async def test_code_sees_a_placeholder_of_a_secret_that_it_may_only_use() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        uses = {"KEY": [SecretUse("api.test")]}
        about = {"secrets": {"KEY": "s3cret", "READ": "r"}, "secret_uses": uses}
        for _ in range(2):
            await functions.deploy(draft(**about, grants=["secret:READ", "store"]))
        first, second = [await plane.platform.unit("micro", "hello", n) for n in (1, 2)]
        (placeholder,) = first.placeholders
        assert PATTERN.fullmatch(placeholder)
        assert first.placeholders == second.placeholders == {placeholder: "KEY"}
        assert first.env == {"KEY": placeholder, "READ": "r"}
        assert (first.secret_uses, first.grants) == (uses, ["store"])
        assert "s3cret" not in str(first)
        version = await functions.get("hello")
        assert version.version.secret_uses == uses
        assert await functions.verify("hello") == []
        await functions.deploy(draft("other", secrets={"KEY": "x"}, secret_uses=uses))
        other = await plane.platform.unit("micro", "other", 1)
        assert placeholder not in other.placeholders
        # A use that is another is another version, and is in the diff.
        more = {"KEY": [SecretUse("api.test", "x-key")]}
        await functions.deploy(draft(secrets={"KEY": None}, secret_uses=more))
        told = await functions.diff("hello")
        assert "-secret_uses: KEY: authorization to api.test" in told
        assert "+secret_uses: KEY: x-key to api.test" in told
        # What it may only use has to be there, too.
        await functions.forget_secret("hello", "KEY")
        with pytest.raises(errors.Unavailable, match="needs the secret KEY, which is gone"):
            await plane.platform.unit("micro", "hello", 3)


async def test_a_secret_is_told_to_who_shows_what_only_the_egress_knows() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        uses = {"KEY": [SecretUse("api.test")]}
        await functions.deploy(draft(secrets={"KEY": "s3cret"}, secret_uses=uses))
        nobody = plane.calling()
        policy = Policy(namespace="micro", name="hello", number=1, key="k", owner="admin")
        assert await CoreValues(nobody, PROOF).value(policy, "KEY") == "s3cret"
        with pytest.raises(errors.Unavailable, match="needs the secret NONE, which is gone"):
            await CoreValues(nobody, PROOF).value(policy, "NONE")
        admin = plane.calling(await plane.auth.login())
        for client in (nobody, admin, plane.badge):
            for proof in ("", "wrong"):
                with pytest.raises(errors.Forbidden, match="to the egress of this server only"):
                    await CoreValues(client, proof).value(policy, "KEY")
        plane.service._proof = ""
        with pytest.raises(errors.Forbidden):
            await CoreValues(nobody, "").value(policy, "KEY")


async def test_another_value_of_a_secret_is_another_key_and_the_same_is_not() -> None:
    async with opened() as plane:
        functions = await plane.admin()

        async def keys() -> dict[int, str]:
            found = await plane.catalogue.get("micro", "hello")
            return {share.number: share.key for share in found.head.shares}

        await functions.deploy(draft(secrets={"KEY": "a"}))
        await functions.deploy(draft(secrets={"KEY": "a"}))
        await functions.split("hello", {1: 50, 2: 50})
        before = await keys()
        await functions.deploy(draft(secrets={"KEY": "a"}))
        await functions.split("hello", {1: 50, 2: 50})
        assert await keys() == before
        await functions.deploy(draft(secrets={"KEY": "b"}))
        await functions.split("hello", {1: 50, 2: 50})
        after = await keys()
        assert not set(after.values()) & set(before.values())
        assert after[1] == (await plane.platform.unit("micro", "hello", 1)).key


async def test_a_version_whose_secret_is_gone_can_neither_run_nor_come_back() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft(secrets={"API_KEY": "a"}))
        await functions.deploy(draft())
        before = (await plane.catalogue.get("micro", "hello")).head.shares[0].key
        await functions.forget_secret("hello", "API_KEY")
        assert (await plane.catalogue.get("micro", "hello")).head.shares[0].key == before
        with pytest.raises(errors.Conflict, match="v1 of function hello needs the secret API_KEY"):
            await functions.rollback("hello", 1)
        with pytest.raises(errors.Conflict, match="needs the secret API_KEY"):
            await functions.split("hello", {1: 10, 2: 90})
        with pytest.raises(errors.Unavailable, match="needs the secret API_KEY, which is gone"):
            await plane.platform.unit("micro", "hello", 1)
        with pytest.raises(errors.NotFound, match="has no secret API_KEY"):
            await functions.forget_secret("hello", "API_KEY")
        assert (await functions.get("hello")).version.number == 2
        # One that runs is loaded anew, and fails.
        await functions.deploy(draft(secrets={"API_KEY": "b"}))
        running = (await plane.catalogue.get("micro", "hello")).head.shares[0].key
        await functions.forget_secret("hello", "API_KEY")
        assert (await plane.catalogue.get("micro", "hello")).head.shares[0].key != running
        assert await functions.verify("hello") == []


async def test_a_rollback_is_a_new_version_of_old_files() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft(code="1", env={"A": "one"}))
        await functions.deploy(draft(code="2", env={"A": "two"}))
        back = await functions.rollback("hello")
        assert (back.number, back.message) == (3, "rollback to v1")
        unit = await plane.platform.unit("micro", "hello", 3)
        assert (unit.code, unit.env) == ("1", {"A": "one"})
        assert (await functions.get("hello")).shares == {"v3": 100}
        with pytest.raises(errors.NotFound, match="function hello has no v9; its newest is v3"):
            await functions.rollback("hello", 9)
        await functions.split("hello", {1: 100})
        with pytest.raises(errors.NotFound, match="has no version before v1"):
            await functions.rollback("hello")
        assert await functions.verify("hello") == []


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({}, "0 in all"),
        ({1: 50}, "50 in all"),
        ({1: 100, 2: 0}, "hundredths, from 1 on"),
        ({1: 150, 2: -50}, "hundredths, from 1 on"),
        ({7: 100}, "has no v7"),
        (dict.fromkeys(range(1, 21), 5), "at most 10"),
    ],
)
async def test_shares_that_cannot_be_are_refused(shares: dict[int, int], told: str) -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        await functions.deploy(draft())
        with pytest.raises(errors.Error, match=told):
            await functions.split("hello", shares)


async def test_a_split_divides_requests_until_the_next_deploy() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        for n in range(3):
            await functions.deploy(draft(code=str(n)))
        one = await functions.split("hello", {1: 10, 3: 90})
        assert one.shares == {"v3": 90, "v1": 10}
        assert one.version.number == 3
        await functions.deploy(draft())
        assert (await functions.get("hello")).shares == {"v4": 100}


async def test_a_deleted_function_leaves_nothing(url: str) -> None:
    async with opened(url) as plane:
        functions, bob = await plane.admin(), await plane.of("bob")
        before = await plane.store.tables()
        await functions.deploy(draft("shop", secrets={"A": "a"}))
        await functions.deploy(draft("shop.cart"))
        await plane.platform.count("w", 1, {"micro/shop": Counts(requests=1)})
        await functions.delete("shop")
        with pytest.raises(errors.NotFound, match="there is no function 'shop'"):
            await functions.get("shop")
        with pytest.raises(errors.Conflict, match="belongs to admin"):
            await bob.deploy(draft("shop"))
        await functions.delete("shop.cart")
        left = set(await plane.store.tables()) - set(before)
        # What its account has used stays so.
        assert left <= {"functions$about", "ledger", "ledger$told"}
        assert not await plane.store.table("ledger").list("v/")
        version = await bob.deploy(draft("shop"))
        assert (version.number, version.parent) == (1, "")
        assert (await bob.consumption("shop")).requests == 0


async def test_what_a_killed_process_left_of_a_function_is_removed(url: str) -> None:
    async with opened(url) as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        removal = plane.catalogue.removal
        found = await plane.catalogue.get("micro", "hello")
        assert await removal._tried(found)
        await functions.deploy(draft(code="again"))
        assert await plane.store.table("functions$code").count() == 2
        await removal.tidy()
        assert await plane.store.table("functions$code").count() == 1
        assert await functions.verify("hello") == []


async def test_a_namespace_that_goes_takes_its_functions_along() -> None:
    async with opened() as plane:
        here, there = await plane.admin(), await plane.of("ann", namespace="acme")
        await here.deploy(draft())
        await there.deploy(draft())
        await there.deploy(draft("other"))
        await plane.service.clear("acme")
        assert await there.list() == []
        assert len(await here.list()) == 1


async def test_routes_that_two_functions_could_answer_are_refused() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft("shop", routes=["/cart/{id}", "/about"]))
        with pytest.raises(errors.Conflict) as refused:
            await functions.deploy(draft("shop.cart", routes=["/{item}"]))
        assert refused.value.detail == (
            "route /{item} meets route /cart/{id} of function shop, which belongs to admin"
        )
        await functions.deploy(draft("shop.cart", routes=["/{item}/price"]))
        await functions.deploy(draft("shop.stock"))
        with pytest.raises(errors.Conflict, match=r"meets route /\{item\}/price of function"):
            await functions.deploy(draft("shop", routes=["/{rest*}"]))


@contextlib.asynccontextmanager
async def two_cores(url: str) -> AsyncIterator[tuple[RemoteFunctions, RemoteFunctions]]:
    """The functions of one store as two cores serve them, which deploy at the same time."""
    async with opened(url) as one, opened(one.store, token_keys=one.auth.keys) as other:
        first, second = await one.admin(), await other.admin()
        await first.deploy(draft("shop"))
        await first.deploy(draft("shop.cart"))
        one.engines.meeting = other.engines.meeting = asyncio.Barrier(2)
        yield first, second


async def test_two_routes_at_once_that_meet_are_not_both_deployed(url: str) -> None:
    async with two_cores(url) as (first, second):
        done = await asyncio.gather(
            first.deploy(draft("shop", routes=["/cart/{id}"])),
            second.deploy(draft("shop.cart", routes=["/{item}"])),
            return_exceptions=True,
        )
        (refused,) = (one for one in done if isinstance(one, BaseException))
        assert isinstance(refused, errors.Conflict)
        assert "meets route" in refused.detail


async def test_of_two_first_functions_of_a_family_at_once_one_is_another_ones(url: str) -> None:
    async with opened(url) as one, opened(one.store, token_keys=one.auth.keys) as other:
        ann = await one.of("ann")
        bob = RemoteFunctions(other.calling(await one.auth.make("bob")))
        one.engines.meeting = other.engines.meeting = asyncio.Barrier(2)
        done = await asyncio.gather(
            ann.deploy(draft("shop.a")), bob.deploy(draft("shop.b")), return_exceptions=True
        )
        (refused,) = (one for one in done if isinstance(one, BaseException))
        assert isinstance(refused, errors.Conflict)
        assert "belongs to" in refused.detail


async def test_a_change_is_of_what_was_seen_or_it_is_refused() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft())
        await functions.deploy(draft(secrets={"A": "a"}))
        seen = await plane.catalogue.get("micro", "hello")
        await functions.split("hello", {1: 50, 2: 50})
        who = Claimant("admin", administers=True)
        for late in (
            plane.catalogue.split(seen, {1: 100}, who),
            plane.catalogue.forget_secret(seen, "A"),
            plane.catalogue.rollback(seen, 1, who),
        ):
            with pytest.raises(errors.Conflict, match="function hello was changed meanwhile"):
                await late
        assert (await functions.get("hello")).shares == {"v2": 50, "v1": 50}


async def test_functions_with_one_name_on_nats_are_refused() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft("shop.cart"))
        with pytest.raises(errors.Conflict, match=r"shop-cart and function shop\.cart have one"):
            await functions.deploy(draft("shop-cart"))
        await functions.delete("shop.cart")
        await functions.deploy(draft("shop-cart"))


async def test_a_service_in_the_way_is_named_and_functions_are_in_the_way_of_services() -> None:
    async def others(namespace: str, name: str) -> dict[str, str]:
        return {"cart": "service cart of bob"} if name.startswith("cart") else {}

    async with opened(others=others) as plane:
        functions = await plane.admin()
        with pytest.raises(errors.Conflict, match="/cart belongs to service cart of bob; choose"):
            await functions.deploy(draft("cart.x"))
        await functions.deploy(draft("shop.cart"))
        claims = plane.catalogue.taken
        assert await claims("micro", "shop") == "/shop belongs to functions of admin"
        assert await claims("micro", "shop.other") == "/shop belongs to functions of admin"
        assert await claims("micro", "shop-cart") == "function shop.cart has that name on NATS"
        assert await claims("micro", "free") == ""
        assert await claims("acme", "shop") == ""


async def test_a_function_has_an_account_of_its_own_until_it_is_deleted() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await plane.auth.make("ann")
        with pytest.raises(errors.Conflict, match="ann is the account of a user"):
            await functions.deploy(draft("ann"))
        assert [one.name for one in await functions.list()] == []
        await functions.deploy(draft("shop"))
        granted = await plane.platform.grant("micro", "shop")
        token = plane.auth.authority.access.token(f"Bearer {granted.token}")
        assert token is not None
        assert (token.account.id, token.account.type) == ("shop", "service")
        assert int(token.expires) == granted.expiry
        await functions.delete("shop")
        with pytest.raises(errors.Unauthorized):
            plane.auth.authority.access.token(f"Bearer {granted.token}")
        with pytest.raises(errors.NotFound):
            await plane.platform.grant("micro", "shop")


async def test_a_diff_shows_files_and_settings() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft(code="1\n2\n", routes=["/a"]))
        await functions.deploy(draft(code="1\n3\n", routes=["/b"], env={"A": "1"}))
        text = await functions.diff("hello")
        assert {"-routes: /a", "+routes: /b", "+env: A"} <= set(text.splitlines())
        assert "--- v1/index.js\n+++ v2/index.js" in text
        assert "-2\n+3" in text
        await functions.deploy(draft(code="1\n3\n", routes=["/b"], env={"A": "1"}))
        assert await functions.diff("hello") == ""
        await functions.deploy(draft(code="1\n3\n", routes=["/b"], env={"A": "secretish"}))
        assert await functions.diff("hello") == "env: A has another value"
        with pytest.raises(errors.NotFound, match="has no v9"):
            await functions.diff("hello", 1, 9)


async def test_changes_are_in_the_audit_log() -> None:
    async with opened() as plane:
        functions = await plane.admin()
        await functions.deploy(draft(secrets={"A": "s3cret"}))
        await functions.rollback("hello", 1)
        await functions.split("hello", {1: 100})
        await functions.forget_secret("hello", "A")
        await functions.delete("hello")
        token = await plane.auth.login()
        entries = (await plane.auth.ask("Audit.List", token))["entries"]
        actions = [one["action"] for one in entries if one["action"].startswith("function")]
        assert sorted(actions) == [
            *("function deleted", "function deployed", "function rolled back"),
            *("function secret deleted", "function split"),
        ]
        assert "s3cret" not in str(entries)
