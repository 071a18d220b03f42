"""gateway.toml: what is wrong is told in one line, with the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from microcosmos.base import errors
from microcosmos.gateway.front.settings import MAX_RULES, NONE, duration, parse, rate, read

WRONG = {
    "x = 1": "there is no key 'x' here",
    "[[limits]]\nrat = '5/s'": "limits[0]: there is no key 'rat' here",
    "[[limits]]\nrate = 5": "limits[0].rate: expected `str`, got `int`",
    "[[limits]]\nrate = '5'": "limits[0].rate: '5' is no rate like",
    "[[limits]]\nrate = '0/s'": "limits[0].rate: '0/s' is no rate like",
    "[[limits]]\nrate = '1/year'": "limits[0].rate: '1/year' is no rate like",
    "[[limits]]\nrate = '99999999999999/s'": "limits[0].rate:",
    "[[limits]]\nrate = '2000000/s'": "limits[0].rate: '2000000/s' is more than 1000000",
    "[[limits]]\nkey = 'all'": "limits[0].rate: give a rate or a quota",
    "[[limits]]\nquota = '1/s'\nburst = 3": "limits[0].burst: a burst needs a rate",
    "[[limits]]\nrate = '1/s'\nburst = -1": "limits[0].burst: expected `int` >= 0",
    "[[limits]]\nrate = '1/s'\nkey = 'ip'": "limits[0].key: 'ip' is none of address, token",
    "[[limits]]\nrate = '1/s'\nkey = 'header:a b'": "limits[0].key:",
    "[[limits]]\nrate = '1/s'\nname = 'a\"b'": "limits[0].name:",
    "[[limits]]\nrate = '1/s'\npath = 'users'": "limits[0].path: 'users' does not begin with /",
    "[proxies]\ntrusted = ['10.0.0.0/99']": "proxies.trusted: '10.0.0.0/99' is no address",
    "[proxies]\nheader = 'X-Real-IP'": "proxies.header: invalid enum value 'X-Real-IP'",
    "[block]\naddresses = ['host']": "block.addresses: 'host' is no address",
    "[block]\nkeys = ['']": "block.keys: a key is empty",
    "[[static]]\npath = '/a'": "static[0]: the key 'folder' is missing",
    "[[static]]\npath = '/a'\nfolder = 'no'": "static[0].folder: there is no folder",
    "[[static]]\npath = '/{a}'\nfolder = '.'": "static[0].path: '/{a}' has fields",
    "[[static]]\npath = '/a'\nfolder = '.'\nfallback = '../x'": "static[0].fallback:",
    "[[static]]\npath = '/a'\nfolder = '.'\ncache = 'long'": "static[0].cache: 'long' is no",
    "[[static]]\npath = '/a'\nfolder = '.'\n[[static]]\npath = '/a/'\nfolder = '.'": "static[1]:",
    "[[hosts]]\nservice = 'a'": "hosts[0].host: it is missing",
    "[[hosts]]\nhost = 'A.com:80'\nservice = 'a'": "hosts[0].host: 'A.com:80' is no host name",
    "[[hosts]]\nhost = 'a.com'\nservice = '../x'": "hosts[0].service:",
    "[[routes]]\npath = '/a'\nservice = 'a'\nmethod = 'get'": "routes[0].method: 'get' is no",
    "[[routes]]\npath = '/{a}/{a}'\nservice = 'a'": "routes[0].path: '/{a}/{a}' names a",
    "[[routes]]\npath = '/{a*}/b'\nservice = 'a'": "routes[0].path:",
    "[[routes]]\npath = '/x{a}'\nservice = 'a'": "routes[0].path:",
    "[[routes]]\npath = '/a'\nservice = 'a'\nendpoint = 'a b'": "routes[0].endpoint:",
    "[[redirects]]\npath = '/a'\nto = 'ftp://x'": "redirects[0].to: 'ftp://x' is neither",
    "[[redirects]]\npath = '/a'\nto = '/{b}'": "redirects[0].to: the path has no field {b}",
    "[[redirects]]\npath = '/{a}'\nto = 'https://{a}/'": "redirects[0].to: a field in the host",
    "[[redirects]]\npath = '/a'\nto = '/b\\nX: y'": "redirects[0].to:",
    '[[redirects]]\npath = "/a"\nto = "/b\\r\\nX: y"': "redirects[0].to:",
    "[[redirects]]\npath = '/a'\nto = '/b'\nstatus = 200": "redirects[0].status: invalid enum",
    "[cache]\nbytes = -1": "cache.bytes: expected `int` >= 0",
    "[[limits": "expected ']]'",
    "a = '\x00'": "found invalid character",
    "a = " + "[" * 5000: "nested too deeply",
    "[[redirects]]\npath = '/a'\nto = '/b'\n" * (MAX_RULES + 1): "redirects: expected `array`",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:60])
def test_what_is_wrong_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    with pytest.raises(errors.BadRequest) as raised:
        read(path)
    detail = raised.value.detail
    assert detail.startswith(f"{path}: {WRONG[text]}"), detail
    assert "\n" not in detail


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="not valid UTF-8"):
        parse(b"a = '\xff'", tmp_path / "gateway.toml")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(errors.BadRequest, match="Is a directory"):
        read(tmp_path)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert parse(b"", tmp_path / "gateway.toml") == NONE


def test_folders_stand_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    settings = parse(b"[[static]]\npath='/'\nfolder='public'", tmp_path / "gateway.toml")
    assert settings.static[0].folder == str(tmp_path / "public")


def test_rates_and_durations() -> None:
    assert rate("100/s") == (100, 1)
    assert rate("60/minute") == rate("60/m") == (60, 60)
    assert rate("10000/day") == (10000, 86400)
    assert [duration(text) for text in ("500ms", "10s", "5m", "1h", "7d")] == [
        0.5,
        10,
        300,
        3600,
        604800,
    ]
