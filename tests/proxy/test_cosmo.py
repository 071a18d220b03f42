"""CosmoCompute's control plane, spoken to by stubs that protoc made from the reference's words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from microcosmos.auth.interface import Account
from microcosmos.base import codec, context, errors
from microcosmos.functions.interface import Counts, Draft
from microcosmos.functions.requests import NameRequest
from microcosmos.proxy import cosmo
from microcosmos.rpc import Endpoint, Hosted
from microcosmos.testing.accounts import Accounts

PROTO = """
syntax = "proto3";
option csharp_namespace = "CosmosCompute";
package greet;
service ControlPlane {
  rpc CommitRouteHandler (CommitRouteHandlerRequest) returns (CommitRouteHandlerResponse);
  rpc GetCurrentConsumption (GetCurrentConsumptionRequest) returns (GetCurrentConsumptionResponse);
}
enum RouteHandlerLanguage { ROUTE_HANDLER_Invalid = 0; Javascript = 1; }
message CommitRouteHandlerRequest {
  string OrganizationId = 1;
  string Committer = 2;
  string CommitMessage = 3;
  string Route = 4;
  RouteHandlerLanguage HandlerScriptLanguage = 5;
  string HandlerScriptBody = 6;
}
message CommitRouteHandlerResponse { bool Success = 1; string Error = 2; }
message GetCurrentConsumptionRequest { string OrganizationId = 1; }
message GetCurrentConsumptionResponse {
  oneof Result { ConsumptionDetail Details = 1; Error Error = 2; }
}
message ConsumptionDetail {
  uint64 TotalRequestCount = 1;
  uint64 TotalResponseBytes = 2;
  uint64 TotalExecutionTimeMicroseconds = 3;
  uint64 TotalConsumptionByteMilliseconds = 4;
}
message Error { string Message = 1; }
"""

CLIENT = """
import json, sys, grpc, cosmo_pb2 as pb, cosmo_pb2_grpc as stubs
address, words = sys.argv[1], [json.loads(text) for text in sys.argv[2:]]
said = []
with grpc.insecure_channel(address) as channel:
    plane = stubs.ControlPlaneStub(channel)
    for word in words:
        shown = word.pop("token", None)
        metadata = [("authorization", f"Bearer {shown}")] if shown else []
        if "HandlerScriptBody" in word:
            answer = plane.CommitRouteHandler(
                pb.CommitRouteHandlerRequest(**word), metadata=metadata
            )
            said.append([answer.Success, answer.Error])
        else:
            answer = plane.GetCurrentConsumption(
                pb.GetCurrentConsumptionRequest(**word), metadata=metadata
            )
            which = answer.WhichOneof("Result")
            one = getattr(answer, which)
            said.append([which, {field.name: value for field, value in one.ListFields()}])
print(json.dumps(said))
"""


class Plane:
    """A proxy, and the service `functions` behind it.

    Attributes:
        door: the proxy.
        jane: a token of hers.
        drafts: what was deployed, and by whom.
        used: what each function has used.
        refusal: what a deploy is refused with.
    """

    def __init__(self) -> None:
        self.door: Any = None
        self.accounts = Accounts()
        self.jane = self.accounts.token(Account(id="jane"))
        self.drafts: list[tuple[str, Draft]] = []
        self.used: dict[str, Counts] = {}
        self.refusal: errors.Error | None = None
        self.folder = Path()

    def hosted(self) -> Hosted:
        async def deploy(body: bytes) -> bytes:
            if self.refusal is not None:
                raise self.refusal
            who: Any = context.current().account
            self.drafts.append((who.id, codec.decode(body, Draft, id="functions")))
            return b"{}"

        async def consumption(body: bytes) -> bytes:
            name = codec.decode(body, NameRequest, id="functions").name
            if name not in self.used:
                raise errors.NotFound("functions", f"there is no function {name}")
            return codec.encode(self.used[name])

        verbs = {"Deploy": deploy, "Consumption": consumption}
        return Hosted(
            "functions",
            [Endpoint(f"Functions.{verb}", f, access="account") for verb, f in verbs.items()],
        )

    async def say(self, *words: dict[str, Any]) -> list[Any]:
        """What a client is answered that was built for CosmoCompute."""
        told = [json.dumps(word) for word in words]
        answers: list[Any] = json.loads(await self.door.script(CLIENT, self.folder, *told))
        return answers


@pytest.fixture
def open_plane(proxy: Any, compiled: Any) -> Callable[..., Any]:
    """Opens one; ``stands`` is whether admin's first password does."""

    @asynccontextmanager
    async def opened(*, stands: bool = True, **options: Any) -> AsyncIterator[Plane]:
        plane = Plane()
        shown = plane.accounts.showing(Account(id="admin", scopes=("admin",)))

        async def admin() -> str:
            return shown() if stands else ""

        plane.folder = compiled({"cosmo.proto": PROTO})
        hosted, access = plane.hosted(), plane.accounts.access
        async with proxy(hosted, access=access, admin=admin, **options) as door:
            plane.door = door
            yield plane

    return opened


HELLO = {
    "OrganizationId": "Foo-1",
    "Committer": "jane@example.org",
    "CommitMessage": "first",
    "Route": "/",
    "HandlerScriptLanguage": 1,
    "HandlerScriptBody": "'hello ' + path",
}


async def test_a_client_built_for_cosmocompute_deploys_and_reads_its_counters(open_plane):
    async with open_plane() as plane:
        counts = Counts(requests=3, response_bytes=30, execution_ns=4_999_999, byte_ms=77, errors=1)
        plane.used = {"foo-1": counts, "new": Counts()}
        words = [{"OrganizationId": id} for id in ("FOO-1", "new", "other")]
        committed, *consumed = await plane.say(HELLO, *words)
        assert committed == [True, ""]
        [(who, draft)] = plane.drafts
        assert who == "admin"
        assert draft == Draft(
            name="foo-1",
            files={"index.js": "'hello ' + path"},
            language="javascript",
            message="first\n\nCommitted-by: jane@example.org",
        )
        assert consumed == [
            [
                "Details",
                {
                    "TotalRequestCount": 3,
                    "TotalResponseBytes": 30,
                    "TotalExecutionTimeMicroseconds": 4999,
                    "TotalConsumptionByteMilliseconds": 77,
                },
            ],
            ["Details", {}],
            ["Error", {"Message": "there is no function other"}],
        ]


async def test_organisations_languages_and_routes(open_plane):
    def hello(**changes: Any) -> dict[str, Any]:
        return {**HELLO, **changes}

    bad = [False, "Organization ID contains invalid characters"]
    cases = {
        "a_b": bad,
        "a.b": bad,
        "a b": bad,
        "ä": bad,
        "../x": bad,
        "": [False, "Organization ID is empty"],
    }
    routes = ("", "/*", "users/{id}", "/users/{id}")
    async with open_plane() as plane:
        said = await plane.say(
            *(hello(OrganizationId=id) for id in cases),
            {"OrganizationId": "a_b"},
            hello(HandlerScriptLanguage=0, Committer="", CommitMessage=""),
            hello(HandlerScriptLanguage=2),
            *(hello(Route=route) for route in routes),
        )
        assert said[: len(cases)] == [*cases.values()]
        assert said[len(cases)] == ["Error", {"Message": bad[1]}]
        assert said[len(cases) + 1] == [True, ""]
        assert said[len(cases) + 2] == [False, "language 2 is not known; 1 is JavaScript"]
        drafts = [draft for _, draft in plane.drafts]
        assert drafts[0].message == ""
        expected = [[], [], ["/users/{id}"], ["/users/{id}"]]
        assert [draft.routes for draft in drafts[1:]] == expected


async def test_a_token_is_needed_once_the_first_password_is_changed(open_plane):
    async with open_plane(stands=False) as plane:
        plane.used["foo"] = Counts(requests=1)
        words = [HELLO, {"OrganizationId": "foo"}]
        refused, asked = await plane.say(*words)
        assert refused[0] is False
        assert "authorization: Bearer TOKEN" in refused[1]
        assert asked == ["Error", {"Message": refused[1]}]
        said = await plane.say(*({**word, "token": plane.jane} for word in words))
        assert said == [[True, ""], ["Details", {"TotalRequestCount": 1}]]
        assert [who for who, _ in plane.drafts] == ["jane"]


async def test_a_bad_token_is_never_the_admin(open_plane):
    async with open_plane() as plane:
        [[done, why]] = await plane.say({**HELLO, "token": "x.y.z"})
        assert not done
        assert "token" in why
        assert not plane.drafts


async def test_what_comes_by_a_gateway_needs_a_token(open_plane, tmp_path):
    socket = tmp_path / "proxy.sock"
    async with open_plane(socket=socket) as plane, aio.insecure_channel(f"unix:{socket}") as by:
        request = b"\x0a\x03foo\x32\x011"
        said = await by.unary_unary(f"/{cosmo.NAME}/CommitRouteHandler")(request)
        assert b"authorization: Bearer TOKEN" in said
        assert not plane.drafts


async def test_errors_are_part_of_the_answer(open_plane):
    async with open_plane() as plane:
        plane.refusal = errors.Conflict("functions", "/foo belongs to joe")
        assert await plane.say(HELLO) == [[False, "/foo belongs to joe"]]
        said = await plane.door.call(f"/{cosmo.NAME}/CommitRouteHandler", b"\xff\xff")
        assert said == b"\x12\x28the request is no message of this method"


async def test_it_is_seen_by_reflection(open_plane, proxy):
    async with open_plane() as plane:
        listing = await plane.door.reflect(list_services="")
        named = [one.name for one in listing.list_services_response.service]
        assert cosmo.NAME in named
        answer = await plane.door.invoke(cosmo.NAME, "GetCurrentConsumption", OrganizationId="x")
        assert answer.WhichOneof("Result") == "Error"
    async with proxy() as door:
        listing = await door.reflect(list_services="")
        named = [one.name for one in listing.list_services_response.service]
        assert cosmo.NAME not in named
