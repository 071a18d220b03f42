"""What native code tries, with what stops it; and how the same goes without walls."""

from __future__ import annotations

import errno
import os
import platform
import socket
from dataclasses import dataclass, field
from typing import Any

from seccompy.syscalls import syscall_nr

X86 = platform.machine() in ("x86_64", "amd64")
ROOT = os.geteuid() == 0
AT_FDCWD = -100
REACHED = 0

ALL = ("quickjs", "wasm", "looker", "monty", "deno", "bundler", "egress")


@dataclass
class Attempt:
    """System calls, of which the last one counts.

    Attributes:
        name: for people.
        calls: each a name with its arguments.
        free: the errno without walls; 0 is success. Any other is of a check that comes after those
            of the walls, as the arguments are such that nothing comes of it.
        stopped: the errno within the walls, by kinds; EPERM for those that are not named.
        spared: kinds that may do so.
        root: whether only root gets anywhere without walls.
    """

    name: str
    calls: list[tuple[Any, ...]]
    free: int = REACHED
    stopped: dict[str, int] = field(default_factory=dict)
    spared: tuple[str, ...] = ()
    root: bool = False

    def expected(self, kind: str) -> int:
        return self.stopped.get(kind, errno.EPERM)

    def numbers(self, values: dict[str, Any]) -> list[list[Any]]:
        """The calls with their numbers, and what stands for a value of the test filled in."""
        return [
            [_number(name), *(_filled(one, values) for one in arguments)]
            for name, *arguments in self.calls
        ]


def _number(name: str) -> int:
    # The same call by the numbers of another kind of program.
    return syscall_nr(name[4:]) | 1 << 30 if name.startswith("x32 ") else syscall_nr(name)


def _filled(said: Any, values: dict[str, Any]) -> Any:
    match said:
        case str():
            return {"text": said.format_map(values)}
        case ("value", name):
            return values[name]
        case ("unix", path):
            return {"text": "\x01\0" + path.format_map(values).ljust(108, "\0")}
        case ("inet", port):
            number = values[port] if isinstance(port, str) else port
            where = number.to_bytes(2, "big").decode("latin-1")
            return {"text": f"\x02\0{where}\x7f\0\0\x01" + "\0" * 8}
    return said


FILES = ("monty", "deno", "bundler", "egress", "looker")
"""Kinds that may open files: Landlock says which."""

BY_LANDLOCK = dict.fromkeys(FILES, errno.EACCES)
SPAWNING = ("monty", "bundler")
CONNECTING = ("bundler", "egress")
LISTENING = ("deno", "egress")


def opened(name: str, path: str, flags: int = os.O_RDONLY, **more: Any) -> Attempt:
    stopped = more.pop("stopped", BY_LANDLOCK)
    return Attempt(name, [("openat", AT_FDCWD, path, flags, 0o600)], stopped=stopped, **more)


def changed(name: str, *call: Any, **more: Any) -> Attempt:
    """A change to files: only the bundler makes any, and only where it may."""
    return Attempt(name, [call], stopped={"bundler": errno.EACCES}, **more)


ATTEMPTS = [
    # Files.
    opened("read a file of the system", "/etc/passwd"),
    opened("read a secret of the home", "{secret}"),
    opened("write a file of the home", "{secret}", os.O_WRONLY),
    opened("make a file", "{folder}/new", os.O_WRONLY | os.O_CREAT),
    opened("list a folder", "{folder}", os.O_RDONLY | os.O_DIRECTORY),
    opened("list the sockets", "{lanes}", os.O_RDONLY | os.O_DIRECTORY),
    opened("list processes", "/proc", os.O_RDONLY | os.O_DIRECTORY),
    opened("read the environment of the parent", "/proc/{parent}/environ"),
    opened("read the memory of the parent", "/proc/{parent}/mem"),
    opened("write the memory of the parent", "/proc/{parent}/mem", os.O_RDWR),
    opened("read the memory of a sibling", "/proc/{sibling}/mem"),
    opened("read the files of the parent", "/proc/{parent}/root/etc/passwd"),
    opened(
        "read the command line of the parent",
        "/proc/{parent}/cmdline",
        spared=("looker",),
    ),
    opened("read what the kernel says", "/proc/kallsyms", spared=("looker",)),
    opened(
        "write a setting of the kernel", "/proc/sys/kernel/core_pattern", os.O_WRONLY, root=True
    ),
    opened("read through a socket's folder", "{lanes}/../secret"),
    Attempt(
        "open by a newer call",
        [("openat2", AT_FDCWD, "/etc/passwd", {"room": 24}, 24)],
        stopped=dict.fromkeys(ALL, errno.ENOSYS),
    ),
    Attempt(
        "open by a handle",
        [("name_to_handle_at", AT_FDCWD, "/etc/passwd", {"words": [0, 0]}, {"room": 8}, 0)],
        free=errno.EOVERFLOW,
    ),
    changed("make a folder", "mkdirat", AT_FDCWD, "{folder}/folder", 0o700),
    changed("remove a file", "unlinkat", AT_FDCWD, "{folder}/removed", 0),
    changed("rename a file", "renameat2", AT_FDCWD, "{folder}/renamed", AT_FDCWD, "{folder}/r", 0),
    changed("link a file", "linkat", AT_FDCWD, "{secret}", AT_FDCWD, "{folder}/linked", 0),
    changed("make a symbolic link", "symlinkat", "/etc", AT_FDCWD, "{folder}/symbolic"),
    changed("truncate a file", "truncate", "{folder}/cut", 0),
    Attempt("make a device", [("mknodat", AT_FDCWD, "{folder}/null", 0o020600, 0x103)], root=True),
    Attempt("make a pipe with a name", [("mknodat", AT_FDCWD, "{folder}/pipe", 0o010600, 0)]),
    Attempt(
        "change the mode of a file",
        [("fchmodat", AT_FDCWD, "{folder}/kept", 0o777)],
    ),
    Attempt("change the owner of a file", [("fchownat", AT_FDCWD, "{folder}/kept", -1, -1, 0)]),
    Attempt("set an attribute", [("setxattr", "/etc/passwd", 0, 0, 0, 9)], free=errno.EINVAL),
    Attempt("change the root", [("chroot", "/nonexistent")], free=errno.ENOENT),
    Attempt("mount", [("mount", 0, 0, 0, 0, 0)], free=errno.EFAULT),
    Attempt("mount anew", [("fsopen", 0, 0)], free=errno.EFAULT, root=True),
    Attempt("move a mount", [("open_tree", -1, 0, 0)], free=errno.EFAULT),
    Attempt("unmount", [("umount2", "/nonexistent", 0)], free=errno.ENOENT),
    Attempt("watch files", [("inotify_init1", 0)]),
    Attempt("watch all files", [("fanotify_init", 0, 0)], root=True),
    # Sockets.
    *(
        Attempt(
            f"a socket {name}",
            [("socket", family, kind, protocol)],
            spared=CONNECTING if name in ("inet", "inet6", "inet of datagrams") else (),
            root=root,
        )
        for name, family, kind, protocol, root in (
            ("inet", socket.AF_INET, socket.SOCK_STREAM, 0, False),
            ("inet6", socket.AF_INET6, socket.SOCK_STREAM, 0, False),
            ("inet of datagrams", socket.AF_INET, socket.SOCK_DGRAM, 0, False),
            ("inet raw", socket.AF_INET, socket.SOCK_RAW, 1, True),
            ("netlink", socket.AF_NETLINK, socket.SOCK_RAW, 0, False),
            ("packet", socket.AF_PACKET, socket.SOCK_RAW, 0, True),
            ("vsock", socket.AF_VSOCK, socket.SOCK_STREAM, 0, False),
            ("local of datagrams", socket.AF_UNIX, socket.SOCK_DGRAM, 0, False),
        )
    ),
    Attempt("multipath TCP", [("socket", socket.AF_INET, socket.SOCK_STREAM, 262)]),
    Attempt("a socket local", [("socket", 1, 1, 0)], spared=LISTENING),
    Attempt("a pair that may send elsewhere", [("socketpair", 1, 2, 0, {"room": 8})]),
    *(
        Attempt(
            f"connect to {name}",
            [("socket", 1, 1, 0), ("connect", {"of": 0}, ("unix", path), 110)],
            spared=("egress",),
        )
        for name, path in (("the zygote", "{lanes}/zygote.sock"), ("a sibling", "{other}"))
    ),
    Attempt(
        "connect to an abstract socket",
        [
            ("socket", 1, 1, 0),
            ("connect", {"of": 0}, ("unix", "\0{abstract}"), ("value", "abstract_size")),
        ],
    ),
    Attempt(
        "connect by TCP to a service here",
        [("socket", 2, 1, 0), ("connect", {"of": 0}, ("inet", "port"), 16)],
        stopped={"bundler": errno.EACCES},
        spared=("egress",),
    ),
    Attempt(
        "listen by TCP",
        [("socket", 2, 1, 0), ("bind", {"of": 0}, ("inet", 0), 16)],
        stopped=dict.fromkeys(CONNECTING, errno.EACCES),
    ),
    Attempt(
        "attach a filter to a socket",
        [("socketpair", 1, 1, 0, {"room": 8}), ("setsockopt", 0, 1, 26, 0, 0)],
        free=errno.ENOTSOCK,
    ),
    # Other processes.
    *(
        Attempt(f"{name} {whom}", [(call, ("value", whom), *rest)])
        for whom in ("parent", "sibling")
        for name, call, rest in (
            ("signal", "kill", (0,)),
            ("see the limits of", "prlimit64", (7, 0, {"room": 16})),
            ("change the limits of", "prlimit64", (13, {"words": [0, 0]}, 0)),
            ("read the memory of", "process_vm_readv", (0, 0, 0, 0, 0)),
            ("write the memory of", "process_vm_writev", (0, 0, 0, 0, 0)),
        )
    ),
    Attempt("signal a thread", [("tkill", ("value", "parent"), 0)]),
    Attempt("signal a thread of", [("tgkill", ("value", "parent"), ("value", "parent"), 0)]),
    # Whoever may signal at all reaches those within the same walls.
    Attempt("signal everybody", [("kill", -1, 0)], spared=SPAWNING),
    Attempt(
        "hold another process",
        [("pidfd_open", ("value", "parent"), 0)],
        stopped={one: errno.ENOSYS for one in ALL if one not in SPAWNING},
        spared=SPAWNING,
    ),
    Attempt("signal what is held", [("pidfd_send_signal", -1, 0, 0, 0)], errno.EBADF, {}, SPAWNING),
    Attempt("take a descriptor of another", [("pidfd_getfd", -1, 0, 0)], errno.EBADF),
    Attempt("trace another process", [("ptrace", 3, ("value", "parent"), 0, 0)], errno.ESRCH),
    Attempt("compare processes", [("kcmp", ("value", "parent"), ("value", "parent"), 0, 0, 0)]),
    Attempt("advise on memory of another", [("process_madvise", -1, 0, 0, 0, 0)], errno.EBADF),
    Attempt("set the processors of another", [("sched_setaffinity", -1, 0, 0)], errno.ESRCH),
    Attempt("change the scheduler", [("sched_setscheduler", -1, 0, 0)], errno.EINVAL),
    Attempt("become more urgent", [("setpriority", 0, 0, 0)]),
    # New programs.
    Attempt(
        "run a program",
        [("execve", "/nonexistent", 0, 0)],
        free=errno.ENOENT,
        spared=("monty", "deno", "bundler"),
    ),
    Attempt("run an open file", [("execveat", -1, "", 0, 0, 0x1000)], errno.EBADF),
    Attempt("a file that is memory", [("memfd_create", "x", 0)], spared=("wasm",)),
    Attempt("a new process", [("clone", 0x800, 0, 0, 0, 0)], errno.EINVAL, {}, SPAWNING),
    Attempt("a process in namespaces", [("clone", 0x10000800, 0, 0, 0, 0)], errno.EINVAL),
    Attempt(
        "a process by a newer call",
        [("clone3", 0, 0)],
        free=errno.EINVAL,
        stopped=dict.fromkeys(ALL, errno.ENOSYS),
    ),
    Attempt(
        "a thread",
        [("clone", 0x10000, 0, 0, 0, 0)],
        errno.EINVAL,
        {},
        tuple(one for one in ALL if one not in ("quickjs", "looker")),
    ),
    Attempt("namespaces", [("unshare", 0)]),
    Attempt("another's namespace", [("setns", -1, 0)], errno.EBADF),
    # Memory.
    Attempt(
        "memory to be run",
        [("mmap", 0, 4096, 5, 0x22, -1, 0)],
        spared=("deno", "bundler"),
    ),
    Attempt(
        "memory made to be run",
        [("mmap", 0, 4096, 3, 0x22, -1, 0), ("mprotect", {"of": 0}, 4096, 5)],
        spared=("deno", "bundler"),
    ),
    Attempt("memory by an old call", [("remap_file_pages", 0, 0, 1, 0, 0)], errno.EINVAL),
    Attempt("faults by oneself", [("userfaultfd", 1)]),
    # Privileges and limits.
    *(Attempt(f"{call}", [(call, 0)], root=True) for call in ("setuid", "setgid", "setfsuid")),
    Attempt("groups", [("setgroups", 0, 0)], root=True),
    Attempt("capabilities", [("capset", 0, 0)], errno.EFAULT),
    Attempt("be dumpable", [("prctl", 4, 1, 0, 0, 0)]),
    Attempt("outlive the zygote", [("prctl", 1, 9, 0, 0, 0)]),
    Attempt("a filter of one's own", [("seccomp", 2, 0, {"room": 4})]),
    Attempt("raise a limit", [("prlimit64", 0, 4, {"words": [0, 0]}, 0)]),
    Attempt("raise a limit by an old call", [("setrlimit", 4, {"words": [0, 0]})]),
    Attempt("another personality", [("personality", 0xFFFFFFFF)]),
    # The kernel.
    Attempt("rings of work", [("io_uring_setup", 1, 0)], errno.EFAULT),
    Attempt("enter a ring", [("io_uring_enter", -1, 0, 0, 0, 0, 0)], errno.EBADF),
    Attempt("work in the background", [("io_setup", 1, 0)], errno.EFAULT),
    Attempt("programs in the kernel", [("bpf", 0, 0, 0)], errno.EINVAL, root=True),
    Attempt("count events", [("perf_event_open", 0, 0, 0, 0, 0)], errno.EFAULT),
    Attempt("keys", [("keyctl", 999, 0, 0, 0, 0)], errno.EOPNOTSUPP),
    Attempt("add a key", [("add_key", 0, 0, 0, 0, 0)], errno.EFAULT),
    Attempt("ask for a key", [("request_key", 0, 0, 0, 0)], errno.EFAULT),
    Attempt("load a module", [("finit_module", -1, "", 0)], errno.EBADF, root=True),
    Attempt("load a kernel", [("kexec_load", 0, 0, 0, 0xFFFF)], errno.EINVAL, root=True),
    Attempt("start anew", [("reboot", 0, 0, 0, 0)], errno.EINVAL, root=True),
    Attempt("read what the kernel logs", [("syslog", 10, 0, 0)]),
    Attempt("the clock", [("clock_settime", 0, 0)], errno.EFAULT),
    Attempt("swap", [("swapoff", 0)], errno.EFAULT, root=True),
    Attempt("quotas", [("quotactl", -1, 0, 0, 0)], errno.EINVAL),
    Attempt("shared memory", [("shmget", 0, 0, 0)], errno.EINVAL),
    Attempt("semaphores", [("semget", 0, -1, 0)], errno.EINVAL),
    Attempt("queues", [("mq_open", 0, 0, 0, 0)], errno.EFAULT),
    Attempt("pages of memory", [("move_pages", 0, 0, 0, 0, 0, -1)], errno.EINVAL),
    Attempt("splice", [("vmsplice", -1, 0, 0, 0)], errno.EBADF),
    Attempt("be signalled by a file", [("pipe2", {"room": 8}, 0), ("fcntl", 0, 8, 1)]),
    Attempt("type for a terminal", [("ioctl", 0, 0x5412, 0)], errno.ENOTTY),
    *(
        [
            Attempt("ports of the machine", [("iopl", 0)]),
            Attempt("tables of the processor", [("modify_ldt", 0, 0, 0)]),
            Attempt("calls of another sort", [("x32 getpid",)], errno.ENOSYS),
        ]
        if X86
        else []
    ),
]
