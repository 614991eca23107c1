"""The watch over servers: each for itself, whatever the others do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

import structlog

from ilaas.adapters.monitor import Monitor, MonitorOptions
from ilaas.adapters.statistics.fetch import MAX_BYTES
from ilaas.adapters.writes import TurnWrites
from ilaas.core.catalogue import Catalogue, ModelSpec, ServerSpec
from ilaas.core.values import Engine
from ilaas.relay.upstream import HttpUpstream

VLLM = b'vllm:num_requests_running{model_name="m"} 7\n'
OK = {"/metrics": (200, VLLM), "/v1/models": (200, b'{"data":[]}')}


class FakeServer:
    """Answers by path; `None` says nothing for ever, bytes are sent as they are, a missing path is 404."""

    def __init__(self, pages: dict[str, tuple[int, bytes] | bytes | None]) -> None:
        self.pages = pages
        self.seen: list[tuple[str, dict[str, str]]] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    def paths(self, path: str) -> int:
        return sum(1 for seen, _ in self.seen if seen == path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                path = lines[0].split(" ")[1]
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                self.seen.append((path, headers))
                page = self.pages.get(path, (404, b"{}"))
                if page is None:
                    await reader.read()
                    return
                if isinstance(page, bytes):
                    writer.write(page)
                    return
                writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\n\r\n%b" % (page[0], len(page[1]), page[1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@dataclass
class Watch:
    """A monitor under test: what it was told to say, and how it waited."""

    catalogue: Catalogue
    reports: list = field(default_factory=list)
    checks: list = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    broken: bool = False

    def report(self, model, server_id, statistics):
        self.reports.append((model, server_id, statistics))
        self.news.set()
        if self.broken:
            raise ValueError("the broker is broken")

    def check(self, model, server_id, *, ok):
        self.checks.append((model, server_id, ok))
        self.news.set()

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        await asyncio.sleep(0.002)  # time runs faster, but other tasks get their turn

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.news.clear()
                if not condition():
                    await self.news.wait()

    def checked(self, server_id: str, *, ok: bool, times: int = 1) -> bool:
        return sum(1 for _, found, was in self.checks if found == server_id and was is ok) >= times

    def reported(self, server_id: str, times: int = 1) -> bool:
        return sum(1 for _, found, _ in self.reports if found == server_id) >= times


def server(url: str, name: str, **more: object) -> ServerSpec:
    return ServerSpec(**({"id": name, "url": url, "site": "here", "owner": "o", "served_name": "m"} | more))


def catalogue(*servers: ServerSpec, model: str = "model") -> Catalogue:
    return Catalogue.of([ModelSpec(name=model, servers=servers)])


@asynccontextmanager
async def watching(first: Catalogue, *, timeout_s: float = 5.0, **more: float):
    watch = Watch(first)
    options = MonitorOptions(timeout_s=timeout_s, sleep=watch.sleep, jitter=lambda: 0.5, **more)
    upstream = HttpUpstream(time.monotonic, TurnWrites())
    watch.monitor = Monitor(lambda: watch.catalogue, upstream, watch.report, watch.check, options)
    task = asyncio.create_task(watch.monitor.run())
    try:
        yield watch
        assert not task.done(), "the monitor ended by itself"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await upstream.close()


async def test_a_server_is_checked_and_its_gauges_are_reported_with_its_token():
    async with FakeServer(OK) as fake, watching(catalogue(server(fake.url, "a", token="s3cret"))) as watch:
        await watch.until(lambda: watch.reported("a") and watch.checked("a", ok=True))
        model, server_id, statistics = watch.reports[0]
        assert (model, server_id, statistics.running) == ("model", "a", 7)
        assert {headers["authorization"] for _, headers in fake.seen} == {"bearer s3cret"}


async def test_servers_that_hang_fail_or_talk_nonsense_harm_no_other():
    nonsense = {"/metrics": (200, b"<html>\xff\x00</html>"), "/v1/models": b"SMTP ready\r\n\r\n"}
    async with (
        FakeServer(OK) as good,
        FakeServer({"/metrics": None, "/v1/models": None}) as hanging,
        FakeServer({"/metrics": (500, b""), "/v1/models": (500, b"")}) as failing,
        FakeServer(nonsense) as garbage,
        watching(
            catalogue(
                server(hanging.url, "hanging"),
                server(failing.url, "failing"),
                server(garbage.url, "garbage"),
                server("http://127.0.0.1:1", "absent"),
                server("http://[not-a-url", "misspelt"),
                server(good.url, "good"),
            ),
            timeout_s=0.1,
        ) as watch,
    ):
        await watch.until(
            lambda: (
                watch.reported("good", 20)
                and all(
                    watch.checked(s, ok=False, times=2) for s in ("hanging", "failing", "garbage", "absent", "misspelt")
                )
            )
        )
        assert {server_id for _, server_id, _ in watch.reports} == {"good"}
        assert not watch.checked("good", ok=False)


async def test_a_failing_reader_pauses_between_its_tries_and_longer_each_time():
    pages = {"/metrics": (503, b""), "/v1/models": (200, b"{}")}
    async with FakeServer(pages) as fake, watching(catalogue(server(fake.url, "a"))) as watch:
        await watch.until(lambda: fake.paths("/metrics") >= 6)
        pauses = [pause for pause in watch.sleeps if pause != 5.0]
        assert len(pauses) >= fake.paths("/metrics")
        assert {2.0, 4.0, 8.0} <= set(pauses)


async def test_a_reader_that_works_again_is_asked_at_the_usual_pace():
    pages = {**OK, "/metrics": (503, b"")}
    async with FakeServer(pages) as fake, watching(catalogue(server(fake.url, "a"))) as watch:
        await watch.until(lambda: 8.0 in watch.sleeps)
        fake.pages = OK
        await watch.until(lambda: watch.reported("a", 2))
        assert watch.sleeps[-1] in (1.0, 5.0)


async def test_models_behind_one_url_are_asked_once_and_both_told():
    async with FakeServer({**OK, "/v1/models": None}) as fake:
        first = ModelSpec(name="first", servers=(server(fake.url, "a"),))
        second = ModelSpec(name="second", servers=(server(fake.url, "b"),))
        two = Catalogue.of([first, second])
        async with watching(two) as watch:
            await watch.until(lambda: watch.reported("a", 5) and watch.reported("b", 5))
            tries = fake.paths("/metrics")
            assert len(watch.reports) in (2 * tries, 2 * tries - 2)


async def test_a_changed_catalogue_is_followed_at_once():
    async with FakeServer(OK) as old, FakeServer(OK) as new, watching(catalogue(server(old.url, "old"))) as watch:
        await watch.until(lambda: watch.checked("old", ok=True))
        watch.catalogue = catalogue(server(new.url, "new"))
        watch.monitor.wake()
        await watch.until(lambda: watch.checked("new", ok=True) and watch.reported("new"))
        asked = len(old.seen)
        told = len(watch.reports)
        await watch.until(lambda: len(watch.reports) > told + 5)
        assert len(old.seen) == asked


async def test_a_new_token_is_used_after_the_change():
    async with FakeServer(OK) as fake, watching(catalogue(server(fake.url, "a", token="old"))) as watch:
        await watch.until(lambda: watch.checked("a", ok=True))
        watch.catalogue = catalogue(server(fake.url, "a", token="new"))
        watch.monitor.wake()
        await watch.until(lambda: any(h.get("authorization") == "bearer new" for _, h in fake.seen))


async def test_a_server_without_a_list_of_models_is_asked_for_its_health():
    async with (
        FakeServer({"/health": (200, b"")}) as fake,
        watching(catalogue(server(fake.url, "a", engine=Engine.OPENAI))) as watch,
    ):
        await watch.until(lambda: watch.checked("a", ok=True))
        assert fake.paths("/metrics") == 0
        fake.pages = {"/health": (503, b"")}
        await watch.until(lambda: watch.checked("a", ok=False))


async def test_a_server_that_offers_nothing_to_ask_is_not_called_sick():
    async with FakeServer({}) as silent, FakeServer(OK) as good:
        spec = catalogue(server(silent.url, "silent", engine=Engine.OPENAI), server(good.url, "good"))
        async with watching(spec) as watch:
            await watch.until(lambda: silent.paths("/health") >= 3 and watch.checked("good", ok=True))
            assert not any(server_id == "silent" for _, server_id, _ in watch.checks)


async def test_a_refused_token_counts_as_not_healthy():
    async with FakeServer({"/v1/models": (401, b"")}) as fake, watching(catalogue(server(fake.url, "a"))) as watch:
        await watch.until(lambda: watch.checked("a", ok=False))


async def test_llamacpp_is_known_by_its_slots_when_its_metrics_are_off():
    pages = {"/metrics": (501, b""), "/slots": (200, b'[{"is_processing":true},{"is_processing":false}]')}
    async with (
        FakeServer(pages) as fake,
        watching(catalogue(server(fake.url, "a", engine=Engine.LLAMACPP))) as watch,
    ):
        await watch.until(lambda: watch.reported("a"))
        assert (watch.reports[0][2].slots, watch.reports[0][2].running) == (2, 1)


async def test_a_page_without_end_is_cut_and_not_reported():
    huge = VLLM + b"# x\n" * (MAX_BYTES // 4 + 1)
    with structlog.testing.capture_logs() as logs:
        async with (
            FakeServer({**OK, "/metrics": (200, huge)}) as fake,
            watching(catalogue(server(fake.url, "a"))) as watch,
        ):
            await watch.until(lambda: fake.paths("/metrics") >= 2)
            assert not watch.reports
    assert [line["fault"] for line in logs if line["event"] == "server_statistics_failed"] == ["longer than 4 MiB"]


async def test_redirects_are_not_followed_so_that_the_token_goes_nowhere_else():
    async with FakeServer(OK) as thief:
        moved = b"HTTP/1.1 302 x\r\nlocation: %b/v1/models\r\ncontent-length: 0\r\n\r\n" % thief.url.encode()
        async with (
            FakeServer({"/v1/models": moved, "/metrics": moved}) as fake,
            watching(catalogue(server(fake.url, "a", token="t"))) as watch,
        ):
            await watch.until(lambda: watch.checked("a", ok=False, times=2))
        assert not thief.seen


async def test_only_a_change_of_condition_is_logged_and_no_secret_is():
    with structlog.testing.capture_logs() as logs:
        async with FakeServer({"/metrics": (500, b"prompt"), "/v1/models": (500, b"")}) as fake:
            url = fake.url.replace("http://", "http://user:hunter2@")
            async with watching(catalogue(server(url, "a", token="s3cret"))) as watch:
                await watch.until(lambda: watch.checked("a", ok=False, times=10))
                fake.pages = OK
                await watch.until(lambda: watch.checked("a", ok=True, times=3) and watch.reported("a", 3))
    events = sorted(line["event"] for line in logs)
    assert events == [
        "server_health_failed",
        "server_health_recovered",
        "server_statistics_failed",
        "server_statistics_recovered",
    ]
    assert not any(secret in str(logs) for secret in ("hunter2", "s3cret", "prompt"))


async def test_a_fault_of_the_one_who_is_told_ends_nothing_and_is_logged_once():
    with structlog.testing.capture_logs() as logs:
        async with FakeServer(OK) as fake, watching(catalogue(server(fake.url, "a"))) as watch:
            watch.broken = True
            await watch.until(lambda: watch.reported("a", 5))
            watch.broken = False
            await watch.until(lambda: watch.reported("a", 8))
    assert [line["event"] for line in logs] == ["server_monitor_failed", "server_monitor_recovered"]


async def test_cancelling_the_monitor_ends_every_watch():
    def watches() -> list[str]:
        return [repr(task) for task in asyncio.all_tasks() if "Monitor._watch" in repr(task)]

    async with FakeServer({"/metrics": None, "/v1/models": None}) as fake:
        spec = catalogue(server(fake.url, "a"))
        async with watching(spec) as watch:
            while not fake.seen:
                await watch.sleep(0)
            assert len(watches()) == 2
        assert not watches()


async def test_with_many_servers_each_is_read_less_often():
    async with FakeServer(OK) as fake:
        spec = catalogue(*(server(fake.url, name, token=name) for name in "abc"))
        async with watching(spec, max_reads_per_s=0.25) as watch:
            await watch.until(lambda: watch.sleeps.count(12.0) >= 3)
            assert 1.0 not in watch.sleeps


def test_a_token_is_not_in_the_options_or_the_address():
    from ilaas.adapters.monitor import _Address

    assert "s3cret" not in repr(_Address("http://x", Engine.VLLM, "s3cret"))
