"""Our own contenders: what each starts, and how it is loaded. One function is one visit."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path

import sockets
from contenders import SOCKETS, consuming, messaging, printed, publishing
from lab import BENCH, ROOT, Failed, Figures, Lab, Unavailable, get_json

from microcosmos.base.home import Home

HELLO_RPC = BENCH / "ours/hello_rpc.py"
ANY_PORT = "127.0.0.1:0"
NO_LANE = {"MICRO_LANE": "off"}


def gateway_lane(lab: Lab) -> Figures:
    """`micro server` and `micro run helloworld`, called by HTTP."""
    figures = lab.wrk(_helloworld(lab))
    if not _lane_used(lab):
        raise Failed("the gateway did not take the lane")
    return figures


def gateway_nats(lab: Lab) -> Figures:
    """The same with the lane switched off, as between hosts."""
    figures = lab.wrk(_helloworld(lab, NO_LANE))
    if _lane_used(lab):
        raise Failed("the gateway took the lane although it is switched off")
    return figures


def gateway_sockets(lab: Lab) -> Figures:
    """`micro server` and an echo service behind 1,000 idle WebSockets: its gateway processes."""
    sockets.raise_open_files()
    api = server(lab)
    lab.call(micro(), "run", BENCH / "ours/echo")
    told = json.loads((lab.folder / "home/server/server.json").read_text())["pids"]
    gateways = [pid for name, pid in told.items() if name.startswith("gateway")]
    return lab.sockets(f"ws://{api}/echo", SOCKETS, gateways)


def grpc_proxy(lab: Lab) -> Figures:
    """`micro server` and `micro run helloworld`, called by gRPC with JSON."""
    _helloworld(lab)
    info = json.loads((lab.folder / "home/server/server.json").read_text())
    return lab.rpc(sys.executable, BENCH / "grpc_load.py", info["addresses"]["proxy"])


def rpc_lane(lab: Lab) -> Figures:
    """Our client by the lane: JSON, checked types, trace, deadline."""
    return _rpc(lab, "lane")


def rpc_nats(lab: Lab) -> Figures:
    """Our client by NATS: JSON, checked types, trace, deadline, three headers."""
    return _rpc(lab, "nats")


def stream_lane(lab: Lab) -> Figures:
    """Our stream of texts of 1 KB by the lane: JSON both ways, checked types."""
    return _stream(lab, "lane")


def stream_nats(lab: Lab) -> Figures:
    """Our stream of texts of 1 KB by NATS: JSON both ways, checked types."""
    return _stream(lab, "nats")


def _stream(lab: Lab, way: str) -> Figures:
    lab.nats()
    lab.python("ours/hello_stream.py", "serve", way, ready="ready")
    return lab.stream(sys.executable, BENCH / "ours/hello_stream.py", "read", way)


def store_lane(lab: Lab) -> Figures:
    """Our store by the lane: gets of a service with its token, SQLite behind."""
    return _store(lab, "lane")


def store_nats(lab: Lab) -> Figures:
    """Our store by NATS: gets of a service with its token, SQLite behind."""
    return _store(lab, "nats")


def _store(lab: Lab, way: str) -> Figures:
    lab.nats()
    lab.python("ours/store.py", "serve", way, ready="ready")
    return lab.rpc(sys.executable, BENCH / "ours/store.py", "call", way)


def writes_1(lab: Lab) -> Figures:
    """One writer, each write on the disk before the next."""
    return _writes(lab, 1)


def writes_64(lab: Lab) -> Figures:
    """64 writers, each write on the disk before its writer's next."""
    return _writes(lab, 64)


def _writes(lab: Lab, writers: int) -> Figures:
    timing = (str(lab.timing.warmup), str(lab.timing.seconds))
    return {"writes/s": _printed(lab, "write", str(writers), *timing)["per_second"]}


def sqlite_raw(lab: Lab) -> Figures:
    """The row of a key by Python's sqlite3 alone."""
    return _printed(lab, "get", "raw", str(lab.timing.seconds))


def sqlite_ours(lab: Lab) -> Figures:
    """The record of a key by our store, in the same process."""
    return _printed(lab, "get", "ours", str(lab.timing.seconds))


def page_1k(lab: Lab) -> Figures:
    """A page of 100 records by prefix, of 1,000."""
    return _printed(lab, "page", "1000")


def page_1m(lab: Lab) -> Figures:
    """A page of 100 records by prefix, of 1,000,000."""
    return _printed(lab, "page", "1000000")


def auth_check(lab: Lab) -> Figures:
    """Who may call: a token of 350 bytes, seen before."""
    return _printed(lab, "check")


def _printed(lab: Lab, *arguments: str) -> Figures:
    return printed(lab, sys.executable, BENCH / "ours/store.py", *arguments)


def broker(lab: Lab) -> Figures:
    """Our broker as a service has it: checked, typed, with a trace, and failures reported."""
    return messaging(lab, "ours/broker.py")


def events(lab: Lab) -> Figures:
    """Our events as a service has them, each synced to the disk before it is acknowledged."""
    lab.jetstream("always")
    return publishing(lab, "ours/events.py")


def events_consumer(lab: Lab) -> Figures:
    """Our group: each event read into its type, handled and acknowledged."""
    lab.jetstream("2s")
    return consuming(lab, "ours/events.py")


def topics_10(lab: Lab) -> Figures:
    """64 publishers on 10 topics."""
    return _topics(lab, 10)


def topics_10k(lab: Lab) -> Figures:
    """64 publishers on 10,000 topics."""
    return _topics(lab, 10_000)


def _topics(lab: Lab, count: int) -> Figures:
    lab.jetstream("always")
    timing = ("64", str(lab.timing.warmup), str(lab.timing.seconds))
    path = BENCH / "ours/events.py"
    found = printed(lab, sys.executable, path, "topics", str(count), *timing)
    return {"events/s, 64 publishers": found["per_second"]}


def schema_check(lab: Lab) -> Figures:
    """The check of an event of 70 bytes by its schema: typed, plain, and as it is consumed."""
    return printed(lab, sys.executable, BENCH / "ours/events.py", "check")


def server_start(lab: Lab) -> Figures:
    """`micro server` in a new home, until it answers its health check."""
    started = time.perf_counter()
    server(lab)
    return {"seconds": time.perf_counter() - started}


def cli_services(lab: Lab) -> Figures:
    """`micro services` beside a running server with helloworld."""
    _helloworld(lab)
    times = [_time(lab, "services") for _ in range(6)][1:]
    return {"ms": statistics.median(times) * 1000}


def registry_10(lab: Lab) -> Figures:
    """10 services: HTTP path to replica and subject; list by the lane."""
    return _registry(lab, 10)


def registry_1000(lab: Lab) -> Figures:
    """1,000 services: HTTP path to replica and subject; list by the lane."""
    return _registry(lab, 1000)


def _registry(lab: Lab, count: int) -> Figures:
    figures: Figures = json.loads(lab.call(sys.executable, BENCH / "ours/registry.py", str(count)))
    return figures


def _rpc(lab: Lab, way: str) -> Figures:
    lab.nats()
    lab.python("ours/hello_rpc.py", "serve", way, ready="ready")
    return lab.rpc(sys.executable, HELLO_RPC, "call", way)


def _helloworld(lab: Lab, env: dict[str, str] | None = None) -> str:
    """Run the example under a server; the URL that greets John."""
    api = server(lab, env)
    lab.call(micro(), "run", ROOT / "examples/helloworld")
    url = f"http://{api}/helloworld/call?name=John"
    lab.wait_for_hello(url)
    return url


def server(lab: Lab, env: dict[str, str] | None = None, *command: str | Path) -> str:
    """Start a server on free ports and wait until it is ready; its HTTP address.

    Args:
        lab: where.
        env: of it.
        command: what starts it; ``micro server`` unless said.
    """
    addresses = {f"MICRO_{door}_ADDRESS": ANY_PORT for door in ("API", "PROXY", "WEB", "NATS")}
    gateways = {"MICRO_GATEWAYS": str(len(lab.layout.server))}
    lab.start(*(command or (micro(), "server")), env={**addresses, **gateways, **(env or {})})
    info = lab.folder / "home/server/server.json"
    lab.until(lambda: _ready(info), "micro server is ready")
    return _api(info)


def _lane_used(lab: Lab) -> bool:
    """Whether anybody is connected to a service's socket: then the kernel lists it twice."""
    lanes = Home(lab.folder / "home").lanes
    own = {"core.sock", "supervisor.sock"}
    sockets = [str(path) for path in lanes.glob("*.sock") if path.name not in own]
    listed = [line.rpartition(" ")[2] for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(listed.count(socket) > 1 for socket in sockets)


def _ready(info: Path) -> bool:
    return info.exists() and get_json(f"http://{_api(info)}/readyz") is not None


def _api(info: Path) -> str:
    address: str = json.loads(info.read_text())["addresses"]["api"]
    return address


def _time(lab: Lab, *arguments: str) -> float:
    started = time.perf_counter()
    output = lab.call(micro(), *arguments)
    elapsed = time.perf_counter() - started
    if "helloworld" not in output:
        raise Failed(f"micro {' '.join(arguments)} printed {output!r}")
    return elapsed


def micro() -> Path:
    """The command, installed beside this Python."""
    command = Path(sys.executable).with_name("micro")
    if not os.access(command, os.X_OK) or not importlib.util.find_spec("microcosmos.cli.main"):
        raise Unavailable("not built yet: the command micro")
    return command
