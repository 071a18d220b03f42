"""Names, and their forms in paths, subjects and announcements."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microcosmos.base import errors, names


@pytest.mark.parametrize(
    ("path", "service", "endpoint"),
    [
        ("/foo", "foo", "Foo.Call"),
        ("/foo/", "foo", "Foo.Call"),
        ("foo/bar", "foo", "Foo.Bar"),
        ("/foo/bar", "foo", "Foo.Bar"),
        ("//foo//bar/", "foo", "Foo.Bar"),
        ("/foo/bar/baz", "foo", "Bar.Baz"),
        ("/foo/bar/baz/cat", "foo.bar", "Baz.Cat"),
        ("/a/b/c/d/e", "a.b.c", "D.E"),
        ("/v1/foo/bar", "v1.foo", "Foo.Bar"),
        ("/v12/foo/bar", "v12.foo", "Foo.Bar"),
        ("/v1/foo/bar/baz", "v1.foo", "Bar.Baz"),
        ("/v1/foo/bar/baz/cat", "v1.foo.bar", "Baz.Cat"),
        ("/v1/foo", "v1", "V1.Foo"),
        ("/version/foo/bar", "version", "Foo.Bar"),
        ("/v1x/foo/bar", "v1x", "Foo.Bar"),
        ("/v1.foo/bar", "v1.foo", "Foo.Bar"),
        ("/foo/bar.baz", "foo", "Bar.Baz"),
        ("/my-service/do-it", "my-service", "MyService.DoIt"),
        ("/my_service/do_it", "my_service", "MyService.DoIt"),
        ("/foo/listUsers", "foo", "Foo.ListUsers"),
        ("/foo/list-users/get-one", "foo", "ListUsers.GetOne"),
        ("/registry/listServices", "registry", "Registry.ListServices"),
        ("/helloworld/call", "helloworld", "Helloworld.Call"),
        ("/2048", "2048", "2048.Call"),
        ("/2048/play", "2048", "2048.Play"),
    ],
)
def test_a_path_means_a_service_and_an_endpoint(path: str, service: str, endpoint: str) -> None:
    assert names.from_path(path) == (service, endpoint)


@pytest.mark.parametrize("path", ["", "/", "//"])
def test_a_path_without_parts_names_nothing(path: str) -> None:
    with pytest.raises(errors.NotFound):
        names.from_path(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/*", "/foo/*", "/foo/>", "/foo bar", "/foo/b ar", "/-foo", "/foo/12", "/foo/a.b.c"),
        *("/föö/bar", "/foo/bär", "/foo/..", "/../etc", "/foo\n", "/foo/bar\n", "/foo/$SRV"),
        *("/v1/../bar", "/a/.b/c/d", "/" + "a" * 101, "/foo/" + "b" * 300, "/foo\0/bar"),
    ],
)
def test_a_path_that_cannot_be_a_name_is_bad_input(path: str) -> None:
    with pytest.raises(errors.BadRequest):
        names.from_path(path)


word = st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,8}([_-][A-Za-z0-9]{1,4})?", fullmatch=True)
part = st.one_of(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True),
    st.sampled_from(["v1", "v2", "v10", "v1x", "v"]),
)


@given(st.lists(part, min_size=1, max_size=4), st.one_of(st.none(), word), word)
@example(["v1"], "other", "method")
@example(["v1", "foo", "bar"], None, "baz")
@example(["v1x", "foo"], None, "baz")
@example(["a", "b"], None, "c")
def test_the_path_of_an_endpoint_leads_back_to_it(
    parts: list[str], handler: str | None, method: str
) -> None:
    service = ".".join(parts)
    endpoint = names.endpoint_name(service, f"{handler}.{method}" if handler else method)
    assert names.from_path(names.to_path(service, endpoint)) == (service, endpoint)


@pytest.mark.parametrize(
    ("service", "endpoint", "path"),
    [
        ("helloworld", "Helloworld.Call", "/helloworld/call"),
        ("registry", "Registry.GetService", "/registry/getService"),
        ("foo", "Bar.Baz", "/foo/bar/baz"),
        ("v1.foo", "Foo.Bar", "/v1/foo/bar"),
        ("v1.foo", "Other.Bar", "/v1/foo/other/bar"),
        ("a.b", "B.C", "/a/b/b/c"),
        ("my-service", "MyService.DoIt", "/my-service/doIt"),
    ],
)
def test_paths_are_written_as_people_type_them(service: str, endpoint: str, path: str) -> None:
    assert names.to_path(service, endpoint) == path


@pytest.mark.parametrize("name", ["a", "foo", "Foo9", "v1.foo", "my-service", "my_service", "2048"])
def test_good_service_names_are_taken(name: str) -> None:
    assert names.check_service(name) == name
    assert names.check_endpoint(names.default_endpoint(name)) == names.default_endpoint(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "a.", ".a", "a..b", "a.-b", "*", ">", "a.*", "a.>", "a b", "a/b", "a\\b"),
        *("a\n", "a\r\nb", "a\0", "é", "-a", "_a", "$SRV", "a:b", "a" * 101, "../x", "٣"),
    ],
)
def test_bad_service_names_are_refused_with_the_rule(name: str) -> None:
    with pytest.raises(errors.BadRequest, match="is no service name: use") as caught:
        names.check_service(name)
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    "name",
    ["", "Foo", "Foo.", ".Bar", "Foo.Bar.Baz", "Foo.*", "*.Bar", "Foo.>", "Foo.B r", "Foo.1"],
)
def test_bad_endpoint_names_are_refused(name: str) -> None:
    with pytest.raises(errors.BadRequest, match=r"use Handler\.Method"):
        names.check_endpoint(name)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("call", "Helloworld.Call"),
        ("list_users", "Helloworld.ListUsers"),
        ("listUsers", "Helloworld.ListUsers"),
        ("list-users", "Helloworld.ListUsers"),
        ("Other.thing", "Other.Thing"),
        ("other_one.thing", "OtherOne.Thing"),
    ],
)
def test_a_word_becomes_an_endpoint_of_its_service(word: str, expected: str) -> None:
    assert names.endpoint_name("helloworld", word) == expected


def test_a_subject_stands_below_rpc() -> None:
    assert names.subject("v1.foo", "Foo.Bar") == "rpc.v1~foo.Foo.Bar"


@pytest.mark.parametrize(
    ("service", "endpoint"),
    [
        *(("foo", "Foo.*"), ("foo", ">"), ("foo", "Foo.Bar.Baz"), ("foo.>", "Foo.Call")),
        *(("foo bar", "Foo.Call"), ("foo", "Foo.Call\r\nPUB x 0"), ("", "Foo.Call"), ("foo", "")),
    ],
)
def test_a_subject_has_no_wildcard_and_no_blank(service: str, endpoint: str) -> None:
    with pytest.raises(errors.NotFound):
        names.subject(service, endpoint)


@pytest.mark.parametrize(
    ("version", "announced"),
    [
        ("latest", "0.0.0-latest"),
        ("1.2.3", "1.2.3"),
        ("1.2.3-rc.1+build.7", "1.2.3-rc.1+build.7"),
        ("1.2", "0.0.0-1-2"),
        ("v1.2.3", "0.0.0-v1-2-3"),
        ("feature/x_y", "0.0.0-feature-x-y"),
        ("9342934e6180", "0.0.0-9342934e6180"),
        ("0012345", "0.0.0-v0012345"),
        ("1.0.0-01", "0.0.0-1-0-0-01"),
        ("", "0.0.0-unknown"),
        ("…", "0.0.0-unknown"),
    ],
)
def test_a_version_is_announced_as_semver(version: str, announced: str) -> None:
    assert names.announced_version(version) == announced


# The expression that ADR-32 and semver.org give.
SEMVER = re.compile(
    r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$",
    re.ASCII,
)


@given(st.one_of(st.text(max_size=20), st.from_regex(r"[0-9.+v-]{1,12}", fullmatch=True)))
@example("007")
@example("\u0661.0.0")
def test_every_version_is_announced_in_the_form_of_adr_32(version: str) -> None:
    assert SEMVER.match(names.announced_version(version))


@given(st.text(min_size=1, max_size=20))
def test_every_name_is_announced_in_the_alphabet_of_adr_32(name: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]+", names.announced(name))
    assert re.fullmatch(r"[A-Za-z0-9_-]+", names.announced_endpoint(name))


def test_announced_names_keep_what_they_can() -> None:
    assert names.announced("v1.foo") == "v1-foo"
    assert names.announced_endpoint("Helloworld.Call") == "Helloworld_Call"
