"""watcher listens to how others are."""

import msgspec

from microcosmos import Service


class Healthcheck(msgspec.Struct):
    healthy: bool
    service: str


watcher = Service("watcher")

HEALTH: dict[str, bool] = {}


@watcher.subscribe("health")
async def note(check: Healthcheck) -> None:
    """Each replica of this service hears each message."""
    HEALTH[check.service] = check.healthy
    state = "is healthy" if check.healthy else "is not healthy"
    print(f"Service {check.service} {state}", flush=True)


@watcher.endpoint
async def read() -> dict[str, bool]:
    """Who was healthy when last heard of."""
    return HEALTH


if __name__ == "__main__":
    watcher.run()
