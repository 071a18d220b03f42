"""examples/node and examples/plain: services that know nothing of us, at every door."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..e2e.doors import Door, Fault, grpc_json, grpc_protobuf, http_form, http_json, http_query
from ..e2e.live import Live

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DOORS = [http_query, http_json, http_form, grpc_json, grpc_protobuf]


@pytest.fixture(scope="module", params=["node", "plain"])
def example(request: pytest.FixtureRequest, live: Live) -> Iterator[str]:
    live.micro("run", request.param)
    yield request.param
    live.micro("kill", request.param)


@pytest.mark.parametrize("door", DOORS)
def test_every_door_says_hello(live: Live, example: str, door: Door) -> None:
    assert door(live, example, "Call", {"name": "John"}) == {"msg": "Hello John"}
    assert door(live, example, "Call", {}) == {"msg": "Hello World"}


def test_the_command_line_says_hello(live: Live, example: str) -> None:
    assert live.call(example, "--name=Ann") == {"msg": "Hello Ann"}
    assert live.micro("call", example, "call", '{"name": "Ann"}').json == {"msg": "Hello Ann"}
    assert example in live.micro("services").lines
    assert "--name string" in live.micro(example, "call", "--help").out


def test_the_lines_that_run_prints_can_be_pasted(live: Live, example: str) -> None:
    said = live.micro("update", example)
    assert said.lines[0] == f"{example} is running at {live.url}/{example}"
    assert said.lines[1] == f"curl '{live.url}/{example}/call?name=John'"
    assert said.lines[2] == f"micro {example} --name=John"


def test_errors_are_the_same_at_every_door(live: Live) -> None:
    live.micro("run", "node", "--name", "v1.erring")
    answer = live.web.get("/v1/erring/math/divide?a=7&b=2")
    assert answer.json() == {"result": 3.5}
    answer = live.web.get("/v1/erring/math/divide?a=7&b=0")
    detail = "b: nothing can be divided by it"
    assert (answer.status_code, answer.json()["Detail"]) == (400, detail)
    assert live.refused(127, "v1.erring", "math", "divide", "--a=1").startswith(f"micro: {detail}")
    live.micro("kill", "v1.erring")


def test_a_plain_service_refuses_at_every_door(live: Live) -> None:
    live.micro("run", "plain", "--name", "refusing")
    for door in (http_json, grpc_json, grpc_protobuf):
        assert door(live, "refusing", "Call", {"name": ""}) == Fault(
            "refusing", 400, "name: it is empty"
        )
    live.micro("kill", "refusing")
