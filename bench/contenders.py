"""The peers: what each starts, and how it is loaded. One function is one visit."""

import json
import subprocess
import sys
from pathlib import Path

import sockets
from lab import BENCH, MOLECULER, Figures, Lab, Unavailable, free_port, need

SOCKETS = 1000
PYTHON_RPC = BENCH / "peers/nats_rpc.py"


def granian_hello(lab: Lab) -> Figures:
    """Bare Granian RSGI hello, one worker."""
    return lab.wrk(_listen(lab, "peers/granian_hello.py"))


def granian_sockets(lab: Lab) -> Figures:
    """Bare Granian RSGI, one worker, 1,000 idle WebSockets that echo."""
    sockets.raise_open_files()
    url = _listen(lab, "peers/granian_sockets.py")
    lab.wait_for_hello(url)
    children = Path(f"/proc/{lab.pid()}/task/{lab.pid()}/children").read_text()
    return lab.sockets(url.replace("http", "ws", 1), SOCKETS, map(int, children.split()))


def granian_nats(lab: Lab) -> Figures:
    """Bare Granian + nats-py in front of a bare nats-py service, three short headers."""
    lab.nats()
    lab.python("peers/nats_echo.py", ready="ready")
    return lab.wrk(_listen(lab, "peers/granian_nats.py") + "?name=John")


def moleculer_gateway(lab: Lab) -> Figures:
    """moleculer-web in front of a Moleculer service over NATS, logging off."""
    service = _moleculer_service(lab)
    port = free_port()
    lab.start(service, MOLECULER / "gateway.js", env={"PORT": str(port)}, ready="ready")
    return lab.wrk(f"http://127.0.0.1:{port}/helloworld/call?name=John")


def moleculer_rpc(lab: Lab) -> Figures:
    """Moleculer's broker.call over NATS, logging off."""
    node = _moleculer_service(lab)
    return lab.rpc(node, MOLECULER / "call.js")


def nats_rpc(lab: Lab) -> Figures:
    """Bare nats-py request and reply of 20 bytes, no headers."""
    return _nats_rpc(lab)


def nats_rpc_headers(lab: Lab) -> Figures:
    """Bare nats-py request and reply of 20 bytes, three short headers on the request."""
    return _nats_rpc(lab, "--headers")


def nats_broker(lab: Lab) -> Figures:
    """Bare nats-py with two headers; a message to 1,000 subscriptions of one process."""
    return messaging(lab, "peers/nats_broker.py")


def messaging(lab: Lab, program: str) -> Figures:
    """Messages a second that a program publishes, and how long one takes to 1,000 subscribers."""
    lab.nats()
    timing = (str(lab.timing.warmup), str(lab.timing.seconds))
    path = BENCH / program
    flood = printed(lab, sys.executable, path, "publish", *timing)
    fan_out = printed(lab, sys.executable, path, "fan_out", *timing)
    return {"messages/s": flood["per_second"], "ms to 1,000 subscribers": fan_out["ms"]}


def jetstream(lab: Lab) -> Figures:
    """Bare nats-py on JetStream, each message synced to the disk before it is acknowledged."""
    lab.jetstream("always")
    return publishing(lab, "peers/jetstream.py")


def publishing(lab: Lab, program: str) -> Figures:
    """Events a second of a program, as many on their way as it likes and by 64 who wait."""
    timing = (str(lab.timing.warmup), str(lab.timing.seconds))
    path = BENCH / program
    flood = printed(lab, sys.executable, path, "publish", *timing)
    waited = printed(lab, sys.executable, path, "await", "64", *timing)
    return {"events/s": flood["per_second"], "events/s, 64 publishers": waited["per_second"]}


def jetstream_consumer(lab: Lab) -> Figures:
    """Bare nats-py: a durable pull consumer, 100 fetched at a time, each acknowledged."""
    lab.jetstream("2s")
    return consuming(lab, "peers/jetstream.py")


def consuming(lab: Lab, program: str) -> Figures:
    """Events a second that a program works off, of those that it has published first."""
    found = printed(lab, sys.executable, BENCH / program, "consume", str(lab.timing.seconds))
    return {"events/s": found["per_second"]}


def printed(lab: Lab, *command: str | Path) -> Figures:
    """The figures that a program prints in its last line."""
    figures: Figures = json.loads(lab.call(*command, timeout=120).splitlines()[-1])
    return figures


def grpc_nats(lab: Lab) -> Figures:
    """Bare grpcio.aio server + nats-py in front of a bare nats-py service, three short headers."""
    lab.nats()
    lab.python("peers/nats_echo.py", ready="ready")
    port = free_port()
    lab.python("peers/grpc_nats.py", env={"PORT": str(port)}, ready="ready")
    return lab.rpc(sys.executable, BENCH / "grpc_load.py", f"127.0.0.1:{port}")


def nats_stream(lab: Lab) -> Figures:
    """Bare nats-py publish and subscribe, 1 KB each, with our window acknowledged by halves."""
    lab.nats()
    lab.python("peers/nats_stream.py", "serve", ready="ready")
    return lab.stream(sys.executable, BENCH / "peers/nats_stream.py", "read")


def _nats_rpc(lab: Lab, *options: str) -> Figures:
    lab.nats()
    lab.python("peers/nats_rpc.py", "serve", ready="ready")
    return lab.rpc(sys.executable, PYTHON_RPC, "call", *options)


def _listen(lab: Lab, program: str) -> str:
    port = free_port()
    lab.python(program, env={"PORT": str(port)})
    return f"http://127.0.0.1:{port}/"


def _moleculer_service(lab: Lab) -> str:
    node = need("node")
    _install_moleculer()
    lab.nats()
    lab.start(node, MOLECULER / "service.js", ready="ready")
    return node


def _install_moleculer() -> None:
    """Fetch Moleculer into its git-ignored node_modules, the first time."""
    if (MOLECULER / "node_modules/moleculer-web").exists():
        return
    command = [need("npm"), "install", "--no-package-lock", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=MOLECULER, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"npm could not install Moleculer: {done.stderr.strip()[-300:]}")
