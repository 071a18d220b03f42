"""A program that was written for Micro v3: it publishes, consumes and reads events and messages.

Arguments: the proxy's address, a token. Prints what it has seen as JSON.
"""

# ruff: noqa: T201
from __future__ import annotations

import json
import queue
import sys
import threading
import time

import broker_pb2 as broker
import broker_pb2_grpc as brokers
import events_pb2 as events
import events_pb2_grpc as streams
import grpc

address, token = sys.argv[1:]
mine = (("authorization", f"Bearer {token}"),)
seen: dict = {}
SECOND = 1_000_000_000


def code_of(ask) -> str:
    try:
        ask()
    except grpc.RpcError as exc:
        return exc.code().name
    return "OK"


class Consumer:
    """Micro's own: it sends acknowledgements on the stream that it asked by."""

    def __init__(self, channel, **request):
        self._sent = queue.SimpleQueue()
        self._sent.put(events.ConsumeRequest(**request))
        self._call = channel.stream_stream(
            "/events.Stream/Consume",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=events.Event.FromString,
        )(iter(self._sent.get, None), metadata=mine, timeout=60)

    def next(self):
        return next(self._call)

    def ack(self, event, success=True):
        self._sent.put(events.AckRequest(id=event.id, success=success))

    def close(self):
        self._sent.put(None)
        self._call.cancel()


with grpc.insecure_channel(address) as channel:
    stream, store = streams.StreamStub(channel), streams.StoreStub(channel)
    for number in range(3):
        draft = events.PublishRequest(
            topic="v3.orders",
            metadata={"number": str(number)},
            payload=b"\x00%d" % number,
            timestamp=1234567890 + number,
        )
        stream.Publish(draft, metadata=mine)
    page = events.ReadRequest(topic="v3.orders", limit=2, offset=1)
    found = store.Read(page, metadata=mine).events
    seen["read"] = [[one.payload.hex(), one.metadata["Number"], one.timestamp] for one in found]

    group = {"group": "v3", "topic": "v3.orders", "offset": 1, "ack_wait": SECOND // 2}
    consumer = Consumer(channel, **group, retry_limit=-1)
    first, second, third = (consumer.next() for _ in range(3))
    seen["consumed"] = [one.payload.hex() for one in (first, second, third)]
    consumer.ack(first)
    consumer.ack(third)
    seen["again"] = [consumer.next().id == second.id, consumer.next().id == second.id]
    consumer.ack(second)
    # It is only known to have arrived by what comes after it.
    time.sleep(0.7)
    consumer.close()

    after = Consumer(channel, **group, retry_limit=-1)
    stream.Publish(events.PublishRequest(topic="v3.orders", payload=b"new"), metadata=mine)
    seen["after"] = after.next().payload.decode()
    after.close()

    # The stub of the .proto file cannot acknowledge: it only asks.
    plain = stream.Consume(
        events.ConsumeRequest(topic="v3.orders", offset=1), metadata=mine, timeout=30
    )
    seen["plain"] = [next(plain).payload.hex() for _ in range(3)]
    plain.cancel()
    seen["write"] = code_of(lambda: store.Write(events.WriteRequest(), metadata=mine))
    seen["nobody"] = [
        code_of(lambda: stream.Publish(events.PublishRequest(topic="v3.orders"))),
        code_of(lambda: store.Read(page)),
        code_of(lambda: next(stream.Consume(events.ConsumeRequest(topic="v3.orders")))),
    ]
    seen["bad"] = code_of(lambda: store.Read(events.ReadRequest(topic="a b"), metadata=mine))

    messages = brokers.BrokerStub(channel)
    heard = messages.Subscribe(
        broker.SubscribeRequest(topic="v3.health"), metadata=mine, timeout=30
    )
    message = broker.Message(header={"foo": "bar"}, body=b"\x00up")
    publish = broker.PublishRequest(topic="v3.health", message=message)
    done = threading.Event()

    def keep_publishing():
        # Nobody remembers a message: it is sent until somebody listens.
        while not done.wait(0.05):
            messages.Publish(publish, metadata=mine)

    publisher = threading.Thread(target=keep_publishing)
    publisher.start()
    got = next(heard)
    done.set()
    publisher.join()
    seen["message"] = [got.header["Foo"], got.body.hex()]

print(json.dumps(seen))
