"""Say hello: the smallest whole service."""

import msgspec

from microcosmos import Service


class Greeting(msgspec.Struct):
    msg: str


helloworld = Service("helloworld")


@helloworld.endpoint
async def call(name: str = "World") -> Greeting:
    """Say hello."""
    return Greeting(msg=f"Hello {name}")


if __name__ == "__main__":
    helloworld.run()
