"""The registry with COUNT services of ten endpoints: looking up a route, and listing them all."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from microcosmos.base import names
from microcosmos.base.schema import Value
from microcosmos.gateway.routes import Routes
from microcosmos.registry import Endpoint, Node, Service, Table, this_host
from microcosmos.registry.client import RegistryClient
from microcosmos.registry.interface import HOST, LANE
from microcosmos.registry.memory import MemoryRegistry
from microcosmos.registry.service import RegistryService
from microcosmos.rpc import Client, Server
from microcosmos.rpc.lane import LaneTransport, listen

LOOKUPS = 100_000
LISTS = 5


async def main(count: int) -> None:
    services = [_service(number) for number in range(count)]
    async with _registry(services) as registry:
        listed = [await _time_to_list(registry, count) for _ in range(LISTS + 1)][1:]
    figures = {"lookup µs": _lookup(services), "list ms": statistics.median(listed)}
    print(json.dumps(figures))


def _service(number: int) -> Service:
    name = f"service{number}"
    request = Value(name="Request", type="Request", values=[Value(name="name", type="string")])
    endpoints = [
        Endpoint(name=f"Service{number}.Method{method}", request=request, response=request)
        for method in range(10)
    ]
    node = Node(id=f"{name}-1", metadata={LANE: f"lanes/{number}.sock", HOST: this_host()})
    return Service(name=name, endpoints=endpoints, nodes=[node])


@asynccontextmanager
async def _registry(services: list[Service]) -> AsyncIterator[RegistryClient]:
    """A client of a registry that has these services, over a lane in this process."""
    registry = MemoryRegistry()
    for service in services:
        await registry.register(service)
    server = Server()
    server.add(RegistryService(registry).hosted())
    socket = Path(os.environ["MICRO_HOME"] + ".sock")
    async with listen(socket, server):
        transport = LaneTransport(Table({"registry": str(socket)}))
        yield RegistryClient(Client([transport]))
        await transport.close()


async def _time_to_list(registry: RegistryClient, count: int) -> float:
    started = time.perf_counter()
    services = await registry.list_services()
    elapsed = time.perf_counter() - started
    if len(services) != count:
        raise SystemExit(f"listed {len(services)} of {count} services")
    return elapsed * 1000


def _lookup(services: list[Service]) -> float:
    """Microseconds from an HTTP path to the sockets and the subject, every route alike."""
    table = Table()
    table.replace(services)
    paths = [names.to_path(s.name, e.name) for s in services for e in s.endpoints]
    routes = Routes(table)
    _look_up(table, routes, paths)
    asked = random.Random(1).choices(paths, k=LOOKUPS)
    started = time.perf_counter()
    _look_up(table, routes, asked)
    return (time.perf_counter() - started) / LOOKUPS * 1e6


def _look_up(table: Table, routes: Routes, paths: list[str]) -> None:
    for path in paths:
        route = routes[path]
        table.lanes(route.service)
        table.subject(route.service, route.endpoint)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
