"""The document is OpenAPI 3.1, says what is accepted, and cannot be broken by what services say."""

from __future__ import annotations

import re
from typing import Annotated, Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta
from openapi_spec_validator import OpenAPIV31SpecValidator

from microcosmos import Service
from microcosmos.base.schema import Value
from microcosmos.gateway.openapi import document, shapes
from microcosmos.gateway.openapi.operations import AS_POST, SUMMARY
from microcosmos.registry.interface import Described, Description, Endpoint

from .conftest import describe, resolved, whole
from .kinds import kinds


def valid(api: dict[str, Any]) -> dict[str, Any]:
    OpenAPIV31SpecValidator(api).validate()
    return api


def one(api: dict[str, Any], path: str, method: str = "post") -> dict[str, Any]:
    found: dict[str, Any] = api["paths"][path][method]
    return found


def content_of(api: dict[str, Any], path: str) -> Any:
    return resolved(api, one(api, path)["requestBody"])["content"]


def request_of(api: dict[str, Any], path: str) -> Any:
    return content_of(api, path)["application/json"]


def answer_of(api: dict[str, Any], path: str) -> Any:
    return resolved(api, one(api, path)["responses"]["200"])["content"]


def fits(api: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    at_root = {**schema, "components": api["components"]}
    jsonschema.Draft202012Validator(at_root).validate(value)


def test_a_document_of_every_kind_of_type_is_valid() -> None:
    api = valid(whole(kinds))
    assert api["openapi"] == "3.1.0"
    assert api["tags"] == [{"name": "kinds", "description": "One of each kind.\n\nVersion 1.0.0."}]


def test_examples_fit_their_schemas() -> None:
    api = whole(kinds)
    shown = 0
    for path in api["paths"]:
        for media in (*content_of(api, path).values(), *answer_of(api, path).values()):
            fits(api, *item_of(media))
            shown += 1
        for parameter in one(api, path, "get").get("parameters", ()):
            if "example" in parameter:
                fits(api, parameter["schema"], parameter["example"])
                shown += 1
    assert shown > 20


def item_of(media: Any) -> tuple[Any, Any]:
    """The schema and the example of a body, or of each line of one."""
    if "x-micro-item" in media:
        return media["x-micro-item"], media["x-micro-example"]
    return media["schema"], media["example"]


async def test_examples_are_accepted(site: Any) -> None:
    await site.bench.start(kinds)
    api = whole(kinds)
    for path in api["paths"]:
        kind, media = next(iter(content_of(api, path).items()))
        sent = msgspec.json.encode(item_of(media)[1])
        answer = await site.http.post(path, content=sent, headers={"content-type": kind})
        assert answer.status_code == (404 if path == "/kinds/fail" else 200), answer.text
        if answer.status_code == 200:
            told = answer_of(api, path)[answer.headers["content-type"]]
            for line in answer.text.splitlines():
                fits(api, item_of(told)[0], msgspec.json.decode(line))


def test_operations_say_what_the_code_says() -> None:
    api = whole(kinds)
    echo = one(api, "/kinds/echo")
    assert echo["summary"] == "Give it back"
    assert echo["description"] == "Give it back.\n\nNothing is changed on the way."
    assert one(api, "/kinds/paint")["deprecated"] is True
    assert "deprecated" not in echo
    plain = {p["name"]: p for p in one(api, "/kinds/plain", "get")["parameters"]}
    assert plain["keys"]["description"] == "which ones, at least one."
    assert plain["count"]["required"] is True
    assert plain["count"]["schema"]["maximum"] == 100
    lives = api["components"]["schemas"]["kinds.Cat"]["properties"]["lives"]
    assert lives["description"] == "how many are left."


def test_what_fits_no_query_string_is_json_there() -> None:
    pet = one(whole(kinds), "/kinds/mixed", "get")["parameters"][0]
    assert pet["content"]["application/json"]["schema"]["discriminator"]["propertyName"] == "type"


def test_operations_have_ids_of_their_own() -> None:
    v1, foo = Service("v1.foo"), Service("foo")
    for service in (v1, foo):
        service.endpoint(name="Bar.Get")(_nothing)
        service.endpoint(name="Bar")(_nothing)
    api = valid(whole(v1, foo))
    ids = [op["operationId"] for item in api["paths"].values() for op in item.values()]
    assert len(set(ids)) == len(ids) == 4 * (2 + len(AS_POST))
    assert "v1.foo.Foo.Bar" in ids


async def _nothing() -> None:
    return None


def test_every_error_has_one_form() -> None:
    api = whole(kinds)
    told = one(api, "/kinds/echo")["responses"]
    codes = {"400", "401", "403", "404", "408", "413", "429", "500", "503", "504"}
    assert told.keys() == {"200", "default"} | codes
    for code in (*codes, "default"):
        answer = resolved(api, told[code])
        assert "Micro-Trace" in answer["headers"]
        assert ("Retry-After" in answer["headers"]) == (code in ("429", "503"))
        media = answer["content"]["application/json"]
        assert media["schema"] == {"$ref": "#/components/schemas/Error"}
        fits(api, media["schema"], media["example"])


def test_types_of_one_name_stay_apart() -> None:
    def made(service: str, fields: list[tuple[str, type]]) -> Service:
        item = msgspec.defstruct("Item", fields)
        sub = msgspec.defstruct("Holder", [("item", item)])
        made = Service(service)

        async def take(holder):  # type: ignore[no-untyped-def]
            return holder.item

        take.__annotations__ = {"holder": sub, "return": item}
        made.endpoint(take)
        return made

    one_way, other_way = made("a", [("x", int)]), made("a", [("y", str)])
    versions = [describe(one_way), msgspec.structs.replace(describe(other_way), version="2")]
    part = document.part(versions)
    api = valid(msgspec.json.decode(document.single(part)))
    schemas = api["components"]["schemas"]
    assert schemas.keys() == {"Error", "a.Item", "a.Holder", "a.Item-Take-2", "a.Holder-Take-2"}
    # The same text, but made of another type.
    assert schemas["a.Holder-Take-2"]["properties"]["item"]["$ref"].endswith("a.Item-Take-2")
    refs = request_of(api, "/a/take")["schema"]["anyOf"]
    assert [ref["$ref"].rpartition("/")[2] for ref in refs] == ["a.Holder", "a.Holder-Take-2"]


def test_streams_are_told() -> None:
    about = {"stream": "true"}
    endpoints = [
        Described(name="S.Down", metadata=about, schema={"response": {"type": "integer"}}),
        Described(
            name="S.Both",
            metadata={**about, "micro.stream": "both"},
            schema={
                "items": {"type": "string"},
                "request": {"properties": {"room": {"type": "string"}}},
            },
        ),
    ]
    part = document.part([Description(name="s", endpoints=endpoints)])
    api = valid(msgspec.json.decode(document.single(part)))
    assert answer_of(api, "/s/down").keys() == {"application/x-ndjson", "text/event-stream"}
    item = answer_of(api, "/s/down")["application/x-ndjson"]
    assert item["x-micro-item"] == {"type": "integer"}
    assert item["x-micro-example"] == 1
    both = one(api, "/s/both")
    assert both["x-micro-stream"] == "both"
    assert "ws://HOST/s/both" in both["description"]
    assert [parameter["name"] for parameter in both["parameters"]] == ["room"]
    body = resolved(api, both["requestBody"])["content"]["application/x-ndjson"]
    assert body["x-micro-item"] == {"type": "string"}


def test_what_a_foreign_service_does_not_tell_is_read_from_its_shapes() -> None:
    shape = Value(
        name="R",
        type="R",
        values=[
            Value(name="n", type="int64"),
            Value(name="l", type="[]string"),
            Value(name="m", type="map[string]bool"),
            Value(name="z", type="any"),
        ],
    )
    known = Endpoint(name="F.Go", request=shape, response=Value(type="bytes"))
    told = Description(name="f", endpoints=[Described(name="F.Go")])
    part = document.part(shapes.completed([told], lambda *_: known))
    api = valid(msgspec.json.decode(document.single(part)))
    assert request_of(api, "/f/go")["schema"]["properties"] == {
        "n": {"type": "integer"},
        "l": {"type": "array", "items": {"type": "string"}},
        "m": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "z": {},
    }


def test_raw_endpoints_are_paths_and_methods() -> None:
    about = {"handler": "http", "path": "/r/{id}/{rest:path}", "method": "GET, PUT"}
    mount = {"handler": "mount", "path": "/r/app"}
    endpoints = [
        Described(name="R.A", metadata=about),
        Described(name="R.B", metadata=mount),
        Described(name="R.C", metadata={**about, "path": "/r/{odd"}),
    ]
    part = document.part([Description(name="r", endpoints=endpoints)])
    api = valid(msgspec.json.decode(document.single(part)))
    assert api["paths"].keys() == {"/r/{id}/{rest}"}
    assert api["paths"]["/r/{id}/{rest}"].keys() == {"get", "put", "parameters"}


KEYWORDS = ["type", "properties", "items", "$ref", "anyOf", "enum", "required", "pattern", "x"]
KEYWORDS += ["discriminator", "minimum", "maxItems", "default", "examples", "$id", "$defs"]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner | st.sampled_from(["object", "array", "#/$defs/x", "(", "string", -1, []]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(schema=st.dictionaries(st.sampled_from(["request", "response", "items", "$defs"]), JSON))
def test_nothing_that_a_service_says_breaks_the_document(schema: dict[str, Any]) -> None:
    endpoint = Described(name="F.Go", schema=schema)
    part = document.part([Description(name="f", endpoints=[endpoint])])
    valid(msgspec.json.decode(document.single(part)))


def test_a_type_that_has_no_end_is_cut() -> None:
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"type": "array", "items": deep}
    endless = {"$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}, "required": ["a"]}}}
    for schema in ({"request": deep}, {"request": {"$ref": "#/$defs/A"}, **endless}):
        told = Description(name="f", endpoints=[Described(name="F.Go", schema=schema)])
        valid(msgspec.json.decode(document.single(document.part([told]))))


@pytest.mark.timeout(10)
def test_a_few_words_cannot_ask_for_a_huge_example() -> None:
    names = [chr(number) for number in range(ord("A"), ord("Z"))]
    doubling = {
        name: {
            "properties": {f"f{at}": {"$ref": f"#/$defs/{chr(ord(name) + 1)}"} for at in range(9)}
        }
        for name in names
    }
    for request in (
        {"$ref": "#/$defs/A"},
        {"type": "string", "minLength": 10**12},
        {"type": "string", "minLength": 40, "pattern": "^(a+)+b$"},
        {"type": "array", "items": {"type": "null"}, "minItems": 10**12},
        {"type": "integer", "minimum": 10**400, "multipleOf": 0.1},
    ):
        schema = {"request": request, "$defs": doubling}
        told = Description(name="f", endpoints=[Described(name="F.Go", schema=schema)])
        made = document.single(document.part([told]))
        assert len(made) < 1_000_000
        valid(msgspec.json.decode(made))


def test_an_endpoint_that_no_path_leads_to_is_left_out() -> None:
    told = Description(name="f", endpoints=[Described(name="F.a-b"), Described(name="F.Go")])
    api = valid(msgspec.json.decode(document.single(document.part([told]))))
    assert api["paths"].keys() == {"/f/go"}


@pytest.mark.parametrize(
    ("kind", "matches"),
    [
        (Annotated[int, Meta(gt=10, multiple_of=7)], lambda value: value > 10 and value % 7 == 0),
        (Annotated[int, Meta(lt=-3)], lambda value: value < -3),
        (Annotated[float, Meta(gt=0.1, lt=0.2)], lambda value: 0.1 < value < 0.2),
        (Annotated[str, Meta(min_length=30, max_length=31)], lambda value: len(value) in (30, 31)),
        (Annotated[str, Meta(pattern="^[A-Z]{3}$")], lambda value: re.fullmatch("[A-Z]{3}", value)),
        (Annotated[list[int], Meta(min_length=3)], lambda value: len(value) >= 3),
    ],
)
def test_examples_keep_to_bounds(kind: Any, matches: Any) -> None:
    async def take(value):  # type: ignore[no-untyped-def]
        return None

    take.__annotations__ = {"value": kind, "return": None}
    service = Service("bounds")
    service.endpoint(take)
    assert matches(request_of(whole(service), "/bounds/take")["example"]["value"])


def test_without_a_value_that_fits_there_is_no_example() -> None:
    async def take(value):  # type: ignore[no-untyped-def]
        return None

    take.__annotations__ = {"value": Annotated[str, Meta(pattern="^q{3}x$")], "return": None}
    service = Service("odd")
    service.endpoint(take)
    assert "example" not in request_of(whole(service), "/odd/take")


def test_a_summary_is_one_short_sentence() -> None:
    async def long() -> None:
        """Say a lot"""

    long.__doc__ = "word " * 100
    service = Service("long")
    service.endpoint(long)
    assert len(one(whole(service), "/long/long")["summary"]) == SUMMARY
