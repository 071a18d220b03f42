"""Commands that are services: ``micro helloworld --name=John``, drawn from the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import msgspec

from microcosmos.base import codec, errors, names
from microcosmos.base.schema import Value
from microcosmos.registry import Endpoint, Service
from microcosmos.registry.interface import UNLISTED
from microcosmos.rpc.interface import DEFAULT_TIMEOUT

from . import external, flags, help
from .caller import close_to, endpoints, unknown_endpoint
from .commands import COMMANDS
from .session import Session, streams, takes_stream

Answer = bytes | str | Iterator[bytes]
"""An answer's JSON, a help page, or the messages of a stream."""

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

    def invoke(self, ctx: click.Context) -> Answer:
        if ctx.obj.at_prompt:
            external.run(self.word, ctx.args)
        else:
            external.replace_by(self.word, ctx.args)
        return run(ctx.obj, self.word, ctx.args)


def run(session: Session, word: str, args: Sequence[str]) -> Answer:
    """Call a service, or answer its help page.

    Raises:
        errors.Error: what came of it; `NotFound` with close names when there is no such service.
        click.UsageError: a bad flag.
    """
    words, rest = split(args)
    asked = any(arg in _HELP for arg in rest)
    versions = _find(session, word)
    if asked and not words:
        return _service_page(word, versions)
    name = _endpoint_name(word, words)
    endpoint = _endpoint(word, name, versions)
    if asked:
        return _endpoint_page(word, endpoint)
    options, rest = _options(endpoint, rest)
    body = codec.encode(flags.request(request_of(endpoint), rest))
    if not streams(endpoint):
        call = session.caller.call
        return call(word, endpoint.name, body, known=versions, timeout=DEFAULT_TIMEOUT)
    session.output = options.get("output", session.output)
    limit = _limit(options.get("limit", "0"))
    return session.stream(word, endpoint.name, body, known=versions, limit=limit)


def _options(endpoint: Endpoint, args: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The command's own flags, but for those that are fields of the request, and all others.

    Raises:
        click.UsageError: ``--output`` is not json: an answer is JSON.
    """
    own = {"--output": "output", "-o": "output"}
    if streams(endpoint):
        own["--limit"] = "limit"
    own = {typed: name for typed, name in own.items() if endpoint.request.field(name) is None}
    found, rest, left = {}, [], list(args)
    while left:
        word = left.pop(0)
        typed, equals, value = word.partition("=")
        if typed in own:
            found[own[typed]] = value if equals else (left.pop(0) if left else "")
        else:
            rest.append(word)
    if found.get("output", "json") != "json":
        raise click.UsageError("the answer of a service is JSON: --output json")
    return found, rest


def _limit(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    raise click.UsageError(f"--limit: {text[:20]!r} is no number of messages")


def split(args: Sequence[str]) -> tuple[list[str], list[str]]:
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
    return close_to(word, [*COMMANDS, *services])


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
    listed = [name for name, endpoint in known.items() if UNLISTED not in endpoint.metadata]
    words = sorted(words_of(service, name) for name in listed)
    return help.page(
        f"micro {service}",
        f"micro {service} [command]",
        version=versions[0].version,
        commands=[(word, "") for word in words],
    )


def words_of(service: str, endpoint: str) -> str:
    """What is typed for an endpoint: ``getService``, or ``other thing`` of another handler."""
    handler, _, method = endpoint.partition(".")
    own = handler == names.handler_of(service)
    return (
        names.lower_camel(method)
        if own
        else f"{names.lower_camel(handler)} {names.lower_camel(method)}"
    )


def _endpoint_page(service: str, endpoint: Endpoint) -> str:
    words = f"micro {service} {words_of(service, endpoint.name)}"
    listed = [flag for flag in flags.of(request_of(endpoint)).values() if flag.listed]
    rows = [(f"--{flag.name} {flag.type}", "") for flag in listed]
    if streams(endpoint):
        rows.append(("--limit int64", "End after so many messages."))
    return help.page(words, f"{words} [flags]", about=_about_stream(endpoint), flags=rows)


def _about_stream(endpoint: Endpoint) -> str:
    if takes_stream(endpoint):
        return "Each line of the standard input is sent as a message, in JSON."
    return "Prints messages as they come; Ctrl-C ends it." if streams(endpoint) else ""


def request_of(endpoint: Endpoint) -> Value:
    """What is sent before any item of a stream: the fields that flags are for."""
    field = endpoint.metadata.get("micro.items")
    if takes_stream(endpoint) and not field:
        return Value(name="none")
    if not field:
        return endpoint.request
    values = [value for value in endpoint.request.values if value.name != field]
    return msgspec.structs.replace(endpoint.request, values=values)
