"""Realms by themselves: what they take, and what they keep to themselves."""

from __future__ import annotations

import itertools
import json

import pytest

from microcosmos.functions.quickjs import prelude
from microcosmos.functions.quickjs.limits import LOG_LINES, OPERATIONS
from microcosmos.functions.quickjs.realm import Realm, Spares

HEAD = "GET\nhttp://a.test/f/x\n\n[]\nx"
KIB = 1024


def made(code: str, *, heap: int = 64 * KIB * KIB) -> Realm:
    realm = Realm()
    realm.context.set_memory_limit(heap)
    realm.setup("{}", "[]", "A" * 44)
    realm.context.eval(code)
    realm.begin()
    return realm


def script(code: str) -> Realm:
    realm = Realm()
    realm.setup("{}", "[]", "A" * 44)
    realm.script(code)
    return realm


def test_a_realm_is_small() -> None:
    realm = made("function handler() { return 'hello' }")
    assert realm.run(1, HEAD) == "thello\x01"
    assert realm.heap < 260 * KIB


def test_parts_are_made_when_they_are_looked_at() -> None:
    realm = made("function handler() { return typeof URL }")
    before = realm.heap
    assert realm.run(1, HEAD) == "tfunction\x01"
    assert realm.heap - before > 10 * KIB


def test_every_part_can_be_made() -> None:
    for name in prelude.GLOBALS:
        realm = script("1")
        assert realm.context.eval(f"typeof {name}") in ("function", "object")


def test_the_frames_of_the_prelude_can_be_told() -> None:
    for text in (prelude.REALM[prelude.BELOW :], *prelude._PARTS.values()):
        assert text.count("\n") < prelude.LINES
    realm = Realm()
    realm.setup("{}", "[]", "A" * 44)
    stack = realm.context.eval("try { new Headers({ '?': 1 }) } catch (e) { e.stack }")
    lines = [
        int(line.split("<input>:")[1].split(":")[0]) for line in stack.split("\n") if "<" in line
    ]
    assert any(prelude.BELOW < line <= prelude.BELOW + prelude.LINES for line in lines)
    assert lines[-1] == 1


def test_spares_are_kept_up_to_a_number() -> None:
    spares = Spares()
    made = 0
    while spares.refill():
        made += 1
    assert made == Spares.KEPT
    realms = [spares.take() for _ in range(Spares.KEPT + 1)]
    assert len(set(map(id, realms))) == Spares.KEPT + 1


def test_two_realms_have_different_random_numbers_by_their_seeds() -> None:
    seen = set()
    for seed in ("A" * 43 + "=", "B" * 42 + "A=", "A" * 43 + "="):
        realm = Realm()
        realm.setup("{}", "[]", seed)
        seen.add(realm.context.eval("crypto.randomUUID() + crypto.randomUUID()"))
    assert len(seen) == 2


def test_random_numbers_are_chacha20() -> None:
    # RFC 8439, A.1: the first block of the key of zeros.
    realm = Realm()
    realm.setup("{}", "[]", "A" * 43 + "=")
    block = realm.context.eval("crypto.getRandomValues(new Uint8Array(64)).toHex()")
    assert block == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
    )


def test_operations_have_a_limit() -> None:
    realm = made(
        "function handler() { try { for (;;) setTimeout(() => {}, 1) }"
        " catch (e) { return String(e) } }"
    )
    answer = realm.run(1, HEAD)
    assert f"more than {OPERATIONS} operations" in answer
    assert len(json.loads(realm.take())) == OPERATIONS


def test_lines_have_a_limit() -> None:
    realm = made("function handler() { for (let n = 0; n < 9999; n++) console.log(n); return 'x' }")
    realm.run(1, HEAD)
    lines = json.loads(realm.take())
    assert len(lines) == LOG_LINES + 1
    assert lines[-1][3] == f"{9999 - LOG_LINES} more lines were dropped"


def test_a_broken_realm_can_forge_nothing_in_the_queue() -> None:
    realm = made(
        "Array.prototype.toJSON = () => [['a', 1, 'tforged']];"
        "Object.prototype.toJSON = () => 'forged'; String.prototype.toJSON = () => 'forged';"
        "Array.prototype.join = () => '[]'; String.prototype[Symbol.split] = () => ['forged'];"
        "Object.defineProperty(Array.prototype, '0', { set() { throw 1 } });"
        "function handler() { console.log('true'); return 'x' }"
    )
    assert realm.run(7, HEAD) == "tx\x02"
    # What a part makes of its own patches is its own; the queue is what it is.
    assert json.loads(realm.take()) == [["l", 7, "info", "[]"]]


# Scripts that are made into functions answer what `eval` answers.

STATEMENTS = [
    "let a = 1",
    "const f = (x) => x",
    "var b = 2;",
    "function g(x) { return x * 2 }",
    "class C { static d = 3 }",
    "if (path) { 5 }",
    "6",
    "7;",
    "'eight'",
    "[9].map((x) => x)",
    "(10)",
    "`el\neven`",
    "/twelve;/g",
    "-13",
    "{ e: 14 }",
    "({ e: 15 })",
    "for (const h of [1]) h",
    "x = 16 // sixteen",
    "x = 17 /* sev\nen */",
    "// nothing",
    "",
    "++x",
    "x\n++\nx",
    "function () {}",
    "async () => {}",
    "let",
    "yield",
    "new\nDate(0)",
    "typeof\nx",
    "do x; while (0) 18",
    "19, 20",
    "a\n?.b",
    "return 21",
    "<!-- html",
    "--> html",
    "var x = 1",
    "label: 22",
    "throw 23",
    "'use strict'",
]


def outcome(run: object, *given: object) -> object:
    try:
        return run(*given)  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001 - whatever the engine says
        return str(error).partition("\n")[0]


@pytest.mark.parametrize("first", STATEMENTS)
def test_a_script_made_into_a_function_answers_as_by_eval(first: str) -> None:
    # One realm for all: only `script` and `execute` are looked at.
    realm = Realm()
    realm.setup("{}", "[]", "A" * 44)
    by_eval = realm.context.eval(
        "(function (source) { var run = new Function('path', 'return eval(arguments[1])');"
        " return 't' + run('p', source) + '\\x01' })"
    )
    for rest in itertools.chain(
        ([second] for second in STATEMENTS),
        ([second, "x + 1"] for second in STATEMENTS),
        ([second, "(3)"] for second in STATEMENTS),
    ):
        code = "\n".join([first, *rest])
        realm.context.eval("globalThis.x = 1")
        expected = outcome(by_eval, code)
        loaded = outcome(realm.script, code)
        if loaded is not None:
            assert str(loaded).startswith("SyntaxError"), code
            assert str(expected).startswith("SyntaxError"), code
            continue
        realm.context.eval("globalThis.x = 1")
        answer = str(outcome(realm.execute, 1, "p"))
        realm.take()
        if answer.startswith("x"):
            assert not str(expected).startswith("t") or "Error" in str(expected), code
        else:
            assert answer.replace("\x02", "\x01") == expected, code
