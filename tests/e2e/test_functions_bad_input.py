"""Functions meet what people do wrong, as people would: by command line, HTTP, RPC and gRPC.

Each wrong thing has its documented answer, and what was there before goes on.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest

from .live import Live, Said, program, until

GOOD = "'still here'"


@pytest.fixture(scope="module")
def server() -> Iterator[Live]:
    """A server of this module's own, with a function that nothing here may break."""
    live = Live("--gateways=1")
    try:
        live.start()
        assert deploy(live, "good", GOOD).status_code == 200
        yield live
    finally:
        live.close()


@pytest.fixture(autouse=True)
def goes_on(server: Live) -> Iterator[None]:
    """Whatever a test does, the version before goes on, and whoever asks next is answered."""
    yield
    assert server.web.get("/good").text == "still here"


def deploy(live: Live, name: str, code: str | dict[str, str], **more: Any) -> httpx.Response:
    file = more.pop("file", "index.js")
    files = code if isinstance(code, dict) else {file: code}
    return live.admin.post("/functions/deploy", json={"name": name, "files": files, **more})


def said(answer: httpx.Response) -> tuple[int, str]:
    """The code and the id of an error, which is one line in the documented form."""
    body = answer.json()
    assert sorted(body) == ["Code", "Detail", "Id", "Status"]
    assert body["Code"] == answer.status_code
    assert body["Detail"]
    assert "\n" not in body["Detail"]
    assert "Traceback" not in body["Detail"]
    assert "hunter2" not in answer.text, "what is private is in the log alone"
    return answer.status_code, body["Id"]


def raw(live: Live, path: str) -> bytes:
    """What a client hears that sends a path as it is."""
    host, _, port = live.info.addresses["api"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as line:
        line.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return line.makefile("rb").read()


def log_of(live: Live, name: str) -> str:
    """The log of a function, which is written within a second of the answer."""
    path = live.home.logs / f"{name}.0.log"
    return until(lambda: path.exists() and path.read_text())


SOURCES = {
    "script": ("a.js", "let a = 1;\nlet b = ;", "a.js:2:9: "),
    "handler": ("a.js", "function handler() {\n  return {\n}", "a.js:3:2: "),
    "module": ("m.js", "export default {\n  fetch() { return 1 + }\n}", "m.js:2:"),
    "typescript": ("m.ts", "export default {\n  fetch(r: Request) { return x y }\n}", "m.ts:2:"),
    "python": ("h.py", "def handler(request, env)\n    return 1", "h.py:1:26: "),
    "python without a handler": ("h.py", "x = 1", "h.py: there is no handler"),
    "module without a default": ("m.js", "export const x = 1", "m.js: a module answers by"),
    "await in a script": ("s.js", "'x'\nconst r = await fetch('https://x')", "s.js:2:"),
    "NUL": ("a.js", "'a\0b'", "a.js:1:3: "),
    "deep": ("a.js", "[" * 50_000, "a.js: it is nested too deeply"),
    "deep typescript": ("a.ts", "export default " + "[" * 100_000, "a.ts: it is nested too"),
    "missing import": ("m.js", "import './no.js'; export default {}", "m.js:1:8: there is no"),
    "import that leaves": ("m.js", "import '../x.js'; export default {}", "m.js:1:8: "),
    "import of a URL": ("m.js", "import 'https://x.org/y.js'; export default {}", "m.js:1:8: "),
    "package without a version": ("m.js", "import 'npm:hono'; export default {}", "m.js:1:8: "),
}


@pytest.mark.parametrize(("file", "code", "begins"), SOURCES.values(), ids=SOURCES)
def test_a_source_that_is_wrong(server: Live, file: str, code: str, begins: str) -> None:
    answer = deploy(server, "good", code, file=file)
    assert said(answer) == (400, "functions.source")
    assert answer.json()["Detail"].startswith(begins), answer.text
    draft = {"name": "good", "files": {file: code}}
    found = server.admin.post("/functions/validate", json=draft).json()["findings"]
    assert (found[0]["file"], bool(found[0]["message"])) == (file, True)


def test_await_in_a_script_is_told_the_way_out(server: Live) -> None:
    answer = deploy(server, "good", "await 1")
    assert "async function handler(request, env)" in answer.json()["Detail"]
    assert deploy(server, "waits", "export default { fetch: () => 'ok' }\nawait 1").is_success


DRAFTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "name": ({"name": "a b"}, 400, "names"),
    "name that climbs": ({"name": "../x"}, 400, "names"),
    "long name": ({"name": "a" * 101}, 400, "names"),
    "reserved name": ({"name": "functions"}, 409, "functions"),
    "no file": ({"files": {}}, 400, "functions"),
    "path that climbs": ({"files": {"../x.js": GOOD}}, 400, "functions"),
    "absolute path": ({"files": {"/etc/x.js": GOOD}}, 400, "functions"),
    "path with //": ({"files": {"a//x.js": GOOD}}, 400, "functions"),
    "path with NUL": ({"files": {"a\0.js": GOOD}}, 400, "functions"),
    "long path": ({"files": {"a" * 256 + ".js": GOOD}}, 400, "functions"),
    "file and folder": ({"files": {"a": "", "a/b.js": GOOD}}, 400, "functions"),
    "many files": ({"files": {f"{n}.js": "" for n in range(501)}}, 413, "functions"),
    "huge": ({"files": {"a.js": "x" * (4 * 1024 * 1024 + 1)}}, 413, "functions"),
    "beyond": ({"files": {"a.js": "x" * (9 * 1024 * 1024)}}, 413, "gateway"),
    "main": ({"main": "none.js"}, 400, "functions"),
    "two to begin with": ({"files": {"x.js": "", "y.js": ""}}, 400, "functions"),
    "language": ({"language": "cobol"}, 400, "functions"),
    "suffix": ({"files": {"a.txt": GOOD}}, 400, "functions"),
    "engine": ({"engine": "v8"}, 400, "functions"),
    "engine of another form": ({"engine": "monty"}, 400, "functions"),
    "long message": ({"message": "x" * 2001}, 413, "functions"),
    "variable": ({"env": {"a b": "x"}}, 400, "functions"),
    "variable of the engine": ({"env": {"__proto__": "x"}}, 400, "functions"),
    "long value": ({"env": {"A": "x" * 5121}}, 413, "functions"),
    "many variables": ({"env": {f"A{n}": "" for n in range(129)}}, 413, "functions"),
    "value that is none": ({"env": {"A": 5}}, 400, "functions"),
    "variable like a grant": ({"env": {"store": "x"}, "grants": ["store"]}, 400, "functions"),
    "variable and secret": ({"env": {"A": "1"}, "secrets": {"A": "2"}}, 400, "functions"),
    "secret without a value": ({"secrets": {"A": None}}, 400, "functions"),
    "route": ({"routes": ["users"]}, 400, "functions"),
    "route that climbs": ({"routes": ["/a/../b"]}, 400, "functions"),
    "route with a query": ({"routes": ["/a?b"]}, 400, "functions"),
    "route with NUL": ({"routes": ["/a\0"]}, 400, "functions"),
    "encoded route": ({"routes": ["/a%2Fb"]}, 400, "functions"),
    "field": ({"routes": ["/{a}{b}"]}, 400, "functions"),
    "route twice": ({"routes": ["/a", "/a"]}, 400, "functions"),
    "long route": ({"routes": ["/" + "a" * 500]}, 413, "functions"),
    "many routes": ({"routes": [f"/{n}" for n in range(51)]}, 413, "functions"),
    "trigger": ({"on": ["orders"]}, 400, "functions"),
    "topic": ({"on": ["events:a b"]}, 400, "functions"),
    "schedule": ({"on": ["cron:61 * * * *"]}, 400, "functions"),
    "day that never comes": ({"on": ["cron:0 0 30 2 *"]}, 400, "functions"),
    "once": ({"on": ["cron:@at 2030-01-01T00:00:00Z"]}, 400, "functions"),
    "event without a consumer": ({"on": ["events:orders"]}, 400, "functions"),
    "schedule without a handler": ({"on": ["cron:@daily"]}, 400, "functions"),
    "many triggers": ({"on": [f"events:a{n}" for n in range(21)]}, 413, "functions"),
    "grant": ({"grants": ["root"]}, 400, "functions"),
    "narrow grant": ({"grants": ["store:x"]}, 400, "functions"),
    "call of nothing": ({"grants": ["call:"]}, 400, "functions"),
    "host": ({"hosts": ["http://x.org"]}, 400, "functions"),
    "port": ({"hosts": ["x.org:99999"]}, 400, "functions"),
    "many hosts": ({"hosts": [f"h{n}.org" for n in range(101)]}, 413, "functions"),
}


@pytest.mark.parametrize(("field", "code", "id"), DRAFTS.values(), ids=DRAFTS)
def test_a_draft_that_is_wrong(server: Live, field: dict[str, Any], code: int, id: str) -> None:
    draft = {"name": "good", "files": {"index.js": GOOD}, **field}
    assert said(server.admin.post("/functions/deploy", json=draft)) == (code, id)


def test_triggers_want_the_handler_that_they_run(server: Live) -> None:
    consumes = "function consume(event, env) {}"
    answer = deploy(server, "good", consumes, on=["events:bad.orders", "cron:@daily"])
    assert said(answer) == (400, "functions")
    assert "index.js has no scheduled(event, env)" in answer.json()["Detail"]
    python = "def handler(request, env):\n    return 1"
    assert said(deploy(server, "good", python, file="h.py", on=["cron:@daily"]))[0] == 400
    typed = "function handler(r: Request) { return 1 }"
    assert said(deploy(server, "good", typed, file="h.ts", on=["cron:@daily"]))[0] == 400
    assert deploy(server, "listens", consumes, on=["events:bad.orders"]).is_success


def test_a_draft_that_is_no_unicode(server: Live) -> None:
    for body in (
        b'{"name":"u","files":{"a.js":"\\ud800"}}',
        b'{"name":"u","files":{"a.js":"\xff"}}',
    ):
        head = {"Content-Type": "application/json"}
        answer = server.admin.post("/functions/deploy", content=body, headers=head)
        assert said(answer) == (400, "functions")


HOSTILE = "throw new Proxy({}, { get() { throw 'hunter2' }, getPrototypeOf() { throw 1 } })"
FAILURES = {
    "throw 5": ("throw 5", 500, "functions.exception"),
    "throw null": ("throw null", 500, "functions.exception"),
    "throw undefined": ("throw undefined", 500, "functions.exception"),
    "throw a text": ("throw 'hunter2\\nline'", 500, "functions.exception"),
    "throw a symbol": ("throw Symbol('hunter2')", 500, "functions.exception"),
    "throw a proxy": (HOSTILE, 500, "functions.exception"),
    "hostile": ("throw { toString() { throw this }, get stack() { throw 1 } }", 500, "exception"),
    "endless text": (
        "throw { toString() { for (;;); }, toJSON() { for (;;); } }",
        503,
        "functions.limit.cpu",
    ),
    "with a code": ("throw Object.assign(new Error('hunter2'), { code: 404 })", 500, "exception"),
    "rejected": ("return Promise.reject(new Error('hunter2'))", 500, "functions.exception"),
    "rejected with null": ("return Promise.reject(null)", 500, "functions.exception"),
    "never": ("return new Promise(() => {})", 500, "functions.unsettled"),
    "thenable": ("return { then() {} }", 500, "functions.unsettled"),
    "nothing": ("", 500, "functions.answer"),
    "a function": ("return () => 1", 500, "functions.answer"),
    "a symbol": ("return Symbol('x')", 500, "functions.answer"),
    "a bigint": ("return 10n", 500, "functions.answer"),
    "a circle": ("const a = {}; a.a = a; return a", 500, "functions.answer"),
    "private JSON": ("return { toJSON() { throw new Error('hunter2') } }", 500, "answer"),
    # Bytes: a text takes so long to encode that a busy machine may find that too much before.
    "large": ("return new Response(new Uint8Array(9e6))", 503, "functions.limit.output"),
    "large headers": ("return new Response('', { headers: { a: 'b'.repeat(70000) } })", 500, "ans"),
    "split header": (
        "return new Response('', { headers: { a: 'b\\r\\nc: d' } })",
        500,
        "exception",
    ),
    "status": ("return new Response('', { status: 999 })", 500, "functions.exception"),
    "endless": ("for (;;);", 503, "functions.limit.cpu"),
    "import": ("return import('fs')", 500, "functions.exception"),
    "fetch of a file": ("return fetch('file:///etc/passwd')", 500, "functions.exception"),
}


@pytest.mark.parametrize("engine", ["quickjs", "deno"])
def test_what_a_function_gets_wrong(server: Live, engine: str) -> None:
    # One name for each, so that one that hangs or is ended is nobody else's worker's fault.
    wrong = []
    for number, (what, (code, status, id)) in enumerate(FAILURES.items()):
        name = f"wrong-{engine}-{number}"
        source = f"function handler(request, env) {{ {code} }}"
        assert deploy(server, name, source, engine=engine).is_success
        heard = said(server.web.get(f"/{name}"))
        if heard[0] != status or id not in heard[1]:
            wrong.append((what, heard))
    assert not wrong


def test_code_that_cannot_be_loaded_tells_its_log_alone(server: Live) -> None:
    sources = {
        "load-quickjs": ("a.js", "function handler() {}\nthrow new Error('hunter2')"),
        "load-deno": ("m.js", "export default { fetch() {} }\nthrow new Error('hunter2')"),
        "load-monty": ("h.py", "def handler(r, e):\n    pass\nraise ValueError('hunter2')"),
    }
    for name, (file, code) in sources.items():
        assert deploy(server, name, code, file=file).is_success
        answer = server.web.get(f"/{name}")
        assert said(answer) == (500, "functions.load")
        detail = f"function {name} could not be loaded; its log says why"
        assert answer.json()["Detail"] == detail
        log = log_of(server, name)
        assert "hunter2" in log
        assert f"{file}:" in log


@pytest.mark.parametrize("engine", ["quickjs", "deno"])
def test_a_log_takes_whatever_is_written(server: Live, engine: str) -> None:
    odd = "console.log('\\ud800'); for (let n = 0; n < 200; n++) console.log('x'.repeat(3e4))"
    for name, code in {"odd": odd, "after": "console.log('me too')"}.items():
        function = f"{name}-{engine}"
        source = f"function handler() {{ {code}; return 'ok' }}"
        assert deploy(server, function, source, engine=engine).is_success
        for _ in range(3):
            assert server.web.get(f"/{function}").text == "ok"
        assert log_of(server, function)
        words = ("functions", "consumption", function, "--output", "json")
        until(lambda words=words: server.micro(*words).json["requests"] == 3)  # type: ignore[misc]


PATHS = {
    "/good/..": 400,
    "/good/%2e%2e/x": 400,
    "/good/..%2f..%2fetc": 400,
    "/good/./x": 400,
    "/good/%00": 400,
    "/good/%ff": 400,
    "/good/%c0%ae": 400,
    "/good//x": 200,
    "/good/%2F": 200,
    "/good/%zz": 200,
    "/good/" + "a" * 7000: 200,
    "/good?x=%ff": 200,
    "/app/good/../x": 400,
    "/app/nobody/x": 404,
    "/nobody/x": 404,
}


@pytest.mark.parametrize(("path", "code"), PATHS.items(), ids=[path[:30] for path in PATHS])
def test_path_tricks(server: Live, path: str, code: int) -> None:
    heard = raw(server, path)
    assert heard.startswith(f"HTTP/1.1 {code} ".encode()), heard[:300]


def test_requests_that_are_too_much(server: Live) -> None:
    reads = "async function handler(request) { return (await request.text()).length }"
    python = "def handler(request, env):\n    return len(request.text())"
    assert deploy(server, "reads", reads).is_success
    assert deploy(server, "reads-deno", reads, engine="deno").is_success
    assert deploy(server, "reads-python", python, file="h.py").is_success
    for name in ("reads", "reads-deno", "reads-python"):
        body = b"x" * (8 * 1024 * 1024 + 1)
        assert said(server.web.post(f"/{name}", content=body)) == (413, "functions.body")
        assert server.web.post(f"/{name}", content=b"\xff\xfe").text == "2"
    assert raw(server, "/good/" + "a" * 70_000)[:12] in (b"HTTP/1.1 414", b"HTTP/1.1 431")
    for headers in ({"x": "y" * 1_000_000}, {f"x-{n}": "y" for n in range(1000)}):
        assert server.web.get("/good", headers=headers).status_code in (400, 431)
    late = server.web.get("/good", headers={"Micro-Timeout": "soon"})
    assert said(late) == (400, "gateway")


def test_the_clients_own_deadline(server: Live) -> None:
    slow = "async function handler() { await new Promise((r) => setTimeout(r, 3000)); return 1 }"
    assert deploy(server, "slow", slow).is_success
    answer = server.web.get("/slow", headers={"Micro-Timeout": "50ms"})
    assert said(answer) == (504, "functions.limit.wall")


def test_one_of_two_deploys_at_once_is_refused(server: Live) -> None:
    clients = [
        httpx.Client(base_url=server.url, headers=server.admin.headers, timeout=60)
        for _ in range(8)
    ]

    def go(number: int) -> httpx.Response:
        draft = {"name": "raced", "files": {"index.js": f"'{number}'"}}
        return clients[number].post("/functions/deploy", json=draft)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(go, range(8)))
    for client in clients:
        client.close()
    won = [answer.json()["number"] for answer in answers if answer.is_success]
    assert sorted(won) == list(range(1, len(won) + 1))
    lost = {said(answer) for answer in answers if not answer.is_success}
    assert lost <= {(409, "functions")}
    assert server.web.get("/raced").text in map(str, range(8))
    verified = server.admin.post("/functions/verify", json={"name": "raced"}).json()
    assert verified["problems"] == []


def test_what_belongs_to_somebody_else(server: Live) -> None:
    server.micro("auth", "create", "account", "mallory", "--secret=12345678")

    login = {"id": "mallory", "secret": "12345678"}
    access = server.web.post("/auth/token", json=login).json()["token"]["access_token"]
    head = {"Authorization": f"Bearer {access}"}

    def ask(verb: str, **body: Any) -> httpx.Response:
        return server.web.post(f"/functions/{verb}", json=body, headers=head)

    assert said(ask("deploy", name="good", files={"a.js": "1"})) in (
        (403, "functions"),
        (409, "functions"),
    )
    below = ask("deploy", name="good.below", files={"a.js": "1"})
    assert said(below) == (409, "functions")
    assert "admin" in below.json()["Detail"]
    for verb in ("get", "history", "sources", "rollback", "delete", "verify", "consumption"):
        assert said(ask(verb, name="good")) == (403, "functions")
    anonymous = server.web.post("/functions/deploy", json={"name": "x", "files": {"a.js": "1"}})
    assert said(anonymous)[0] == 401


def test_a_name_is_a_functions_or_a_services(server: Live) -> None:
    with server.running("clerk", program("clerk")):
        answer = deploy(server, "clerk", GOOD)
        assert said(answer) == (409, "functions")
        assert "service clerk" in answer.json()["Detail"]
        assert said(deploy(server, "clerk.below", GOOD)) == (409, "functions")
    folder = server.folder("good", program("good"))
    assert "belongs to functions of admin" in server.refused(127, "run", str(folder))


def test_versions_that_are_not_there(server: Live) -> None:
    def ask(verb: str, **body: Any) -> httpx.Response:
        return server.admin.post(f"/functions/{verb}", json={"name": "kept", **body})

    assert said(ask("get")) == (404, "functions")
    secret = {"secrets": {"TOKEN": "hunter2"}, "grants": ["secret:TOKEN"]}
    assert deploy(server, "kept", GOOD, **secret).is_success
    assert said(ask("rollback")) == (404, "functions")
    assert said(ask("rollback", number=9)) == (404, "functions")
    assert said(ask("rollback", number=-1))[0] in (400, 404)
    assert said(ask("split", shares={"1": 50, "9": 50})) == (404, "functions")
    assert said(ask("split", shares={"1": 99})) == (400, "functions")
    assert said(ask("diff", old=1, new=9)) == (404, "functions")
    assert said(ask("forgetSecret", secret="OTHER")) == (404, "functions")
    assert deploy(server, "kept", "'new'").is_success
    assert ask("forgetSecret", secret="TOKEN").is_success
    for gone in (ask("rollback", number=1), ask("split", shares={"1": 50, "2": 50})):
        assert said(gone) == (409, "functions.secret")
        assert "TOKEN" in gone.json()["Detail"]
    assert server.web.get("/kept").text == "new"


def test_what_is_typed_wrongly(server: Live) -> None:
    folder = server.folder("typed", a_js=GOOD, bad_js="let x = ;", m__index_js="import './no.js'")
    (folder / "binary.js").write_bytes(b"'a\n\xff'")
    (folder / "link").mkdir()
    (folder / "link" / "index.js").write_text(GOOD)
    (folder / "link" / "out.txt").symlink_to("/etc/passwd")
    (folder / "empty").mkdir()
    wrong: dict[tuple[str, ...], tuple[int, str]] = {
        ("deploy", "good", "bad.js"): (127, "bad.js:1:9: "),
        ("deploy", "good", "binary.js"): (64, "binary.js:2:1: this is not UTF-8"),
        ("deploy", "good", "none.js"): (64, "none.js: no such file"),
        ("deploy", "good", "empty"): (64, "empty has no file of a function"),
        ("deploy", "good", "link"): (64, "out.txt is a link that leaves the folder"),
        ("deploy", "good", "m"): (127, 'index.js:1:8: there is no file "./no.js"'),
        ("deploy", "good", "a.js", "-e", "A"): (64, "--env: 'A' is not of the form"),
        ("deploy", "good", "a.js", "--secret", "NONE"): (64, "there is no value for NONE"),
        ("rollback", "good", "v9"): (4, "function good has no v9"),
        ("rollback", "good", "x"): (64, "'x' is no version such as v12"),
        ("split", "good", "v1=99"): (64, "shares: "),
        ("get", "nobody"): (4, "there is no function 'nobody'"),
    }
    typing = {words: server.typing("functions", *words, cwd=folder) for words in wrong}
    for words, (code, begins) in wrong.items():
        heard: Said = server.ended(typing[words])
        assert (heard.code, heard.out) == (code, ""), (words, heard)
        (line,) = heard.err.splitlines()
        assert line.startswith(f"micro: {begins}"), (words, line)


def test_grpc_has_a_status_for_it(server: Live) -> None:
    head = [("authorization", server.admin.headers["Authorization"])]
    refused = {
        grpc.StatusCode.INVALID_ARGUMENT: {"name": "good", "files": {"a.js": "let x = ;"}},
        grpc.StatusCode.ALREADY_EXISTS: {"name": "functions", "files": {"a.js": GOOD}},
    }
    with grpc.insecure_channel(server.info.addresses["proxy"]) as channel:
        for status, draft in refused.items():
            call = channel.unary_unary("/functions.Functions/Deploy")
            with pytest.raises(grpc.RpcError) as caught:
                call(json.dumps(draft).encode(), metadata=head, timeout=60)
            error: grpc.Call = caught.value  # type: ignore[assignment]
            assert error.code() in (status, grpc.StatusCode.ABORTED), error.details()
            assert "\n" not in str(error.details())
