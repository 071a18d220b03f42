"""PyPI's confluent-kafka, as it is, against the door."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from confluent_kafka.schema_registry import (
    AsyncSchemaRegistryClient,
    ConfigCompatibilityLevel,
    Schema,
    SchemaRegistryClient,
    SchemaRegistryError,
    ServerConfig,
)
from confluent_kafka.schema_registry.json_schema import (
    AsyncJSONDeserializer,
    AsyncJSONSerializer,
    JSONDeserializer,
    JSONSerializer,
)
from confluent_kafka.serialization import MessageField, SerializationContext

from .conftest import Front

USER = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "User",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}
STRICT = {**USER, "required": ["name", "age"]}
"""Cannot read what was written by `USER`."""

VALUE = SerializationContext("users", MessageField.VALUE)


def as_json(schema: Any) -> Schema:
    return Schema(json.dumps(schema), "JSON")


def client(front: Front, **more: str) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": front.url, "max.retries": 0, **more})


async def test_a_schema_is_registered_and_found_by_all_its_names(front: Front) -> None:
    def use() -> None:
        with client(front) as registry:
            id = registry.register_schema("users-value", as_json(USER))
            assert registry.get_subjects() == ["users-value"]
            assert registry.get_versions("users-value") == [1]
            found = registry.get_latest_version("users-value")
            assert (found.version, found.schema_id, found.schema.schema_type) == (1, id, "JSON")
            assert json.loads(found.schema.schema_str or "") == USER
            assert registry.get_version("users-value", 1) == found
            assert registry.lookup_schema("users-value", as_json(USER)).version == 1
            assert [one.version for one in registry.get_schema_versions(id)] == [1]
            assert registry.get_subjects_by_schema_id(id) == ["users-value"]
            assert registry.get_schema_types() == ["JSON"]
            assert registry.get_contexts() == ["."]
            assert registry.get_referenced_by("users-value", 1) == []
        with client(front) as fresh:
            assert json.loads(fresh.get_schema(id).schema_str or "") == USER
            assert fresh.register_schema("users-value", as_json(USER)) == id
            assert (
                fresh.register_schema("copies-value", as_json(USER), normalize_schemas=True) == id
            )

    await asyncio.to_thread(use)


async def test_what_is_not_compatible_is_refused_and_why_is_said(front: Front) -> None:
    def use() -> None:
        with client(front) as registry:
            registry.register_schema("users-value", as_json(USER))
            assert not registry.test_compatibility("users-value", as_json(STRICT))
            assert not registry.test_compatibility_all_versions("users-value", as_json(STRICT))
            assert registry.test_compatibility("new-value", as_json(STRICT))
            with pytest.raises(SchemaRegistryError, match="age") as refused:
                registry.register_schema("users-value", as_json(STRICT))
            assert (refused.value.http_status_code, refused.value.error_code) == (409, 409)
            registry.set_compatibility("users-value", "NONE")
            assert registry.get_compatibility("users-value") == "NONE"
            registry.register_schema("users-value", as_json(STRICT))
            assert registry.get_versions("users-value") == [1, 2]

    await asyncio.to_thread(use)


async def test_modes_are_set_and_unset(front: Front) -> None:
    def use() -> None:
        with client(front) as registry:
            assert registry.get_compatibility() == "BACKWARD"
            registry.set_config(
                config=ServerConfig(compatibility=ConfigCompatibilityLevel.FULL_TRANSITIVE)
            )
            assert registry.get_compatibility() == "FULL_TRANSITIVE"
            assert _code(lambda: registry.get_compatibility("users-value")) == 40408
            registry.set_compatibility("users-value", "forward")
            assert str(registry.delete_config("users-value").compatibility_level) == "FORWARD"
            registry.delete_config()
            assert registry.get_compatibility() == "BACKWARD"
            assert _code(lambda: registry.set_compatibility("users-value", "SOME")) == 42203
            assert registry.get_global_mode() == "READWRITE"
            assert _code(lambda: registry.get_mode("users-value")) == 40409
            assert _code(lambda: registry.update_global_mode("READONLY")) == 42205

    await asyncio.to_thread(use)


async def test_versions_and_subjects_are_deleted_first_softly_then_for_good(front: Front) -> None:
    def use() -> None:
        with client(front) as registry:
            registry.register_schema("users-value", as_json(USER))
            registry.register_schema("users-value", as_json({**USER, "description": "older"}))
            assert _code(lambda: registry.delete_version("users-value", 1, permanent=True)) == 40407
            assert registry.delete_version("users-value", 1) == 1
            assert _code(lambda: registry.delete_version("users-value", 1)) == 40406
            assert registry.get_versions("users-value") == [2]
            assert registry.get_versions("users-value", deleted=True) == [1, 2]
            assert registry.delete_version("users-value", 1, permanent=True) == 1
            assert registry.delete_subject("users-value") == [2]
            assert _code(lambda: registry.delete_subject("users-value")) == 40404
            assert registry.get_subjects() == []
            assert registry.get_subjects(deleted=True) == ["users-value"]

    await asyncio.to_thread(use)


@pytest.mark.parametrize("kind", ["AVRO", "PROTOBUF"])
async def test_other_types_than_json_are_refused_clearly(front: Front, kind: str) -> None:
    def use() -> None:
        with (
            client(front) as registry,
            pytest.raises(SchemaRegistryError, match=f"{kind} are not supported") as refused,
        ):
            registry.register_schema("users-value", Schema('"string"', kind))
        assert (refused.value.http_status_code, refused.value.error_code) == (422, 42201)

    await asyncio.to_thread(use)


async def test_what_is_not_there_has_confluents_codes(front: Front) -> None:
    def use() -> None:
        with client(front) as registry:
            assert _code(lambda: registry.get_latest_version("nothing")) == 40401
            assert _code(lambda: registry.get_schema(77)) == 40403
            registry.register_schema("users-value", as_json(USER))
            assert _code(lambda: registry.get_version("users-value", 9)) == 40402
            assert _code(lambda: registry.get_version("users-value", "soon")) == 42202
            assert _code(lambda: registry.lookup_schema("users-value", as_json(STRICT))) == 40403
            assert _code(lambda: registry.register_schema("a", Schema("{", "JSON"))) == 42201
            assert _code(lambda: registry.register_schema("a", as_json({"type": 5}))) == 42201

    await asyncio.to_thread(use)


async def test_a_subject_may_have_any_name(front: Front) -> None:
    names = ["orders/Call-request", "a b", "für-value", "a.b:c@d+e=f~g-value", "x/versions-value"]

    def use() -> None:
        with client(front) as registry:
            for name in names:
                registry.register_schema(name, as_json(USER))
                assert registry.get_latest_version(name).subject == name
            assert registry.get_subjects() == sorted(names)
            assert registry.delete_subject("orders/Call-request") == [1]

    await asyncio.to_thread(use)


async def test_confluents_serializers_write_and_read(front: Front) -> None:
    def use() -> None:
        with client(front) as registry:
            write = JSONSerializer(json.dumps(USER), registry)
            framed = write({"name": "Ada", "age": 36}, VALUE)
            id = registry.get_latest_version("users-value").schema_id
            assert framed is not None
            assert framed[:5] == b"\0" + (id or 0).to_bytes(4, "big")
            assert json.loads(framed[5:]) == {"name": "Ada", "age": 36}
            with client(front) as another:
                read = JSONDeserializer(None, schema_registry_client=another)
                assert read(framed, VALUE) == {"name": "Ada", "age": 36}

    await asyncio.to_thread(use)


async def test_so_do_the_asynchronous_ones(front: Front) -> None:
    async with AsyncSchemaRegistryClient({"url": front.url, "max.retries": 0}) as registry:
        write = await AsyncJSONSerializer(json.dumps(USER), registry)
        framed = await write({"name": "Ada"}, VALUE)
        assert await registry.get_subjects() == ["users-value"]
        read = await AsyncJSONDeserializer(None, schema_registry_client=registry)
        assert await read(framed, VALUE) == {"name": "Ada"}


def _code(call: Any) -> int:
    """The code of the error that a call ends in."""
    with pytest.raises(SchemaRegistryError) as refused:
        call()
    assert refused.value.error_message
    return refused.value.error_code
