"""Contracts as programs of others see them: Confluent's client, and the AsyncAPI document."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest
from confluent_kafka.schema_registry import (
    AsyncSchemaRegistryClient,
    Schema,
    SchemaRegistryClient,
    SchemaRegistryError,
)
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from .live import Live

pytestmark = pytest.mark.e2e

USER: dict[str, Any] = {
    "title": "User",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


def confluent(live: Live, user: str = "admin:micro") -> dict[str, Any]:
    """What Confluent's clients are told."""
    return {"url": f"{live.url}/schemas", "basic.auth.user.info": user, "max.retries": 0}


@pytest.fixture
def topic() -> str:
    return f"users.{uuid.uuid4().hex}"


def test_confluents_client_and_serializers_work(live: Live, topic: str) -> None:
    schema = Schema(json.dumps(USER), "JSON")
    context = SerializationContext(topic, MessageField.VALUE)
    with SchemaRegistryClient(confluent(live)) as registry:
        write = JSONSerializer(json.dumps(USER), registry)
        framed = write({"name": "Ada", "age": 36}, context)
        found = registry.get_latest_version(f"{topic}-value")
        assert (found.version, json.loads(found.schema.schema_str or "")) == (1, USER)
        stricter = {**USER, "required": ["name", "age"]}
        with pytest.raises(SchemaRegistryError, match="age") as refused:
            registry.register_schema(f"{topic}-value", Schema(json.dumps(stricter), "JSON"))
        assert refused.value.http_status_code == 409
        with pytest.raises(SchemaRegistryError, match="AVRO are not supported"):
            registry.register_schema("avro-value", Schema('"string"', "AVRO"))

    async def read() -> Any:
        async with AsyncSchemaRegistryClient(confluent(live)) as another:
            assert f"{topic}-value" in await another.get_subjects()
            return await another.lookup_schema(f"{topic}-value", schema)

    assert asyncio.run(read()).version == 1
    with SchemaRegistryClient(confluent(live)) as another:
        assert JSONDeserializer(None, schema_registry_client=another)(framed, context) == {
            "name": "Ada",
            "age": 36,
        }


def test_what_one_door_registers_the_others_check_by(live: Live, topic: str) -> None:
    sent = {"schemaType": "JSON", "schema": json.dumps(USER)}
    answer = live.admin.post(f"/schemas/subjects/{topic}-value/versions", json=sent)
    assert answer.status_code == 200, answer.text
    assert json.loads(live.micro("events", "schema", "get", topic).out) == USER
    live.micro("events", "publish", topic, '{"name": "Ada"}')
    refused = live.type("events", "publish", topic, '{"name": 5}')
    assert refused.code != 0
    assert "$.name" in refused.err


def test_nobody_gets_in_without_an_account(live: Live) -> None:
    for user in (None, ("admin", "wrong"), ("nobody", "micro")):
        answer = live.web.get("/schemas/subjects", auth=httpx.BasicAuth(*user) if user else None)
        assert (answer.status_code, answer.json()["error_code"]) == (401, 40101), user
    bad = live.web.get("/schemas/subjects", headers={"authorization": "Bearer bad"})
    assert bad.status_code == 401
    assert live.web.get("/asyncapi.json").status_code == 401
    assert live.web.get("/asyncapi").status_code == 401


def test_another_namespace_has_schemas_of_its_own(live: Live, topic: str) -> None:
    name = f"n{uuid.uuid4().hex[:8]}"
    live.micro("auth", "create", "namespace", name)
    live.micro("auth", "create", "account", "ada", "--secret", "ada-secret-1", "--namespace", name)
    with SchemaRegistryClient(confluent(live, f"{name}/ada:ada-secret-1")) as registry:
        assert registry.get_subjects() == []
        with pytest.raises(SchemaRegistryError) as refused:
            registry.register_schema(f"{topic}-value", Schema(json.dumps(USER), "JSON"))
        assert refused.value.error_code == 40301
    with SchemaRegistryClient(confluent(live, f"{name}/admin:micro")) as wrong:
        with pytest.raises(SchemaRegistryError) as unknown:
            wrong.get_subjects()
        assert unknown.value.error_code == 40101


def test_the_document_shows_who_publishes_and_who_reads(live: Live, topic: str) -> None:
    text = f"""
import msgspec
from microcosmos import Service

class User(msgspec.Struct):
    name: str

service = Service("told")

@service.endpoint
async def call() -> None:
    await service.events.publish({topic!r}, User("Ada"))

@service.consume({topic!r}, group="counting")
async def count(user: User) -> None: ...

if __name__ == "__main__":
    service.run()
"""
    with live.running("told", text):
        live.micro("told")
        api = live.admin.get("/asyncapi.json").json()
        channel = api["channels"][topic]
        assert channel["address"] == topic
        assert api["servers"]["nats"]["protocol"] == "nats"
        operations = [
            (one["action"], one.get("bindings", {}).get("nats", {}).get("queue"))
            for one in api["operations"].values()
            if one["x-service"] == "told" and one["channel"]["$ref"].endswith(topic)
        ]
        assert sorted(operations, key=str) == [("receive", "counting"), ("send", None)]
        assert topic in live.admin.get("/asyncapi").text
        said = live.micro("events", "schema", "types", topic)
        assert "class User(msgspec.Struct, kw_only=True):" in said.out
        assert topic in live.micro("events", "asyncapi", "--format", "yaml").out
