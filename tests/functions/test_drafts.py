"""Drafts: every kind of bad input is refused in one line that names the cause."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microcosmos.base import codec, errors
from microcosmos.functions import drafts, forms
from microcosmos.functions.interface import (
    MAX_ENV,
    MAX_FILES,
    MAX_MESSAGE,
    MAX_ROUTES,
    MAX_SOURCE,
    MAX_VALUE,
    Draft,
    SecretUse,
)

from .plane import draft

FILES = {"index.js": "1"}


def uses(host: str, header: str = "authorization", **more: Any) -> dict[str, Any]:
    return {"secrets": {"A": ""}, "secret_uses": {"A": [SecretUse(host, header)]}, **more}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"name": ""}, "'' is no service name"),
        ({"name": "a/b"}, "no service name"),
        ({"name": "a..b"}, "no service name"),
        ({"name": "é"}, "no service name"),
        ({"name": "x" * 101}, "no service name"),
        ({"name": "api"}, "/api is the platform's own"),
        ({"name": "app.mine"}, "/app is the platform's own"),
        ({"files": {}}, "files: there are none"),
        ({"files": {"": "1"}}, "files: '' is no path"),
        ({"files": {"/index.js": "1"}}, "is no path"),
        ({"files": {"../index.js": "1"}}, "is no path"),
        ({"files": {"a/./index.js": "1"}}, "is no path"),
        ({"files": {"a\\b.js": "1"}}, "is no path"),
        ({"files": {"a\nb.js": "1"}}, "is no path"),
        ({"files": {"a\0.js": "1"}}, "is no path"),
        ({"files": {"x" * 256 + ".js": "1"}}, "is no path"),
        ({"files": {"a": "1", "a/b.js": "1"}}, "a is a file and a folder"),
        ({"files": {"index.js": "\ud800"}}, "index.js: it is no valid Unicode"),
        ({"files": dict.fromkeys(map(str, range(MAX_FILES + 1)), "")}, "at most 500"),
        ({"files": {"index.js": "x" * (MAX_SOURCE + 1)}}, "at most 4 MiB"),
        ({"files": {"index.js": "é" * (MAX_SOURCE // 2 + 1)}}, "at most 4 MiB"),
        ({"files": {"a.js": "1", "b.js": "1"}}, "say which with --main"),
        ({"files": {"index.js": "1", "index.ts": "1"}}, "index.js or index.ts; say which"),
        ({"main": "other.js"}, "main: there is no file 'other.js'"),
        ({"files": {"index.wat": "1"}}, "index.wat: its suffix tells no language"),
        ({"files": {"index": "1"}}, "its suffix tells no language"),
        ({"language": "cobol"}, "language: 'cobol' is none; one of javascript"),
        ({"engine": "v8"}, "engine: 'v8' is none; one of quickjs, deno, monty"),
        ({"message": "x" * (MAX_MESSAGE + 1)}, "message: it has 2001 characters; at most 2000"),
        ({"message": "\udfff"}, "message: it is no valid Unicode"),
        ({"env": {"1A": ""}}, "env: '1A' is no name"),
        ({"env": {"A-B": ""}}, "env: 'A-B' is no name"),
        ({"env": {"": ""}}, "env: '' is no name"),
        ({"env": {"É": ""}}, "is no name"),
        ({"env": {"A\n": ""}}, "is no name"),
        ({"env": {"__proto__": ""}}, "'__proto__' is no name"),
        ({"env": {"A": "x" * (MAX_VALUE + 1)}}, "env.A: its value has 5,121 bytes; at most 5,120"),
        ({"env": {"A": "\ud800"}}, "env.A: it is no valid Unicode"),
        ({"env": {f"A{n}": "" for n in range(MAX_ENV + 1)}}, "env: there are 129; at most 128"),
        ({"secrets": {"no-name": "x"}}, "secrets: 'no-name' is no name"),
        ({"secrets": {"A": "x" * (MAX_VALUE + 1)}}, "secrets.A: its value has 5,121 bytes"),
        ({"env": {"A": ""}, "secrets": {"A": ""}}, "A is a variable already"),
        ({"env": {"store": ""}, "grants": ["store"]}, "env: store is what --grant store gives"),
        ({"secrets": {"call": ""}, "grants": ["call:users"]}, "secrets: call is what --grant call"),
        ({"secrets": {"A": ""}}, "--secret-use A=HOST[/HEADER]"),
        ({"secrets": {"A": ""}}, "--grant secret:A lets the code read it"),
        ({"secrets": {"A": ""}, "grants": ["secret:B"]}, "there is no secret B with it"),
        ({"secrets": {"A": "", "B": ""}, "grants": ["secret:A"]}, "what B is for"),
        ({"secrets": {"A": ""}, "secret_uses": {"A": []}}, "what A is for"),
        ({"grants": ["secret:__proto__"]}, "'__proto__' is no name"),
        ({"secret_uses": {"A": [SecretUse("a.org")]}}, "there is no secret A with it"),
        (uses("http://a.org"), "secret_uses.A: 'http://a.org' is none; write"),
        (uses("a.org", "two words"), "'two words' is no name of a header"),
        (uses("a.org", ""), "'' is no name of a header"),
        (uses("a.org", "Host"), "host is of the connection"),
        (uses("a.org", "Content-Length"), "content-length is of the connection"),
        (uses("a.org", hosts=["b.org"]), "a.org is not among its hosts; add --allow-host a.org"),
        (uses("*.a.org", hosts=["x.a.org"]), "*.a.org is not among its hosts"),
        (uses("a.org", hosts=["a.org:81"]), "a.org is not among its hosts"),
        ({"grants": ["root"]}, "grants: 'root' is none; one of store, config"),
        ({"grants": ["store:x"]}, "only call is narrowed"),
        ({"grants": ["call:a b"]}, "'a b' is no service name"),
        ({"grants": ["store", "store"]}, "grants: store is said twice"),
        ({"hosts": ["http://example.org"]}, "hosts: 'http://example.org' is none"),
        ({"hosts": ["example.org/path"]}, "is none; write example.org"),
        ({"hosts": ["*"]}, "is none"),
        ({"hosts": ["a.*.org"]}, "is none"),
        ({"hosts": ["example.org:99999"]}, "is none"),
        ({"hosts": ["example.org:0"]}, "is none"),
        ({"hosts": ["ex ample.org"]}, "is none"),
        ({"hosts": [""]}, "is none"),
        ({"hosts": ["EXAMPLE.org", "example.ORG"]}, "hosts: example.org is said twice"),
        ({"hosts": [f"h{n}" for n in range(101)]}, "hosts: there are 101; at most 100"),
        ({"routes": ["users"]}, "routes: 'users' does not begin with /"),
        ({"routes": ["/{id"]}, "a field is a whole part"),
        ({"routes": ["/{id}/{id}"]}, "names a field twice"),
        ({"routes": ["/{rest*}/x"]}, "only the last part may be a field with a star"),
        ({"routes": ["/a/../b"]}, "has . or .. in it"),
        ({"routes": ["/" + "x" * 500]}, "is over 500 characters"),
        ({"routes": [f"/{n}" for n in range(MAX_ROUTES + 1)]}, "routes: there are 51; at most 50"),
        ({"on": ["orders"]}, "on: 'orders' is none; write events:orders or cron:"),
        ({"on": ["events:"]}, "is neither a topic nor a pattern"),
        ({"on": ["events:a b"]}, "is neither a topic nor a pattern"),
        ({"on": ["cron:"]}, "has 0 fields"),
        ({"on": ["cron:99 * * * *"]}, "bad minute"),
        ({"on": ["cron:0 0 31 2 *"]}, "bad day-of-month"),
        ({"on": ["cron:@at 2030-01-01T00:00:00Z"]}, "@at is once"),
        ({"on": ["cron:@every 1ms"]}, "is not between"),
        ({"on": ["events:a", "events: a"]}, "on: events:a is said twice"),
        ({"on": [f"events:t{n}" for n in range(21)]}, "on: there are 21; at most 20"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(said: dict[str, Any], told: str) -> None:
    one = msgspec.structs.replace(Draft(name="hello", files=FILES), **said)
    with pytest.raises((errors.BadRequest, errors.TooLarge, errors.Conflict)) as refused:
        drafts.check(one)
    assert told in refused.value.detail
    assert "\n" not in refused.value.detail
    assert len(refused.value.detail) < 600


def test_what_is_left_unsaid_is_found_out() -> None:
    plan = drafts.check(
        Draft(
            name="hello",
            files={"hello.ts": "", "lib/a.ts": "", "README.md": ""},
            routes=["/"],
            hosts=["API.example.org", "*.example.org", "127.0.0.1:8000", "[::1]:80", "localhost"],
            on=["events: orders.* ", "cron: */5  * * * * ", "cron:@every 90s", "cron:@daily"],
            grants=["store", "call:v1.users.read", "call", "secret:S"],
            env={"A": "x" * MAX_VALUE, "_b": ""},
            secrets={"S": None, "U": None},
            secret_uses={"U": [SecretUse("API.example.org", "X-Key"), SecretUse("a.example.org")]},
        )
    )
    assert (plan.main, plan.language) == ("hello.ts", "typescript")
    assert plan.draft.routes == []
    assert plan.draft.hosts[0] == "api.example.org"
    assert plan.draft.secret_uses == {
        "U": [SecretUse("api.example.org", "x-key"), SecretUse("a.example.org", "authorization")]
    }
    assert plan.draft.on == [
        *("events:orders.*", "cron:*/5 * * * *"),
        *("cron:@every 90s", "cron:@daily"),
    ]


@given(
    st.builds(
        Draft,
        name=st.text(max_size=8),
        files=st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
        main=st.text(max_size=5),
        language=st.text(max_size=5),
        engine=st.text(max_size=5),
        message=st.text(max_size=8),
        env=st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
        secrets=st.dictionaries(st.text(max_size=4), st.none() | st.text(max_size=4), max_size=2),
        hosts=st.lists(st.text(max_size=8), max_size=2),
        routes=st.lists(st.text("/{}*.ab", max_size=8), max_size=2),
        grants=st.lists(st.text(max_size=6), max_size=2),
        on=st.lists(
            st.sampled_from(["events:", "cron:", ""]).flatmap(
                lambda word: st.text(max_size=8).map(lambda text: word + text)
            ),
            max_size=2,
        ),
    )
)
def test_whatever_is_said_is_taken_or_refused(one: Draft) -> None:
    try:
        plan = drafts.check(one)
    except (errors.BadRequest, errors.TooLarge, errors.Conflict):
        return
    # What is taken stays what it is, and can be sent.
    assert drafts.check(plan.draft) == plan
    assert codec.decode(codec.encode(plan.draft), Draft) == plan.draft


@pytest.mark.parametrize(
    ("language", "form", "said", "engine"),
    [
        ("javascript", "script", "", "quickjs"),
        ("javascript", "handler", "", "quickjs"),
        ("javascript", "handler", "deno", "deno"),
        ("javascript", "module", "", "deno"),
        ("typescript", "handler", "", "deno"),
        ("typescript", "module", "", "deno"),
        ("python", "handler", "", "monty"),
    ],
)
def test_the_engine_is_that_of_the_form(language: Any, form: Any, said: str, engine: str) -> None:
    assert forms.engine_of(language, form, said) == engine


@pytest.mark.parametrize(
    ("language", "form", "said", "told"),
    [
        ("javascript", "module", "quickjs", "runs on deno, not on quickjs"),
        ("typescript", "handler", "quickjs", "runs on deno, not on quickjs"),
        ("typescript", "script", "", "typescript cannot be a script: write a function `handler`"),
        ("python", "module", "", "python cannot be a module"),
        ("python", "handler", "deno", "runs on monty, not on deno"),
    ],
)
def test_an_engine_that_cannot_is_refused(language: Any, form: Any, said: str, told: str) -> None:
    with pytest.raises(errors.BadRequest, match=told):
        forms.engine_of(language, form, said)


@pytest.mark.parametrize(
    ("code", "linked"),
    [
        ('import a from "./a.js"', True),
        ('export { a } from "./a.js"', True),
        ('export * from "npm:hono@4"', True),
        ("export default { fetch() { return import('./a.js') } }", True),
        ("export default { fetch() { return new Response('x') } }", False),
        ("export const a = 1", False),
    ],
)
def test_what_names_other_files_is_linked(code: str, linked: bool) -> None:
    assert forms.links({"index.js": code}, "index.js", "javascript") is linked


def test_validation_takes_little_time() -> None:
    import time

    one = draft(routes=[f"/{n}/{{id}}" for n in range(50)], on=["cron:*/5 * * * *"])
    big = msgspec.structs.replace(one, files={"index.js": "x" * MAX_SOURCE})
    started = time.process_time()
    for _ in range(10):
        drafts.check(big)
    assert time.process_time() - started < 0.5
