"""The headers that our own calls carry over NATS, so that like is compared with like."""

HEADERS = {
    "Micro-Namespace": "micro",
    "Micro-Trace": "4bf92f3577b34da6a3ce929d0e0e4736",
    "Timeout": "10000000000",
}
