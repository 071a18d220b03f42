"""For tests of services: a pytest plugin, platforms in memory and on NATS, clusters in one process."""
