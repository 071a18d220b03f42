"""The origin of all realms: the prelude in an instance, made once in each worker."""

from __future__ import annotations

import base64
import struct

from microcosmos.functions.quickjs.failures import Ended
from microcosmos.functions.quickjs.limits import LOAD_CPU
from microcosmos.functions.quickjs.prelude import BELOW, PARTS, REALM

from .image import Image
from .instance import Instance
from .limits import MIB, STACK, TOUCHED
from .machine import Machine

_MOST = 64 * MIB

_BIRTH = 0x00C0_FFEE_5EED_15
"""Microseconds since the epoch: no time that comes by chance, so that it is found again."""

_HELP = (
    "\n" * BELOW
    + """(entry, performance, now) => {
  const { String, Object } = globalThis
  const reseed = entry('reseed')
  const helps = {
    __proto__: null,
    anew(seed, enter, a, b, c, d, e) {
      reseed(seed)
      return enter(a, b, c, d, e)
    },
    told(error) {
      try {
        const stack = error === null || error === undefined ? '' : error.stack
        return String(error) + '\\n' + stack
      } catch {
        return 'something that cannot be shown'
      }
    },
  }
  // Its own origin is that of the image.
  const elapsed = () => performance.now()
  const value = { now: elapsed, get timeOrigin() { return now() - elapsed() } }
  Object.defineProperty(globalThis, 'performance', { value, writable: true, configurable: true })
  return (name) => helps[name] ?? entry(name)
}"""
)

ENTRIES = (
    *("run", "execute", "event", "again", "settle", "grant", "take", "clear", "setup", "source"),
    *("script", "anew", "told"),
)
"""What is entered, by its name in the prelude."""

BUFFER = 8192
"""Bytes of texts that go in without room made for them first."""

handles = tuple(struct.Struct(f"<{count}i") for count in range(8))
"""Of arguments, by their number."""


class Origin:
    """What every realm has, at the same place in its memory.

    Attributes:
        machine: that it is of.
        image: of its memory.
        doors: handles of `ENTRIES`.
        one: a handle of the number.
        undefined: a handle.
        out: where the guest puts a word.
        given: where it takes arguments from.
        buffer: where it takes short texts from.

    Args:
        machine: the guest.

    Raises:
        LookupError: the guest is not that which this was written for.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._instance = instance = Instance(machine, _MOST)
        instance.clock = lambda: _BIRTH * 1000
        instance.begin(LOAD_CPU)
        try:
            self.out = instance.call(b"qjs_alloc", 4)
            self.given = instance.call(b"qjs_alloc", 4 * len(handles))
            self.buffer = instance.call(b"qjs_alloc", BUFFER)
            self.one = instance.number(1)
            self.undefined = instance.call(b"new_undefined")
            self.doors = self._made()
            instance.call(b"run_gc")
        finally:
            instance.over()
        self.image = Image(instance)
        instance.close()
        machine.shared = self.image.size - TOUCHED
        self._random = self._only(struct.pack("<Q", _BIRTH))
        self._began = self._only(struct.pack("<d", _BIRTH / 1000))

    def renew(self, instance: Instance, random: bytes) -> None:
        """Give an instance a time to count from, and randomness of its own.

        Args:
            instance: with an image that began with this one.
            random: 8 bytes.
        """
        # A state of zeros would stay so.
        instance.write(self._random, random if any(random) else b"random!!")
        instance.write(self._began, struct.pack("<d", instance.clock() / 1e6))

    def _made(self) -> dict[str, int]:
        # Evaluated as functions themselves do it, since the guest is strict about all else.
        evaluate = self._evaluated("eval")
        entry = self._called(self._called(evaluate, self._text(REALM)), self._text(PARTS))
        helps = self._called(evaluate, self._text(_HELP))
        ahead = self._called(entry, self._text("ahead"))
        self._called(ahead, self._text(base64.b64encode(bytes(32)).decode()))
        performance, now = self._evaluated("performance"), self._evaluated("Date.now")
        door = self._called(helps, entry, performance, now)
        return {name: self._called(door, self._text(name)) for name in ENTRIES}

    def _text(self, text: str) -> int:
        data = text.encode()
        at = self._instance.call(b"qjs_alloc", len(data))
        self._instance.write(at, data)
        made = self._instance.call(b"new_string", at, len(data))
        self._instance.call(b"qjs_free", at, len(data))
        return made

    def _evaluated(self, text: str) -> int:
        data = text.encode()
        self._instance.write(self.buffer, data)
        return self._result(b"eval_code", self.buffer, len(data), self.out)

    def _called(self, function: int, *given: int) -> int:
        self._instance.write(self.given, handles[len(given)].pack(*given))
        call = (function, self.undefined, self.given, len(given), self.out)
        return self._result(b"call_function", *call)

    def _result(self, name: bytes, *given: int) -> int:
        if self._instance.call(name, *given):
            raise Ended("the prelude fails in the guest")
        return self._instance.word(self.out)

    def _only(self, what: bytes) -> int:
        found = self.image.places(what)
        if len(found) != 1:
            raise LookupError("the guest keeps its time elsewhere: is quickjs-rs another version?")
        return found[0]


def stack(size: int) -> int:
    """The bytes that a function's stack has, which is to be as large as this.

    They are whole lines of 16 bytes.
    """
    return min(size, STACK) & ~15
