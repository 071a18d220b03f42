"""What is there beside the language: the same names on each engine."""

# ruff: noqa: E501 - the sources of functions are read better on one line

from __future__ import annotations

import pytest

from .workers import Worker

PROBES = {
    "[typeof console, typeof fetch, typeof queueMicrotask, typeof performance.now()]": [
        "object",
        "function",
        "function",
        "number",
    ],
    "new URL('../c?x=1#y', 'http://User@Ex.test:80/a/b/').href": "http://User@ex.test/a/c?x=1#y",
    "new URL('https://a.test:8443/p q?é#ü').toString()": "https://a.test:8443/p%20q?%C3%A9#%C3%BC",
    "(({ origin, host, hostname, port, pathname, search, hash }) =>"
    " [origin, host, hostname, port, pathname, search, hash])(new URL('http://a.test:81/b/../c?d#e'))": [
        "http://a.test:81",
        "a.test:81",
        "a.test",
        "81",
        "/c",
        "?d",
        "#e",
    ],
    "URL.canParse('/a') || URL.canParse('http://') || URL.canParse('http://a b/')": False,
    "new URL('//b.test/x', 'https://a.test/y').href": "https://b.test/x",
    "new URL('?q', 'https://a.test/y?z').href": "https://a.test/y?q",
    "new URL('mailto:a@b.test').pathname": "a@b.test",
    "(() => { const u = new URL('http://a.test/'); u.searchParams.append('a', 'b c');"
    " u.pathname = '/x y'; u.hash = 'h'; return u.href })()": "http://a.test/x%20y?a=b+c#h",
    "(() => { const u = new URL('http://a.test/?a=1'); u.search = '?b=2'; u.host = 'c.test:90';"
    " u.protocol = 'https'; return [u.href, u.searchParams.get('b')] })()": [
        "https://c.test:90/?b=2",
        "2",
    ],
    "new URLSearchParams('a=1&b=%20+&a=3').getAll('a')": ["1", "3"],
    "new URLSearchParams({ a: 'x y', é: '&' }).toString()": "a=x+y&%C3%A9=%26",
    "[...new URLSearchParams([['b', '1'], ['a', '2']])]": [["b", "1"], ["a", "2"]],
    "(() => { const p = new URLSearchParams('b=1&a=2&b=3'); p.sort(); p.set('b', '9'); p.delete('a');"
    " return [p.toString(), p.size, p.has('b'), p.get('z')] })()": ["b=9", 1, True, None],
    "[...new TextEncoder().encode('aé€😀')]": [97, 195, 169, 226, 130, 172, 240, 159, 152, 128],
    "new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 97, 0xff, 0xe2, 0x82]))": "a\ufffd\ufffd",
    "(() => { const d = new TextDecoder(); return d.decode(new Uint8Array([0xe2, 0x82]), { stream: true })"
    " + d.decode(new Uint8Array([0xac])) })()": "€",
    "(() => { try { new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255])) }"
    " catch (e) { return e.name } })()": "TypeError",
    "[btoa('hé'), atob('aOk=')]": ["aOk=", "hé"],
    "/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID())": True,
    "crypto.randomUUID() !== crypto.randomUUID()": True,
    "(() => { const a = crypto.getRandomValues(new Uint32Array(1000));"
    " return [a.length, new Set(a).size > 990] })()": [1000, True],
    "(() => { try { crypto.getRandomValues(new Uint8Array(65537)) } catch (e) { return e.name } })()": "QuotaExceededError",
    "(() => { const h = new Headers({ 'X-B': ' 1 ', a: '2' }); h.append('x-b', '3');"
    " return [...h, ['got', h.get('X-B')], ['has', h.has('c')]] })()": [
        ["a", "2"],
        ["x-b", "1, 3"],
        ["got", "1, 3"],
        ["has", False],
    ],
    "(() => { try { new Headers({ 'a b': '1' }) } catch (e) { return e.name } })()": "TypeError",
    "(() => { try { new Headers({ a: 'x\\ny' }) } catch (e) { return e.name } })()": "TypeError",
    "(() => { try { new Response('', { status: 99 }) } catch (e) { return e.name } })()": "RangeError",
    "(() => { try { new Response('x', { status: 204 }) } catch (e) { return e.name } })()": "TypeError",
    "new Response('x').text()": "x",
    "new Response('[1]').json()": [1],
    "(async () => { const r = new Response('a'); const c = r.clone();"
    " return [await r.text(), await c.text(), r.bodyUsed] })()": ["a", "a", True],
    "(async () => { const r = new Response('a'); await r.text();"
    " try { await r.text() } catch (e) { return e.name } })()": "TypeError",
    "new Response(new URLSearchParams({ a: '1' })).headers.get('content-type')": "application/x-www-form-urlencoded;charset=UTF-8",
    "(async () => { const seen = []; const t = setInterval(() => seen.push('i'), 1);"
    " const never = setTimeout(() => seen.push('never'), 1); clearTimeout(never);"
    " await new Promise((done) => setTimeout(done, 30)); clearInterval(t);"
    " return [seen.includes('i'), seen.includes('never')] })()": [True, False],
    "new Promise((done) => setTimeout(done, 1, 'given'))": "given",
    "(async () => { const order = []; setTimeout(() => order.push('timer'), 0);"
    " queueMicrotask(() => order.push('micro')); order.push('now');"
    " await new Promise((done) => setTimeout(done, 5)); return order })()": [
        "now",
        "micro",
        "timer",
    ],
}


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_what_is_there(worker: Worker) -> None:
    probes = ",\n".join(f"() => {code}" for code in PROBES)
    function = await worker.load(
        f"const probes = [\n{probes}\n]\n"
        "async function handler({ path }) { return [await probes[Number(path)]()] }"
    )
    wrong = {}
    for number, (code, value) in enumerate(PROBES.items()):
        answer = await function.get(str(number))
        if answer.id or answer.json != [value]:
            wrong[code] = answer.id or answer.json
    assert wrong == {}


@pytest.mark.engines("quickjs", "wasm")
async def test_nothing_else_is_there(worker: Worker) -> None:
    function = await worker.load(
        "function handler() { return ['require', 'process', 'Deno', 'std', 'os', 'print', 'scriptArgs',"
        " 'WebAssembly', 'Worker', 'import'].filter((name) => name in globalThis) }"
    )
    assert (await function.get()).json == []


@pytest.mark.engines("quickjs", "deno", "wasm")
async def test_names_of_the_platform_may_be_taken(worker: Worker) -> None:
    function = await worker.load(
        "const URL = 'mine'; let Response = 2; function fetch() { return 3 }; var console = 4;\n"
        "function handler() { return [URL, Response, fetch(), console] }"
    )
    assert (await function.get()).json == ["mine", 2, 3, 4]
