"""Fetch one ref of a Git repository: a program of its own, ``python -m microcosmos.runtime.git``.

It runs as a process of the Spawner, so that its output is the build's log, a slow server can be
killed, and nothing forks inside the core. The `git` program does the work, else `dulwich`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_SHORT_COMMIT = re.compile(r"[0-9a-f]{4,64}")
# No prompts, no hooks, no other ways in than those that `source` allows.
_SAFE = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "GIT_ALLOW_PROTOCOL": "https:ssh:git:file",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "LC_ALL": "C",
}
_CONFIG = ["-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"]


def fetch(url: str, ref: str, tree: Path) -> str:
    """Put a ref's files into ``tree`` and return its commit.

    Raises:
        SystemExit: it could not be fetched; the cause has been printed.
    """
    git = shutil.which("git")
    commit = _with_git(git, url, ref, tree) if git else _with_dulwich(url, ref, tree)
    shutil.rmtree(tree / ".git", ignore_errors=True)
    return commit


def _with_git(git: str, url: str, ref: str, tree: Path) -> str:
    def run(*words: str) -> bool:
        argv = [git, *_CONFIG, "-C", str(tree), *words]
        return subprocess.run(argv, env={**os.environ, **_SAFE}, check=False).returncode == 0

    tree.mkdir()
    if not run("init", "--quiet", "--template="):
        raise SystemExit(1)
    fetched = run("fetch", "--quiet", "--depth=1", "--no-tags", "--", url, ref or "HEAD")
    wanted = "FETCH_HEAD"
    if not fetched and _SHORT_COMMIT.fullmatch(ref):
        # Servers hand out commits by their whole name at most: look for it in the whole history.
        _say(f"{ref} is no branch or tag: looking for the commit")
        every = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        fetched, wanted = run("fetch", "--quiet", "--", url, *every), ref
    if not fetched or not run("checkout", "--quiet", "--detach", wanted):
        raise SystemExit(f"could not fetch {ref or 'the default branch'} of {url}")
    # A detached HEAD holds the commit itself.
    return (tree / ".git" / "HEAD").read_text().strip()


def _with_dulwich(url: str, ref: str, tree: Path) -> str:
    from dulwich import porcelain
    from dulwich.objects import Commit
    from dulwich.objectspec import parse_commit

    _say("no git program is here: fetching with dulwich")
    try:
        with porcelain.clone(url, tree, checkout=False, errstream=sys.stderr.buffer) as repository:
            commit = None
            for name in (
                (f"refs/remotes/origin/{ref}", f"refs/tags/{ref}", ref) if ref else ("HEAD",)
            ):
                try:
                    commit = parse_commit(repository, name.encode())
                    break
                except (KeyError, ValueError):
                    continue
            if not isinstance(commit, Commit):
                raise SystemExit(f"could not find {ref or 'the default branch'} in {url}")
            repository.get_worktree().reset_index(commit.tree)
            return commit.id.decode()
    except Exception as exc:  # noqa: BLE001 - dulwich has no root of its errors; the log wants one line
        raise SystemExit(f"could not fetch {url}: {type(exc).__name__}: {exc}") from None


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    # Git writes to the same log, without a buffer.
    sys.stdout.flush()


def main() -> None:
    """Fetch ``URL REF`` into ``FOLDER/tree`` and its commit into ``FOLDER/commit``."""
    url, ref, folder = sys.argv[1:]
    commit = fetch(url, ref, Path(folder, "tree"))
    Path(folder, "commit").write_text(commit)
    _say(f"fetched {commit}")


if __name__ == "__main__":
    main()
