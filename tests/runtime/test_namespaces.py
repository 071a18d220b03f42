"""One name in two namespaces: two services, with nothing in common."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.runtime.children import parse_name
from microcosmos.runtime.deployment import Caller, CreateRequest, Deployment, UpdateRequest
from microcosmos.runtime.logs import LogsRequest
from microcosmos.runtime.source import Source

from .platform import World, until, world

STAGING = Caller(namespace="staging", id="ann", group="staging")


async def deployed(here: World, name: str, version: str, caller: Caller) -> Deployment:
    """`micro run` of a folder in a namespace, until it is settled."""
    folder = here.write(name, version=version)
    upload = await here.upload(folder, caller.namespace)
    request = CreateRequest(source=Source(kind="folder", location=str(folder)), upload=upload)
    return await here.settled(await here.runtime.create(request, caller))


async def test_one_name_runs_in_two_namespaces_side_by_side(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        first = await deployed(here, "users", "one", Caller())
        second = await deployed(here, "users", "two", STAGING)
        assert (first.status, second.status) == ("running", "running")
        assert second.metadata() == {"owner": "ann", "group": "staging"}
        assert (second.author, second.history[0].author) == ("ann", "ann")
        (one,), (two,) = here.alive("users"), here.alive("users@staging")
        assert here.spawner.spec(one).env["MICRO_NAMESPACE"] == "micro"
        env = here.spawner.spec(two).env
        assert (env["MICRO_NAMESPACE"], env["MICRO_SERVICE_NAME"]) == ("staging", "users")
        specs = [here.spawner.spec(name) for name in (one, two)]
        for shared in ("cwd", "log", "name"):
            assert len({getattr(spec, shared) for spec in specs}) == 2, shared
        assert [d.hash for d in await runtime.read()] == [first.hash]
        assert [d.hash for d in await runtime.read(namespace="staging")] == [second.hash]
        # What one of them says and does is nothing to the other.
        said = [
            (await runtime.logs(LogsRequest(name="users"), where)).lines[0].text
            for where in ("micro", "staging")
        ]
        assert said == ["version one", "version two"]
        await runtime.delete("users", "staging")
        await until(lambda: not here.alive("users@staging"), "its end")
        assert here.alive("users") == [one]
        assert "version one" in here.log("users")
        assert await runtime.read(namespace="staging") == []
        with pytest.raises(errors.NotFound):
            await runtime.delete("users", "staging")


async def test_nobody_reaches_what_is_of_another_namespace(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        await deployed(here, "users", "one", Caller())
        for attempt in (
            runtime.read("users", "staging"),
            runtime.delete("users", "staging"),
            runtime.wait("users", 0, 0.1, "staging"),
            runtime.logs(LogsRequest(name="users"), "staging"),
            runtime.logs(LogsRequest(name="users@micro"), "staging"),
            runtime.update(UpdateRequest(name="users", instances=2), STAGING),
        ):
            with pytest.raises(errors.NotFound):
                await attempt
        folder = here.write("other")
        request = CreateRequest(
            source=Source(kind="folder", location=str(folder)), upload=await here.upload(folder)
        )
        with pytest.raises(errors.NotFound, match="no such upload"):
            await runtime.create(request, STAGING)
        # It is still there for those who have sent it.
        assert (await here.settled(await runtime.create(request))).status == "running"


async def test_a_core_that_comes_back_knows_whose_each_is(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with here.core():
            await deployed(here, "users", "one", Caller())
            await deployed(here, "users", "two", STAGING)
            before = here.spawner.living()
        async with here.core() as runtime:
            for namespace in ("micro", "staging"):
                record = (await runtime.read("users", namespace))[0]
                async with here.patience():
                    while record.status != "running":
                        record = await runtime.wait("users", record.revision, 5, namespace)
            assert here.spawner.living() == before
            # Their credentials are still theirs.
            assert here.kept == set(before)
            await runtime.clear("staging")
            assert [d.namespace for d in await runtime.read()] == ["micro"]
            assert len(here.spawner.living()) == 1


async def test_credentials_are_given_before_a_start_and_taken_after_the_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        await deployed(here, "users", "one", STAGING)
        (first,) = here.alive("users@staging")
        assert here.admitted == {first}
        folder = here.write("users", version="two")
        source = Source(kind="folder", location=str(folder))
        upload = await here.upload(folder, "staging")
        request = UpdateRequest(name="users", source=source, upload=upload)
        await here.settled(await runtime.update(request, STAGING))
        await until(lambda: first not in here.admitted, "the old one's end")
        assert len(here.admitted) == 1
        assert here.forgotten == []
        await runtime.delete("users", "staging")
        assert (here.admitted, here.forgotten) == (set(), ["users@staging"])


async def test_a_namespace_in_which_nothing_can_run_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        here.refused = {"staging"}
        request = CreateRequest(source=Source(kind="example", location="helloworld"))
        with pytest.raises(errors.BadRequest, match="nothing runs in staging"):
            await runtime.create(request, STAGING)
        assert await runtime.read(namespace="staging") == []


async def test_names_that_are_one_on_nats_are_refused_in_one_namespace(tmp_path: Path) -> None:
    async with world(tmp_path) as here, here.core() as runtime:
        source = Source(kind="example", location="none")
        await runtime.create(CreateRequest(source=source, name="v1.users"))
        with pytest.raises(errors.Conflict, match=r"v1-users and v1.users have one name on NATS"):
            await runtime.create(CreateRequest(source=source, name="v1-users"))
        await runtime.create(CreateRequest(source=source, name="v1-users"), STAGING)


def test_a_process_tells_whose_it_is() -> None:
    labels = {"users": "users-0123abcd-0-abcdef", "users@a-b": "users@a-b-0123abcd-0-abcdef"}
    for label, process in labels.items():
        assert parse_name(process) == (label, "0123abcd", "0")


def test_who_deploys_is_not_for_the_request_to_say() -> None:
    request = {"source": {"kind": "example", "location": "x"}, "author": "somebody"}
    with pytest.raises(msgspec.ValidationError, match="unknown field `author`"):
        msgspec.convert(request, CreateRequest)
