"""What only the lane does: lines over Unix sockets, shared by many calls."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.rpc import MAX_BODY, Call, Client, Endpoint, Hosted, Server, frames
from microcosmos.rpc.handler import endpoint
from microcosmos.rpc.interface import Unreachable
from microcosmos.rpc.lane import LaneTransport, listen

from .conformance import MB, Failing, Gate, call, echo, greet
from .wires import Addresses, NatsNet, lane_net, nats_net, until


class TestLines:
    @pytest.mark.parametrize("turns", range(8))
    async def test_who_connects_as_it_is_left_is_not_forgotten(
        self, tmp_path: Path, turns: int
    ) -> None:
        path = tmp_path / "lane.sock"
        with socket.socket(socket.AF_UNIX) as caller:
            async with listen(path, _server()):
                caller.connect(str(path))
                for _ in range(turns):
                    await asyncio.sleep(0)
            caller.setblocking(False)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(20):
                with contextlib.suppress(ConnectionResetError):
                    while await loop.sock_recv(caller, 1 << 16):
                        pass

    async def test_a_large_body_does_not_delay_small_calls(self, tmp_path: Path) -> None:
        async def large(body: bytes) -> bytes:
            return bytes(7 * MB)

        async with lane_net(tmp_path) as net:
            await net.serve(call, echo(), Endpoint("Demo.Large", large))
            await greet(net)
            for name, body in (("Large", b""), ("Echo", bytes(7 * MB))):
                slow = asyncio.create_task(net.client.call("demo", f"Demo.{name}", body))
                small = 0
                while not slow.done():
                    await greet(net)
                    small += 1
                assert len(await slow) == 7 * MB
                assert small > 10, f"{name}: only {small} small calls while a large one went"

    async def test_giving_up_while_a_large_answer_comes_leaves_other_calls_alone(
        self, tmp_path: Path
    ) -> None:
        async def large(body: bytes) -> bytes:
            return bytes(7 * MB)

        async with lane_net(tmp_path) as net:
            gate = Gate()
            await net.serve(call, gate.endpoint, Endpoint("Demo.Large", large))
            await self._give_up_again_and_again(net, gate, "Demo.Large", b"")

    async def test_giving_up_while_a_large_request_goes_leaves_other_calls_alone(
        self, tmp_path: Path
    ) -> None:
        async with lane_net(tmp_path) as net:
            gate = Gate()
            await net.serve(call, gate.endpoint, echo())
            await self._give_up_again_and_again(net, gate, "Demo.Echo", bytes(7 * MB))

    async def _give_up_again_and_again(
        self, net: object, gate: Gate, name: str, body: bytes
    ) -> None:
        client: Client = net.client  # type: ignore[attr-defined]
        waiting = asyncio.create_task(client.call("demo", "Demo.Wait", timeout=60, retry=False))
        await until(lambda: gate.entered)
        for turns in range(0, 120, 5):
            large = asyncio.create_task(client.call("demo", name, body, retry=False))
            for _ in range(turns):
                await asyncio.sleep(0)
            large.cancel()
            await asyncio.wait([large])
            assert large.cancelled() or len(large.result()) == 7 * MB
        for _ in range(300):
            await client.call("demo", "Demo.Call", retry=False)
        assert not waiting.done()
        gate.opened.set()
        assert await waiting == b'"through"'
        assert gate.entered == 1

    async def test_calls_that_come_together_share_one_line(self, tmp_path: Path) -> None:
        lines = 0
        closed = asyncio.Event()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal lines
            lines += 1
            await reader.read()
            writer.close()
            await writer.wait_closed()
            closed.set()

        path = tmp_path / "s.sock"
        listener = await asyncio.start_unix_server(accept, path)
        addresses = Addresses()
        addresses.paths["demo"] = [str(path)]
        transport = LaneTransport(addresses)
        client = Client([transport], addresses)
        answers = await asyncio.gather(
            *(client.call("demo", "Demo.Call", timeout=0.1) for _ in range(20)),
            return_exceptions=True,
        )
        assert {type(answer) for answer in answers} == {errors.DeadlineExceeded}
        assert lines == 1
        await transport.close()
        await closed.wait()
        listener.close()

    async def test_a_first_caller_that_gives_up_does_not_spoil_the_line(
        self, tmp_path: Path
    ) -> None:
        async with lane_net(tmp_path) as net:
            await net.serve(call)
            first = asyncio.create_task(greet(net))
            second = asyncio.create_task(greet(net))
            await asyncio.sleep(0)
            first.cancel()
            assert await second == b'{"msg":"Hello Jo"}'

    async def test_a_line_that_is_lost_before_its_first_call_holds_nobody(
        self, tmp_path: Path
    ) -> None:
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: reported.append(what))
        addresses = Addresses()
        addresses.known.add("demo")
        transport = LaneTransport(addresses)
        client = Client([transport], addresses)
        # A process that dies or leaves may still take a line. When that is lost, its caller is
        # anywhere between opening it and sending by it.
        for said in (b"", frames.pack(frames.GOAWAY, 0, b"")):
            for turns in range(12):
                path = tmp_path / f"{len(said)}-{turns}.sock"
                addresses.paths["demo"] = [str(path)]
                with socket.socket(socket.AF_UNIX) as listener:
                    listener.bind(str(path))
                    listener.listen()
                    listener.setblocking(False)
                    waiting = asyncio.create_task(
                        client.call("demo", "Demo.Call", timeout=2, retry=False)
                    )
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    with contextlib.suppress(BlockingIOError):
                        taken, _ = listener.accept()
                        taken.sendall(said)
                        taken.close()
                with pytest.raises(errors.Unavailable):
                    await waiting
        await transport.close()
        assert reported == []

    async def test_closing_fails_what_waits(self, tmp_path: Path) -> None:
        async with lane_net(tmp_path) as net:
            gate = Gate()
            await net.serve(gate.endpoint)
            waiting = asyncio.create_task(
                net.client.call("demo", "Demo.Wait", timeout=60, retry=False)
            )
            await until(lambda: gate.entered)
            await net.transport.close()
            with pytest.raises(errors.ConnectionLost, match=r"before demo Demo\.Wait answered"):
                await waiting
            await until(lambda: gate.cancelled)

    async def test_metadata_that_makes_a_call_too_large_is_a_413(self, tmp_path: Path) -> None:
        async with lane_net(tmp_path) as net:
            gate = Gate()
            await net.serve(call, gate.endpoint, echo())
            waiting = asyncio.create_task(net.client.call("demo", "Demo.Wait", timeout=60))
            await until(lambda: gate.entered)
            metadata = {"x-large": "x" * 300_000}
            with pytest.raises(errors.TooLarge, match="with its metadata"):
                await net.client.call("demo", "Demo.Echo", bytes(MAX_BODY), metadata=metadata)
            gate.opened.set()
            assert await waiting == b'"through"'


class TestLinesOnUvloop(TestLines):
    loop = "uvloop"


def _server() -> Server:
    server = Server()
    server.add(Hosted("demo", [endpoint(call, "demo")]))
    return server


async def test_only_this_user_may_open_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with listen(path, _server()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


async def test_a_socket_left_by_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "0.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with lane_net(tmp_path) as net:
        await net.serve(call)
        assert await greet(net) == b'{"msg":"Hello Jo"}'


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\xff" * 4096,
        b"\0" * 64,
        frames.pack(frames.DATA, 1, b"x"),
        frames.pack(frames.REQUEST | frames.MORE, 1, b"x") + b"\xff" * 32,
    ],
)
async def test_garbage_closes_its_own_line_and_no_other(tmp_path: Path, garbage: bytes) -> None:
    async with lane_net(tmp_path) as net:
        await net.serve(call)
        await greet(net)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "0.sock")
        writer.write(garbage)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        assert await greet(net) == b'{"msg":"Hello Jo"}'


@pytest.mark.parametrize(
    "request_", [b"", b"\xc1", b"\x90", b"\x93\x01\x02\x03", b"\x94\xa1\xff\xa1a\xc4\x00\x80"]
)
async def test_a_request_that_cannot_be_read_is_told_and_the_line_lives_on(
    tmp_path: Path, request_: bytes
) -> None:
    async with lane_net(tmp_path) as net:
        await net.serve(call)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "0.sock")
        good = frames.encode_call(Call("demo", "Demo.Call", b"", {}))
        writer.write(
            frames.pack(frames.REQUEST, 1, request_) + frames.pack(frames.REQUEST, 2, good)
        )
        unread = frames.Reader()
        answers: dict[int, tuple[int, bytes]] = {}
        while len(answers) < 2:
            for kind, stream, payload in unread.feed(await reader.read(4096)):
                answers[stream] = (kind, payload)
        assert answers[1][0] == frames.ERROR
        assert type(errors.from_wire(answers[1][1])) is errors.BadRequest
        assert answers[2] == (frames.REPLY, b'{"msg":"Hello World"}')
        writer.close()


async def test_a_caller_that_dies_cancels_its_calls(tmp_path: Path) -> None:
    async with lane_net(tmp_path) as net:
        gate = Gate()
        await net.serve(gate.endpoint)
        async with lane_net(tmp_path / "none") as other:
            other.addresses.paths = net.addresses.paths
            waiting = asyncio.create_task(
                other.client.call("demo", "Demo.Wait", timeout=60, retry=False)
            )
            await until(lambda: gate.entered)
        with pytest.raises(errors.ConnectionLost):
            await waiting
        await until(lambda: gate.cancelled)


@pytest.mark.parametrize("what", ["nothing", "file", "folder", "left over", "too long"])
async def test_a_lane_that_does_not_open_is_as_good_as_none(tmp_path: Path, what: str) -> None:
    path = tmp_path / "dead.sock"
    if what == "file":
        path.touch()
    elif what == "folder":
        path.mkdir()
    elif what == "left over":
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    elif what == "too long":
        path = tmp_path / ("x" * 120)
    async with lane_net(tmp_path) as net:
        net.addresses.paths["demo"] = [str(path)]
        net.addresses.known.add("demo")
        with pytest.raises(errors.Unavailable, match="no replica of demo is alive"):
            await greet(net)
        await net.serve(call)
        assert await greet(net) == b'{"msg":"Hello Jo"}'


async def test_streams_of_this_hosts_own_do_not_go_another_way(tmp_path: Path) -> None:
    addresses = Addresses()
    addresses.paths = {"registry": [str(tmp_path / "none")], "demo": [str(tmp_path / "none")]}
    transport = LaneTransport(addresses, here=("registry",))
    with pytest.raises(errors.Unavailable, match="not reached on this host"):
        await transport.open(Call("registry", "Registry.Follow", b"{}", {}))
    # A call, and any other service's stream, may.
    with pytest.raises(Unreachable):
        await transport.call(Call("registry", "Registry.GetService", b"{}", {}))
    with pytest.raises(Unreachable):
        await transport.open(Call("demo", "Demo.Stream", b"{}", {}))
    await transport.close()


async def test_a_dead_lane_falls_back_to_nats(tmp_path: Path, nats_url: str) -> None:
    async with nats_net(nats_url) as far, lane_net(tmp_path) as near:
        near_handler, far_handler = Failing(), Failing()
        await far.serve(far_handler.endpoint)
        replica = await near.serve(near_handler.endpoint)
        client = Client([near.transport, far.transport], near.addresses)
        await client.call("demo", "Demo.Fail")
        assert (near_handler.calls, far_handler.calls) == (1, 0), "the lane comes first"
        await replica.leave()
        for _ in range(5):
            assert await client.call("demo", "Demo.Fail") == b'"well"'
        assert (near_handler.calls, far_handler.calls) == (1, 5)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_call_to_the_dead_of_this_host_does_not_go_by_nats(
    tmp_path: Path, nats_url: str, elsewhere: bool
) -> None:
    async with nats_net(nats_url) as far, lane_net(tmp_path) as near:
        # NATS has not noticed yet that the replica is dead, and so it hands calls to it.
        dead = Failing()
        await far.serve(dead.endpoint)
        path = tmp_path / "dead.sock"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        near.addresses.known.add("demo")
        near.addresses.paths["demo"] = [str(path)]
        near.addresses.here = set() if elsewhere else {"demo"}
        client = Client([near.transport, far.transport], near.addresses)
        for paths in ([str(path)], []):
            near.addresses.paths["demo"] = paths
            if elsewhere:
                assert await client.call("demo", "Demo.Fail") == b'"well"'
                continue
            with pytest.raises(errors.Unavailable, match="no replica of demo is alive"):
                await client.call("demo", "Demo.Fail")
            with pytest.raises(errors.Unavailable, match="no replica of demo is alive"):
                async with client.stream("demo", "Demo.Fail"):
                    pass
        assert bool(dead.calls) == elsewhere


async def test_a_lane_of_a_replica_that_leaves_still_falls_back_to_nats(
    tmp_path: Path, nats_url: str
) -> None:
    async with nats_net(nats_url) as far, lane_net(tmp_path) as near:
        await far.serve(call)
        near.addresses.here.add("demo")
        # It takes its socket away; who has not heard yet of its successor finds that by NATS.
        near.addresses.paths["demo"] = [str(tmp_path / "left.sock")]
        client = Client([near.transport, far.transport], near.addresses)
        assert await client.call("demo", "Demo.Call") == b'{"msg":"Hello World"}'


async def test_a_service_of_another_host_is_called_by_nats(tmp_path: Path, nats_url: str) -> None:
    async with nats_net(nats_url) as far, lane_net(tmp_path) as near:
        await far.serve(call)
        far_client: NatsNet = far
        client = Client([near.transport, far_client.transport], near.addresses)
        assert await client.call("demo", "Demo.Call") == b'{"msg":"Hello World"}'


PROGRAM = """
import asyncio, sys
from pathlib import Path
from microcosmos.rpc import Endpoint, Hosted, Server
from microcosmos.rpc.lane import listen

async def hang(body):
    print("entered", flush=True)
    await asyncio.Event().wait()

async def main():
    server = Server()
    server.add(Hosted("demo", [Endpoint("Demo.Wait", hang)]))
    async with listen(Path(sys.argv[1]), server):
        print("listens", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("retry", [False, True])
async def test_a_server_killed_in_the_middle_of_a_call(tmp_path: Path, retry: bool) -> None:
    path = tmp_path / "victim.sock"
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(path)), stdout=asyncio.subprocess.PIPE
    )
    assert victim.stdout is not None
    assert await victim.stdout.readline() == b"listens\n"
    async with lane_net(tmp_path) as net:
        net.addresses.paths["demo"] = [str(path)]
        waiting = asyncio.create_task(net.client.call("demo", "Demo.Wait", timeout=60, retry=retry))
        assert await victim.stdout.readline() == b"entered\n"
        other = Gate(b'"other"')
        other.opened.set()
        await net.serve(other.endpoint)
        os.kill(victim.pid, signal.SIGKILL)
        if retry:
            assert await waiting == b'"other"'
        else:
            with pytest.raises(errors.ConnectionLost, match="the line broke before"):
                await waiting
    await victim.wait()
    victim._transport.close()  # type: ignore[attr-defined]
