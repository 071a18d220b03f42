"""Paths to functions: families, names with dots, routes, shares, and what no path should have."""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import Any

import msgspec
import pytest

from microcosmos.base import errors
from microcosmos.functions.interface import Live, Share
from microcosmos.functions.routing import Found, Routing


def live(name: str, *shares: Share, owner: str = "jane") -> Live:
    given = list(shares) or [Share(number=1, key=f"{name}-1", engine="quickjs")]
    return Live(namespace="micro", name=name, owner=owner, shares=given)


def share(number: int, weight: int = 100, *routes: str) -> Share:
    return Share(
        number=number, key=f"k{number}", engine="quickjs", weight=weight, routes=list(routes)
    )


def routing(*functions: Live) -> Routing:
    made = Routing()
    for function in functions:
        made.put(function)
    return made


def told(found: Found | None) -> tuple[str, int, str, Any] | None:
    if found is None:
        return None
    params = msgspec.json.decode(found.params) if found.params else {}
    return found.target.name, found.target.share.number, found.path, params


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/hello", ""),
        ("/hello/", ""),
        ("/hello/a/b", "a/b"),
        ("/hello/a/", "a/"),
        ("/hello//a//b", "a//b"),
        ("//hello/a", "a"),
        ("///hello", ""),
        ("/hello/ä b\n%", "ä b\n%"),
        ("/hello/.well-known/x", ".well-known/x"),
        ("/hello/a..b/...", "a..b/..."),
        ("/app/hello", ""),
        ("/app/hello/", ""),
        ("/app//hello//a", "a"),
        ("/app/HELLO/a", "a"),
    ],
)
def test_a_function_owns_its_family(path, below):
    assert told(routing(live("hello")).find(path)) == ("hello", 1, below, {})


@pytest.mark.parametrize("path", ["/", "//", "", "/hell", "/hello2", "/Hello", "/other/hello"])
def test_other_paths_are_not_its(path):
    assert routing(live("hello")).find(path) is None


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/hello/../other", ". or .."),
        ("/hello/./a", ". or .."),
        ("/hello/..", ". or .."),
        ("/app/hello/../x", ". or .."),
        ("/hello/\0", "NUL"),
        ("/hello/a\ufffd", "UTF-8"),
        ("//hello/..", ". or .."),
    ],
)
def test_tricks_are_refused(path, says):
    with pytest.raises(errors.BadRequest) as caught:
        routing(live("hello")).find(path)
    assert says in caught.value.detail


def test_a_function_that_there_is_not_has_no_path_in_app():
    with pytest.raises(errors.NotFound) as caught:
        routing(live("hello")).find("/app/other/a")
    assert "'other'" in caught.value.detail


def test_letters_matter_where_two_names_differ_in_them_alone():
    both = routing(live("Shop"), live("shop"))
    assert told(both.find("/app/Shop/a")) == ("Shop", 1, "a", {})
    assert told(both.find("/app/SHOP/a")) == ("shop", 1, "a", {})
    assert told(both.find("/Shop")) == ("Shop", 1, "", {})


def test_the_longest_name_wins():
    shop = routing(live("shop"), live("shop.cart"), live("shop.cart.items"))
    assert told(shop.find("/shop/cart/items/1")) == ("shop.cart.items", 1, "1", {})
    assert told(shop.find("/shop/cart//items")) == ("shop.cart.items", 1, "", {})
    assert told(shop.find("/shop/cart/item")) == ("shop.cart", 1, "item", {})
    assert told(shop.find("/shop/carts")) == ("shop", 1, "carts", {})
    assert told(shop.find("/app/shop.cart/x")) == ("shop.cart", 1, "x", {})


def test_what_only_a_part_of_a_family_owns_is_somebody_elses():
    cart = routing(live("shop.cart"))
    assert cart.find("/shop") is None
    assert cart.find("/shop/list") is None
    assert told(cart.find("/shop/cart")) == ("shop.cart", 1, "", {})


def test_a_function_that_is_deleted_owns_nothing():
    shop = routing(live("shop"), live("shop.cart"))
    shop.drop("shop.cart")
    assert told(shop.find("/shop/cart")) == ("shop", 1, "cart", {})
    shop.drop("shop")
    shop.drop("shop")
    assert shop.find("/shop") is None
    assert not shop
    shop.put(live("shop"))
    shop.put(Live(namespace="micro", name="shop", owner="jane", shares=[]))
    assert not shop


def test_routes_give_their_placeholders():
    users = routing(
        live("users", share(1, 100, "/{id}", "/{id}/friends/{friend}", "/new", "/f/{rest*}"))
    )
    assert told(users.find("/users/7")) == ("users", 1, "7", {"id": "7"})
    assert told(users.find("/users/7/")) == ("users", 1, "7/", {"id": "7"})
    assert told(users.find("/users/new")) == ("users", 1, "new", {})
    assert told(users.find("/users/ä/friends/b c")) == (
        *("users", 1, "ä/friends/b c"),
        {"id": "ä", "friend": "b c"},
    )
    assert told(users.find("/users/f/a/b")) == ("users", 1, "f/a/b", {"rest": "a/b"})
    assert told(users.find("/app/users/7")) == ("users", 1, "7", {"id": "7"})
    for path in ("/users", "/users/7/friends", "/users/7/friends/8/9", "/app/users"):
        with pytest.raises(errors.NotFound) as caught:
            users.find(path)
        assert "it has: /f/{rest*}, /new, /{id}, /{id}/friends/{friend}" in caught.value.detail


def test_a_route_that_is_the_family_itself_is_all_of_it():
    assert told(routing(live("users", share(1, 100, "/", "/{id}"))).find("/users/a/b")) == (
        *("users", 1, "a/b"),
        {},
    )


def test_what_no_route_of_the_longest_name_fits_is_the_next_ones():
    shop = routing(live("shop"), live("shop.cart", share(1, 100, "/{id}")))
    assert told(shop.find("/shop/cart/7")) == ("shop.cart", 1, "7", {"id": "7"})
    assert told(shop.find("/shop/cart/7/x")) == ("shop", 1, "cart/7/x", {})
    shop.drop("shop")
    with pytest.raises(errors.NotFound) as caught:
        shop.find("/shop/cart/7/x")
    assert caught.value.id == "shop.cart"


def test_versions_share_requests_by_their_weights():
    random.seed(7)
    split = routing(live("hello", share(13, 10), share(12, 90), share(11, 0)))
    counts = Counter(split.find("/hello").target.share.number for _ in range(5000))
    assert 400 < counts[13] < 600
    assert counts[12] == 5000 - counts[13]


def test_one_version_is_not_drawn_for(monkeypatch):
    one = routing(live("hello"))
    monkeypatch.setattr(random, "random", None)
    assert told(one.find("/hello")) == ("hello", 1, "", {})


def test_a_version_gets_no_requests_that_it_has_no_route_for():
    random.seed(7)
    split = routing(live("hello", share(2, 50, "/new", "/{id}"), share(1, 50, "/{id}")))
    assert {split.find("/hello/new").target.share.number for _ in range(100)} == {1, 2}
    split.put(live("hello", share(2, 1, "/new/{id}"), share(1, 99, "/{id}")))
    assert {split.find("/hello/new/7").target.share.number for _ in range(100)} == {2}
    assert {split.find("/hello/7").target.share.number for _ in range(100)} == {1}


def test_a_version_that_stays_stays_the_same_object():
    made = routing(live("hello", share(1)))
    before = made.find("/hello").target
    made.put(live("hello", share(2, 10), share(1)))
    assert before in made.targets("hello")
    made.put(live("hello", share(1), owner="joe"))
    assert before not in made.targets("hello")


def test_a_lookup_does_as_much_among_10_000_functions_as_among_10():
    few, many = (
        routing(*(live(f"f{number}") for number in range(count))) for count in (10, 10_000)
    )
    assert _steps(few, "/f7/a") == _steps(many, "/f7/a") > 0
    assert _steps(few, "/f7") == _steps(many, "/f7")
    assert _steps(few, "/service/call") == _steps(many, "/service/call")


def _steps(made: Routing, path: str) -> int:
    """Lines of Python and calls of C that a lookup takes."""
    made.find(path)
    count = 0

    def counted(*_: object) -> Any:
        nonlocal count
        count += 1
        return counted

    before = sys.gettrace()
    sys.settrace(counted)
    try:
        made.find(path)
    finally:
        sys.settrace(before)
    return count
