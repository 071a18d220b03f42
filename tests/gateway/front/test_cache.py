"""Answers that are given again: to whom, how long, and of whom nothing leaks."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from microcosmos import Context, Service, errors
from microcosmos.gateway.front.cache import CACHED_ANSWER


class Cached:
    """A service whose answers may be cached; each tells its number."""

    def __init__(self) -> None:
        self.calls = 0
        self.let = asyncio.Event()
        self.let.set()
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.fail = False
        self.service = Service("news")
        add = self.service.endpoint
        add(name="Top", cache=10)(self._top)
        add(name="Mine", cache=10, vary=["Accept-Language"])(self._seen)
        add(name="Odd", metadata={"cache": "often"})(self._top)
        add(name="Secret", metadata={"cache": "10s", "vary": "Authorization"})(self._top)
        add(name="Plain")(self._top)

    async def _top(self, page: int = 1, size: int = 0) -> dict[str, Any]:
        self.calls += 1
        self.entered.set()
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.fail:
            raise errors.Conflict("news", "not now")
        return {"call": self.calls, "page": page, "text": "x" * size}

    async def _seen(self, context: Context) -> dict[str, str]:
        self.calls += 1
        return dict(context.metadata)


@pytest.fixture
def news() -> Cached:
    return Cached()


async def test_without_any_settings(open_front: Any, platform: Any, news: Cached) -> None:
    async with open_front() as fronted:
        assert fronted.front._serve == fronted.site.gateway.__rsgi__
        await platform.start(news.service)
        first = await fronted.get("/news/top")
        assert first.json()["call"] == 1
        assert first.headers["cache-control"] == "public, max-age=10"
        assert first.headers["age"] == "0"
        await fronted.clock.advance(7)
        again = await fronted.get("/news/top")
        assert again.content == first.content
        assert again.headers["age"] == "7"
        assert again.headers["etag"] == first.headers["etag"]
        assert again.headers["content-type"] == "application/json"
        await fronted.clock.advance(3)
        assert (await fronted.get("/news/top")).json()["call"] == 2
        assert news.calls == 2


async def test_who_declares_no_cache_pays_nothing(
    open_front: Any, platform: Any, echo: Any
) -> None:
    async with open_front() as fronted:
        await platform.start(echo.service)
        assert fronted.front._serve == fronted.site.gateway.__rsgi__


async def test_what_tells_answers_apart(open_front: Any, platform: Any, news: Cached) -> None:
    await platform.start(news.service)
    async with open_front() as fronted:
        assert (await fronted.get("/news/top?page=1")).json() == {"call": 1, "page": 1, "text": ""}
        assert (await fronted.get("/news/top?page=2")).json() == {"call": 2, "page": 2, "text": ""}
        assert (await fronted.get("/news/top?page=1")).json()["call"] == 1
        assert (await fronted.get("/news/top?page=1", Accept="text/x")).json()["call"] == 3
        assert (await fronted.get("/news/top?page=1", Micro_Namespace="x")).json()["call"] == 4
        head = await fronted.send("HEAD", "/news/top?page=2")
        assert (head.content, head.headers["age"]) == (b"", "0")
        assert news.calls == 4


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer a"},
        {"Cookie": "a=b; micro-token=x"},
        {"Cache_Control": "no-store"},
        {"If_Match": '"x"'},
    ],
)
async def test_whose_answer_is_ones_own(
    open_front: Any, platform: Any, news: Cached, headers: dict[str, str]
) -> None:
    await platform.start(news.service)
    async with open_front() as fronted:
        assert (await fronted.get("/news/top", **headers)).json()["call"] == 1
        assert (await fronted.get("/news/top", **headers)).json()["call"] == 2
        assert (await fronted.get("/news/top")).json()["call"] == 3
        assert (await fronted.get("/news/top", **headers)).json()["call"] == 4


@pytest.mark.parametrize("path", ["/news/odd", "/news/secret", "/news/plain"])
async def test_what_is_not_cached(open_front: Any, platform: Any, news: Cached, path: str) -> None:
    await platform.start(news.service)
    async with open_front() as fronted:
        for number in (1, 2):
            answer = await fronted.get(path)
            assert answer.json()["call"] == number
            assert "age" not in answer.headers
        assert (await fronted.send("POST", "/news/top")).json()["call"] == 3
        assert (await fronted.send("POST", "/news/top")).json()["call"] == 4


async def test_what_is_not_in_the_key_does_not_reach_the_endpoint(
    open_front: Any, platform: Any, news: Cached
) -> None:
    await platform.start(news.service)
    sent = {"Cookie": "a=b", "X_Poison": "x", "X_Forwarded_For": "6.6.6.6", "Host": "evil.com"}
    async with open_front("[proxies]\ntrusted = ['127.0.0.1']") as fronted:
        answer = await fronted.get("/news/mine", Accept_Language="de", **sent)
        seen = answer.json()
        assert seen["Accept-Language"] == "de"
        assert not {"b", "x", "6.6.6.6", "evil.com", "a=b"} & set(seen.values())
        assert "Accept-Language" in answer.headers["vary"]
        await fronted.get("/news/mine", Accept_Language="de")
        assert news.calls == 1
        await fronted.get("/news/mine", Accept_Language="fr")
        assert news.calls == 2


async def test_a_client_may_insist(open_front: Any, platform: Any, news: Cached) -> None:
    await platform.start(news.service)
    async with open_front() as fronted:
        answer = await fronted.get("/news/top", Cache_Control="only-if-cached")
        assert answer.status_code == 504
        assert (await fronted.get("/news/top")).json()["call"] == 1
        assert (await fronted.get("/news/top", Cache_Control="no-cache")).json()["call"] == 2
        assert (await fronted.get("/news/top")).json()["call"] == 2
        assert (await fronted.get("/news/top", Pragma="no-cache")).json()["call"] == 3
        assert (await fronted.get("/news/top", Cache_Control="max-age=0")).json()["call"] == 4
        assert (await fronted.get("/news/top", Cache_Control="only-if-cached")).status_code == 200


async def test_a_copy_that_is_still_good(open_front: Any, platform: Any, news: Cached) -> None:
    await platform.start(news.service)
    async with open_front() as fronted:
        etag = (await fronted.get("/news/top")).headers["etag"]
        answer = await fronted.get("/news/top", If_None_Match=f'"x", {etag}')
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
        assert answer.headers["cache-control"] == "public, max-age=10"
        assert (await fronted.get("/news/top", If_None_Match='"x"')).status_code == 200
        assert news.calls == 1


async def test_many_at_once_are_one_call(open_front: Any, platform: Any, news: Cached) -> None:
    await platform.start(news.service)
    news.let.clear()
    async with open_front() as fronted:
        asking = [asyncio.create_task(fronted.get("/news/top")) for _ in range(50)]
        await news.entered.wait()
        asking += [asyncio.create_task(fronted.get("/news/top")) for _ in range(5)]
        news.let.set()
        answers = await asyncio.gather(*asking)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert news.calls == 1


async def test_the_first_to_ask_may_leave(open_front: Any, platform: Any, news: Cached) -> None:
    await platform.start(news.service)
    news.let.clear()
    async with open_front(patience=0.01) as fronted:
        line = await fronted.site.line()
        await line.send(b"GET /news/top HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
        await news.entered.wait()
        second = asyncio.create_task(fronted.get("/news/top"))
        line.leave()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(news.cancelled.wait(), 0.1)
        assert not news.cancelled.is_set()
        news.let.set()
        assert (await second).json()["call"] == 1
        assert news.calls == 1


async def test_errors_are_told_to_all_and_not_kept(
    open_front: Any, platform: Any, news: Cached
) -> None:
    await platform.start(news.service)
    news.fail = True
    news.let.clear()
    async with open_front() as fronted:
        asking = [asyncio.create_task(fronted.get("/news/top")) for _ in range(3)]
        await news.entered.wait()
        news.let.set()
        for answer in await asyncio.gather(*asking):
            assert (answer.status_code, answer.json()["Detail"]) == (409, "not now")
            assert "age" not in answer.headers
            assert "cache-control" not in answer.headers
        news.fail = False
        assert (await fronted.get("/news/top")).status_code == 200
        assert (await fronted.get("/news/top?page=x")).status_code == 400


async def test_every_origin_has_its_own_answer(
    open_front: Any, platform: Any, news: Cached
) -> None:
    await platform.start(news.service)
    async with open_front() as fronted:
        for origin in ("https://a.example", "https://b.example"):
            answer = await fronted.get("/news/top", Origin=origin)
            assert answer.headers["access-control-allow-origin"] == origin
            assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-origin" not in (await fronted.get("/news/top")).headers
        assert news.calls == 1


async def test_large_answers_are_compressed_for_who_accepts_it(
    open_front: Any, platform: Any, news: Cached
) -> None:
    await platform.start(news.service)
    async with open_front() as fronted:
        for accepted, coding in (("gzip", "gzip"), ("identity", None), ("gzip;q=0", None)):
            answer = await fronted.get("/news/top?size=5000", Accept_Encoding=accepted)
            assert answer.headers.get("content-encoding") == coding
            assert len(answer.json()["text"]) == 5000
            assert "Accept-Encoding" in answer.headers["vary"]
        assert news.calls == 1


async def test_the_cache_has_a_size(open_front: Any, platform: Any, news: Cached) -> None:
    await platform.start(news.service)
    async with open_front("[cache]\nbytes = 100000") as fronted:
        cache = fronted.front._cache
        for page in range(50):
            await fronted.get(f"/news/top?page={page}&size=5000")
            assert cache.bytes <= 100_000
        assert (await fronted.get("/news/top?page=49&size=5000")).json()["call"] == 50
        assert (await fronted.get("/news/top?page=0&size=5000")).json()["call"] == 51
        large = f"/news/top?size={CACHED_ANSWER}"
        assert (await fronted.get(large)).json()["call"] == 52
        assert (await fronted.get(large)).json()["call"] == 53
        long = "/news/top?" + "page=1&" * 1000
        assert (await fronted.get(long)).json()["call"] == 54
        assert (await fronted.get(long)).json()["call"] == 55
        fronted.apply("[cache]\nbytes = 0")
        assert cache.bytes == 0
        assert (await fronted.get("/news/top")).json()["call"] == 56
        assert (await fronted.get("/news/top")).json()["call"] == 57


async def test_a_new_version_is_seen_at_once(open_front: Any, platform: Any) -> None:
    old, new = Cached(), Cached()
    async with open_front() as fronted:
        async with old.service.on(platform.platform):
            assert (await fronted.get("/news/top")).json()["call"] == 1
        new.calls = 10
        async with new.service.on(platform.platform):
            assert (await fronted.get("/news/top")).json()["call"] == 11


async def test_an_answer_that_comes_after_the_change_is_not_kept(
    open_front: Any, platform: Any, news: Cached
) -> None:
    await platform.start(news.service)
    news.let.clear()
    async with open_front() as fronted:
        late = asyncio.create_task(fronted.get("/news/top"))
        await news.entered.wait()
        async with Cached().service.on(platform.platform, version="v2"):
            news.let.set()
            assert (await late).status_code == 200
            assert fronted.front._cache.bytes == 0


async def test_a_client_in_a_hurry_does_not_spoil_it_for_others(
    open_front: Any, platform: Any, news: Cached
) -> None:
    await platform.start(news.service)
    news.let.clear()
    async with open_front() as fronted:
        hurried = asyncio.create_task(fronted.get("/news/top", Micro_Timeout="50ms"))
        await news.entered.wait()
        other = asyncio.create_task(fronted.get("/news/top"))
        assert (await hurried).status_code == 504
        news.let.set()
        assert (await other).status_code == 200


async def test_cached_answers_are_counted_too(open_front: Any, platform: Any, news: Cached) -> None:
    await platform.start(news.service)
    async with open_front("[[limits]]\nrate = '2/m'") as fronted:
        assert [(await fronted.get("/news/top")).status_code for _ in range(3)] == [200, 200, 429]
