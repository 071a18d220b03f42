"""`micro functions quota`: how much may be used in an hour, a day, a month."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click
import msgspec

from microcosmos.base import errors
from microcosmos.functions import quotas as known
from microcosmos.functions.requests import Allotted, QuotaRequest, Quotas, QuotasRequest

from .session import Session, ask, change


class Row(msgspec.Struct):
    """A line of `micro functions quota list`."""

    of: str
    quota: str
    used: str
    part: str
    until: str
    by: str
    soft: str
    state: str


@click.group(short_help="Limit how much functions use in an hour, a day, a month")
def quota() -> None:
    """Limit how much functions use in an hour, a day or a month, of anything that is counted.

    Requests beyond it are refused with 429 until the next hour, day or month begins (UTC).
    """


@quota.command("set", short_help="Set a quota")
@click.argument("words", nargs=-1, required=True, metavar="[NAME] MEASURE=AMOUNT/PERIOD")
@click.option("--account", default="", help="Of all functions of an account; for admins.")
@click.option("--namespace", is_flag=True, help="Of all functions of the namespace; for admins.")
@click.option("--soft", multiple=True, metavar="80%", help="Where an event warns; 80% unless said.")
@click.pass_obj
def set_(
    session: Session,
    words: tuple[str, ...],
    account: str,
    namespace: bool,
    soft: tuple[str, ...],
) -> list[Row] | list[Allotted]:
    """Set quotas: `requests=10000/hour`, `cpu=60s/day`, `response_bytes=1GiB/month`.

    A quota takes the place of one of the same measure and period. At each --soft part of it an
    event is published on the topic `quota`, once in a period.
    """
    name, texts = _words(words, account, namespace)
    made = []
    with _typed():
        parts = [known.read_part(text) for text in soft] or [known.SOFT]
        # All of them before the first is set.
        read = [
            known.check(known.Quota(measure=measure, most=most, period=period, soft=parts))
            for measure, most, period in map(known.read, texts)
        ]
    for one in read:
        request = QuotaRequest(
            name=name,
            account=account,
            measure=one.measure,
            most=one.most,
            period=one.period,
            soft=one.soft,
        )
        made.append(msgspec.json.decode(change(session, "SetQuota", request), type=Allotted))
    return _shown(session, made)


@quota.command("list", short_help="List quotas")
@click.argument("name", default="")
@click.option("--account", default="", help="Those that hold for an account.")
@click.pass_obj
def list_(session: Session, name: str, account: str) -> list[Row] | list[Allotted]:
    """List quotas and what is used of them: of one function, or of all that one may see."""
    found: list[Allotted] = []
    after, more = "", True
    while more:
        request = QuotasRequest(name=name, account=account, after=after)
        page = ask(session, "Quotas", request, Quotas)
        found += page.quotas
        after, more = page.next, bool(page.next)
    return _shown(session, found)


@quota.command("delete", short_help="Delete a quota")
@click.argument("words", nargs=-1, required=True, metavar="[NAME] MEASURE/PERIOD")
@click.option("--account", default="", help="One of an account.")
@click.option("--namespace", is_flag=True, help="One of the namespace.")
@click.pass_obj
def delete(session: Session, words: tuple[str, ...], account: str, namespace: bool) -> str:
    """Delete a quota, such as `requests/hour`; what it has refused is let in at once."""
    name, texts = _words(words, account, namespace)
    with _typed():
        # As it is listed, or without the amount.
        parts = [text.partition("/") for text in texts]
        read = [(said.partition("=")[0], known.period_of(period)) for said, _, period in parts]
    for measure, period in read:
        request = QuotaRequest(name=name, account=account, measure=measure, period=period)
        change(session, "DeleteQuota", request)
    what = "quota is" if len(texts) == 1 else "quotas are"
    return f"The {what} deleted."


def _words(words: tuple[str, ...], account: str, namespace: bool) -> tuple[str, tuple[str, ...]]:
    """The name of a function, unless it is somebody else's quota, and the quotas."""
    if account and namespace:
        raise click.UsageError("--account or --namespace, not both")
    name, texts = ("", words) if account or namespace else (words[0], words[1:])
    if "=" in name or "/" in name:
        raise click.UsageError("of which function? Or say --account ACCOUNT, or --namespace")
    if not texts:
        raise click.UsageError("say a quota, such as requests=10000/hour")
    return name, texts


def _shown(session: Session, found: list[Allotted]) -> list[Row] | list[Allotted]:
    return found if session.output == "json" else [_row(one) for one in found]


def _row(one: Allotted) -> Row:
    part = one.used / one.most
    return Row(
        of=known.Subject("", one.name, one.account).shown,
        quota=f"{one.measure}={known.written(one.measure, one.most)}/{one.period}",
        used=known.shown(one.measure, one.used),
        part=f"{part:.0%}" if part < 10 else "over 1000%",
        until=one.until.partition(".")[0] + "Z",
        by=one.by,
        soft=", ".join(f"{part * 100:g}%" for part in one.soft),
        state="used up" if one.spent else "",
    )


@contextlib.contextmanager
def _typed() -> Iterator[None]:
    """What is refused here was typed wrongly."""
    try:
        yield
    except errors.BadRequest as error:
        raise click.UsageError(error.detail) from None
