"""A service on each platform of the test kit."""

from __future__ import annotations

from typing import Protocol

import msgspec
import pytest

from microcosmos import Client, Service, errors
from microcosmos.testing import Bench


class Greeting(msgspec.Struct):
    msg: str


class Helloworld(Protocol):
    async def call(self, name: str) -> Greeting: ...


def make() -> tuple[Service, Service]:
    hello = Service("helloworld")

    @hello.endpoint
    async def call(name: str = "World") -> Greeting:
        return Greeting(f"Hello {name}")

    front = Service("front")
    typed = front.client("helloworld", Helloworld)
    loose = Client("helloworld")

    @front.endpoint
    async def both(name: str) -> list[str]:
        first = await typed.call(name=name)
        second = await loose.call(name=name)
        return [first.msg, second["msg"]]

    return hello, front


@pytest.fixture(params=["memory", "nats"])
def bench(request: pytest.FixtureRequest) -> Bench:
    bench: Bench = request.getfixturevalue(
        "platform" if request.param == "memory" else "nats_platform"
    )
    return bench


async def test_a_service_is_called_by_name_and_by_type(
    bench: Bench, microcosmos_runner: object
) -> None:
    await bench.start(*make())
    assert await bench.client("helloworld").call(name="John") == {"msg": "Hello John"}
    assert await bench.client("helloworld", Helloworld).call(name="Ann") == Greeting("Hello Ann")
    assert await bench.client("front").both(name="Joe") == ["Hello Joe", "Hello Joe"]


async def test_an_unknown_service_is_not_found(bench: Bench, microcosmos_runner: object) -> None:
    with pytest.raises(errors.NotFound, match="service nobody not found"):
        await bench.client("nobody").call()
