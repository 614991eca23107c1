"""The deployed clients as they are, from the order to the results, with a receiver that answers as ESUP-Pod does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ilaas.adapters.guarded_http import GuardedHttp, GuardOptions
from ilaas.adapters.sql import SqlStore
from ilaas.adapters.sql.enrichment_store import SqlEnrichmentStore
from ilaas.adapters.webhook import WebhookCaller
from ilaas.core.errors import MediaUnusable
from tests.contract.conftest import SECRET as STORE_SECRET
from tests.support.stt_api import SECRET, URL, SttWorld, speaking
from tests.support.stt_clients import ClientCrash, Hook, NudgisBridge, Pod, hook


@dataclass
class Campus:
    """The service with workers and real webhooks, and the receiver."""

    stt: SttWorld
    hook: Hook

    async def noted(self, enrichment_id: str) -> None:
        """Wait until the answer of the receiver is in the store."""
        async with asyncio.timeout(30):
            while (await self.stt.store.enrichment(enrichment_id)).notify.status is None:
                await asyncio.sleep(0.005)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        web = GuardedHttp(GuardOptions(allow_private=True))
        house = self.stt.house
        house.context = replace(house.context, webhooks=WebhookCaller(web, house.clock))
        try:
            async with house.working():
                yield
        finally:
            await web.close()


@pytest.fixture(params=["memory", "sqlite"])
async def campus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Campus]:
    async with contextlib.AsyncExitStack() as stack:
        store = None
        if request.param == "sqlite":
            url = f"sqlite:///{tmp_path / 'ilaas.db'}"
            first = SqlStore(url, STORE_SECRET)
            await first.open()
            stack.push_async_callback(first.close)
            store = SqlEnrichmentStore(url, STORE_SECRET)
            await store.open()
            stack.push_async_callback(store.close)
        stt = await stack.enter_async_context(speaking(tmp_path, store, require_tld=False))
        yield Campus(stt, await stack.enter_async_context(hook()))


@pytest.fixture
async def pod(campus: Campus) -> AsyncIterator[Pod]:
    made = Pod(campus.stt.url, "pod", SECRET)
    await made.connect()
    yield made
    await made.close()


async def test_pod_enriches_a_lecture_reads_everything_and_deletes_it(campus: Campus, pod: Pod) -> None:
    enrichment_id = await pod.create_enhancement_from_url(URL, campus.hook.url)
    async with campus.working():
        (told,) = await campus.hook.told(enrichment_id)
        await campus.noted(enrichment_id)
    assert list(told) == ["id", "status", "initialVersionId", "failureCause", "completedStep"]
    assert (told["status"], told["failureCause"], told["completedStep"]) == ("SUCCESS", None, None)
    assert campus.hook.mails == ["SUCCESS"]
    listed = await pod.get_ai_enhancements()
    assert [each["id"] for each in listed["content"]] == [enrichment_id]
    one = await pod.get_specific_ai_enhancement(enrichment_id)
    assert one["status"] == "SUCCESS"
    assert one["notificationStatus"] == "200"
    assert one["notifiedAt"] is not None
    assert one["lastVersionId"] == told["initialVersionId"]
    page = await pod.page_of_results(enrichment_id)
    assert page["title"] == "Un titre"
    assert page["language"] == "fr"
    assert len(page["subtitles"]) == 9
    assert all(begin <= end for _, _, begin, end, _ in page["quiz"])
    assert page["quiz"]
    versions = await pod.get_enhancement_versions(enrichment_id)
    assert versions["totalElements"] == 1
    assert await pod.get_specific_enhancement_version(enrichment_id, told["initialVersionId"])
    await pod.delete_enhancement(enrichment_id)
    with pytest.raises(ClientCrash):
        await pod.get_specific_ai_enhancement(enrichment_id)


async def test_a_webhook_that_is_faster_than_pod_is_sent_again_until_pod_knows_the_id(campus: Campus, pod: Pod) -> None:
    campus.hook.knows_all = False
    enrichment_id = await pod.create_enhancement_from_url(URL, campus.hook.url)
    async with campus.working():
        await campus.hook.told(enrichment_id)
        assert campus.hook.mails == []
        await campus.noted(enrichment_id)
        campus.hook.known.add(enrichment_id)
        campus.stt.house.clock.now += 3600
        await campus.hook.told(enrichment_id, 2)
    assert campus.hook.mails == ["SUCCESS"]


async def test_pod_is_told_of_a_failure_once_whatever_it_answers(campus: Campus, pod: Pod) -> None:
    campus.stt.house.source.fault = MediaUnusable("Couldn't get file from URL")
    enrichment_id = await pod.create_enhancement_from_url(URL, campus.hook.url)
    async with campus.working():
        (told,) = await campus.hook.told(enrichment_id)
        assert (told["status"], told["failureCause"]) == ("FAILURE", "Couldn't get file from URL")
        await campus.noted(enrichment_id)
        campus.stt.house.clock.now += 7200
        campus.stt.house.source.fault = None
        after = await pod.create_enhancement_from_url(URL, campus.hook.url)
        await campus.hook.told(after)
    assert campus.hook.mails == ["FAILURE", "SUCCESS"]


async def test_the_nudgis_bridge_learns_the_language_then_asks_for_the_rest(campus: Campus) -> None:
    bridge = NudgisBridge(campus.stt.url, "nudgis", SECRET)
    enrichment_id = await bridge.enrich(URL, campus.hook.url, None)
    assert await bridge.state(enrichment_id) == ("WAITING_MEIDA_UPLOAD", None)
    async with campus.working():
        (told,) = await campus.hook.told(enrichment_id)
        assert told["status"] == "SUCCESS"
        assert not await bridge.is_enriched(enrichment_id)
        assert list(await bridge.subtitles(enrichment_id, told["initialVersionId"])) == ["fr"]
        await bridge.ask_again(enrichment_id, campus.hook.url, "fr")
        (_, again) = await campus.hook.told(enrichment_id, 2)
    assert again["initialVersionId"] != told["initialVersionId"]
    assert await bridge.is_enriched(enrichment_id)
    files = await bridge.subtitles(enrichment_id, again["initialVersionId"])
    assert list(files) == ["fr", "en"]
    assert files["fr"].startswith("1\n00:00:00,000 --> ")
    assert "EN Phrase" in files["en"]
    status, begun = await bridge.state(enrichment_id)
    assert status == "SUCCESS"
    assert begun is not None
    await bridge.close()
