"""foo tells whoever listens how it is."""

import msgspec

from microcosmos import Service


class Healthcheck(msgspec.Struct):
    healthy: bool
    service: str


foo = Service("foo")


@foo.endpoint
async def report(healthy: bool = True) -> None:
    """Tell how this service is; nobody has to listen."""
    await foo.broker.publish("health", Healthcheck(healthy, foo.name))


if __name__ == "__main__":
    foo.run()
