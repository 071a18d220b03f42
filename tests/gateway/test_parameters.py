"""Query strings, JSON, forms and uploads become the typed request."""

from __future__ import annotations

import gzip
from typing import Any

import msgspec
import pytest

from microcosmos import Service
from microcosmos.gateway import body

MIB = 1024 * 1024


class Address(msgspec.Struct, frozen=True):
    street: str = ""
    number: int = 0


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    word: str = ""
    limit: int = 0
    price: float = 0.0
    exact: bool = False
    tags: list[str] = []
    sizes: list[int] = []
    maybe: int | None = 0
    home: Address = Address()
    labels: dict[str, int] = {}
    file: bytes = b""
    files: list[bytes] = []
    any: Any = None


def echo() -> Service:
    """Answers with the fields of the request that were given."""
    made = Service("echo")

    @made.endpoint
    async def call(request: Request) -> Request:
        return request

    @made.endpoint
    async def need(name: str, age: int) -> str:
        return f"{name} {age}"

    @made.endpoint
    async def size(file: bytes) -> int:
        return len(file)

    return made


@pytest.mark.parametrize(
    ("query", "request_"),
    [
        ("", {}),
        ("&&", {}),
        ("word=joe", {"word": "joe"}),
        ("word=42", {"word": "42"}),
        ("word=null", {"word": "null"}),
        ("word=a+b%20c%2B", {"word": "a b c+"}),
        ("word=a%26b%3Dc=d", {"word": "a&b=c=d"}),
        ("word=%C3%A9", {"word": "é"}),
        ("w%6Frd=x", {"word": "x"}),
        ("word=a&word=b", {"word": "b"}),
        ("limit=-7&price=1.5", {"limit": -7, "price": 1.5}),
        ("price=2", {"price": 2.0}),
        ("exact=true", {"exact": True}),
        ("exact=1", {"exact": True}),
        ("exact", {"exact": True}),
        ("exact=false&limit=1", {"limit": 1}),
        ("tags=a", {"tags": ["a"]}),
        ("tags=a&tags=b", {"tags": ["a", "b"]}),
        ("tags=a,b", {"tags": ["a", "b"]}),
        ("tags[]=a&tags[]=b", {"tags": ["a", "b"]}),
        ('tags=["a,b","c"]', {"tags": ["a,b", "c"]}),
        ("tags=", {}),
        ("sizes=3", {"sizes": [3]}),
        ("sizes=1,2&sizes=3", {"sizes": [1, 2, 3]}),
        ("maybe=null", {"maybe": None}),
        ("maybe=5", {"maybe": 5}),
        ("home.street=x&home.number=7", {"home": {"street": "x", "number": 7}}),
        ("home[street]=x&home[number]=7", {"home": {"street": "x", "number": 7}}),
        ('home={"street":"x"}', {"home": {"street": "x", "number": 0}}),
        ("labels.a=1&labels[b]=2", {"labels": {"a": 1, "b": 2}}),
        ('labels={"a":1}', {"labels": {"a": 1}}),
        ("file=aGk=", {"file": "aGk="}),
        ("any=[1,true]", {"any": [1, True]}),
        ("any=word", {"any": "word"}),
    ],
)
async def test_a_query_string_is_typed_by_the_shape(
    site: Any, query: str, request_: dict[str, Any]
) -> None:
    await site.bench.start(echo())
    answer = await site.http.get(f"/echo?{query}")
    assert (answer.status_code, answer.json()) == (200, request_)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=many", "limit: 'many' is not a whole number"),
        ("limit=", "limit: '' is not a whole number"),
        ("limit=null", "expected `int`, got `null` - at `$.limit`"),
        ("price=nan", "price: 'nan' is not a number"),
        ("exact=perhaps", "exact: 'perhaps' is not true or false"),
        ("sizes=1,x", "sizes: 'x' is not a whole number"),
        ("home.number=x", "home.number: 'x' is not a whole number"),
        ("home=x", "expected `object`, got `str` - at `$.home`"),
        ("labels={", "labels: '{' is not JSON"),
        ("wrong=1", "object contains unknown field `wrong`"),
        ("word=%ff", "'%ff' is not valid UTF-8"),
        ("%ff=1", "'%ff' is not valid UTF-8"),
        ("file=%23", "invalid base64 encoded string - at `$.file`"),
        ("a" + ".a" * 100 + "=1", "nested more than 32 deep"),
    ],
)
async def test_a_query_string_that_does_not_fit_names_the_field(
    site: Any, query: str, detail: str
) -> None:
    await site.bench.start(echo())
    answer = await site.http.get(f"/echo?{query}")
    assert answer.status_code == 400
    assert detail in answer.json()["Detail"]


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        (b'{"name":"x","age":"7"}', "expected `int`, got `str` - at `$.age`"),
        (b'{"name":"x"}', "object missing required field `age`"),
        (b'{"name":"x","age":7,"more":1}', "object contains unknown field `more`"),
        (b"[1,2]", "expected `object`, got `array`"),
        (b"null", "expected `object`, got `null`"),
        (b'{"name":', "input data was truncated"),
        (b'{"name":"x","age":7} trailing', "trailing characters"),
        (b'{"name":"x","age":NaN}', "malformed"),
        (b'{"name":"\xff","age":7}', "not valid UTF-8"),
        ('{"name":"x","age":7}'.encode("utf-16"), "malformed"),
        (b"\x00", "malformed"),
    ],
)
@pytest.mark.parametrize("query", ["", "?age=7"])
async def test_json_that_does_not_fit_names_the_field(
    site: Any, sent: bytes, detail: str, query: str
) -> None:
    await site.bench.start(echo())
    kind = {"content-type": "application/json"}
    answer = await site.http.post(f"/echo/need{query}", content=sent, headers=kind)
    if query and "missing" in detail:
        assert answer.json() == "x 7"  # the query string has it
        return
    assert answer.status_code == 400
    assert detail in answer.json()["Detail"]
    assert len(answer.content) < 300


@pytest.mark.parametrize("query", ["", "?word=x"])
async def test_json_may_not_be_nested_without_end(site: Any, query: str) -> None:
    await site.bench.start(echo())
    sent = b'{"any":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    answer = await site.http.post(f"/echo{query}", content=sent)
    assert answer.status_code == 400
    assert "nested too deeply" in answer.json()["Detail"]


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",  # curl -d '{"…"}'
        "text/plain",
        None,
    ],
)
@pytest.mark.parametrize("before", [b"", b" \r\n", b"\xef\xbb\xbf"], ids=["", "blanks", "bom"])
async def test_json_is_json_whatever_it_is_called(
    site: Any, kind: str | None, before: bytes
) -> None:
    await site.bench.start(echo())
    headers = {"content-type": kind} if kind else {}
    sent = before + b'{"word":"joe","limit":3}'
    answer = await site.http.post("/echo", content=sent, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {"word": "joe", "limit": 3})


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_the_body_wins_over_the_query_string(site: Any, method: str) -> None:
    await site.bench.start(echo())
    sent = {"word": "body", "sizes": [1]}
    answer = await site.http.request(method, "/echo?word=query&limit=3&sizes=2", json=sent)
    assert answer.json() == {"word": "body", "limit": 3, "sizes": [1]}
    answer = await site.http.request(method, "/echo?word=query&limit=3", data={"word": "form"})
    assert answer.json() == {"word": "form", "limit": 3}


async def test_values_of_a_body_are_passed_on_to_the_letter(site: Any) -> None:
    await site.bench.start(echo())
    for number in ("123456789012345678901234567890", "0.1", "1e-7"):
        sent = b'{"any":%s}' % number.encode()
        plain = await site.http.post("/echo", content=sent)
        beside = await site.http.post("/echo?word=", content=sent)
        assert plain.content == beside.content != b"{}"


EMPTY = (b"", b"  \r\n ", b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        *((kind, sent) for kind in ("multipart/form-data", "image/png") for sent in EMPTY),
        ("application/json", b""),
        ("application/json", b"\xef\xbb\xbf"),
    ],
)
async def test_an_empty_body_is_an_empty_request(site: Any, kind: str, sent: bytes) -> None:
    await site.bench.start(echo())
    answer = await site.http.post("/echo?limit=1", content=sent, headers={"content-type": kind})
    assert (answer.status_code, answer.json()) == (200, {"limit": 1})


async def test_blanks_are_no_json(site: Any) -> None:
    await site.bench.start(echo())
    kind = {"content-type": "application/json"}
    answer = await site.http.post("/echo", content=b" \n", headers=kind)
    assert answer.status_code == 400


async def test_a_get_has_no_body(site: Any) -> None:
    await site.bench.start(echo())
    answer = await site.http.request("GET", "/echo?limit=1", json={"word": "x"})
    assert answer.json() == {"limit": 1}


@pytest.mark.parametrize("kind", ["image/png", "text/plain", "application/xml; charset=utf-8", "?"])
async def test_an_unknown_content_type_is_bad_input(site: Any, kind: str) -> None:
    await site.bench.start(echo())
    answer = await site.http.post("/echo", content=b"<x>", headers={"content-type": kind})
    assert answer.status_code == 400
    assert "send application/json or a form" in answer.json()["Detail"]


async def test_a_form_is_typed_by_the_shape(site: Any) -> None:
    await site.bench.start(echo())
    form = {"word": "a b&c", "limit": "3", "tags": ["a", "b"], "home.number": "7", "exact": "on"}
    answer = await site.http.post("/echo", data=form)
    assert answer.json() == {
        "word": "a b&c",
        "limit": 3,
        "exact": True,
        "tags": ["a", "b"],
        "home": {"street": "", "number": 7},
    }


@pytest.mark.parametrize(
    ("form", "status", "detail"),
    [
        (b"limit=x", 400, "limit: 'x' is not a whole number"),
        (b"word=\xff", 400, "the form is not valid UTF-8"),
        (b"word=%ff", 400, "'%ff' is not valid UTF-8"),
        (b"word=a&" * 1001, 400, "more than 1000 fields"),
        (b"word=" + b"a" * MIB, 413, "the form is over 1048576 bytes; send JSON"),
    ],
)
async def test_a_form_that_does_not_fit_is_refused(
    site: Any, form: bytes, status: int, detail: str
) -> None:
    await site.bench.start(echo())
    kind = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    answer = await site.http.post("/echo", content=form, headers=kind)
    assert answer.status_code == status
    assert detail in answer.json()["Detail"]


async def test_files_of_a_multipart_form_fill_bytes_fields(site: Any) -> None:
    await site.bench.start(echo())
    content = bytes(range(256)) * 100
    answer = await site.http.post(
        "/echo?word=query&limit=1",
        data={"word": "é", "sizes": ["1", "2"], "home[street]": "x"},
        files=[
            ("file", ("a.bin", content, "application/octet-stream")),
            ("files", ("b.txt", b"[1]", "text/plain")),
            ("files", ("c.txt", b"", "text/plain")),
        ],
    )
    assert answer.status_code == 200
    got = msgspec.json.decode(answer.content, type=Request)
    assert (got.word, got.limit, got.sizes, got.home.street) == ("é", 1, [1, 2], "x")
    assert (got.file, got.files) == (content, [b"[1]"])


async def test_a_large_file_arrives_whole(site: Any) -> None:
    await site.bench.start(echo())
    answer = await site.http.post("/echo/size", files={"file": b"\r\n--x" * (5 * MIB // 5)})
    assert answer.json() == 5 * MIB // 5 * 5
    answer = await site.http.post("/echo/size", files={"file": b"x" * 7 * MIB})
    assert answer.status_code == 413  # in base64 it is over the limit of a call
    assert "the limit of one call is 8388608" in answer.json()["Detail"]


PART = b'--B\r\nContent-Disposition: form-data; name="word"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    ("kind", "sent", "detail"),
    [
        ("", PART + b"--B--\r\n", "No boundary given"),
        ("; boundary=B", PART, "its end is missing"),
        ("; boundary=B", PART[:-8], "its end is missing"),
        ("; boundary=C", PART + b"--B--\r\n", "damaged"),
        ("; boundary=B", b"garbage", "damaged"),
        ("; boundary=B", b"--B\r\nX: y\r\n\r\nx\r\n--B--\r\n", "damaged"),
        ("; boundary=B", b"--B\r\n" + b"x" * MIB, "damaged"),
        ("; boundary=B", PART * 1001 + b"--B--\r\n", "more than 1000 fields"),
        ("; boundary=B", PART.replace(b"x\r\n", b"\xff\r\n") + b"--B--\r\n", "not valid UTF-8"),
        ("; boundary=" + "B" * 300, PART, "damaged"),
    ],
)
async def test_a_damaged_multipart_form_is_refused(
    site: Any, kind: str, sent: bytes, detail: str
) -> None:
    await site.bench.start(echo())
    headers = {"content-type": f"multipart/form-data{kind}"}
    answer = await site.http.post("/echo", content=sent, headers=headers)
    assert answer.status_code == 400
    assert detail in answer.json()["Detail"]


async def test_a_compressed_body_is_refused(site: Any) -> None:
    await site.bench.start(echo())
    answer = await site.http.post(
        "/echo", content=gzip.compress(b"{}"), headers={"content-encoding": "gzip"}
    )
    assert answer.status_code == 400
    assert "uncompressed" in answer.json()["Detail"]


def test_names_and_values_are_read_as_browsers_write_them() -> None:
    assert list(body.pairs("a=1&b&=c&&d=%3D%26")) == [("a", "1"), ("b", ""), ("", "c"), ("d", "=&")]
