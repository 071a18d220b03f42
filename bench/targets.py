"""What is measured, side by side with what, and the figures that were promised (issues 2 to 6)."""

from __future__ import annotations

from dataclasses import dataclass

REQUESTS = "requests/s"
CALLS = "calls/s, 64 callers"
MEMORY = "KiB a socket"
P50 = "p50 ms, one caller"
MESSAGES = "messages/s"
WRITES = "writes/s"
FAN_OUT = "ms to 1,000 subscribers"
EVENTS = "events/s"
FIRST, SLOWEST = "p50 ms", "p99 ms"
EVENTS_64 = "events/s, 64 publishers"


@dataclass(frozen=True)
class Target:
    """A promise: a figure of ours, or its ratio to a peer's in the same round, and its bound."""

    text: str
    figure: str
    ours: str
    bound: float
    peer: str = ""
    at_most: bool = False

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound

    @property
    def promise(self) -> str:
        unit = f"× {self.peer}" if self.peer else self.figure  # noqa: RUF001 - the sign is meant
        return f"{'≤' if self.at_most else '≥'} {self.bound:g} {unit}"


@dataclass(frozen=True)
class Bench:
    """Contenders that take turns under one layout, and what is promised of them."""

    title: str
    layout: str
    contenders: tuple[str, ...]
    targets: tuple[Target, ...]


BENCHES = {
    "gateway_one_core": Bench(
        "HTTP to a service of the same host, the whole server side on one core",
        "apart",
        ("granian_hello", "gateway_lane"),
        (Target("gateway by the lane", REQUESTS, "gateway_lane", 0.6, "granian_hello"),),
    ),
    "gateway_two_cores": Bench(
        "HTTP to a service, two cores",
        "shared",
        ("moleculer_gateway", "granian_nats", "gateway_lane", "gateway_nats"),
        (
            Target("gateway by the lane", REQUESTS, "gateway_lane", 4, "moleculer_gateway"),
            Target("lane switched off", REQUESTS, "gateway_nats", 0.85, "granian_nats"),
            Target("lane switched off", REQUESTS, "gateway_nats", 2.5, "moleculer_gateway"),
        ),
    ),
    "rpc": Bench(
        "RPC: service and caller on a core each",
        "apart",
        ("moleculer_rpc", "nats_rpc", "nats_rpc_headers", "rpc_lane", "rpc_nats"),
        (
            Target("lane, 64 callers", CALLS, "rpc_lane", 1.8, "moleculer_rpc"),
            Target("lane, one caller p50", P50, "rpc_lane", 0.6, "nats_rpc", at_most=True),
            Target("NATS, one caller p50", P50, "rpc_nats", 1.15, "nats_rpc_headers", True),
            Target("NATS, 64 callers", CALLS, "rpc_nats", 0.9, "nats_rpc_headers"),
        ),
    ),
    "stream": Bench(
        "A stream of messages of 1 KB: service and reader on a core each",
        "apart",
        ("nats_stream", "stream_lane", "stream_nats"),
        (
            Target("stream by NATS", MESSAGES, "stream_nats", 0.8, "nats_stream"),
            Target("stream by the lane", MESSAGES, "stream_lane", 0.8, "nats_stream"),
        ),
    ),
    "grpc": Bench(
        "gRPC unary to a service, the whole server side on one core",
        "apart",
        ("grpc_nats", "grpc_proxy"),
        (Target("gRPC by the proxy", CALLS, "grpc_proxy", 0.9, "grpc_nats"),),
    ),
    "sockets_1000": Bench(
        "1,000 idle WebSockets: memory of the process that carries them",
        "apart",
        ("granian_sockets", "gateway_sockets"),
        (Target("an idle WebSocket", MEMORY, "gateway_sockets", 1.1, "granian_sockets", True),),
    ),
    "server_start": Bench(
        "`micro server` until it is ready, once installed",
        "shared",
        ("server_start",),
        (Target("server ready", "seconds", "server_start", 1.5, at_most=True),),
    ),
    "cli_services": Bench(
        "`micro services`, the whole command",
        "shared",
        ("cli_services",),
        (Target("micro services", "ms", "cli_services", 200, at_most=True),),
    ),
    "registry_1000": Bench(
        "1,000 registered services with 10 endpoints each",
        "shared",
        ("registry_10", "registry_1000"),
        (
            Target(
                "route lookup stays flat", "lookup µs", "registry_1000", 1.5, "registry_10", True
            ),
            Target("list all", "list ms", "registry_1000", 100, at_most=True),
        ),
    ),
    "store_rpc": Bench(
        "A get from the store through RPC: store and caller on a core each",
        "apart",
        ("nats_rpc", "store_lane", "store_nats"),
        (
            Target("get by the lane, p50", P50, "store_lane", 1.6, "nats_rpc", True),
            Target("get by NATS, p50", P50, "store_nats", 1.6, "nats_rpc", True),
        ),
    ),
    "store_writes": Bench(
        "Durable writes into SQLite, in one process",
        "shared",
        ("writes_1", "writes_64"),
        (Target("64 writers", WRITES, "writes_64", 5, "writes_1"),),
    ),
    "store_get": Bench(
        "Gets from SQLite, in one process",
        "shared",
        ("sqlite_raw", "sqlite_ours"),
        (Target("get in process", "gets/s", "sqlite_ours", 0.6, "sqlite_raw"),),
    ),
    "store_page": Bench(
        "A page of 100 records by prefix, SQLite, in one process",
        "shared",
        ("page_1k", "page_1m"),
        (Target("stays flat", "page ms", "page_1m", 2, "page_1k", True),),
    ),
    "broker": Bench(
        "Messages that nobody remembers: publishing, and one to 1,000 subscribers of a process",
        "apart",
        ("nats_broker", "broker"),
        (Target("one message to 1,000", FAN_OUT, "broker", 1.2, "nats_broker", at_most=True),),
    ),
    "events_publish": Bench(
        "Durable publishing, each event synced to the disk before it is acknowledged",
        "apart",
        ("jetstream", "events"),
        (
            Target("publish", EVENTS, "events", 0.85, "jetstream"),
            Target("64 publishers who wait", EVENTS_64, "events", 0.85, "jetstream"),
        ),
    ),
    "events_consume": Bench(
        "A group that works off events and acknowledges each; synced every 2 s",
        "apart",
        ("jetstream_consumer", "events_consumer"),
        (Target("consume and acknowledge", EVENTS, "events_consumer", 0.85, "jetstream_consumer"),),
    ),
    "events_topics": Bench(
        "Publishing on many topics",
        "apart",
        ("topics_10", "topics_10k"),
        (Target("10,000 topics stay flat", EVENTS_64, "topics_10k", 0.85, "topics_10"),),
    ),
    "schema_check": Bench(
        "The check of an event by its schema",
        "shared",
        ("schema_check",),
        (
            Target("publish, typed", "typed µs", "schema_check", 20, at_most=True),
            Target("publish, plain", "plain µs", "schema_check", 20, at_most=True),
            Target("consume", "consume µs", "schema_check", 20, at_most=True),
        ),
    ),
    "functions": Bench(
        "A function's hello over HTTP, gateway and worker on one core; rules and access log on",
        "apart",
        ("granian_hello", "node_http", "workerd", "quickjs_hello", "deno_hello"),
        (
            Target("handler on quickjs", REQUESTS, "quickjs_hello", 0.6, "granian_hello"),
            Target("handler on quickjs", REQUESTS, "quickjs_hello", 1, "node_http"),
            Target("handler on quickjs", REQUESTS, "quickjs_hello", 3, "workerd"),
            Target("module on deno", REQUESTS, "deno_hello", 0.5, "granian_hello"),
            Target("module on deno", REQUESTS, "deno_hello", 0.8, "node_http"),
        ),
    ),
    "functions_walls": Bench(
        "A function's hello with the walls and without, gateway and worker on one core",
        "apart",
        ("quickjs_hello", "open_hello"),
        (Target("all walls", REQUESTS, "quickjs_hello", 0.9, "open_hello"),),
    ),
    "functions_levels": Bench(
        "A function's hello by its isolation, two cores; on wasm each request in a fresh realm",
        "shared",
        ("quickjs_hello", "process_hello", "wasm_hello"),
        (
            Target("a process of its own", REQUESTS, "process_hello", 0.9, "quickjs_hello"),
            Target("WebAssembly", REQUESTS, "wasm_hello", 300),
        ),
    ),
    "functions_json": Bench(
        "JSON of 1 KB to a function and back, gateway and worker on one core",
        "apart",
        ("granian_echo", "node_echo", "quickjs_echo", "deno_echo"),
        (
            Target("handler on quickjs", REQUESTS, "quickjs_echo", 0.6, "granian_echo"),
            Target("handler on quickjs", REQUESTS, "quickjs_echo", 1, "node_echo"),
            Target("module on deno", REQUESTS, "deno_echo", 0.5, "granian_echo"),
            Target("module on deno", REQUESTS, "deno_echo", 0.8, "node_echo"),
        ),
    ),
    "functions_compute": Bench(
        "Six pieces of plain JavaScript, each asked for over HTTP",
        "apart",
        ("node_compute", "deno_compute"),
        (Target("compute set", "ms of the set", "deno_compute", 1.3, "node_compute", True),),
    ),
    "functions_cold": Bench(
        "The first request of a function",
        "apart",
        ("quickjs_cold", "deno_cold", "quickjs_start", "deno_start"),
        (
            Target("quickjs", FIRST, "quickjs_cold", 2, at_most=True),
            Target("quickjs", SLOWEST, "quickjs_cold", 6, at_most=True),
            Target("deno", FIRST, "deno_cold", 2, at_most=True),
            Target("deno", SLOWEST, "deno_cold", 6, at_most=True),
            Target("quickjs, its worker started first", FIRST, "quickjs_start", 25, at_most=True),
            Target("deno, its worker started first", FIRST, "deno_start", 60, at_most=True),
        ),
    ),
    "functions_many": Bench(
        "10,000 functions: lookup of a path, and the start of the server",
        "shared",
        ("lookup_10", "lookup_10k", "start_10", "start_10k"),
        (
            Target("lookup stays flat", "lookup µs", "lookup_10k", 1.5, "lookup_10", True),
            Target("server start unchanged", "seconds", "start_10k", 1.2, "start_10", True),
        ),
    ),
    "functions_memory": Bench(
        "1,000 warm functions: memory of their workers",
        "shared",
        ("quickjs_warm", "deno_warm"),
        (
            Target("quickjs", "MiB", "quickjs_warm", 512, at_most=True),
            Target("deno, more than an empty process", "MiB", "deno_warm", 150, at_most=True),
        ),
    ),
    "functions_deploy": Bench(
        "From a deploy to the first answer of the new version",
        "shared",
        ("deploys",),
        (Target("deploy to first answer", FIRST, "deploys", 50, at_most=True),),
    ),
    "functions_fetches": Bench(
        "1,000 requests of one function at once, each waiting 1 s for another server",
        "shared",
        ("fetches",),
        (
            Target("all under way at once", "at once", "fetches", 1000),
            Target("all answered", "seconds", "fetches", 2, at_most=True),
        ),
    ),
    "functions_attacks": Bench(
        "Attacks by one owner's functions: another's function and a service, 100 calls/s each",
        "shared",
        ("attacks",),
        (
            Target("a function's p99", "function, p99 during / before", "attacks", 2, at_most=True),
            Target("a service's p99", "service, p99 during / before", "attacks", 2, at_most=True),
            Target("requests lost", "lost", "attacks", 0, at_most=True),
        ),
    ),
    "auth_check": Bench(
        "The check of who may call, on the hot path",
        "shared",
        ("auth_check",),
        (Target("auth check", "check µs", "auth_check", 10, at_most=True),),
    ),
}
