"""What an author writes: `Service.subscribe` and `service.broker`, in memory and on NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from microcosmos import Client, Service, carrying, errors
from microcosmos.base import context
from microcosmos.broker import Message
from microcosmos.testing.platform import Bench

from .nets import until


class Healthcheck(msgspec.Struct):
    healthy: bool
    service: str


@pytest.fixture(params=["memory", "nats"])
def bench(request: pytest.FixtureRequest) -> Bench:
    name = "platform" if request.param == "memory" else "nats_platform"
    found: Bench = request.getfixturevalue(name)
    return found


async def test_the_references_health_example(bench: Bench, microcosmos_runner: Any) -> None:
    publisher, subscriber = Service("foo"), Service("monitor")
    lines: list[str] = []

    @subscriber.subscribe("health")
    async def handler(check: Healthcheck) -> None:
        state = "is" if check.healthy else "is not"
        lines.append(f"Service {check.service} {state} healthy")

    @publisher.endpoint
    async def call(healthy: bool = True) -> None:
        await publisher.broker.publish("health", Healthcheck(healthy, "foo"))

    await bench.start(subscriber, publisher)
    foo = bench.client("foo")
    await foo.call(healthy=True)
    await until(lambda: len(lines) == 1)
    await foo.call(healthy=False)
    await until(lambda: len(lines) == 2)
    assert lines == ["Service foo is healthy", "Service foo is not healthy"]


async def test_the_callers_metadata_travels_to_the_handler_and_on(
    bench: Bench, microcosmos_runner: Any
) -> None:
    publisher, subscriber, third = Service("publisher"), Service("subscriber"), Service("third")
    seen: dict[str, Any] = {}
    other = Client("third")

    @third.endpoint(name="call")
    async def third_call() -> None:
        seen["third"] = dict(context.current().metadata)

    @subscriber.subscribe("users.*", queue="mailer")
    async def mail(user: dict[str, Any], message: Message) -> None:
        seen["handler"] = dict(context.current().metadata)
        seen["message"] = message
        await other.call()
        await subscriber.broker.publish("mailed", {"to": user["name"]})

    @publisher.endpoint
    async def call() -> None:
        await publisher.broker.publish("users.created", {"name": "Ann"}, key="ann")

    @third.subscribe("mailed")
    async def mailed(message: Message) -> None:
        seen["mailed"] = message

    await bench.start(third, subscriber, publisher)
    with carrying({"Foobar": "mycustomval", "Micro-Trace": "cd" * 16}):
        await bench.client("publisher").call()
    await until(lambda: "third" in seen and "mailed" in seen)
    for metadata in (seen["handler"], seen["third"], seen["mailed"].headers):
        assert metadata["Foobar"] == "mycustomval"
        assert metadata["Micro-Trace"] == "cd" * 16
    assert seen["message"].topic == "users.created"
    assert seen["message"].key == "ann"
    assert seen["mailed"].key == ""
    assert "Micro-Key" not in seen["handler"]
    assert seen["handler"]["Content-Type"] == "application/json"


async def test_replicas_share_a_queue(bench: Bench, microcosmos_runner: Any) -> None:
    shared: list[int] = []
    everybody: list[int] = []

    def replica() -> Service:
        service = Service("worker")

        @service.subscribe("jobs", queue="workers")
        async def work(number: int) -> None:
            shared.append(number)

        @service.subscribe("jobs")
        async def all_of_them(number: int) -> None:
            everybody.append(number)

        return service

    publisher = Service("publisher")
    await bench.start(replica(), replica(), publisher)
    for number in range(20):
        await publisher.broker.publish("jobs", number)
    await until(lambda: len(everybody) == 40 and len(shared) == 20)
    assert sorted(shared) == list(range(20))


async def test_a_service_iterates(bench: Bench, microcosmos_runner: Any) -> None:
    service = Service("s")

    @service.endpoint
    async def watch() -> AsyncIterator[str]:
        async with service.broker.subscribe("news.>") as messages:
            yield "ready"
            async for message in messages:
                yield message.unmarshal(str)

    await bench.start(service)
    async with bench.client("s").stream("Watch") as stream:
        assert await anext(stream) == "ready"
        await service.broker.publish("news.today", "rain")
        assert await anext(stream) == "rain"


async def test_what_is_being_handled_is_finished_when_the_service_stops(
    bench: Bench, microcosmos_runner: Any
) -> None:
    service = Service("s")
    began, ended = asyncio.Event(), asyncio.Event()

    @service.subscribe("t")
    async def handle(message: Message) -> None:
        began.set()
        await asyncio.sleep(0.05)
        await service.broker.publish("handled", {})
        ended.set()

    async with service.on(bench.platform):
        await service.broker.publish("t", {})
        async with asyncio.timeout(60):
            await began.wait()
    assert ended.is_set()
    with pytest.raises(RuntimeError, match="does not run yet"):
        _ = service.broker


async def test_a_failing_handler_is_in_the_publishers_counters(
    bench: Bench, microcosmos_runner: Any
) -> None:
    service = Service("mailer")

    @service.subscribe("users.created")
    async def mail(user: Healthcheck) -> None: ...

    await bench.start(service)
    await service.broker.publish("users.created", {"healthy": "maybe"})
    await until(lambda: bench.platform.broker.failures.reported["users.created"] == 1)


def test_a_service_that_does_not_run_has_no_broker() -> None:
    with pytest.raises(RuntimeError, match="s does not run yet, so it has no broker"):
        _ = Service("s").broker


@pytest.mark.parametrize("options", [{"queue": "a b"}, {"concurrency": 0}, {"concurrency": "many"}])
def test_bad_options_fail_where_they_are_written(options: Any) -> None:
    with pytest.raises(errors.BadRequest):
        Service("s").subscribe("t", **options)(lambda: None)


def test_bad_topics_and_functions_fail_where_they_are_written() -> None:
    service = Service("s")
    with pytest.raises(errors.BadRequest):
        service.subscribe("a b")(lambda: None)
    with pytest.raises(TypeError):

        @service.subscribe("t")
        async def two(a: int, b: int) -> None: ...

    with pytest.raises(TypeError, match="unexpected keyword"):
        service.subscribe("t", group="x")  # type: ignore[call-arg]
