"""Hosts, routes and redirects: where requests lead."""

from __future__ import annotations

from typing import Any

import pytest

from microcosmos import Service


def _service(name: str) -> Service:
    service = Service(name)

    async def call() -> str:
        return f"{name} call"

    async def list_all() -> str:
        return f"{name} list"

    service.endpoint(name="Call")(call)
    service.endpoint(name="ListAll")(list_all)
    service.endpoint(name="Inner.Deep")(list_all)
    return service


ROUTES = """
[[routes]]
path = "/v2/users/{id}"
service = "echo"
endpoint = "read"

[[routes]]
path = "/v2/tagged/{tags}/{id}"
service = "echo"
endpoint = "Echo.Read"
method = "GET"

[[routes]]
path = "/files/{id*}"
service = "echo"
endpoint = "read"

[[routes]]
path = "/{id}/only-here"
host = "api.example.com"
service = "echo"
endpoint = "read"
"""


async def test_fields_of_a_path_are_fields_of_the_request(
    open_front: Any, platform: Any, echo: Any
) -> None:
    await platform.start(echo.service)
    async with open_front(ROUTES) as fronted:
        for path, read in (
            ("/v2/users/7", {"id": "7", "tags": [], "n": 0}),
            ("/v2/users/7?n=3&tags=a,b", {"id": "7", "tags": ["a", "b"], "n": 3}),
            ("/v2/users/7?id=9&%69d=9&id[]=9&id.x=9&id[y]=9", {"id": "7", "tags": [], "n": 0}),
            ("/v2/users/a%20b%26n%3D5", {"id": "a b&n=5", "tags": [], "n": 0}),
            ("/v2/users/%C3%BC+", {"id": "ü+", "tags": [], "n": 0}),
            ("/v2/tagged/x/1?tags=y", {"id": "1", "tags": ["x"], "n": 0}),
            ("/files/a/b/c.txt", {"id": "a/b/c.txt", "tags": [], "n": 0}),
            ("/files", {"id": "", "tags": [], "n": 0}),
        ):
            answer = await fronted.get(path)
            assert answer.json() == read, path
        answer = await fronted.site.http.post("/v2/users/7", json={"n": 4})
        assert answer.json() == {"id": "7", "tags": [], "n": 4}
        assert (await fronted.send("HEAD", "/v2/tagged/x/1")).status_code == 200
        assert (await fronted.send("POST", "/v2/tagged/x/1")).status_code == 404
        assert (await fronted.get("/v2/users")).status_code == 404
        assert (await fronted.get("/v2/users/1/2")).status_code == 404
        assert (await fronted.get("/5/only-here")).status_code == 404
        answer = await fronted.get("/5/only-here", Host="api.example.com")
        assert answer.json()["id"] == "5"
        assert (await fronted.get("/v2/users/7?n=x")).status_code == 400


async def test_a_domain_of_a_service(open_front: Any, platform: Any) -> None:
    await platform.start(*map(_service, ("users", "users.admin", "v1.users", "other")))
    text = """
[[hosts]]
host = "users.example.com"
service = "users"
[[hosts]]
host = "*.example.com"
service = "other"
[[hosts]]
host = "v1.example.com"
service = "v1.users"
[[hosts]]
host = "admin.example.com"
service = "users.admin"
"""
    async with open_front(text) as fronted:
        for host, path, said in (
            ("users.example.com", "/", "users call"),
            ("users.example.com:8080", "/list-all", "users list"),
            ("USERS.example.com.", "/listAll?x", "users list"),
            ("users.example.com", "/inner/deep", "users list"),
            ("users.example.com", "/call", "users call"),
            ("any.example.com", "/call", "other call"),
            ("v1.example.com", "/", "v1.users call"),
            ("v1.example.com", "/list-all", "v1.users list"),
            ("v1.example.com", "/inner/deep", "v1.users list"),
            ("admin.example.com", "/", "users.admin call"),
            ("admin.example.com", "/list-all", "users.admin list"),
            ("elsewhere.com", "/other/call", "other call"),
            ("example.com", "/other/call", "other call"),
        ):
            answer = await fronted.get(path.replace("?x", ""), Host=host)
            assert answer.json() == said, (host, path)
        for path in (
            "/other/call",
            "/admin/users/call",
            "/admin/admin/call",
            "/../other/call",
            "/a b",
        ):
            answer = await fronted.get(path, Host="users.example.com")
            assert answer.status_code == 404, path


REDIRECTS = """
[[redirects]]
path = "/old/{rest*}"
to = "/new/{rest}"
[[redirects]]
path = "/user/{id}"
to = "https://users.example.com/{id}?from=old"
status = 302
[[redirects]]
path = "/{rest*}"
host = "www.example.com"
to = "https://example.com/{rest}"
status = 301
[[redirects]]
path = "/bare/{rest*}"
to = "/{rest}"
"""


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/old/a/b", 308, "/new/a/b"),
        ("/old/a?x=1", 308, "/new/a?x=1"),
        ("/user/5", 302, "https://users.example.com/5?from=old"),
        ("/user/5?x=1", 302, "https://users.example.com/5?from=old&x=1"),
        (
            "/user/a%0d%0aSet-Cookie:x",
            302,
            "https://users.example.com/a%0D%0ASet-Cookie%3Ax?from=old",
        ),
        ("/user/%3Fx%23y", 302, "https://users.example.com/%3Fx%23y?from=old"),
        ("/bare//evil.com", 308, "/evil.com"),
        ("/bare/%2fevil.com", 308, "/evil.com"),
        ("/bare/%5cevil.com", 308, "/%5Cevil.com"),
        ("/old/%C3%BC", 308, "/new/%C3%BC"),
    ],
)
async def test_redirects(open_front: Any, path: str, status: int, location: str) -> None:
    async with open_front(REDIRECTS) as fronted:
        answer = await fronted.raw(path)
        assert (answer.status, answer.headers["location"]) == (status, location)


async def test_redirects_of_one_host(open_front: Any) -> None:
    async with open_front(REDIRECTS) as fronted:
        answer = await fronted.get("/a/b?c=d", Host="www.example.com")
        assert answer.headers["location"] == "https://example.com/a/b?c=d"
        assert (await fronted.get("/", Host="example.com")).status_code == 200


async def test_many_routes_are_found_as_fast(open_front: Any, platform: Any, echo: Any) -> None:
    await platform.start(echo.service)
    text = "".join(
        f"[[routes]]\npath='/r{n}/{{id}}'\nservice='echo'\nendpoint='read'\n" for n in range(1000)
    )
    async with open_front(text) as fronted:
        assert (await fronted.get("/r999/x")).json()["id"] == "x"
        assert (await fronted.get("/echo/read?id=1")).json()["id"] == "1"


async def test_the_first_of_the_file_wins(open_front: Any, platform: Any, echo: Any) -> None:
    await platform.start(echo.service)
    routes = "[[routes]]\npath='/{id}/x'\nservice='echo'\nendpoint='read'\n"
    routes += "[[routes]]\npath='/a/{n}'\nservice='echo'\nendpoint='read'\n"
    async with open_front(routes) as fronted:
        assert (await fronted.get("/a/x")).json()["id"] == "a"
        assert (await fronted.get("/a/5")).status_code == 400
