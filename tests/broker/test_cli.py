"""`micro broker`, typed as users type it, at a core that serves a broker in memory."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from microcosmos.base import errors
from microcosmos.base.home import Home, ServerInfo
from microcosmos.broker.memory import MemoryBroker
from microcosmos.broker.service import BrokerService
from microcosmos.cli.main import main
from microcosmos.registry import this_host
from microcosmos.registry.interface import HOST, LANE
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Server
from microcosmos.rpc.lane import listen
from microcosmos.service.records import record

from .nets import Heard, until

Said = tuple[int, str, str]


class Shell:
    """A command line, and the broker behind it."""

    def __init__(self, home: Home, broker: MemoryBroker, capfd: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.broker = broker
        self._capfd = capfd

    async def micro(self, *words: str) -> Said:
        """What a command says."""
        self._capfd.readouterr()
        code = await asyncio.to_thread(main, words)
        said = self._capfd.readouterr()
        return code, said.out, said.err

    async def listeners(self) -> None:
        """Wait until somebody listens."""
        await until(lambda: self.broker._groups)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    for name in [name for name in os.environ if name.startswith("MICRO_")]:
        monkeypatch.delenv(name)

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[Shell]:
        folder = tempfile.mkdtemp(prefix="cli-", dir="/tmp")
        monkeypatch.setenv("MICRO_HOME", folder)
        home, broker, registry = Home(folder), MemoryBroker(), MemoryRegistry()
        home.make()

        def authorise(topic: str, verb: str) -> None:
            if topic.startswith("secret"):
                raise errors.Forbidden("topic", f"you may not {verb} {topic}")

        server = Server()
        about = {LANE: str(home.core_lane), HOST: this_host()}
        for hosted in (
            RegistryService(registry).hosted(),
            BrokerService(lambda _: broker, authorise).hosted(),
        ):
            server.add(hosted)
            await registry.register(record(hosted, "core", about))
        async with listen(home.core_lane, server, drain=0.1):
            info = ServerInfo(
                "0.1.0", time.time(), {"server": os.getpid()}, {"proxy": "127.0.0.1:1"}
            )
            home.write_server_info(info)
            yield Shell(home, broker, capfd)
        shutil.rmtree(folder)

    return opened


Opened = Callable[[], contextlib.AbstractAsyncContextManager[Shell]]


async def test_publish(shell: Opened) -> None:
    async with shell() as here:
        heard = Heard()
        await here.broker.subscribe("health", heard)
        code, out, err = await here.micro(
            "broker", "publish", "health", '{"healthy": true}', "-H", "foobar=my val", "--header",
            "A=1", "--key", "k",
        )  # fmt: skip
        assert (code, out, err) == (0, "", "")
        (message,) = heard
        assert message.body == b'{"healthy": true}'
        trace = message.headers.pop("Micro-Trace")
        assert len(trace) == 32
        assert message.headers == {
            "A": "1",
            "Content-Type": "application/json",
            "Foobar": "my val",
            "Micro-Key": "k",
        }


async def test_publish_what_stands_in_the_standard_input(
    shell: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shell() as here:
        heard = Heard()
        await here.broker.subscribe("t", heard)
        for flags, body in (((), b'{"a": 1}\n'), (("--raw",), b"\x00\xff")):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
            assert (await here.micro("broker", "publish", "t", "-", *flags))[0] == 0
        assert heard.bodies == [b'{"a": 1}\n', b"\x00\xff"]
        assert heard[1].headers["Content-Type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["publish", "t"], 64, "missing argument"),
        (["publish"], 64, "missing argument"),
        (["publish", "t", "hello"], 64, "the message is no JSON"),
        (["publish", "t", '{"a":'], 64, "the message is no JSON"),
        (["publish", "a b", "1"], 64, "no topic"),
        (["publish", "users.*", "1"], 64, "no topic"),
        (["publish", "t", "1", "-H", "nothing"], 64, "--header"),
        (["publish", "t", "1", "-H", "a b=c"], 64, "'A b' cannot be the name of metadata"),
        (["publish", "t", "1", "-H", "a=b\r\nEvil: 1"], 64, "a"),
        (["publish", "t", "1", "-H", "Authorization=x"], 64, "Authorization"),
        (["publish", "t", "1", "-H", "Nats-Msg-Id=x"], 64, "Nats-Msg-Id"),
        (["publish", "t", "1", "--key", "a\nb"], 64, "Micro-Key"),
        (["publish", "t", "1", "--bogus"], 64, "--bogus"),
        (["publish", "t", "1", "2"], 64, "extra argument"),
        (["publish", "secret", "1"], 2, "you may not publish secret"),
        (["subscribe"], 64, "missing argument"),
        (["subscribe", "a b"], 64, "neither a topic nor a pattern"),
        (["subscribe", "t", "--queue", "a b"], 64, "queue"),
        (["subscribe", "t", "--limit", "-1"], 64, "--limit"),
        (["subscribe", "secret.>"], 2, "you may not subscribe secret.>"),
        (["unsubscribe"], 64, "unsubscribe"),
    ],
)
async def test_bad_input(shell: Opened, words: list[str], code: int, told: str) -> None:
    async with shell() as here:
        said = await here.micro("broker", *words)
        assert said[0] == code, said
        assert told in said[2]
        assert said[1] == ""
        assert len(said[2].splitlines()) == 1


async def test_a_message_over_the_limit(shell: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shell() as here:
        for size in (5 * 1024 * 1024 + 1, 9 * 1024 * 1024):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x" * size)))
            code, _, err = await here.micro("broker", "publish", "t", "-", "--raw")
            assert code == 127
            assert "limit" in err


async def test_subscribe_prints_a_line_a_message(shell: Opened) -> None:
    async with shell() as here:
        printing = asyncio.create_task(here.micro("broker", "subscribe", "users.*", "--limit", "3"))
        await here.listeners()
        await here.broker.publish("users.a", b'{"n": 1,\n "m": "x"}', {"Foo": "bar"})
        await here.broker.publish("users.b", b"\x00\xff")
        await here.broker.publish("users.c", b'"\\u001b[2J"')
        code, out, err = await printing
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0] == '{"topic":"users.a","headers":{"Foo":"bar"},"body":{"n":1,"m":"x"}}'
        assert json.loads(lines[1]) == {
            "topic": "users.b",
            "headers": {},
            "body": "AP8=",
            "encoding": "base64",
        }
        assert "\x1b" not in lines[2]
        await until(lambda: not here.broker._groups)


async def test_output_json_prints_the_same(shell: Opened) -> None:
    async with shell() as here:
        words = ("broker", "subscribe", "t", "--limit", "1", "--output", "json")
        printing = asyncio.create_task(here.micro(*words))
        await here.listeners()
        await here.broker.publish("t", b"1")
        code, out, _ = await printing
        assert (code, out) == (0, '{"topic":"t","headers":{},"body":1}\n')


async def test_two_of_a_queue_share(shell: Opened) -> None:
    async with shell() as here:
        words = ("-m", "microcosmos.cli", "broker", "subscribe", "t", "-q", "q", "--limit", "2")
        both = [
            await asyncio.create_subprocess_exec(sys.executable, *words, stdout=-1, stderr=-1)
            for _ in range(2)
        ]
        await until(lambda: [*map(_members, here.broker._groups.values())] == [2])
        for number in range(4):
            await here.broker.publish("t", str(number).encode())
        outputs = [(await one.communicate())[0].splitlines() for one in both]
        assert [len(lines) for lines in outputs] == [2, 2]


def _members(group: Any) -> int:
    return len(group.members)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_ctrl_c_ends_it(shell: Opened, how: int) -> None:
    async with shell() as here:
        words = ("-m", "microcosmos.cli", "broker", "subscribe", "t")
        one = await asyncio.create_subprocess_exec(sys.executable, *words, stdout=-1, stderr=-1)
        await here.listeners()
        await here.broker.publish("t", b"1")
        assert one.stdout is not None
        assert json.loads(await one.stdout.readline())["body"] == 1
        one.send_signal(how)
        out, err = await one.communicate()
        assert (out, err) == (b"", b"")
        assert one.returncode == (130 if how == signal.SIGINT else -signal.SIGTERM)
        await until(lambda: not here.broker._groups)


async def test_the_end_of_the_reader_ends_it(shell: Opened) -> None:
    async with shell() as here:
        micro = f"{sys.executable} -m microcosmos.cli broker subscribe t | head -n 1"
        one = await asyncio.create_subprocess_shell(micro, stdout=-1, stderr=-1)
        await here.listeners()

        async def published() -> None:
            while here.broker._groups:
                await here.broker.publish("t", b"1")
                await asyncio.sleep(0.01)

        publishing = asyncio.create_task(published())
        out, err = await one.communicate()
        await publishing
        assert (len(out.splitlines()), err) == (1, b"")


async def test_a_core_that_ends_is_told(shell: Opened) -> None:
    ending: Awaitable[Said]
    async with shell() as here:
        ending = asyncio.create_task(here.micro("broker", "subscribe", "t"))
        await here.listeners()
    code, out, err = await ending
    assert code != 0
    assert out == ""
    assert err.startswith("micro: ")
    assert "Traceback" not in err
