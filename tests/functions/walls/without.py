"""Runs a program on a kernel that lacks a wall: ``without.py landlock|seccomp PROGRAM …``."""

from __future__ import annotations

import errno
import os
import sys

from seccompy import Action, Filter

PR_SET_SECCOMP = 22


def main() -> None:
    name, *argv = sys.argv[1:]
    made = Filter(default=Action.ALLOW)
    if name == "landlock":
        for call in ("create_ruleset", "add_rule", "restrict_self"):
            made.errno(f"landlock_{call}", errno.ENOSYS)
    else:
        made.errno("prctl", errno.EINVAL, args={0: PR_SET_SECCOMP})
    made.load()
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main()
