"""What may follow the words of a command line: commands, services, endpoints, flags and names.

Click says which flag or argument comes next; what the platform and the user's settings know is
looked up here. A platform that does not answer at once offers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

# Which parameter comes next has no public name in click; the tests see it when that changes.
from click.shell_completion import CompletionItem, _resolve_context, _resolve_incomplete

from microcosmos.base import codec, errors, names

from . import dynamic, external, flags
from .caller import endpoints
from .commands import COMMANDS
from .render import one_line
from .session import Session, streams

PATIENCE = 0.5
"""Seconds that the platform may take to answer what is needed for a completion."""

Item = CompletionItem[str]
Source = Callable[[Session, click.Context, str], Iterable[Item]]

_SWITCH = ("true", "false")


def following(root: click.Group, words: Sequence[str], incomplete: str) -> list[Item]:
    """What a word may become.

    Args:
        root: the command that the words belong to.
        words: the whole words before it, without the program.
        incomplete: what of it has been typed.

    Returns:
        Whole words; those of the kind ``dir`` and ``file`` ask for folders and files.
    """
    session = Session()
    ctx = _resolve_context(root, {"obj": session}, "micro", [_plain(word) for word in words])
    chosen = ctx.find_root().params
    session.choose(*(chosen.get(name) or "" for name in ("home", "env", "namespace", "profile")))
    found = _following(session, ctx, [_plain(word) for word in words], incomplete)
    return [_spelt(incomplete, item) for item in found if item.value.isprintable()]


def _plain(word: str) -> str:
    """A flag as click knows it: `-` and `_` are the same."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}"


def _spelt(incomplete: str, item: Item) -> Item:
    """A flag in the spelling that it was begun in, as shells compare what was typed."""
    typed = incomplete.partition("=")[0]
    if "-" not in typed[2:] or not item.value.startswith("--"):
        return item
    rest = item.value[len(typed) :]
    if "_" not in typed:
        name, equals, value = rest.partition("=")
        rest = name.replace("_", "-") + equals + value
    return Item(typed + rest, type=item.type, help=item.help)


def _following(
    session: Session, ctx: click.Context, words: list[str], incomplete: str
) -> Iterable[Item]:
    if isinstance(ctx.command, dynamic.Dynamic):
        return _of_service(session, ctx.command.word, ctx.args, incomplete)
    incomplete = _plain(incomplete)
    flag, equals, _ = incomplete.partition("=") if incomplete.startswith("-") else ("", "", "")
    owner, rest = _resolve_incomplete(ctx, words, incomplete)
    if owner is ctx.find_root().command and not incomplete.startswith("-"):
        return _words(session, rest)
    source = _SOURCES.get((_path(ctx), owner.name or ""))
    found = source(session, ctx, rest) if source else owner.shell_complete(ctx, rest)
    if owner is ctx.command and not (incomplete or isinstance(owner, click.Group)):
        # Only flags can follow.
        found = owner.shell_complete(ctx, "--")
    return [_with(flag + equals if equals else "", item) for item in found]


def _path(ctx: click.Context) -> str:
    return ctx.command_path.partition(" ")[2]


def _with(head: str, item: Item) -> Item:
    """The whole word of a value that follows ``--flag=``."""
    return Item(head + item.value, type=item.type, help=item.help) if head else item


def _matching(incomplete: str, values: Iterable[str], about: str = "") -> list[Item]:
    return [Item(value, help=about) for value in values if value.startswith(incomplete)]


# Words that a command line begins with.


def _words(session: Session, incomplete: str) -> Iterator[Item]:
    commands = {word: entry.about for word, entry in COMMANDS.items()}
    programs = dict.fromkeys(external.words(), "a program on PATH")
    services = dict.fromkeys(_service_names(session), "a service")
    for word, about in {**services, **programs, **commands}.items():
        if word.startswith(incomplete):
            yield Item(word, help=about)


# What the platform knows.


def _ask(session: Session, ask: Callable[[], Any], nothing: Any) -> Any:
    """An answer of the server of this host; another's proxy takes too long to be asked."""
    try:
        return ask() if session.server else nothing
    except errors.Error:
        return nothing


def _service_names(session: Session) -> list[str]:
    found: list[str] = _ask(session, lambda: session.caller.names(timeout=PATIENCE), [])
    return found


def _described(session: Session, service: str) -> Any:
    return _ask(session, lambda: session.caller.describe(service, timeout=PATIENCE), [])


class _Deployment(msgspec.Struct):
    name: str


def _deployed_names(session: Session) -> list[str]:
    def ask() -> list[str]:
        answer = session.core("runtime", "Runtime.Read", timeout=PATIENCE, retry=False)
        deployments: list[_Deployment] = codec.decode(answer, list[_Deployment])
        return sorted(one.name for one in deployments)

    found: list[str] = _ask(session, ask, [])
    return found


def _services(session: Session, _: click.Context, incomplete: str) -> list[Item]:
    return _matching(incomplete, _service_names(session))


def _endpoints(session: Session, ctx: click.Context, incomplete: str) -> list[Item]:
    known = list(endpoints(_described(session, ctx.params.get("service") or "")))
    methods = [name.partition(".")[2] for name in known]
    return _matching(incomplete, known) or _matching(incomplete, methods)


def _deployed(session: Session, _: click.Context, incomplete: str) -> list[Item]:
    return _matching(incomplete, _deployed_names(session))


def _deployed_or_folder(session: Session, _: click.Context, incomplete: str) -> list[Item]:
    return [*_matching(incomplete, _deployed_names(session)), *_folders(session, _, incomplete)]


def _ids(endpoint: str, what: str) -> Source:
    """The ids of what a list of the service auth has."""

    def find(session: Session, _: click.Context, incomplete: str) -> list[Item]:
        def ask() -> list[str]:
            request = {"options": {"namespace": session.namespace}}
            answer = session.core("auth", endpoint, request, timeout=PATIENCE, retry=False)
            found: list[dict[str, str]] = codec.decode(answer)[what]
            return [one["id"] for one in found]

        return _matching(incomplete, _ask(session, ask, []))

    return find


_accounts = _ids("Accounts.List", "accounts")
_rules = _ids("Rules.List", "rules")


def _namespaces(session: Session, _: click.Context, incomplete: str) -> list[Item]:
    def ask() -> list[str]:
        answer = session.core("auth", "Namespaces.List", timeout=PATIENCE, retry=False)
        found: list[str] = codec.decode(answer)["namespaces"]
        return found

    return _matching(incomplete, _ask(session, ask, []))


# What the user's files know.


def _environments(session: Session, _: click.Context, incomplete: str) -> list[Item]:
    known = session.environments.all()
    return [Item(one.name, help=one.address) for one in known if one.name.startswith(incomplete)]


def _settings(session: Session, _: click.Context, incomplete: str) -> list[Item]:
    return _matching(incomplete, _paths(session.settings.read()))


def _paths(document: Any, above: str = "") -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _folders(_: Session, __: click.Context, incomplete: str) -> list[Item]:
    return [Item(incomplete, type="dir")]


def _examples_or_folder(session: Session, ctx: click.Context, incomplete: str) -> list[Item]:
    from microcosmos.runtime.source import examples_folder

    examples = sorted(main.parent.name for main in examples_folder().glob("*/main.py"))
    return [*_matching(incomplete, examples, "an example"), *_folders(session, ctx, incomplete)]


def _profiles(_: Session, __: click.Context, incomplete: str) -> list[Item]:
    # Imported here: it takes as long as all the rest.
    from microcosmos.base import profiles

    return _matching(incomplete, profiles.names())


def _pages(session: Session, ctx: click.Context, incomplete: str) -> Iterable[Item]:
    """The words that `micro help` can be asked for: those that could be typed without it."""
    root = ctx.find_root().command
    assert isinstance(root, click.Group)
    return following(root, ctx.params.get("words") or (), incomplete)


_SOURCES: dict[tuple[str, str], Source] = {
    ("", "env"): _environments,
    ("", "home"): _folders,
    ("", "namespace"): _namespaces,
    ("", "profile"): _profiles,
    ("auth delete account", "id"): _accounts,
    ("auth delete namespace", "name"): _namespaces,
    ("auth delete rule", "id"): _rules,
    ("auth update secret", "id"): _accounts,
    ("auth why", "account"): _accounts,
    ("auth why", "endpoint"): _endpoints,
    ("auth why", "service"): _services,
    ("call", "service"): _services,
    ("call", "endpoint"): _endpoints,
    ("env del", "name"): _environments,
    ("env set", "name"): _environments,
    ("get service", "name"): _services,
    ("help", "words"): _pages,
    ("kill", "name"): _deployed,
    ("logs", "name"): _deployed,
    ("run", "source"): _examples_or_folder,
    ("server", "profile"): _profiles,
    ("status", "name"): _deployed,
    ("stream", "service"): _services,
    ("stream", "endpoint"): _endpoints,
    ("update", "source"): _deployed_or_folder,
    ("user config delete", "key"): _settings,
    ("user config get", "key"): _settings,
    ("user config set", "key"): _settings,
    ("user namespace set", "name"): _namespaces,
}


# A service's own words.


def _of_service(session: Session, word: str, args: list[str], incomplete: str) -> Iterable[Item]:
    if word in external.words():
        return [Item(incomplete, type="file")]
    known = endpoints(_described(session, word))
    words, rest = dynamic.split(args)
    if not rest and not incomplete.startswith("-"):
        return _endpoint_words(word, words, incomplete, known)
    name = names.endpoint_name(word, ".".join(words)) if words else names.default_endpoint(word)
    endpoint = next((one for key, one in known.items() if key.lower() == name.lower()), None)
    if endpoint is None:
        return _matching(incomplete, ["--help"], "Show this page.")
    fields = flags.of(dynamic.request_of(endpoint))
    own = {"limit": "End after so many messages."} if streams(endpoint) else {}
    return _flags(fields, rest, incomplete, own)


def _endpoint_words(
    service: str, words: list[str], incomplete: str, known: dict[str, Any]
) -> Iterator[Item]:
    for name, endpoint in known.items():
        typed = dynamic.words_of(service, name).split()
        if typed[: len(words)] == words and len(typed) > len(words):
            word, last = typed[len(words)], len(typed) == len(words) + 1
            about = one_line(endpoint.metadata.get("description", "")) if last else ""
            if word.startswith(incomplete):
                yield Item(word, help=about)


def _flags(
    known: dict[str, flags.Flag], given: list[str], incomplete: str, own: dict[str, str]
) -> Iterator[Item]:
    if not incomplete.startswith("-"):
        # The value of the flag before it.
        flag = known.get(given[-1].lstrip("-").replace("-", "_")) if given else None
        yield from _matching(incomplete, _values(flag, given[-1]))
        return
    typed, equals, value = incomplete.partition("=")
    key = typed.lstrip("-").replace("-", "_")
    if equals:
        values = _matching(value, _values(known.get(key), typed))
        yield from (_with(typed + equals, item) for item in values)
        return
    taken = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in given}
    for flag in known.values():
        if flag.listed and flag.name.startswith(key) and flag.name not in taken:
            yield Item(f"--{flag.name}", help=flag.type)
    for name, about in {**own, "help": "Show this page."}.items():
        if name not in known and name not in taken:
            yield from _matching(incomplete, [f"--{name}"], about)


def _values(flag: flags.Flag | None, typed: str) -> Sequence[str]:
    if flag is not None:
        return _SWITCH if flag.type == "bool" else ()
    return ("json",) if typed in ("--output", "-o") else ()
