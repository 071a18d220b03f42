"""What the door answers to requests that Confluent's client does not send, or gets wrong."""

from __future__ import annotations

from typing import Any

import pytest

from microcosmos.gateway.schemas.asked import MAX_SENT

from .conftest import Front

USER = '{"type": "object", "properties": {"name": {"type": "string"}}}'
SENT = {"schemaType": "JSON", "schema": USER}
VERSIONS = "/schemas/subjects/users-value/versions"


async def register(front: Front, subject: str = "users-value", schema: str = USER) -> int:
    found = await front.registry.of("micro").register(subject, schema)
    return found.id


async def test_answers_have_confluents_content_type(front: Front) -> None:
    for path in ("/schemas/subjects", "/schemas/nothing"):
        answer = await front.site.http.get(path)
        assert answer.headers["content-type"] == "application/vnd.schemaregistry.v1+json"


async def test_the_text_of_a_schema_alone(front: Front) -> None:
    id = await register(front)
    for path in (
        f"{VERSIONS}/1/schema",
        f"{VERSIONS}/latest/schema",
        f"/schemas/schemas/ids/{id}/schema",
    ):
        answer = await front.site.http.get(path)
        assert answer.json() == {"type": "object", "properties": {"name": {"type": "string"}}}


async def test_all_schemas_are_listed(front: Front) -> None:
    await register(front)
    await register(front, "orders-value", "true")
    answer = await front.site.http.get("/schemas/schemas", params={"subjectPrefix": "o"})
    assert answer.json() == [
        {"subject": "orders-value", "version": 1, "id": 2, "schemaType": "JSON", "schema": "true"}
    ]
    newest = await front.site.http.get(
        "/schemas/schemas", params={"latestOnly": "true", "limit": 1}
    )
    assert [one["subject"] for one in newest.json()] == ["orders-value"]


async def test_lists_show_what_is_asked_for(front: Front) -> None:
    for name in ("a-value", "b-value", "c-value"):
        await register(front, name)
    await front.registry.of("micro").delete("b-value")
    for query, names in {
        "": ["a-value", "c-value"],
        "?deleted=true": ["a-value", "b-value", "c-value"],
        "?deletedOnly=True": ["b-value"],
        "?offset=1": ["c-value"],
        "?limit=1": ["a-value"],
        "?subjectPrefix=:*:c": ["c-value"],
        "?subjectPrefix=:.:a": ["a-value"],
    }.items():
        assert (await front.site.http.get(f"/schemas/subjects{query}")).json() == names, query


async def test_the_largest_id_is_told_when_it_is_asked_for(front: Front) -> None:
    id = await register(front)
    await register(front, "orders-value", "true")
    answer = await front.site.http.get(f"/schemas/schemas/ids/{id}?fetchMaxId=true")
    assert answer.json()["maxId"] == 2


async def test_the_default_context_is_the_only_one(front: Front) -> None:
    await register(front)
    assert (await front.site.http.get("/schemas/subjects/:.:users-value/versions")).json() == [1]
    other = await front.site.http.get("/schemas/subjects/:.staging:users-value/versions")
    assert (other.status_code, other.json()["error_code"]) == (422, 42208)
    assert "namespaces" in other.json()["message"]


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        ({"schema": USER}, 42201, "AVRO are not supported"),
        ({"schema": '"string"', "schemaType": "AVRO"}, 42201, "AVRO"),
        ({"schema": "x", "schemaType": "PROTOBUF"}, 42201, "PROTOBUF"),
        (
            {**SENT, "references": [{"name": "a", "subject": "b", "version": 1}]},
            42201,
            "references",
        ),
        ({**SENT, "ruleSet": {"domainRules": [{"name": "x"}]}}, 42201, "ruleSet"),
        ({**SENT, "metadata": {"tags": {"a": ["PII"]}}}, 42201, "metadata"),
        ({**SENT, "id": 7}, 42205, "IMPORT"),
        ({"schemaType": "JSON", "schema": ""}, 42201, "empty"),
        ({"schemaType": "JSON", "schema": "{"}, 42201, "no JSON"),
        ({"schemaType": "JSON", "schema": '{"type": "thing"}'}, 42201, "type"),
        ({"schemaType": "JSON", "schema": '{"$ref": "http://a/b"}'}, 42201, "elsewhere"),
        ({"schemaType": "JSON", "schema": 5}, 400, "schema"),
        ([1], 400, "object"),
        (None, 400, ""),
    ],
)
async def test_what_cannot_be_registered_is_refused(
    front: Front, sent: Any, code: int, said: str
) -> None:
    answer = await front.site.http.post(VERSIONS, json=sent)
    told = answer.json()
    assert (told["error_code"], answer.status_code) == (code, int(str(code)[:3]))
    assert said in told["message"]
    assert "\n" not in told["message"]
    assert (await front.site.http.get("/schemas/subjects")).json() == []


async def test_what_is_too_long_is_refused(front: Front) -> None:
    answer = await front.site.http.post(VERSIONS, content=b" " * (MAX_SENT + 1))
    assert (answer.status_code, answer.json()["error_code"]) == (413, 413)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/schemas/nothing", 404),
        ("GET", "/schemas/subjects/", 200),
        ("PATCH", "/schemas/subjects/users-value", 405),
        ("GET", "/schemas/subjects/users-value", 405),
        ("GET", "/schemas/schemas/ids/none", 40403),
        ("GET", "/schemas/schemas/ids/-1", 40403),
        ("GET", "/schemas/schemas/ids/99999999999999999999", 40403),
        ("GET", f"{VERSIONS}/0", 42202),
        ("GET", "/schemas/subjects?offset=x", 400),
        ("GET", "/schemas/mode/users-value", 40409),
        ("DELETE", "/schemas/mode/users-value", 40409),
        ("GET", "/schemas/config/users-value", 40408),
        ("DELETE", "/schemas/config/users-value", 40408),
        ("DELETE", "/schemas/subjects/users-value", 40401),
        ("DELETE", f"{VERSIONS}/1", 40401),
        ("GET", f"/schemas/subjects/{'x' * 300}/versions", 42208),
    ],
)
async def test_paths_that_lead_nowhere(front: Front, method: str, path: str, code: int) -> None:
    answer = await front.site.http.request(method, path)
    assert answer.status_code == int(str(code)[:3])
    if code != 200:
        assert answer.json()["error_code"] == code
        assert answer.json()["message"]


async def test_settings_fall_back_when_they_are_asked_to(front: Front) -> None:
    http = front.site.http
    for path, found in {
        "config/users-value": {"compatibilityLevel": "BACKWARD"},
        "mode/users-value": {"mode": "READWRITE"},
    }.items():
        assert (await http.get(f"/schemas/{path}?defaultToGlobal=true")).json() == found
    answer = await http.put("/schemas/config", json={"compatibility": "FULL", "alias": "x"})
    assert "alias is not supported" in answer.json()["message"]
    assert (await http.put("/schemas/mode", json={"mode": "READWRITE"})).json() == {
        "mode": "READWRITE"
    }


async def test_why_something_is_not_compatible_is_told_when_it_is_asked_for(front: Front) -> None:
    await register(front)
    narrow = {**SENT, "schema": '{"type": "string"}'}
    place = "/schemas/compatibility/subjects/users-value/versions"
    for path in (f"{place}/latest", place, f"{place}/1"):
        answer = await front.site.http.post(f"{path}?verbose=true", json=narrow)
        told = answer.json()
        assert told["is_compatible"] is False
        assert told["messages"]
        assert (await front.site.http.post(path, json=narrow)).json() == {"is_compatible": False}
    missing = await front.site.http.post(f"{place}/7", json=SENT)
    assert missing.json()["error_code"] == 40402
