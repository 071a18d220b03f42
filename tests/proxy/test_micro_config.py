"""Config, spoken to by a client that was built for Micro v3."""

from __future__ import annotations

import pytest
from google.protobuf import message_factory

from microcosmos.config.config import open_config
from microcosmos.config.service import ConfigService
from microcosmos.proxy import wire
from microcosmos.proxy.files import fresh_pool
from microcosmos.proxy.notation import read
from microcosmos.store import open_store


@pytest.fixture
def of():
    """The messages of the package, from the facts alone."""
    pool = fresh_pool()
    pool.Add(read("config", wire.CONFIG))
    return lambda name: message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"config.{name}")
    )


async def test_a_micro_client_sets_gets_reads_and_deletes(proxy, of, code) -> None:
    async with proxy() as door, open_store("memory://") as store, open_config(store) as config:
        await door.host([ConfigService(config, trusting=True).hosted()])

        async def ask(method: str, request: bytes) -> bytes:
            return await door.call(f"/config.Config/{method}", request)

        value = of("Value")(data='{"a":"val1"}', format="json")
        request = of("SetRequest")(namespace="micro", path="helloworld", value=value)
        assert await ask("Set", request.SerializeToString()) == b""
        # SetRequest{2 path, 3 value{1 data}, 4 options{1 secret}}, by numbers.
        by_hand = b"\x12\x06hush.a\x1a\x04\x0a\x0242\x22\x02\x08\x01"
        assert await ask("Set", by_hand) == b""
        assert await config.get("micro", "hush.a", secret=True) == 42
        got = of("GetResponse").FromString(await ask("Get", b"\x12\x06hush.a"))
        assert (got.value.data, got.value.format) == ('"[secret]"', "json")
        clear = of("GetRequest")(path="hush.a", options={"secret": True})
        got = of("GetResponse").FromString(await ask("Get", clear.SerializeToString()))
        assert got.value.data == "42"
        read_ = of("ReadResponse").FromString(await ask("Read", b"\x12\x0ahelloworld"))
        assert read_.change.changeSet.data == '{"a":"val1"}'
        assert read_.change.changeSet.timestamp > 1_700_000_000
        assert await ask("Delete", b"\x12\x0ahelloworld") == b""
        error = await door.fails("/config.Config/Get", b"\x12\x0ahelloworld")
        assert error.code() is code.NOT_FOUND
        for bad in (b"\x12\x04a..b", b"\x12\x01\xff"):
            assert (await door.fails("/config.Config/Get", bad)).code() is code.INVALID_ARGUMENT


async def test_what_is_ours_alone_can_be_called_too(proxy) -> None:
    async with proxy() as door, open_store("memory://") as store, open_config(store) as config:
        await door.host([ConfigService(config, trusting=True).hosted()])
        await config.set("micro", "a", 1)
        pool = await door.pool("config.Config")
        methods = pool.FindServiceByName("config.Config").methods_by_name
        history = methods["History"]
        ask, answer = (
            message_factory.GetMessageClass(kind)
            for kind in (history.input_type, history.output_type)
        )
        data = await door.call("/config.Config/History", ask(limit=5).SerializeToString())
        (revision,) = answer.FromString(data).revisions
        assert (revision.revision, revision.changes[0].path) == (1, "a")
        assert methods["Watch"].server_streaming
