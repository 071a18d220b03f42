"""One instance of the guest: a memory, and calls into it.

A run takes a handful of calls, and the library's own way of making one takes longer than the call.
So these go to the C interface beneath, as the library declares it.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import _bindings as native
from wasmtime import _ffi

from microcosmos.functions.quickjs.failures import Ended

from .limits import ROOM, TOUCHED
from .machine import Machine

PAGE = 65536
"""Bytes that a memory grows by."""

_I32, _I64 = 0, 1
_MOST = 5
_VALUE = ctypes.sizeof(native.wasmtime_val)
_OF = native.wasmtime_val.of.offset
_EXTERN_OF = native.wasmtime_extern.of.offset

_word = struct.Struct("<i")
_long = struct.Struct("<q")


def _function(name: str, result: Any, *arguments: Any) -> Callable[..., int]:
    # A pointer to the function of our own: the library's wants objects where numbers do.
    function: Any = _ffi.dll[name]
    function.restype = result
    function.argtypes = arguments
    return function  # type: ignore[no-any-return]


_pointer, _size = ctypes.c_void_p, ctypes.c_size_t
_call = _function(
    *("wasmtime_func_call", _pointer, _pointer, _pointer, _pointer, _size, _pointer, _size),
    _pointer,
)
_export = _function(
    *("wasmtime_instance_export_get", ctypes.c_bool, _pointer, _pointer, ctypes.c_char_p, _size),
    _pointer,
)
_data = _function("wasmtime_memory_data", _pointer, _pointer, _pointer)
_data_size = _function("wasmtime_memory_data_size", _size, _pointer, _pointer)
_grow = _function("wasmtime_memory_grow", _pointer, _pointer, _pointer, ctypes.c_uint64, _pointer)
_deadline = _function("wasmtime_context_set_epoch_deadline", None, _pointer, ctypes.c_uint64)
_limiter = _function(
    *("wasmtime_store_limiter", None, _pointer),
    *(ctypes.c_int64,) * 5,
)

_global_set = _function("wasmtime_global_set", _pointer, _pointer, _pointer, _pointer)

# One thread runs one instance at a time: arguments and results may always be in the same place.
_arguments = (native.wasmtime_val * _MOST)()
_results = (native.wasmtime_val * 1)()
_trap = ctypes.c_void_p()
_written = memoryview(_arguments).cast("B")
_read = memoryview(_results).cast("B")
_at = ctypes.addressof(_arguments)
_result_at = ctypes.addressof(_results)
_trap_at = ctypes.addressof(_trap)
for _number in range(_MOST):
    _written[_number * _VALUE] = _I32

_INTERRUPTED = "InternalError: interrupted"
_NO_MEMORY = "InternalError: out of memory"
_NO_STACK = "RangeError: Maximum call stack size exceeded"

_TRAPS = {
    wasmtime.TrapCode.INTERRUPT: _INTERRUPTED,
    wasmtime.TrapCode.STACK_OVERFLOW: _NO_STACK,
    # Its stack lies at the very beginning of its memory.
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: _NO_STACK,
    # The guest gives up where it gets no memory.
    wasmtime.TrapCode.UNREACHABLE: _NO_MEMORY,
}


class Instance:
    """One memory, in which code runs.

    After `Ended` by a trap nothing of it may be used any more, but `close`.

    Attributes:
        clock: nanoseconds since the epoch, as the guest sees them.
        address: where its memory begins.
        size: bytes of that.

    Args:
        machine: the guest.
        most: bytes that its memory may have.

    Raises:
        MemoryError: there is no room for another one.
    """

    __slots__ = (
        *("_context", "_functions", "_instance", "_machine", "_memory", "_store", "address"),
        *("clock", "most", "size"),
    )

    def __init__(self, machine: Machine, most: int) -> None:
        if machine.taken + TOUCHED > ROOM:
            raise MemoryError
        self.clock: Callable[[], int] = time.time_ns
        self.most = most
        self._machine = machine
        self._store = wasmtime.Store(machine.engine)
        self._context = ctypes.addressof(self._store._context().contents)
        self._instance = machine.ready.instantiate(self._store)._instance
        self._functions: dict[bytes, native.wasmtime_extern] = {}
        self._memory = ctypes.addressof(self._found(b"memory")) + _EXTERN_OF
        self.address = _data(self._context, self._memory)
        self.size = machine.shared
        self.measure()

    def close(self) -> None:
        """Let go of the memory."""
        self._machine.taken -= self.size - self._machine.shared
        self._store.close()

    def measure(self) -> None:
        """See how large the memory is."""
        size = _data_size(self._context, self._memory)
        self._machine.taken += size - self.size
        self.size = size

    def grow(self, size: int) -> None:
        """Let the memory be at least so large."""
        if size > self.size:
            before = ctypes.c_uint64()
            pages = -(-(size - self.size) // PAGE)
            if _grow(self._context, self._memory, pages, ctypes.addressof(before)):
                raise MemoryError
            self.measure()

    def begin(self, seconds: float) -> None:
        """Calls begin, which may take so much of the processor together."""
        machine = self._machine
        most = min(self.most, max(self.size + ROOM - machine.taken, self.size))
        _limiter(ctypes.addressof(self._store.ptr().contents), most, -1, -1, -1, -1)
        _deadline(self._context, 1)
        machine.current = self
        machine.watch.begin(seconds)

    def over(self) -> None:
        """They are over."""
        self._machine.watch.over()
        self.measure()

    def call(self, name: bytes, *arguments: int) -> int:
        """Call an export that takes words and gives one, or nothing.

        Raises:
            Ended: by a limit.
        """
        at = _OF
        for argument in arguments:
            _word.pack_into(_written, at, argument)
            at += _VALUE
        return self._called(name, len(arguments))

    def number(self, value: float) -> int:
        """A number of JavaScript's."""
        _written[0] = _I64
        _long.pack_into(_written, _OF, *_long.unpack(struct.pack("<d", value)))
        try:
            return self._called(b"new_number", 1)
        finally:
            _written[0] = _I32

    def _called(self, name: bytes, count: int) -> int:
        function = ctypes.addressof(self._functions.get(name) or self._found(name)) + _EXTERN_OF
        results = 0 if name in _VOID else 1
        error = _call(self._context, function, _at, count, _result_at, results, _trap_at)
        if error:
            raise _failure(error)
        if _trap.value:
            raise Ended(self._trapped())
        return int(_word.unpack_from(_read, _OF)[0]) if results else 0

    def _trapped(self) -> str:
        trap = wasmtime.Trap._from_ptr(ctypes.cast(_trap, ctypes.POINTER(native.wasm_trap_t)))
        _trap.value = None
        code = trap.trap_code
        return _TRAPS.get(code, f"InternalError: {code}") if code else _NO_MEMORY

    def _found(self, name: bytes) -> native.wasmtime_extern:
        extern = self._functions[name] = native.wasmtime_extern()
        there = _export(
            *(self._context, ctypes.addressof(self._instance), name, len(name)),
            ctypes.addressof(extern),
        )
        if not there:
            raise LookupError(f"the guest has no {name.decode()}: is quickjs-rs another version?")
        return extern

    # Its memory. Where in it something is, the guest says, which nobody believes.

    def write(self, at: int, data: bytes) -> None:
        """Put bytes into it."""
        at &= 0xFFFFFFFF
        if at + len(data) > self.size:
            self.measure()
            if at + len(data) > self.size:
                raise Ended(_NO_MEMORY)
        ctypes.memmove(self.address + at, data, len(data))

    def read(self, at: int, size: int) -> bytes:
        """Take bytes out of it."""
        at, size = at & 0xFFFFFFFF, size & 0xFFFFFFFF
        if at + size > self.size:
            self.measure()
            if at + size > self.size:
                raise Ended(_NO_MEMORY)
        return ctypes.string_at(self.address + at, size)

    def word(self, at: int) -> int:
        """A word of it."""
        return int(_word.unpack(self.read(at, 4))[0])

    def stack(self, size: int) -> None:
        """Let its stack have so many bytes: it grows from there down to where memory begins."""
        extern = self._functions.get(b"__stack_pointer") or self._found(b"__stack_pointer")
        _word.pack_into(_written, _OF, size)
        at = ctypes.addressof(extern) + _EXTERN_OF
        error = _global_set(self._context, at, _at)
        if error:
            raise _failure(error)


def _failure(error: int) -> wasmtime.WasmtimeError:
    return wasmtime.WasmtimeError._from_ptr(
        ctypes.cast(error, ctypes.POINTER(native.wasmtime_error_t))
    )


_VOID = frozenset((b"free_value", b"qjs_free", b"qjs_result_free", b"run_gc", b"set_memory_limit"))
