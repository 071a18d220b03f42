"""`micro proto`."""

from __future__ import annotations

from typing import Protocol

import click
import msgspec

from microcosmos.base import names


class Session(Protocol):
    """What this command asks of the command line."""

    def proto(self, service: str) -> bytes: ...


class File(msgspec.Struct):
    """A protobuf file."""

    service: str
    name: str
    package: str
    text: str

    def readable(self) -> str:
        """As ``protoc`` reads it."""
        return self.text.rstrip("\n")


@click.command()
@click.argument("service")
@click.pass_obj
def proto(session: Session, service: str) -> File:
    """Print the .proto file of a service.

    Its fields keep their numbers for ever, so that what was generated from an older file still
    works. Core services have the messages of Micro v3.
    """
    data = session.proto(names.check_service(service))
    # Imported here: who asks for help should not wait for protobuf.
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    from . import text

    file = FileDescriptorProto.FromString(data)
    return File(service, file.name, file.package, text.write(file))
