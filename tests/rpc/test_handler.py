"""Functions as endpoints."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypedDict

import msgspec
import pytest

from microcosmos.base import context, errors, schema
from microcosmos.base.context import Context
from microcosmos.rpc import Call, Endpoint, Hosted, Server
from microcosmos.rpc.handler import endpoint


class Order(msgspec.Struct):
    item: str
    count: int = 1


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    item: str


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str
    year: int


class Greeting(msgspec.Struct):
    msg: str


async def ask(made: Endpoint, body: str = "{}", **metadata: str) -> Any:
    """Answer one request with an endpoint, as a server does."""
    server = Server()
    server.add(Hosted("demo", [made]))
    call = Call("demo", made.name, body.encode(), dict(context.Metadata(metadata)))
    return json.loads(await asyncio.create_task(server.handle(call)))


def fields(shape: schema.Value) -> dict[str, str]:
    return {value.name: value.type for value in shape.values}


async def test_parameters_are_the_fields_of_the_request() -> None:
    async def greet(name: str, times: int = 1, *, loud: bool = False) -> Greeting:
        return Greeting(f"{name} {times} {loud}")

    made = endpoint(greet, "demo")
    assert made.name == "Demo.Greet"
    assert (made.request.name, made.request.type) == ("GreetRequest", "GreetRequest")
    assert fields(made.request) == {"name": "string", "times": "int64", "loud": "bool"}
    assert (made.response.name, fields(made.response)) == ("Greeting", {"msg": "string"})
    assert await ask(made, '{"name":"Jo"}') == {"msg": "Jo 1 False"}
    assert await ask(made, '{"loud":true,"times":2,"name":"Jo"}') == {"msg": "Jo 2 True"}


async def test_a_parameter_that_must_be_named_is_given_by_name() -> None:
    async def only(*, first: int, second: int = 2) -> list[int]:
        return [first, second]

    def blocking(before: int, *, after: int) -> list[int]:
        return [before, after]

    assert await ask(endpoint(only, "demo"), '{"first":1}') == [1, 2]
    assert await ask(endpoint(blocking, "demo"), '{"after":2,"before":1}') == [1, 2]


@pytest.mark.parametrize(
    ("body", "told"),
    [("{}", "`name`"), ('{"name":"x","other":1}', "`other`"), ('{"name":[]}', "$.name")],
)
async def test_parameters_are_checked(body: str, told: str) -> None:
    async def greet(name: str) -> None:
        raise AssertionError("never called")

    with pytest.raises(errors.BadRequest) as caught:
        await ask(endpoint(greet, "demo"), body)
    assert told in caught.value.detail


async def test_one_struct_is_the_whole_request() -> None:
    async def place(order: Order) -> str:
        return f"{order.count} {order.item}"

    made = endpoint(place, "demo")
    assert (made.request.name, fields(made.request)) == (
        "Order",
        {"item": "string", "count": "int64"},
    )
    assert await ask(made, '{"item":"tea","more":"ignored"}') == "1 tea"


async def test_a_struct_may_refuse_unknown_fields() -> None:
    async def place(order: Strict) -> None: ...

    with pytest.raises(errors.BadRequest, match="unknown field `more`"):
        await ask(endpoint(place, "demo"), '{"item":"tea","more":1}')


async def test_a_dataclass_or_typed_dict_is_the_whole_request_too() -> None:
    async def move(point: Point) -> Point:
        return Point(point.x + 1, point.y)

    async def watch(movie: Movie) -> Movie:
        return {"title": movie["title"].upper(), "year": movie["year"]}

    assert await ask(endpoint(move, "demo"), '{"x":1}') == {"x": 2, "y": 0}
    watched = await ask(endpoint(watch, "demo"), '{"title":"m","year":1931}')
    assert watched == {"title": "M", "year": 1931}
    with pytest.raises(errors.BadRequest, match=r"\$\.year"):
        await ask(endpoint(watch, "demo"), '{"title":"m","year":"x"}')


async def test_two_structs_are_two_fields() -> None:
    async def both(first: Order, second: Order) -> list[str]:
        return [first.item, second.item]

    made = endpoint(both, "demo")
    assert fields(made.request) == {"first": "Order", "second": "Order"}
    body = '{"first":{"item":"a"},"second":{"item":"b"}}'
    assert await ask(made, body) == ["a", "b"]


@pytest.mark.parametrize("place", ["first", "middle", "last", "named"])
async def test_the_context_is_given_where_it_is_asked_for(place: str) -> None:
    async def first(here: Context, a: str, b: str) -> list[str]:
        return [here.metadata["x"], a, b]

    async def middle(a: str, here: Context, b: str) -> list[str]:
        return [here.metadata["x"], a, b]

    async def last(a: str, b: str, here: Context) -> list[str]:
        return [here.metadata["x"], a, b]

    async def named(a: str, *, here: Context, b: str) -> list[str]:
        return [here.metadata["x"], a, b]

    made = endpoint({"first": first, "middle": middle, "last": last, "named": named}[place], "demo")
    assert list(fields(made.request)) == ["a", "b"]
    assert await ask(made, '{"a":"1","b":"2"}', x="jo") == ["jo", "1", "2"]


async def test_the_context_goes_with_a_struct_and_alone() -> None:
    async def place(order: Order, here: Context) -> str:
        return order.item + here.metadata["x"]

    async def alone(here: Context) -> str:
        return here.metadata["x"]

    assert await ask(endpoint(place, "demo"), '{"item":"tea"}', x="1") == "tea1"
    assert await ask(endpoint(alone, "demo"), x="1") == "1"


async def test_a_default_that_changes_is_fresh_for_every_call() -> None:
    async def collect(
        items: list[int] = [1],  # noqa: B006
        seen: dict[str, int] = {"a": 1},  # noqa: B006
        order: Order = Order("tea"),  # noqa: B008
        point: Point = Point(1),  # noqa: B008
    ) -> list[Any]:
        items.append(2)
        seen["b"] = 2
        order.count += 1
        point.x += 1
        return [items, seen, order.count, point.x]

    made = endpoint(collect, "demo")
    for _ in range(2):
        assert await ask(made) == [[1, 2], {"a": 1, "b": 2}, 2, 2]


async def test_parameters_without_types_take_anything() -> None:
    async def anything(value, other: object = None):  # type: ignore[no-untyped-def]
        return [value, other]

    made = endpoint(anything, "demo")
    assert fields(made.request) == {"value": "any", "other": "any"}
    assert await ask(made, '{"value":{"a":[1]},"other":2}') == [{"a": [1]}, 2]


async def test_no_parameters_are_an_empty_request() -> None:
    async def nothing() -> None: ...

    made = endpoint(nothing, "demo")
    assert made.request.values == []
    assert (made.response.type, made.response.values) == ("NothingResponse", [])
    assert await ask(made) == {}
    with pytest.raises(errors.BadRequest):
        await ask(made, '{"a":1}')


async def test_a_plain_answer_has_the_endpoints_name_for_its_shape() -> None:
    async def count() -> list[int]:
        return [1, 2]

    made = endpoint(count, "demo")
    assert (made.response.name, made.response.type) == ("CountResponse", "[]int64")
    assert await ask(made) == [1, 2]


async def test_a_function_that_is_not_async_runs_in_a_thread_with_its_context() -> None:
    def block(here: Context) -> list[bool]:
        return [
            threading.current_thread() is threading.main_thread(),
            context.current() is here,
        ]

    assert await ask(endpoint(block, "demo")) == [False, True]


async def test_a_method_is_an_endpoint_of_its_object() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        async def add(self, by: int = 1) -> int:
            self.count += by
            return self.count

    made = endpoint(Counter().add, "demo")
    assert await ask(made, '{"by":2}') == 2
    assert await ask(made) == 3


class Till:
    """One of several objects of a class."""

    def __init__(self, sum: int) -> None:
        self.sum = sum

    async def add(self, count: int = 1) -> int:
        """Add up."""
        return self.sum + count


class StrictTill(Till):
    async def add(self, count: str) -> str:  # type: ignore[override]
        return f"{self.sum} and {count}"


class Unhashable:
    async def call(self) -> Annotated[int, msgspec.Meta(examples=[1])]:
        return 1


async def test_each_object_of_a_class_answers_for_itself() -> None:
    one, other, strict = (
        endpoint(till.add, "demo") for till in (Till(1), Till(10), StrictTill(100))
    )
    assert await ask(one) == 2
    assert await ask(other, '{"count": 2}') == 12
    assert await ask(strict, '{"count": "2"}') == "100 and 2"
    assert (one.request, one.schema) == (other.request, other.schema)
    assert (fields(one.request), fields(strict.request)) == (
        {"count": "int64"},
        {"count": "string"},
    )
    # The description is inherited, as Python has it; the types are not.
    assert one.metadata == strict.metadata == {"description": "Add up."}
    # What cannot be looked up in a cache, and what is told differently.
    unhashable = endpoint(Unhashable().call, "demo")
    assert json.loads(unhashable.schema)["response"] == {"type": "integer", "examples": [1]}
    renamed = endpoint(Till(1).add, "demo", name="Plus", response=Greeting)
    assert (renamed.request.name, renamed.response.type) == ("PlusRequest", "Greeting")


async def test_a_decorated_function_keeps_its_signature() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs)

        return wrapper

    @logged
    async def greet(name: str) -> str:
        return name

    assert await ask(endpoint(greet, "demo"), '{"name":"Jo"}') == "Jo"


async def test_texts_are_accepted_for_numbers_where_that_is_said() -> None:
    async def typed(count: int, yes: bool) -> list[Any]:
        return [count, yes]

    body = '{"count":"7","yes":"true"}'
    assert await ask(endpoint(typed, "demo", lenient=True), body) == [7, True]
    with pytest.raises(errors.BadRequest):
        await ask(endpoint(typed, "demo"), body)


def test_the_docstrings_first_paragraph_is_the_description() -> None:
    async def told() -> None:
        """Say hello
        to everyone.

        Not this.
        """

    async def untold() -> None: ...

    assert endpoint(told, "demo").metadata == {"description": "Say hello to everyone."}
    assert endpoint(untold, "demo").metadata == {}
    given = endpoint(told, "demo", metadata={"description": "other", "a": "b"}).metadata
    assert given == {"description": "other", "a": "b"}


@pytest.mark.parametrize(
    ("service", "name", "expected"),
    [
        ("helloworld", "", "Helloworld.ListAll"),
        ("v1.foo", "", "Foo.ListAll"),
        ("foo", "other", "Foo.Other"),
        ("foo", "Bar.baz", "Bar.Baz"),
    ],
)
def test_an_endpoint_is_named_after_its_service_and_function(
    service: str, name: str, expected: str
) -> None:
    async def list_all() -> None: ...

    assert endpoint(list_all, service, name=name).name == expected


def test_the_answers_type_may_be_said_apart() -> None:
    async def raw() -> dict[str, Any]:
        return {}

    assert endpoint(raw, "demo", response=Order).response.name == "Order"


class Opaque:
    """Something that JSON cannot carry."""


async def _positional(a: int, /) -> None: ...
async def _star(*a: int) -> None: ...
async def _keywords(**a: int) -> None: ...
async def _opaque(thing: Opaque) -> None: ...
async def _opaque_within(things: list[Opaque]) -> None: ...
async def _answers_opaque() -> Opaque:
    return Opaque()


async def _ambiguous(a: list[int] | set[str]) -> None: ...
async def _nowhere(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def _streams() -> AsyncIterator[int]:
    raise NotImplementedError


def _reads(numbers: AsyncIterator[int]) -> int: ...


async def _reads_two(one: AsyncIterator[int], two: AsyncIterator[int]) -> int: ...


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (_positional, "parameter a: 'int' cannot be a field"),
        (_star, r"parameter \*a: 'int' cannot be a field"),
        (_keywords, r"parameter \*\*a: 'int' cannot be a field"),
        (_opaque, "thing: Opaque has no form in JSON"),
        (_opaque_within, "Opaque has no form in JSON"),
        (_answers_opaque, "Opaque has no form in JSON"),
        (_ambiguous, "_ambiguous: .* more than one array-like"),
        (_nowhere, "_nowhere: name 'Nowhere' is not defined"),
        (_streams, "a stream of answers is made by `yield`"),
        (_reads, "only an async function can read a stream"),
        (_reads_two, "only one parameter can be the caller's stream"),
        (functools.partial(_opaque), "is no function"),
    ],
)
def test_a_signature_that_cannot_be_a_request_is_refused_with_its_reason(
    function: Callable[..., Any], told: str
) -> None:
    with pytest.raises(TypeError, match=told):
        endpoint(function, "demo")


def test_a_server_serves_a_name_once() -> None:
    server = Server()
    server.add(Hosted("demo", []))
    with pytest.raises(errors.Conflict, match="demo is served by this process already"):
        server.add(Hosted("demo", []))


@pytest.mark.parametrize(
    ("service", "name"), [("a b", "A.B"), (">", "A.B"), ("*", "A.B"), ("a", "A.*"), ("a", "B")]
)
def test_a_server_takes_only_names_that_can_be_called(service: str, name: str) -> None:
    async def function(body: bytes) -> bytes:
        return body

    with pytest.raises(errors.BadRequest):
        Server().add(Hosted(service, [Endpoint(name, function)]))


async def test_a_second_drain_waits_for_the_calls_of_its_own_time() -> None:
    release, entered = asyncio.Event(), asyncio.Event()

    async def wait(body: bytes) -> bytes:
        entered.set()
        await release.wait()
        return b"{}"

    server = Server()
    server.add(Hosted("demo", [Endpoint("Demo.Wait", wait)]))
    for _ in range(2):
        release.clear()
        entered.clear()
        call = asyncio.create_task(server.handle(Call("demo", "Demo.Wait", b"", {})))
        await entered.wait()
        assert not await server.drain(0.01)
        drain = asyncio.create_task(server.drain(20))
        await asyncio.sleep(0)
        release.set()
        assert await drain
        assert call.done()
        await call


def test_pydantic_is_not_imported_unless_a_handler_does_so() -> None:
    # In a process of its own: other tests use it.
    program = (
        "import sys; from microcosmos import Service; service = Service('a');"
        "service.endpoint(name='Call')(lambda name='x': name); service.hosted();"
        "sys.exit('pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
