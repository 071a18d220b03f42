"""Field numbers: once a message has been published, they never mean anything else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microcosmos.base import errors
from microcosmos.base.schema import Value
from microcosmos.proxy import descriptors, numbers
from microcosmos.proxy.descriptors import Descriptors
from microcosmos.proxy.files import describe
from microcosmos.proxy.numbers import Numbers, Pins
from microcosmos.registry import Endpoint, Node, Service, Table
from microcosmos.store import Store, open_store


def struct(called: str, /, **fields: str) -> Value:
    values = [Value(name=name, type=kind) for name, kind in fields.items()]
    return Value(name=called, type=called, values=values)


def taking(shape: Value, name: str = "S.Call") -> Endpoint:
    return Endpoint(name=name, request=shape)


def table(*versions: tuple[str, Endpoint]) -> Table:
    made = Table()
    made.replace(
        Service(name="s", version=version, endpoints=[endpoint], nodes=[Node(id=version)])
        for version, endpoint in versions
    )
    return made


def published(table: Table, shape: Value, version: str = "1") -> None:
    node = Node(id=version)
    one = Service(name="s", version=version, endpoints=[taking(shape)], nodes=[node])
    table.replace([one])


def shown(file: Any, name: str) -> dict[str, int]:
    message = next(one for one in file.proto.message_type if one.name == name)
    return {field.json_name: field.number for field in message.field}


def reserved(file: Any, name: str) -> list[tuple[int, int]]:
    message = next(one for one in file.proto.message_type if one.name == name)
    return [(one.start, one.end - 1) for one in message.reserved_range]


async def test_a_new_field_gets_the_next_number_wherever_it_stands() -> None:
    table = Table()
    made = Descriptors(table)
    published(table, struct("User", name="string", age="int64"))
    assert shown(await made.file("s"), "User") == {"name": 1, "age": 2}
    published(table, struct("User", email="string", age="int64", name="string"))
    assert shown(await made.file("s"), "User") == {"email": 3, "age": 2, "name": 1}


async def test_the_number_of_a_field_that_went_is_reserved_and_its_own_again() -> None:
    table = Table()
    made = Descriptors(table)
    for fields in ({"a": "string", "b": "string", "c": "string"}, {"c": "string", "d": "string"}):
        published(table, struct("User", **fields))
        file = await made.file("s")
    assert shown(file, "User") == {"c": 3, "d": 4}
    assert reserved(file, "User") == [(1, 2)]
    published(table, struct("User", d="string", a="string"))
    assert shown(await made.file("s"), "User") == {"d": 4, "a": 1}


async def test_a_changed_type_is_a_new_number_and_the_old_one_if_it_changes_back() -> None:
    table = Table()
    made = Descriptors(table)
    seen = []
    for kind in ("string", "int64", "[]int64", "int64", "string"):
        published(table, struct("User", a=kind, b="bool"))
        seen.append(shown(await made.file("s"), "User"))
    assert seen == [
        {"a": 1, "b": 2},
        {"a": 3, "b": 2},
        {"a": 4, "b": 2},
        {"a": 3, "b": 2},
        {"a": 1, "b": 2},
    ]


async def test_two_living_versions_share_one_message_with_the_fields_of_both() -> None:
    old, new = struct("User", name="string"), struct("User", age="int64", name="string")
    made = table(("1", taking(old)), ("2", taking(new)))
    both = Descriptors(made)
    assert shown(await both.file("s"), "User") == {"name": 1, "age": 2}
    for left in (new, old, new):
        published(made, left)
        found = shown(await both.file("s"), "User")
        assert found == {name: {"name": 1, "age": 2}[name] for name in found}
        assert len(found) == len(left.values)


async def test_a_struct_with_another_name_in_the_same_place_keeps_the_numbers() -> None:
    table = Table()
    made = Descriptors(table)
    published(table, struct("CallRequest", name="string", age="int64"))
    assert shown(await made.file("s"), "CallRequest") == {"name": 1, "age": 2}
    published(table, struct("Person", age="int64", mail="string", name="string"))
    assert shown(await made.file("s"), "Person") == {"age": 2, "mail": 3, "name": 1}


async def test_handlers_with_one_method_name_number_their_requests_apart() -> None:
    file = describe(
        "s",
        [
            taking(struct("ReadRequest", id="string"), "Users.Read"),
            taking(struct("ReadRequest", slug="string"), "Posts.Read"),
        ],
    )
    assert [shown(file, name) for name in ("ReadRequest", "ReadRequest2")] == [
        {"slug": 1},
        {"id": 1},
    ]


async def test_of_two_structs_under_one_name_the_older_keeps_the_name() -> None:
    made = Table()
    both = Descriptors(made)

    def publish(*endpoints: Endpoint) -> None:
        made.replace([Service(name="s", endpoints=list(endpoints), nodes=[Node(id="1")])])

    publish(taking(struct("Item", a="string"), "S.Zebra"))
    await both.file("s")
    publish(
        taking(struct("Item", b="int64"), "S.Ant"), taking(struct("Item", a="string"), "S.Zebra")
    )
    file = await both.file("s")
    assert shown(file, "Item") == {"a": 1}
    assert shown(file, "Item2") == {"b": 2}


async def test_they_survive_a_restart(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    table = Table()
    for fields in ({"a": "string", "b": "string"}, {"b": "string", "c": "string", "a": "string"}):
        async with open_store(url) as store:
            published(table, struct("User", **fields))
            file = await Descriptors(table, Numbers(store)).file("s")
    assert shown(file, "User") == {"a": 1, "b": 2, "c": 3}


KILLED = """
import asyncio, sys
from microcosmos.proxy.numbers import Field, Numbers, Wanted
from microcosmos.store import open_store

async def main():
    async with open_store(sys.argv[1]) as store:
        await Numbers(store).pin("s", Wanted([Field("User", sys.argv[2], "string")], {}))
        print("kept", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def keep_and_die(url: str, name: str) -> None:
    command = [sys.executable, "-c", KILLED, url, name]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"kept\n"
        os.kill(child.pid, signal.SIGKILL)


async def test_they_survive_kill_9(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    keep_and_die(url, "z")
    keep_and_die(url, "a")
    async with open_store(url) as store:
        again = Numbers(store)
        await again.load()
        pins = await again.pin("s", numbers.Wanted([], {}))
    assert pins.structs == {"User": {"z": {"string": 1}, "a": {"string": 2}}}


async def test_two_cores_that_publish_at_once_do_not_give_a_number_twice(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    async with open_store(url) as store:
        one, other = Numbers(store), Numbers(store)
        first = await one.pin("s", numbers.Wanted([numbers.Field("U", "a", "string")], {}))
        second = await other.pin("s", numbers.Wanted([numbers.Field("U", "b", "string")], {}))
    assert first.structs["U"] == {"a": {"string": 1}}
    assert second.structs["U"] == {"a": {"string": 1}, "b": {"string": 2}}


class Gone:
    """A store that has gone away: what a full disk or a lost database makes of one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.away = False
        self.asked = 0

    def table(self, name: str) -> Gone:
        self._store = self._store.table(name)
        return self

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        if self.away:
            raise errors.Unavailable("store", "the disk is full")
        return getattr(self._store, name)


async def test_without_its_store_a_proxy_answers_with_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table()
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        gone = Gone(store)
        made = Descriptors(table, Numbers(gone))  # type: ignore[arg-type]
        published(table, struct("User", a="string"))
        await made.file("s")
        gone.away = True
        published(table, struct("User", b="string", a="string"), "2")
        asked = gone.asked
        # The field that has no number yet is not made up; and the store is left alone for a while.
        for _ in range(3):
            assert shown(await made.file("s"), "User") == {"a": 1}
        assert gone.asked == asked + 1
        published(table, struct("User", a="string"), "3")
        assert shown(await made.file("s"), "User") == {"a": 1}
        gone.away = False
        monkeypatch.setattr(descriptors, "PAUSE", 0)
        published(table, struct("User", b="string", a="string"), "4")
        assert shown(await made.file("s"), "User") == {"b": 2, "a": 1}


async def test_what_was_never_published_waits_for_the_store_and_says_so(tmp_path: Path) -> None:
    table = Table()
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        gone = Gone(store)
        made = Descriptors(table, Numbers(gone))  # type: ignore[arg-type]
        gone.away = True
        published(table, struct("User", a="string"))
        for _ in range(3):
            with pytest.raises(errors.Unavailable, match="call it by JSON"):
                await made.file("s")
        # Not by every call, which would wait for it.
        assert gone.asked == 1


async def test_the_store_is_asked_once_for_each_new_field_and_not_for_calls(tmp_path: Path) -> None:
    table = Table()
    async with open_store(f"sqlite://{tmp_path}/store.db") as store:
        gone = Gone(store)
        made = Descriptors(table, Numbers(gone))  # type: ignore[arg-type]
        published(table, struct("User", a="string"))
        for _ in range(5):
            await made.method("s", "S.Call")
        published(table, struct("User", a="string"), "2")
        await made.method("s", "S.Call")
        assert gone.asked == 1


async def test_a_service_with_too_many_fields_is_refused_and_keeps_those_it_has() -> None:
    table = Table()
    made = Descriptors(table)
    published(table, struct("User", a="string"))
    await made.file("s")
    many = struct("User", **{f"f{number}": "string" for number in range(numbers.MAX_FIELDS)})
    published(table, many)
    with pytest.raises(errors.InternalServerError, match="call it by JSON"):
        await made.file("s")
    published(table, struct("User", a="string", b="string"))
    assert shown(await made.file("s"), "User") == {"a": 1, "b": 2}


NAMES = st.sampled_from("abcdef")
KINDS = st.sampled_from(["string", "int64", "[]string", "map[string]bool", "any", "Other"])
SHAPES = st.dictionaries(NAMES, KINDS, max_size=6)


@given(st.lists(SHAPES, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_number_means_one_field_of_one_type_for_ever(shapes: list[dict[str, str]]) -> None:
    pins, meant = Pins(), {}
    for fields in shapes:
        wanted = [numbers.Field("User", name, kind) for name, kind in fields.items()]
        pins = pins.grown(numbers.Wanted(wanted, {}))
        given = [pins.number(field) for field in wanted]
        assert len(set(given)) == len(given)
        assert 0 not in given
        for field, number in zip(wanted, given, strict=True):
            assert meant.setdefault(number, field) == field
