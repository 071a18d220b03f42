"""Functions and what stands beside them: what each contender starts, and how it is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from contenders import printed
from lab import BENCH, PEERS, ROOT, Failed, Figures, Lab, Unavailable, free_port, need
from subjects import micro, server

SOURCES = BENCH / "ours/functions"
LOAD = BENCH / "ours/functions_load.py"
ATTACKS = BENCH / "ours/functions_attacks.py"
OPEN = BENCH / "ours/open_zygote.py"
ECHOED = BENCH / "echo.lua"
NODE = PEERS / "node"
WORKERD = PEERS / "workerd"
LOGGED = {"MICRO_API_ACCESS_LOG": "json"}
COLD, STARTS, DEPLOYS, FETCHES, WARM, MANY, PIECES = 200, 20, 20, 1000, 1000, 10_000, 20


def node_http(lab: Lab) -> Figures:
    """Node's http, one process."""
    return lab.wrk(_node(lab, "server.js"))


def node_echo(lab: Lab) -> Figures:
    """Node's http: JSON.parse and JSON.stringify."""
    return lab.wrk(_node(lab, "server.js"), script=ECHOED)


def node_compute(lab: Lab) -> Figures:
    """Node's http in front of the same file."""
    return printed(lab, sys.executable, LOAD, "compute", _node(lab, "compute.mjs"), str(PIECES))


def granian_echo(lab: Lab) -> Figures:
    """Bare Granian RSGI, one worker: msgspec reads and writes."""
    port = free_port()
    lab.python("peers/granian_echo.py", env={"PORT": str(port)})
    return lab.wrk(f"http://127.0.0.1:{port}/", script=ECHOED)


def workerd(lab: Lab) -> Figures:
    """Cloudflare's workerd, one process, a constant Response."""
    binary = _install_workerd()
    port = free_port()
    lab.start(binary, "serve", WORKERD / "config.capnp", f"--socket-addr=http=127.0.0.1:{port}")
    return lab.wrk(f"http://127.0.0.1:{port}/")


def quickjs_hello(lab: Lab) -> Figures:
    """A handler on quickjs that gives an object; rules, deadline, counters and access log on."""
    return lab.wrk(_deployed(lab, "hello.js"))


def process_hello(lab: Lab) -> Figures:
    """The same handler in a process of its own."""
    return lab.wrk(_deployed(lab, "hello.js", "--isolation", "process"))


def open_hello(lab: Lab) -> Figures:
    """The same handler in a worker that is closed in by nothing."""
    api = server(lab, LOGGED, sys.executable, OPEN)
    lab.call(micro(), "functions", "deploy", "hello", SOURCES / "hello.js")
    return lab.wrk(f"http://{api}/hello")


def wasm_hello(lab: Lab) -> Figures:
    """The same handler in WebAssembly, each request in a fresh realm."""
    return lab.wrk(_deployed(lab, "hello.js", "--isolation", "wasm"))


def deno_hello(lab: Lab) -> Figures:
    """A module on deno: real Request and Response; the rest as before."""
    return lab.wrk(_deployed(lab, "module.js"))


def quickjs_echo(lab: Lab) -> Figures:
    """A handler on quickjs that gives back the request's JSON."""
    return lab.wrk(_deployed(lab, "echo.js"), script=ECHOED)


def deno_echo(lab: Lab) -> Figures:
    """A module on deno that does so."""
    return lab.wrk(_deployed(lab, "echo_module.js"), script=ECHOED)


def deno_compute(lab: Lab) -> Figures:
    """A module on deno."""
    url = f"{_deployed(lab, 'compute.js')}/"
    return printed(lab, sys.executable, LOAD, "compute", url, str(PIECES))


def quickjs_cold(lab: Lab) -> Figures:
    """200 handlers on quickjs, each called once."""
    return _load(lab, "cold", "hello.js", str(COLD))


def deno_cold(lab: Lab) -> Figures:
    """200 modules on deno, each called once."""
    return _load(lab, "cold", "module.js", str(COLD))


def quickjs_start(lab: Lab) -> Figures:
    """20 accounts with a handler on quickjs each."""
    return _load(lab, "start", "hello.js", str(STARTS))


def deno_start(lab: Lab) -> Figures:
    """20 accounts with a module on deno each."""
    return _load(lab, "start", "module.js", str(STARTS))


def deploys(lab: Lab) -> Figures:
    """A handler on quickjs, deployed 20 times over HTTP and asked until the new one answers."""
    return _load(lab, "deploy", str(DEPLOYS))


def fetches(lab: Lab) -> Figures:
    """1,000 requests at once, each waiting 1 s for another server, in one quickjs worker."""
    return _load(lab, "fetches", str(FETCHES))


def attacks(lab: Lab) -> Figures:
    """Another owner's functions loop, multiply, fill their memory and crash, without a pause."""
    api = server(lab, LOGGED)
    lab.call(micro(), "run", ROOT / "examples/helloworld")
    lab.wait_for_hello(f"http://{api}/helloworld/call?name=John")
    zygote = json.loads((lab.folder / "home/server/server.json").read_text())["pids"]["zygote"]
    seconds = str(lab.timing.seconds)
    return printed(lab, sys.executable, ATTACKS, api, _token(lab), str(zygote), seconds)


def quickjs_warm(lab: Lab) -> Figures:
    """1,000 handlers on quickjs."""
    return _warm(lab, "hello.js", 0)


def deno_warm(lab: Lab) -> Figures:
    """1,000 modules on deno: beyond the process with one."""
    return _warm(lab, "module.js", 1)


def lookup_10(lab: Lab) -> Figures:
    """10 functions."""
    return printed(lab, sys.executable, LOAD, "lookup", "10")


def lookup_10k(lab: Lab) -> Figures:
    """10,000 functions."""
    return printed(lab, sys.executable, LOAD, "lookup", str(MANY))


def start_10(lab: Lab) -> Figures:
    """A home with 10 functions."""
    return _start_with(lab, 10)


def start_10k(lab: Lab) -> Figures:
    """A home with 10,000 functions."""
    return _start_with(lab, MANY)


def _start_with(lab: Lab, count: int) -> Figures:
    """Seconds until a server answers whose home has so many functions."""
    home = lab.folder / "home"
    printed(lab, sys.executable, LOAD, "fill", str(home), str(count))
    began = time.perf_counter()
    server(lab)
    return {"seconds": time.perf_counter() - began}


def _node(lab: Lab, program: str) -> str:
    port = free_port()
    lab.start(need("node"), NODE / program, env={"PORT": str(port)}, ready="ready")
    return f"http://127.0.0.1:{port}/"


def _deployed(lab: Lab, file: str, *flags: str) -> str:
    """A server with one function; its URL."""
    api = server(lab, LOGGED)
    lab.call(micro(), "functions", "deploy", "hello", SOURCES / file, *flags)
    return f"http://{api}/hello"


def _load(lab: Lab, verb: str, *arguments: str) -> Figures:
    """What the load program says of a new server."""
    api = server(lab, LOGGED)
    return printed(lab, sys.executable, LOAD, verb, api, _token(lab), *arguments)


def _token(lab: Lab) -> str:
    return lab.call(micro(), "user", "token").strip()


def _warm(lab: Lab, file: str, before: int) -> Figures:
    """What the workers of functions take, less what they took with so many."""
    api, token = server(lab, LOGGED), _token(lab)
    if before:
        printed(lab, sys.executable, LOAD, "warm", api, token, file, str(before))
    taken = _workers_memory(lab) if before else 0.0
    printed(lab, sys.executable, LOAD, "warm", api, token, file, str(WARM))
    return {"MiB": _workers_memory(lab) - taken}


def _workers_memory(lab: Lab) -> float:
    """MiB of all workers of functions, what they share with others in parts."""
    told = json.loads((lab.folder / "home/server/server.json").read_text())["pids"]
    if "zygote" not in told:
        raise Failed("server.json tells of no zygote")
    return sum(_memory(pid) for pid in _children(told["zygote"])) / 1024


def _children(pid: int) -> list[int]:
    folders = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in folders for child in (task / "children").read_text().split()]


def _memory(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _install_workerd() -> Path:
    """Fetch workerd into its git-ignored node_modules, the first time; its program."""
    binary = WORKERD / "node_modules/.bin/workerd"
    if not binary.exists():
        command = [need("npm"), "install", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=WORKERD, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"npm could not install workerd: {done.stderr.strip()[-300:]}")
    # The script only finds the true program and starts it: a process more.
    true = next(WORKERD.glob("node_modules/@cloudflare/workerd-*/bin/workerd"), None)
    return true or binary
