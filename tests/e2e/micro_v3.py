"""A program that was written for Micro v3: its stubs, an address, and nothing else of ours.

Arguments: the proxy's address, a folder with a service, a token. Prints what it has seen as JSON.
"""

# ruff: noqa: T201
from __future__ import annotations

import contextlib
import io
import json
import sys
import tarfile
import threading
import time

import debug_pb2
import errors_pb2
import grpc
import registry_pb2 as registry
import registry_pb2_grpc as registries
import runtime_pb2 as runtime
import runtime_pb2_grpc as runtimes

NAME = "fromv3"
address, folder, token = sys.argv[1:]
seen: dict = {}


class Shown(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
):
    """Shows the token with every call, as a client of Micro does."""

    def carry(self, onward, details, request):
        shown = [*(details.metadata or ()), ("authorization", f"Bearer {token}")]
        return onward(details._replace(metadata=shown), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_unary = carry


def error_of(exc: grpc.RpcError) -> list:
    details = dict(exc.trailing_metadata())["grpc-status-details-bin"]
    # google.rpc.Status {3 details: Any {2 value}}: by its last bytes, as no file of it is here.
    at = details.rindex(b"errors.Error") + len(b"errors.Error") + 1
    size, at = details[at], at + 1
    error = errors_pb2.Error.FromString(details[at : at + size])
    return [exc.code().name, error.id, error.code, error.detail]


def wait_for(condition, patience: float = 20.0):
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "the condition never came true"
        time.sleep(0.05)
    return found


def chunks():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, arcname=".")
    data = packed.getvalue()
    service = runtime.Service(name=NAME, version="latest")
    for at in range(0, len(data), 1024):
        yield runtime.UploadRequest(service=service, data=data[at : at + 1024])
        service = None


with grpc.insecure_channel(address) as opened:
    channel = grpc.intercept_channel(opened, Shown())
    services, manager = registries.RegistryStub(channel), runtimes.RuntimeStub(channel)

    listed = services.ListServices(registry.ListRequest())
    seen["core"] = sorted(one.name for one in listed.services)
    watched: list = []
    watching = services.Watch(registry.WatchRequest(service=NAME))

    def watch() -> None:
        with contextlib.suppress(grpc.RpcError):
            for one in watching:
                watched.append([one.action, one.service.name])  # noqa: PERF401 - seen meanwhile

    watcher = threading.Thread(target=watch)
    watcher.start()

    uploaded = runtimes.SourceStub(channel).Upload(chunks())
    seen["upload"] = uploaded.id.partition("://")[0]
    service = runtime.Service(name=NAME, version="latest", source=uploaded.id)
    resource = runtime.Resource(service=service)
    options = runtime.CreateOptions(env=["GREETING=Hi"], instances=1)
    manager.Create(runtime.CreateRequest(resource=resource, options=options))

    def running():
        wanted = runtime.ReadOptions(service=NAME)
        (found,) = manager.Read(runtime.ReadRequest(options=wanted)).services
        assert not found.metadata.get("error"), found
        return found if found.status == 4 else None

    found = wait_for(running)
    seen["read"] = [found.name, found.version, found.source, found.metadata["owner"]]
    (known,) = services.GetService(registry.GetRequest(service=NAME)).services
    seen["endpoints"] = [one.name for one in known.endpoints]

    call = channel.unary_unary(f"/{NAME}.Fromv3/Call")
    seen["answer"] = json.loads(call(b'{"name":"Ann"}'))

    def logged():
        asked = runtime.LogsRequest(service=NAME, count=10)
        return [one.message for one in manager.Logs(asked) if "said to Ann" in one.message]

    seen["logs"] = len(wait_for(logged))
    follow = manager.Logs(runtime.LogsRequest(service=NAME, count=10, stream=True))
    heard = (one.message for one in follow)
    next(line for line in heard if "said to Ann" in line)
    call(b'{"name":"Bob"}')
    seen["followed"] = "said to Bob" in next(line for line in heard if "said to" in line)
    follow.cancel()

    health = channel.unary_unary(f"/{NAME}.Debug/Health")(b"")
    seen["health"] = debug_pb2.HealthResponse.FromString(health).status

    def counted():
        stats = channel.unary_unary(f"/{NAME}.Debug/Stats")(b"")
        found = debug_pb2.StatsResponse.FromString(stats)
        assert 0 < found.started <= found.timestamp
        return found.requests

    seen["requests"] = wait_for(counted)

    build = runtimes.BuildStub(channel).Read(runtime.Service(name=NAME))
    seen["build"] = [type(one.data).__name__ for one in build][:1]

    more = runtime.UpdateOptions(instances=2)
    updated = runtime.Resource(service=runtime.Service(name=NAME))
    manager.Update(runtime.UpdateRequest(resource=updated, options=more))

    def grown():
        (found,) = services.GetService(registry.GetRequest(service=NAME)).services
        return len(found.nodes) == 2

    wait_for(grown)
    manager.Delete(runtime.DeleteRequest(resource=resource))
    for name, ask in {
        "gone": lambda: services.GetService(registry.GetRequest(service=NAME)),
        "deleted": lambda: manager.Delete(runtime.DeleteRequest(resource=resource)),
        "quota": lambda: manager.Create(
            runtime.CreateRequest(resource=runtime.Resource(namespace=runtime.Namespace(name="x")))
        ),
        "empty": lambda: manager.Create(runtime.CreateRequest()),
        "health_of_nobody": lambda: channel.unary_unary("/nobody.Debug/Health")(b""),
    }.items():
        try:
            ask()
        except grpc.RpcError as exc:
            seen[name] = error_of(exc)

    wait_for(lambda: ["delete", NAME] in watched)
    watching.cancel()
    watcher.join(5)
    seen["watched"] = [watched[0], watched[-1]]

print(json.dumps(seen))
