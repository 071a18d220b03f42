"""Servers, endpoints and clients over memory, the same-host lane and NATS."""
