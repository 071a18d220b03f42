"""Documents: finding, merging, deleting and comparing; nothing here changes a tree that it gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from microcosmos.base import codec, errors

from . import paths
from .interface import MASK, Change, Leaf, Node, Plain, Secret, Tree
from .paths import Path

Make = Callable[[Path, Any, bool, Node | None], Leaf]
"""Makes a leaf: where, of which JSON, whether it is to be secret, and of what stood there."""


def find(tree: Tree, path: Path) -> Node | None:
    """What stands at a path; None is nothing."""
    node: Node | None = tree
    for key in path:
        if not isinstance(node, dict):
            return None
        node = node.get(key)
    return node


def merge(tree: Tree, path: Path, value: Any, make: Make, *, secret: bool = False) -> Tree:
    """A tree with a value put at a path: maps merge leaf by leaf, anything else replaces.

    What stood on the way and was no map, or was a map where a leaf comes, is gone. What replaces
    a secret is a secret.

    Args:
        tree: the old one.
        path: where; the maps on the way are made.
        value: JSON; a map, if the path is empty.
        make: makes the leaves.
        secret: whether they are to be secret.
    """
    merged = _merge(tree, path, value, make, secret, ())
    assert isinstance(merged, dict), "only a map is put in place of a document"
    return merged


def _merge(old: Node | None, rest: Path, value: Any, make: Make, secret: bool, path: Path) -> Node:
    secret = secret or isinstance(old, Secret)
    if rest:
        inner: Mapping[str, Any] = {rest[0]: value}
    elif isinstance(value, dict):
        inner = value
    else:
        return make(path, value, secret, old)
    here = old if isinstance(old, dict) else {}
    return {
        **here,
        **{
            key: _merge(here.get(key), rest[1:], part, make, secret, (*path, key))
            for key, part in inner.items()
        },
    }


def without(tree: Tree, path: Path) -> Tree | None:
    """A tree without the leaf or the map at a path, which is not empty; None: nothing was there."""
    key, rest = path[0], path[1:]
    if key not in tree:
        return None
    if not rest:
        return {name: node for name, node in tree.items() if name != key}
    inner = without(tree[key], rest) if isinstance(tree[key], dict) else None
    return None if inner is None else {**tree, key: inner}


def replaced(tree: Tree, path: Path, node: Node | None) -> Tree:
    """A tree with exactly this at a path, merged with nothing; None is nothing there."""
    if not path:
        return node if isinstance(node, dict) else {}
    key, rest = path[0], path[1:]
    if rest:
        inner = tree.get(key)
        node = replaced(inner if isinstance(inner, dict) else {}, rest, node)
    if node is None:
        return {name: other for name, other in tree.items() if name != key}
    return {**tree, key: node}


def diff(old: Node | None, new: Node | None, path: Path = ()) -> Iterator[Change]:
    """The places where two trees differ, in the order of their keys."""
    if old is new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from diff(old.get(key), new.get(key), (*path, key))
    elif not same(old, new):
        yield Change(path, old, new)


def same(one: Node | None, other: Node | None) -> bool:
    """Whether two nodes are equal, types included: 1, 1.0 and true are three values."""
    if isinstance(one, Plain) and isinstance(other, Plain):
        return codec.encode(one.value) == codec.encode(other.value)
    if isinstance(one, dict) and isinstance(other, dict):
        keys = one.keys() | other.keys()
        return all(same(one.get(key), other.get(key)) for key in keys)
    return one == other


def undone(tree: Tree, changes: list[Change]) -> Tree:
    """A tree as it was before some changes."""
    for change in reversed(changes):
        tree = replaced(tree, change.path, change.old)
    return tree


def json_of(node: Node, secret: Callable[[Path, Secret], Any], path: Path = ()) -> Any:
    """The JSON of a node, with what ``secret`` makes of the encrypted leaves."""
    if isinstance(node, dict):
        return {key: json_of(inner, secret, (*path, key)) for key, inner in node.items()}
    return node.value if isinstance(node, Plain) else secret(path, node)


def masked(_: Path, __: Secret) -> str:
    """What a secret reads as."""
    return MASK


def secrets(node: Node | None, path: Path = ()) -> Iterator[tuple[Path, Secret]]:
    """The encrypted leaves at and below a node, with their paths."""
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from secrets(inner, (*path, key))
    elif isinstance(node, Secret):
        yield path, node


def with_secrets(node: Node, change: Callable[[Path, Secret], Secret], path: Path = ()) -> Node:
    """A node with other encrypted leaves."""
    if isinstance(node, dict):
        return {key: with_secrets(inner, change, (*path, key)) for key, inner in node.items()}
    return change(path, node) if isinstance(node, Secret) else node


def check(value: Any, path: Path) -> None:
    """Refuse a value that cannot stand at a path.

    Raises:
        errors.BadRequest: a key that cannot be one, or nested too deeply.
    """
    waiting = [(value, len(path))]
    while waiting:
        part, depth = waiting.pop()
        paths.check_depth(depth)
        if isinstance(part, dict):
            for key, inner in part.items():
                _check_key(key)
                waiting.append((inner, depth + 1))
        elif isinstance(part, list):
            waiting.extend((inner, depth + 1) for inner in part)


def _check_key(key: str) -> None:
    try:
        paths.check_key(key)
    except errors.BadRequest as exc:
        raise errors.BadRequest("config", f"the value: {exc.detail}") from None


# As they are kept: a map is an object, a leaf an array: [value], or [key id, data] of a secret.


def to_kept(node: Node) -> Any:
    """A node as the store keeps it."""
    if isinstance(node, dict):
        return {key: to_kept(inner) for key, inner in node.items()}
    return [node.value] if isinstance(node, Plain) else [node.key, node.data]


def from_kept(kept: Any) -> Node:
    """The inverse of `to_kept`."""
    if isinstance(kept, dict):
        return {key: from_kept(inner) for key, inner in kept.items()}
    return Plain(kept[0]) if len(kept) == 1 else Secret(*kept)
