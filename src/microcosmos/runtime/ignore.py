"""Which files of a folder belong to it: what `.gitignore` leaves out, nested ones included."""

from __future__ import annotations

from pathlib import Path

from pathspec import GitIgnoreSpec, RegexPattern

ALWAYS = frozenset({".git", ".venv", "__pycache__", "node_modules"})
"""Names that are never part of a service's source, wherever they stand."""

# Patterns that match below a folder mark that folder's slash with this group of their regex.
_FOLDER = "ps_d"
_ANY_FOLDER = f"(?P<{_FOLDER}>/)"


class Ignore:
    """The `.gitignore` files of a folder, read when a path below them is first asked for.

    Args:
        root: the folder that paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._specs: dict[str, GitIgnoreSpec | None] = {}

    def ignores(self, name: str) -> bool:
        """Whether a path (``a/b.py``, ``a/b/`` for a folder) or a folder above it is left out."""
        parts = name.rstrip("/").split("/")
        if not ALWAYS.isdisjoint(parts):
            return True
        folders = ["/".join(parts[:depth]) + "/" for depth in range(1, len(parts))]
        return any(self.leaves_out(path) for path in (*folders, name))

    def leaves_out(self, name: str) -> bool:
        """Whether this one path is left out, given that no folder above it is."""
        if name.rstrip("/").rpartition("/")[2] in ALWAYS:
            return True
        base = name.rstrip("/")
        while base:
            base = base.rpartition("/")[0]
            prefix = f"{base}/" if base else ""
            spec = self._spec(prefix)
            verdict = _verdict(spec, name[len(prefix) :]) if spec else None
            if verdict is not None:
                return verdict
        return False

    def _spec(self, prefix: str) -> GitIgnoreSpec | None:
        if prefix not in self._specs:
            file = self._root / prefix / ".gitignore"
            text = file.read_text("utf-8", "replace") if file.is_file() else ""
            self._specs[prefix] = GitIgnoreSpec.from_lines(text.splitlines()) if text else None
        return self._specs[prefix]


def _verdict(spec: GitIgnoreSpec, path: str) -> bool | None:
    """What the last pattern that means this very path says, or None when none does.

    pathspec judges whole file names, so a pattern for a folder also matches all that is below it.
    A walk from above needs Git's own rule: each level by itself, the last match decides.
    """
    for pattern in reversed(spec.patterns):
        if (
            isinstance(pattern, RegexPattern)
            and pattern.include is not None
            and _means(pattern, path)
        ):
            return pattern.include
    return None


def _means(pattern: RegexPattern, path: str) -> bool:
    match = pattern.regex.search(path) if pattern.regex else None
    if match is None:
        return False
    if _FOLDER not in match.re.groupindex:
        # `*` is the one letter "."; `a/**` is "^a/", which must not mean the folder a/ itself.
        return match.end() < len(path) or match.re.pattern == "."
    if path.endswith("/"):
        return match.start(_FOLDER) == len(path) - 1 or match.re.pattern == _ANY_FOLDER
    return match.start(_FOLDER) == -1
