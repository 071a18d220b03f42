"""Seccomp: the filter of system calls."""

from __future__ import annotations

import errno
import functools
from typing import TYPE_CHECKING

from . import process
from .calls import REFUSALS, Calls, Is
from .names import Missing

if TYPE_CHECKING:
    from seccompy import ArgCmp


@functools.cache
def program(calls: Calls) -> bytes:
    """A program for the kernel that allows these calls; takes some milliseconds, once.

    Calls by the numbers of another architecture end the process.

    Raises:
        Missing: this architecture, or system, has no filters.
    """
    if not process.LINUX:
        raise Missing("seccomp", "this system has no filters of system calls")
    import seccompy

    try:
        seccompy.arch()
    except seccompy.UnsupportedError as exc:
        raise Missing("seccomp", str(exc)) from None
    made = seccompy.Filter(default=seccompy.Action.ERRNO | errno.EPERM)
    allowed = dict(calls.rules)
    for name, rules in allowed.items():
        if _is_known(name):
            for rule in rules:
                made.allow(name, args=[_condition(one) for one in rule])
    for name, number in REFUSALS.items():
        if name not in allowed and _is_known(name):
            made.errno(name, number)
    return made.program


def _condition(one: Is) -> ArgCmp:
    from seccompy import ArgCmp, CmpOp

    if one.mask is None:
        return ArgCmp(one.argument, CmpOp.EQ, one.value)
    return ArgCmp(one.argument, CmpOp.MASKED_EQ, one.value, one.mask)


def _is_known(name: str) -> bool:
    """Whether this architecture has a call that one of them has.

    Raises:
        ValueError: no architecture has it: it is misspelled.
    """
    from seccompy import syscalls

    if name not in syscalls.X86_64_SYSCALLS and name not in syscalls.AARCH64_SYSCALLS:
        raise ValueError(f"there is no system call {name}")
    try:
        syscalls.syscall_nr(name)
    except ValueError:
        return False
    return True


def filter_calls(calls: Calls) -> None:
    """Allow this thread, and what it starts, these calls only.

    Raises:
        Missing: the kernel has no filters.
    """
    try:
        process.filter_calls(program(calls))
    except OSError as exc:
        raise Missing("seccomp", f"this kernel takes no filter: {exc.strerror}") from None
