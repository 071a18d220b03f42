"""Values make the best of what is there, and only `struct` is strict."""

from __future__ import annotations

import dataclasses

import msgspec
import pydantic
import pytest

from microcosmos.base import errors
from microcosmos.config.values import Value, encoded

NOTHING = Value("a.b")


@pytest.mark.parametrize(
    ("value", "as_text", "whole", "number", "yes", "seconds"),
    [
        ("42", "42", 42, 42.0, None, 42.0),
        (" 42 ", " 42 ", 42, 42.0, None, 42.0),
        ("-4.5e1", "-4.5e1", -45, -45.0, None, -45.0),
        (42, "42", 42, 42.0, True, 42.0),
        (42.9, "42.9", 42, 42.9, True, 42.9),
        (True, "true", 1, 1.0, True, None),
        (0, "0", 0, 0.0, False, 0.0),
        ("yes", "yes", None, None, True, None),
        ("Off", "Off", None, None, False, None),
        ("1m30s", "1m30s", None, None, None, 90.0),
        ("250ms", "250ms", None, None, None, 0.25),
        ("-1h", "-1h", None, None, None, -3600.0),
        ("1m 30", "1m 30", None, None, None, None),
        ("hello", "hello", None, None, None, None),
        ("", "", None, None, None, None),
        ("nan", "nan", None, None, None, None),
        ("1e999", "1e999", None, None, None, None),
        ("9" * 5000, "9" * 5000, None, None, None, None),
        (10**400, "1" + "0" * 400, 10**400, None, True, None),
        ({"b": 1, "a": 2}, '{"a":2,"b":1}', None, None, None, None),
        ([1], "[1]", None, None, None, None),
        (None, None, None, None, None, None),
    ],
)
def test_they_coerce_as_best_they_can(value, as_text, whole, number, yes, seconds) -> None:
    found = Value("a", value)
    assert found.exists()
    assert found.str("default") == ("default" if as_text is None else as_text)
    assert found.int(-7) == (-7 if whole is None else whole)
    assert found.float(-7.5) == (-7.5 if number is None else number)
    for default in (True, False):
        assert found.bool(default) is (default if yes is None else yes)
    assert found.duration(-7.5) == (-7.5 if seconds is None else pytest.approx(seconds))


def test_lists_and_maps() -> None:
    assert Value("a", [1, "b"]).list() == [1, "b"]
    assert Value("a", "x, y,,z").list() == ["x", "y", "z"]
    assert Value("a", '["x", 1]').list() == ["x", 1]
    assert Value("a", 5).list() == [5]
    assert Value("a", {"b": 1}).list(["d"]) == ["d"]
    assert Value("a", {"b": 1}).map() == {"b": 1}
    assert Value("a", '{"b": 1}').map() == {"b": 1}
    assert Value("a", '{"b": ').map({"d": 1}) == {"d": 1}
    assert Value("a", 5).map() == {}


def test_what_is_changed_of_a_value_is_not_changed_in_the_config() -> None:
    value = Value("a", {"b": [1]})
    value.map()["b"].append(2)
    value.json()["b"].append(2)
    assert value.map() == {"b": [1]}


def test_nothing_gives_the_defaults_and_never_raises() -> None:
    assert not NOTHING.exists()
    assert (NOTHING.str(), NOTHING.int(), NOTHING.float(), NOTHING.bool()) == ("", 0, 0.0, False)
    assert (NOTHING.duration(), NOTHING.list(), NOTHING.map(), NOTHING.json()) == (0, [], {}, None)
    assert (NOTHING.str("x"), NOTHING.int(5), NOTHING.bool(True)) == ("x", 5, True)


class Key(msgspec.Struct):
    subkey: str
    subkey1: int = 0
    labels: dict[str, str] = {}
    raw: bytes = b""


@dataclasses.dataclass
class Data:
    subkey: str


class Model(pydantic.BaseModel):
    subkey: str


def test_a_struct_is_strict() -> None:
    value = Value("key", {"subkey": "a", "subkey1": 5})
    assert value.struct(Key) == Key("a", 5)
    assert Value("key", {"subkey": "a"}).struct(Data) == Data("a")
    assert Value("key", {"subkey": "a"}).struct(Model) == Model(subkey="a")
    assert Value("keys", [{"subkey": "a"}]).struct(list[Key]) == [Key("a")]
    for kind in (Key, Data, Model):
        with pytest.raises(errors.BadRequest, match="key"):
            Value("key", {"subkey": 5}).struct(kind)
        with pytest.raises(errors.BadRequest):
            Value("key", "text").struct(kind)
    with pytest.raises(
        errors.BadRequest, match=r"key: expected `int`, got `str` - at `\$.subkey1`"
    ):
        Value("key", {"subkey": "a", "subkey1": "42"}).struct(Key)
    with pytest.raises(errors.NotFound, match=r"a\.b is not set"):
        NOTHING.struct(Key)


def test_a_struct_that_is_written_and_read_is_equal() -> None:
    key = Key("a", 5, {"example.com": "x", "": "y"}, b"\x00\xff")
    value = msgspec.json.decode(encoded(key))
    assert Value("key", value).struct(Key) == key
    assert encoded(Model(subkey="x")) == b'{"subkey":"x"}'
    with pytest.raises(errors.BadRequest, match="no JSON"):
        encoded(object())


def test_nobody_prints_a_secret_unasked() -> None:
    secret = Value("a.b", {"password": "hunter2"}, secret=True)
    assert "hunter2" not in repr(secret)
    with pytest.raises(errors.BadRequest) as caught:
        Value("a.b", {"subkey": {"hunter2": 1}}, secret=True).struct(Model)
    assert "hunter2" not in caught.value.detail
    assert repr(Value("a.b", 5)) == "<a.b: 5>"
    assert repr(NOTHING) == "<a.b: not set>"
