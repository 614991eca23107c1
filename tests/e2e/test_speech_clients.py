"""ESUP-Pod and the Nudgis bridge, unchanged, against a whole federation with real media."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from ilaas.core.enrichment.steps import Status
from tests.support.media import MediaBox
from tests.support.speech_federation import SECRET, SpeechFederation, speech_federation
from tests.support.stt_clients import NudgisBridge, Pod, hook
from tests.support.web import says

SCRIPT = "Bonjour à tous. Nous parlons de l'énergie des ordinateurs. Merci de votre attention."


@pytest.fixture(scope="module")
def lecture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Pod gives it: the sound alone, as MP3, with what the simulated server hears in its metadata."""
    box = MediaBox(tmp_path_factory.mktemp("media"))
    return box.of("lecture.mp3", "-metadata", f"comment=ILAAS-SCRIPT: {SCRIPT}")


def served(speech: SpeechFederation, lecture: Path, path: str = "/media/lecture.mp3") -> str:
    return speech.page.on(path, says(body=lecture.read_bytes()))


async def test_pod_sends_a_video_and_shows_what_came_out(tmp_path: Path, lecture: Path) -> None:
    async with speech_federation(tmp_path) as speech, hook() as receiver:
        pod = Pod(speech.api, "pod", SECRET)
        await pod.connect()
        asked = await pod.create_enhancement_from_url(served(speech, lecture), receiver.url)
        told = await receiver.told(asked)
        assert [each["status"] for each in told] == ["SUCCESS"]
        assert receiver.mails == ["SUCCESS"], "each one is an e-mail to the owner"
        page = await pod.page_of_results(asked)
        assert page["title"]
        assert page["topics"]
        assert page["discipline"]
        assert page["language"] == "fr"
        assert " ".join(text.strip() for _, _, text in page["subtitles"]) == SCRIPT
        assert all(any(options.values()) and len(options) > 1 for *_, options in page["quiz"])
        assert len(page["quiz"]) >= 3
        assert (await pod.get_enhancement_versions(asked))["totalElements"] == 1
        await pod.delete_enhancement(asked)
        async with asyncio.timeout(30):
            while await speech.speech.objects.list():
                await asyncio.sleep(0.1)
        await pod.close()


async def test_pod_that_has_not_noted_the_id_yet_is_called_again(tmp_path: Path, lecture: Path) -> None:
    """Pod answers 404 to an id that it has not stored yet."""
    async with speech_federation(tmp_path) as speech, hook() as receiver:
        receiver.knows_all = False
        pod = Pod(speech.api, "pod", SECRET)
        await pod.connect()
        asked = await pod.create_enhancement_from_url(served(speech, lecture), receiver.url)
        await receiver.told(asked, 1)
        receiver.known.add(asked)
        await receiver.told(asked, 2)
        assert receiver.mails == ["SUCCESS"]
        await pod.close()


async def test_pod_is_told_of_a_failure_once(tmp_path: Path) -> None:
    async with speech_federation(tmp_path) as speech, hook() as receiver:
        pod = Pod(speech.api, "pod", SECRET)
        await pod.connect()
        asked = await pod.create_enhancement_from_url(speech.page.on("/no.mp3", says(body=b"no media")), receiver.url)
        await receiver.told(asked)
        found = await pod.get_specific_ai_enhancement(asked)
        assert found["status"] == "FAILURE"
        assert "not a video or audio file" in found["failureCause"]
        assert receiver.mails == ["FAILURE"]
        await pod.close()


async def test_the_nudgis_bridge_gets_subtitles_in_both_languages(tmp_path: Path, lecture: Path) -> None:
    async with speech_federation(tmp_path) as speech, hook("/webhook") as receiver:
        bridge = NudgisBridge(speech.api, "pod", SECRET)
        asked = await bridge.enrich(served(speech, lecture, "/export/17"), receiver.url, "fr")
        told = await receiver.told(asked)
        assert [each["status"] for each in told] == ["SUCCESS"]
        status, started = await bridge.state(asked)
        assert status == "SUCCESS"
        assert started is not None
        assert started.tzinfo is not None
        subtitles = await bridge.subtitles(asked, told[0]["initialVersionId"])
        assert set(subtitles) == {"fr", "en"}
        assert "Bonjour à tous." in subtitles["fr"]
        assert "[traduction] Bonjour à tous." in subtitles["en"]
        assert subtitles["fr"].startswith("1\n00:00:00,000 --> ")
        assert await bridge.is_enriched(asked)
        await bridge.close()


async def test_a_file_is_uploaded_and_enriched(tmp_path: Path, lecture: Path) -> None:
    async with speech_federation(tmp_path) as speech, httpx.AsyncClient(timeout=60) as http:
        login = {"grant_type": "client_credentials", "client_id": "pod", "client_secret": SECRET}
        token = (await http.post(f"{speech.api}/token", data=login)).json()["access_token"]
        fields = {
            "notificationWebhookUrl": speech.page.url("/hook"),
            "enrichmentParameters": '{"mediaTypes": ["cours"], "disciplines": ["droit"], "language": "fr"}',
        }
        files = {"file": ("leçon.mp3", lecture.read_bytes(), "audio/mpeg")}
        headers = {"authorization": f"Bearer {token}"}
        answer = await http.post(f"{speech.api}/v1/enrichments/upload", data=fields, files=files, headers=headers)
        assert answer.status_code == 200, answer.text
        asked = answer.json()["id"]
        done = await speech.ended(asked)
        assert (done.status, done.failure_cause) == (Status.SUCCESS, None)
        found = (await http.get(f"{speech.api}/v1/enrichments/{asked}", headers=headers)).json()
        assert found["media"] == {"originalFileName": "leçon.mp3", "mimeType": "audio/mpeg"}
        assert (await speech.version(asked)).metadata is not None
