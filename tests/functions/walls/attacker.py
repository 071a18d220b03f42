"""Native code within the walls: whoever connects says which system calls are to be made.

One JSON line holds the calls: each a number and its arguments, which are integers, ``{"text"}`` for
a string, ``{"room"}`` for so many zeroes, ``{"words"}`` for integers of 64 bits, or ``{"of"}`` for
the result of an earlier call. The answer is ``[result, errno]`` of each.
"""

from __future__ import annotations

import ctypes
import json
import socket
import struct
import sys
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def made(calls: list[list[Any]]) -> list[tuple[int, int]]:
    results: list[tuple[int, int]] = []
    for number, *arguments in calls:
        given = [_argument(one, results) for one in arguments]
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), *given)
        results.append((result, ctypes.get_errno() if result == -1 else 0))
    return results


def _argument(said: Any, results: list[tuple[int, int]]) -> Any:
    match said:
        case int():
            return ctypes.c_long(said)
        case {"text": text}:
            return ctypes.c_char_p(text.encode("latin-1"))
        case {"room": size}:
            return ctypes.create_string_buffer(size)
        case {"words": words}:
            return ctypes.create_string_buffer(struct.pack(f"{len(words)}q", *words))
        case {"of": index}:
            return ctypes.c_long(results[index][0])
    raise TypeError(said)


def serve(reader: Any, writer: Any) -> None:
    while line := reader.readline():
        writer.write(json.dumps(made(json.loads(line))).encode() + b"\n")
        writer.flush()


def run(listener: socket.socket) -> None:
    """A worker of the zygote."""
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as stream:
            serve(stream, stream)


def main() -> None:
    """By itself, on pipes, once it has entered the walls that are named, if any."""
    if sys.argv[1:]:
        from microcosmos.functions.walls import enter

        # Names of hosts are found by what is loaded for it.
        socket.getaddrinfo("localhost", 80)
        enter(sys.argv[1])
    serve(sys.stdin.buffer, sys.stdout.buffer)


if __name__ == "__main__":
    main()
