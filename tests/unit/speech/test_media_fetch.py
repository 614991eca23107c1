"""Media fetched from addresses that clients gave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from ilaas.adapters.guarded_http import GuardedHttp, GuardOptions
from ilaas.adapters.media_fetch import FetchOptions, MediaFetcher
from ilaas.core.errors import BodyTooLarge, MediaUnusable, UpstreamFailed
from ilaas.ports.media import FetchedFile
from tests.support.objects import TwinObjects
from tests.support.web import Visit, Web, breaks_off, hangs_up, says, web

MEDIA = bytes(range(256)) * 400
LARGE = 10**9


@pytest.fixture
async def page() -> AsyncIterator[Web]:
    async with web() as running:
        yield running


class Fetching:
    """A fetcher that notes its pauses instead of making them."""

    def __init__(self, options: GuardOptions | None = None, fetch: FetchOptions | None = None) -> None:
        self.pauses_s: list[float] = []
        self.objects = TwinObjects()
        self.fetcher = MediaFetcher(GuardedHttp(options or GuardOptions(allow_private=True)), fetch, self._pause)

    async def _pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)

    async def fetch(self, url: str, max_bytes: int = LARGE) -> FetchedFile:
        return await self.fetcher.fetch(url, self.objects, "k", max_bytes=max_bytes)


async def test_the_file_is_kept_whole_under_the_name_of_its_address(page: Web) -> None:
    fetching = Fetching()
    found = await fetching.fetch(page.on("/media/cours%20n%C2%B01.mp4", says(body=MEDIA)))
    assert (found.name, found.stored.size_bytes) == ("cours n°1.mp4", len(MEDIA))
    assert fetching.objects.objects == {"k": MEDIA}
    assert fetching.objects.unfinished == {}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="lecture.webm"', "lecture.webm"),
        ("attachment; filename*=UTF-8''le%C3%A7on.mp4", "leçon.mp4"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\temp\\a.mp4"', "a.mp4"),
        ("inline", "17"),
    ],
)
async def test_the_name_is_the_one_the_server_gives_and_never_a_path(header: str, name: str, page: Web) -> None:
    url = page.on("/export/17", says(body=MEDIA, content_disposition=header))
    assert (await Fetching().fetch(url)).name == name


async def test_redirects_are_followed(page: Web) -> None:
    page.on("/there", says(body=MEDIA))
    url = page.on("/here", says(302, location="/there"))
    assert (await Fetching().fetch(url)).name == "there"


async def test_endless_redirects_end(page: Web) -> None:
    with pytest.raises(MediaUnusable, match="too many redirects"):
        await Fetching().fetch(page.on("/loop", says(301, location="/loop")))


async def test_private_addresses_are_refused(page: Web) -> None:
    url = page.on("/secret", says(body=MEDIA))
    with pytest.raises(MediaUnusable, match="URL: it points to an address that is not public"):
        await Fetching(GuardOptions()).fetch(url)
    assert page.visits == []


async def test_a_redirect_into_the_own_network_is_refused(page: Web) -> None:
    """The first host resolves to an address that may be called, as far as the test's list says; the second not."""
    page.on("/secret", says(body=MEDIA))
    redirect = page.on("/public", says(302, location=f"http://inner.example:{page.port}/secret"))
    names = {"127.0.0.1": ["127.0.0.1"], "inner.example": ["10.0.0.7"]}

    def resolve(host: str, port: int) -> Sequence[str]:
        return names[host]

    guarded = Fetching(GuardOptions(resolve=resolve))
    with pytest.raises(MediaUnusable, match="not public"):
        await guarded.fetch(f"http://inner.example:{page.port}/secret")
    open_ended = Fetching(GuardOptions(resolve=resolve, allow_private=True, connect_s=0.2))
    assert redirect.startswith("http://127.0.0.1")
    with pytest.raises(UpstreamFailed):
        await open_ended.fetch(redirect)
    assert [visit.path for visit in page.visits if visit.path == "/secret"] == []


async def test_the_connection_goes_to_the_address_that_was_checked(page: Web) -> None:
    """A name that resolves anew, to something else, gains nothing."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.7"]

    page.on("/a.mp4", says(body=MEDIA))
    await Fetching(GuardOptions(resolve=resolve, allow_private=True)).fetch(f"http://media.example:{page.port}/a.mp4")
    assert asked == ["media.example"]
    assert page.visits[0].headers["host"] == f"media.example:{page.port}"


@pytest.mark.parametrize("url", ["ftp://example.fr/a", "file:///etc/passwd", "http://user:pw@example.fr/", "nonsense"])
async def test_other_addresses_than_of_the_web_are_refused(url: str) -> None:
    with pytest.raises(MediaUnusable, match="Couldn't get file from URL"):
        await Fetching().fetch(url)


async def test_a_server_that_is_busy_is_asked_again_after_1_2_and_4_seconds(page: Web) -> None:
    fetching = Fetching()
    url = page.on("/a.mp3", says(503), says(500), hangs_up, says(body=MEDIA))
    await fetching.fetch(url)
    assert fetching.pauses_s == [1.0, 2.0, 4.0]
    assert fetching.objects.objects["k"] == MEDIA


async def test_a_name_that_does_not_resolve_may_do_so_a_moment_later(page: Web) -> None:
    lost = [OSError("temporary failure in name resolution")] * 2

    def resolve(host: str, port: int) -> Sequence[str]:
        if lost:
            raise lost.pop()
        return ["127.0.0.1"]

    page.on("/a.mp3", says(body=MEDIA))
    url = f"http://media.example:{page.port}/a.mp3"
    fetching = Fetching(GuardOptions(resolve=resolve, allow_private=True))
    await fetching.fetch(url)
    assert fetching.pauses_s == [1.0, 2.0]
    lost.extend([OSError("temporary failure in name resolution")] * 9)
    with pytest.raises(UpstreamFailed, match=r"the host 'media\.example' does not resolve"):
        await fetching.fetch(url)


async def test_after_three_more_tries_it_gives_up_and_leaves_nothing(page: Web) -> None:
    fetching = Fetching()
    with pytest.raises(UpstreamFailed, match="Couldn't get file from URL: the server answered with HTTP status 503"):
        await fetching.fetch(page.on("/a.mp3", says(503)))
    assert len(page.visits) == 4
    assert (fetching.objects.objects, fetching.objects.unfinished) == ({}, {})


@pytest.mark.parametrize(("status", "hint"), [(404, "404"), (403, "without logging in"), (401, "without logging in")])
async def test_a_file_that_is_not_to_be_had_is_told_at_once(status: int, hint: str, page: Web) -> None:
    with pytest.raises(MediaUnusable, match=hint):
        await Fetching().fetch(page.on("/a.mp3", says(status)))
    assert len(page.visits) == 1


async def test_a_broken_download_goes_on_where_it_broke_off(page: Web) -> None:
    async def rest(visit: Visit) -> None:
        start = int(visit.headers["range"].removeprefix("bytes=").removesuffix("-"))
        assert visit.headers["if-range"] == '"v1"'
        await visit.answer(206, MEDIA[start:])

    fetching = Fetching()
    half = breaks_off(MEDIA, 50_000, etag='"v1"', accept_ranges="bytes")
    await fetching.fetch(page.on("/a.mp4", half, rest))
    assert fetching.objects.objects["k"] == MEDIA


async def test_a_broken_download_begins_again_where_the_server_can_do_no_better(page: Web) -> None:
    fetching = Fetching()
    await fetching.fetch(page.on("/a.mp4", breaks_off(MEDIA, 50_000), says(body=MEDIA)))
    assert fetching.objects.objects["k"] == MEDIA


async def test_a_file_that_changed_in_between_is_not_mixed(page: Web) -> None:
    fetching = Fetching()
    half = breaks_off(MEDIA, 50_000, etag='"v1"', accept_ranges="bytes")
    await fetching.fetch(page.on("/a.mp4", half, says(body=MEDIA[::-1], etag='"v2"', accept_ranges="bytes")))
    assert fetching.objects.objects["k"] == MEDIA[::-1]


async def test_a_file_above_the_limit_is_refused_before_it_comes(page: Web) -> None:
    fetching = Fetching()
    with pytest.raises(BodyTooLarge):
        await fetching.fetch(page.on("/a.mp4", says(body=MEDIA)), max_bytes=1000)
    assert (fetching.objects.objects, fetching.objects.unfinished) == ({}, {})


async def test_a_file_that_does_not_say_its_length_is_cut_off_at_the_limit(page: Web) -> None:
    async def unsaid(visit: Visit) -> None:
        visit.writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + MEDIA)
        await visit.writer.drain()

    fetching = Fetching()
    with pytest.raises(BodyTooLarge):
        await fetching.fetch(page.on("/a.mp4", unsaid), max_bytes=1000)
    assert (fetching.objects.objects, fetching.objects.unfinished) == ({}, {})


async def test_a_server_that_trickles_for_ever_is_left(page: Web) -> None:
    async def trickle(visit: Visit) -> None:
        visit.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nx")
        await visit.writer.drain()
        await visit.writer.wait_closed()

    fetching = Fetching(fetch=FetchOptions(total_s=0.3))
    with pytest.raises(MediaUnusable, match="longer than"):
        await fetching.fetch(page.on("/a.mp4", trickle))
    assert fetching.objects.unfinished == {}
