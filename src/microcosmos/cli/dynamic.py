"""Commands that are services: ``micro helloworld --name=John``, drawn from the registry."""

from __future__ import annotations

from collections.abc import Sequence

import click

from microcosmos.base import codec, errors, names
from microcosmos.registry import Endpoint, Service
from microcosmos.rpc.interface import DEFAULT_TIMEOUT

from . import external, flags, help
from .caller import endpoints, unknown_endpoint
from .commands import COMMANDS
from .session import Session

_HELP = ("--help", "-h")


class Dynamic(click.Command):
    """A word that is no built-in command: a program ``micro-<word>``, or a service.

    Its arguments are taken as they are: which flags there are is the service's to say.
    """

    def __init__(self, word: str) -> None:
        super().__init__(word, add_help_option=False)
        self.word = word

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> bytes | str:
        external.replace_by(self.word, ctx.args)
        return run(ctx.obj, self.word, ctx.args)


def run(session: Session, word: str, args: Sequence[str]) -> bytes | str:
    """Call a service, or answer its help page.

    Raises:
        errors.Error: what came of it; `NotFound` with close names when there is no such service.
        click.UsageError: a bad flag.
    """
    words, rest = _split(args)
    asked = any(arg in _HELP for arg in rest)
    versions = _find(session, word)
    if asked and not words:
        return _service_page(word, versions)
    name = _endpoint_name(word, words)
    endpoint = _endpoint(word, name, versions)
    if asked:
        return _endpoint_page(word, endpoint)
    if endpoint.request.field("output") is None:
        rest = _without_output(rest)
    body = codec.encode(flags.request(endpoint.request, rest))
    return session.caller.call(word, endpoint.name, body, known=versions, timeout=DEFAULT_TIMEOUT)


def _without_output(args: Sequence[str]) -> list[str]:
    """The flags without ``--output json``: an answer is JSON anyway.

    Raises:
        click.UsageError: another output is asked for.
    """
    rest, left = [], list(args)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if name not in ("--output", "-o"):
            rest.append(name + equals + value)
        elif (value or (left.pop(0) if left else "")) != "json":
            raise click.UsageError("the answer of a service is JSON: --output json")
    return rest


def _split(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before the first flag, and the flags."""
    at = next((at for at, arg in enumerate(args) if arg.startswith("-")), len(args))
    return list(args[:at]), list(args[at:])


def _find(session: Session, word: str) -> list[Service]:
    try:
        names.check_service(word)
        return session.describe(word)
    except errors.BadRequest:
        raise _no_such(word, []) from None
    except errors.NotFound:
        listed = session.caller.names()
        raise _no_such(word, listed) from None
    except errors.Unavailable as error:
        if close := _close(word, []):
            raise errors.Unavailable(
                error.id, f"{error.detail}; or did you mean {close}?"
            ) from None
        raise


def _no_such(word: str, services: Sequence[str]) -> errors.NotFound:
    close = _close(word, services)
    hint = f"did you mean {close}?" if close else "micro --help and micro services list them"
    return errors.NotFound("micro", f"there is no command or service {word[:80]!r}; {hint}")


def _close(word: str, services: Sequence[str]) -> str:
    from difflib import get_close_matches

    return " or ".join(get_close_matches(word, [*COMMANDS, *services]))


def _endpoint_name(service: str, words: Sequence[str]) -> str:
    if not words:
        return names.default_endpoint(service)
    name = names.endpoint_name(service, ".".join(words))
    try:
        return names.check_endpoint(name)
    except errors.BadRequest:
        typed = " ".join(words)
        raise errors.MethodNotAllowed(
            service, f"{typed[:80]!r} names no endpoint: one word, or two for handler and method"
        ) from None


def _endpoint(service: str, name: str, versions: Sequence[Service]) -> Endpoint:
    known = endpoints(versions)
    folded = {one.lower(): endpoint for one, endpoint in known.items()}
    found = known.get(name) or folded.get(name.lower())
    if found is None:
        raise unknown_endpoint(service, name, known)
    return found


def _service_page(service: str, versions: Sequence[Service]) -> str:
    known = endpoints(versions)
    words = sorted(_words(service, name) for name in known)
    return help.page(
        f"micro {service}",
        f"micro {service} [command]",
        version=versions[0].version,
        commands=[(word, "") for word in words],
    )


def _words(service: str, endpoint: str) -> str:
    """What is typed for an endpoint: ``getService``, or ``other thing`` of another handler."""
    handler, _, method = endpoint.partition(".")
    own = handler == names.handler_of(service)
    return (
        names.lower_camel(method)
        if own
        else f"{names.lower_camel(handler)} {names.lower_camel(method)}"
    )


def _endpoint_page(service: str, endpoint: Endpoint) -> str:
    words = f"micro {service} {_words(service, endpoint.name)}"
    listed = [flag for flag in flags.of(endpoint.request).values() if flag.listed]
    return help.page(
        words,
        f"{words} [flags]",
        flags=[(f"--{flag.name} {flag.type}", "") for flag in listed],
    )
