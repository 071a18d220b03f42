"""The Python client: readable, typed, and it calls."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from microcosmos import errors
from microcosmos.registry.interface import Description
from microcosmos.service.gen import python, reader
from microcosmos.testing import Bench

from .conftest import MYPY, TOOLS, Run, load
from .things import FAILURES, things

Load = Callable[[str], ModuleType]


def _text(described: Description, *, http: bool = False) -> str:
    model = reader.read(described, python.RESERVED)
    return python.write(model, again="micro gen client things", http=http)


@pytest.fixture
def by_rpc(described: Description) -> ModuleType:
    return load(_text(described))


@pytest.fixture
def by_http(described: Description) -> ModuleType:
    return load(_text(described, http=True))


def _everything(module: Any) -> Any:
    return module.Everything(
        when=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        day=dt.date(2026, 1, 2),
        time=dt.time(1, 2, 3),
        wait=dt.timedelta(seconds=90),
        id=uuid.UUID(int=7),
        raw=b"\x00\xff",
        price=decimal.Decimal("9.99"),
        color="night blue",
        pet=module.Dog(good=False),
        place=module.Place(x=1),
        labels=module.Labels(size=3),
        odd=module.Odd(firstName="Ann", class_="x", list=2, str=3, uuid=4),
        counts={"a": 1},
        pair=(1, "b"),
        tags=["t"],
        pages=module.PageTree(items=[module.Tree(name="oak", kids=[module.Tree(name="twig")])]),
    )


async def _calls(module: Any, client: Any) -> None:
    """What clients of both flavours do alike."""
    assert await client.call(name="Ann") == {"name": "Ann", "limit": 10, "tags": []}
    assert await client.call(name="Ann", limit=3, tags=["a"]) == {
        "name": "Ann",
        "limit": 3,
        "tags": ["a"],
    }
    sent = _everything(module)
    assert await client.echo(sent) == sent
    trees = await client.list()
    assert trees == [module.Tree(name="oak", kids=[module.Tree(name="twig")])]
    assert await client.count(list=4) == 4
    pets = [module.Cat(lives=1), module.Dog()]
    assert (await client.other_thing(pets=pets)).items == pets


async def test_it_calls_by_rpc(platform: Bench, by_rpc: Any) -> None:
    await platform.start(things)
    client = by_rpc.Things(platform.client("things"), timeout=5.0)
    await _calls(by_rpc, client)
    with pytest.raises(errors.Conflict, match="as you wish"):
        await client.fail(code=409)
    with pytest.raises(errors.BadRequest, match="limit"):
        await client.call(name="Ann", limit=0)


async def test_an_answer_may_be_null(platform: Bench, by_rpc: Any) -> None:
    await platform.start(things)
    assert await by_rpc.Things(platform.client("things")).count() is None


async def test_it_calls_over_http(site: str, by_http: Any) -> None:
    async with by_http.Things(site) as client:
        await _calls(by_http, client)
        for code, kind in ((400, "BadRequest"), (404, "NotFound"), (429, "TooManyRequests")):
            with pytest.raises(getattr(by_http, kind), match="as you wish") as raised:
                await client.fail(code=code)
            assert (raised.value.id, raised.value.code) == ("things.Fail", code)
        with pytest.raises(by_http.Error) as raised:
            await client.fail(code=418)
        assert raised.value.code == 418


def test_errors_over_http_are_those_of_the_platform(by_http: Any) -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type):
            own = getattr(by_http, name)
            assert (own.code, own.status, own.retryable) == (
                kind.code,
                kind.status,
                kind.retryable,
            )


@pytest.mark.parametrize(("failures", "passes"), [(3, True), (4, False)])
async def test_a_passing_failure_is_tried_once_more(
    site: str, by_http: Any, failures: int, passes: bool
) -> None:
    # The gateway tries a call twice itself.
    FAILURES["left"] = failures
    async with by_http.Things(site) as client:
        if passes:
            assert await client.shaky() == 1
        else:
            with pytest.raises(by_http.InternalServerError, match="not now"):
                await client.shaky()
    assert FAILURES["left"] == -int(passes)


async def test_an_endpoint_that_says_so_is_not_tried_again(site: str, by_http: Any) -> None:
    FAILURES["left"] = 1
    async with by_http.Things(site) as client:
        with pytest.raises(by_http.InternalServerError):
            await client.once()


async def test_nobody_there_is_a_lost_connection(by_http: Any) -> None:
    async with by_http.Things("http://127.0.0.1:9") as client:
        with pytest.raises(by_http.ConnectionLost, match=r"127\.0\.0\.1:9 does not answer"):
            await client.count()


async def _answers(client: Any, not_found: Any) -> None:
    assert [tree.name async for tree in client.watch(limit=2)] == ["tree\u20280", "tree\u20281"]
    async with client.watch(limit=1, fail=True) as answers:
        assert (await anext(answers)).name == "tree\u20280"
        with pytest.raises(not_found, match="no more"):
            await anext(answers)
    async with client.watch(limit=100_000) as answers:
        assert (await anext(answers)).name == "tree\u20280"


async def _dialogues(client: Any, conflict: Any) -> None:
    assert await client.total([1, 2, 3], start=4) == 10
    async with client.chat(name="Ann") as chat:
        await chat.send("hi")
        assert await anext(chat) == "hi, Ann"
        await chat.end()
        assert [answer async for answer in chat] == []
    async with client.chat() as chat:
        await chat.send("no")
        with pytest.raises(conflict, match="no is no word"):
            await anext(chat)


async def test_it_streams_by_rpc(platform: Bench, by_rpc: Any) -> None:
    await platform.start(things)
    client = by_rpc.Things(platform.client("things"))
    await _answers(client, errors.NotFound)
    await _dialogues(client, errors.Conflict)


async def test_it_reads_streams_over_http(site: str, by_http: Any) -> None:
    async with by_http.Things(site) as client:
        await _answers(client, by_http.NotFound)


async def test_it_streams_over_a_websocket(site: str, by_http: Any) -> None:
    async with by_http.Things(site) as client:
        await _dialogues(client, by_http.Conflict)


def test_it_is_strictly_typed_and_formatted(
    described: Description, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "rpc.py").write_text(_text(described))
    (tmp_path / "http_.py").write_text(_text(described, http=True))
    use = "from rpc import Things, Tree\n\n\nasync def use(things: Things) -> None:\n    "
    (tmp_path / "right.py").write_text(
        f"{use}trees: list[Tree] = await things.list()\n    print(trees[0].kids[0].name)\n"
        "    async for tree in things.watch(limit=3):\n        print(tree.name)\n"
    )
    (tmp_path / "wrong.py").write_text(
        f"{use}await things.call(nam='a')\n    print((await things.list())[0].nam, Tree)\n"
    )
    # As a project of its own sees it, wherever this one lies.
    found = run(TOOLS / "ruff", "format", "--isolated", "--diff", "rpc.py", "http_.py")
    assert (found.stdout, found.returncode) == ("", 0)
    found = run(TOOLS / "ruff", "check", "--isolated", "--select=E9,F,I,B,UP", ".")
    assert found.returncode == 0, found.stdout
    found = run(*MYPY, "rpc.py", "http_.py", "right.py", "wrong.py")
    lines = [line for line in found.stdout.splitlines() if ": error: " in line]
    assert [line.partition(":")[0] for line in lines] == ["wrong.py", "wrong.py"], found.stdout
    assert '"nam"' in lines[0]
    assert '"nam"' in lines[1]


def test_the_docstrings_say_what_the_service_says(by_rpc: Any) -> None:
    said = by_rpc.Things.call.__doc__
    assert "Say what came." in said
    assert "limit: how many. (at least 1, at most 100)" in said
    assert "kids: its branches." in by_rpc.Tree.__doc__
    assert '"""' not in by_rpc.Things.other_thing.__doc__


def test_the_same_service_makes_the_same_bytes(described: Description) -> None:
    described.endpoints.reverse()
    assert _text(described) == _text(described)
    first = _text(described)
    described.endpoints.reverse()
    assert first == _text(described)
