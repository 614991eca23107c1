"""The programs that call the speech API, written from what the deployed ones do, and a receiver of their webhooks.

Each reads exactly what the real one reads and fails where that one fails: a status that is not 200, a key that is not
there, a pointer that is no time. All are plain HTTP over an address, so that they call a twin and a real gateway alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from tests.support.web import Visit, web

DISCIPLINES = ["Sciences et technologies", "Droit", "Santé"]


class ClientCrash(AssertionError):
    """The real client would have crashed here."""


# -- C1: ESUP-Pod ------------------------------------------------------------------------------------------------------


class Pod:
    """ESUP-Pod 4.1: a token by a JSON body, never refreshed; anything but 200 is an answer it can't read."""

    def __init__(self, api_url: str, client_id: str, secret: str) -> None:
        """`api_url` ends in `/api`."""
        self._url = api_url
        self._credentials = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        self._http = httpx.AsyncClient(timeout=60)
        self._token = ""

    async def close(self) -> None:
        await self._http.aclose()

    async def connect(self) -> None:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        answer = await self._http.post(f"{self._url}/token", content=json.dumps(self._credentials), headers=headers)
        self._token = _read(answer)["access_token"]

    async def create_enhancement_from_url(self, url: str, webhook: str, user: str = "0f" * 32) -> str:
        body = {
            "url": url,
            "notificationWebhookUrl": webhook,
            "enrichmentParameters": {"mediaTypes": ["video/mp3"], "disciplines": DISCIPLINES},
            "enduserIdentifier": f"{user}@univ.fr",
        }
        answer = await self._http.post(
            f"{self._url}/v1/enrichments/url",
            content=json.dumps(body),
            headers={**self._headers(), "Content-Type": "application/json"},
        )
        if answer.status_code != 200:
            raise ClientCrash(f"Pod reads nothing but 200: {answer.status_code} {answer.text}")
        text = answer.text
        found = json.loads(text[text.index("{") : text.rindex("}") + 1])
        if found["status"] != "OK":
            raise ClientCrash(text)
        enrichment_id: str = found["id"]
        return enrichment_id

    async def get_ai_enhancements(self) -> Any:
        return await self._get("")

    async def get_specific_ai_enhancement(self, enrichment_id: str) -> Any:
        return await self._get(f"/{enrichment_id}")

    async def get_latest_enhancement_version(self, enrichment_id: str) -> Any:
        return await self._get(f"/{enrichment_id}/versions/latest")

    async def get_enhancement_versions(self, enrichment_id: str) -> Any:
        return await self._get(f"/{enrichment_id}/versions?withTranscript=True")

    async def get_specific_enhancement_version(self, enrichment_id: str, version_id: str) -> Any:
        return await self._get(f"/{enrichment_id}/versions/{version_id}")

    async def delete_enhancement(self, enrichment_id: str) -> None:
        answer = await self._http.delete(f"{self._url}/v1/enrichments/{enrichment_id}", headers=self._headers())
        if _read(answer)["status"] != "OK":
            raise ClientCrash(answer.text)

    async def page_of_results(self, enrichment_id: str) -> dict[str, Any]:
        """What Pod's page does with the newest version, with its own reading of each field."""
        version = await self.get_latest_enhancement_version(enrichment_id)
        metadata = version["enrichmentVersionMetadata"]
        quiz = []
        for question in version["multipleChoiceQuestions"]:
            pointer = question["answerPointer"]
            begin = datetime.strptime(pointer["startAnswerPointer"], "%H:%M:%S")  # noqa: DTZ007 -- as Pod does
            end = datetime.strptime(pointer["stopAnswerPointer"], "%H:%M:%S")  # noqa: DTZ007
            options = {choice["optionText"]: choice["correctAnswer"] for choice in question["choices"]}
            quiz.append((question["question"], question["explanation"], begin, end, options))
        return {
            "title": metadata["title"].replace('"', ""),
            "description": metadata["description"],
            "topics": [topic for topic in metadata["topics"] if len(topic)],
            "discipline": metadata["discipline"],
            "subtitles": [(each["start"] + 0, each["end"] + 0, each["text"] + "") for each in _sentences(version)],
            "language": version["transcript"]["language"],
            "quiz": quiz,
        }

    async def _get(self, path: str) -> Any:
        answer = await self._http.get(f"{self._url}/v1/enrichments{path}", headers=self._headers())
        return _read(answer)

    def _headers(self) -> dict[str, str]:
        return {"Accept": "application/json", "Authorization": f"Bearer {self._token}"}


def _sentences(version: Any) -> list[Any]:
    found: list[Any] = version["transcript"]["sentences"]
    return found


# -- C2: the Nudgis bridge ---------------------------------------------------------------------------------------------


class NudgisBridge:
    """The bridge between Nudgis and the API: HTTP Basic with a JSON body, French and English both ways."""

    def __init__(self, api_url: str, client_id: str, secret: str) -> None:
        self._url = api_url
        self._basic = httpx.BasicAuth(client_id, secret)
        self._http = httpx.AsyncClient(timeout=60)

    async def close(self) -> None:
        await self._http.aclose()

    async def enrich(self, media_url: str, webhook: str, language: str | None) -> str:
        """Without a known language nothing but the transcript is asked for."""
        known = language is not None
        parameters = {
            "generateMetadata": known,
            "generateQuiz": known,
            "mediaTypes": ["N/A"],
            "disciplines": ["N/A"],
            "language": language,
            "translateTo": {"fr": "en", "en": "fr"}.get(language or ""),
        }
        body = {"url": media_url, "notificationWebhookUrl": webhook, "enrichmentParameters": parameters}
        found: str = (await self._call("POST", "/url", body))["id"]
        return found

    async def ask_again(self, enrichment_id: str, webhook: str, language: str) -> None:
        """With the language that was heard: the quiz and the translation."""
        parameters = {
            "mediaTypes": ["N/A"],
            "disciplines": ["N/A"],
            "language": language,
            "translateTo": {"fr": "en", "en": "fr"}[language],
        }
        body = {"notificationWebhookUrl": webhook, "enrichmentParameters": parameters}
        assert (await self._call("POST", f"/{enrichment_id}/new_ai_version", body))["status"] == "OK"

    async def state(self, enrichment_id: str) -> tuple[str, datetime | None]:
        """Its status, and since when it is worked on."""
        found = await self._call("GET", f"/{enrichment_id}")
        begun = found["uploadStartedAt"]
        return found["status"], None if begun is None else datetime.fromisoformat(begun)

    async def subtitles(self, enrichment_id: str, version_id: str) -> dict[str, str]:
        """SRT by language, as they are pushed to Nudgis."""
        version = await self._call("GET", f"/{enrichment_id}/versions/{version_id}")
        language = version["language"] or version["transcript"]["language"]
        files = {}
        for code in (language, version["translateTo"]):
            if code is not None:
                path = f"/{enrichment_id}/versions/{version['id']}/download_transcript?language={code}"
                answer = await self._http.get(f"{self._url}/v1/enrichments{path}", headers=await self._headers())
                assert answer.status_code == 200, answer.text
                files[code] = answer.text
        return files

    async def is_enriched(self, enrichment_id: str) -> bool:
        latest = await self._call("GET", f"/{enrichment_id}/versions/latest")
        return latest["enrichmentVersionMetadata"] is not None

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        url = f"{self._url}/v1/enrichments{path}"
        return _read(await self._http.request(method, url, json=body, headers=await self._headers()))

    async def _headers(self) -> dict[str, str]:
        answer = await self._http.post(
            f"{self._url}/token", json={"grant_type": "client_credentials"}, auth=self._basic
        )
        return {"Authorization": f"Bearer {_read(answer)['access_token']}"}


# -- B8: a remote worker -----------------------------------------------------------------------------------------------


class RemoteWorker:
    """A worker as cron starts it: a token, one job, the result."""

    def __init__(self, api_url: str, client_id: str, secret: str) -> None:
        self._url = api_url
        self._basic = httpx.BasicAuth(client_id, secret)
        self.http = httpx.AsyncClient(timeout=60)
        self.task_id = str(uuid.uuid4())

    async def close(self) -> None:
        await self.http.aclose()

    async def headers(self) -> dict[str, str]:
        answer = await self.http.post(f"{self._url}/token", data={"grant_type": "client_credentials"}, auth=self._basic)
        return {"Authorization": f"Bearer {_read(answer)['access_token']}"}

    async def take(self, path: str, **query: str) -> Any | None:
        """The job at `path` (such as `job/ai_enrichment`); None when there is none. Each try has a new task id."""
        self.task_id = str(uuid.uuid4())
        url = f"{self._url}/v1/enrichments/{path}/oldest"
        answer = await self.http.get(url, params={"taskId": self.task_id, **query}, headers=await self.headers())
        if answer.status_code == 404:
            assert answer.json()["status"] == "KO"
            return None
        return _read(answer)

    async def transcribe(self, say: Callable[[bytes], dict[str, Any]]) -> str | None:
        """Take a media, fetch it, and hand in what `say` makes of it; returns the enrichment."""
        job = await self.take("transcription/job")
        if job is None:
            return None
        media = await self.http.get(job["mediaTemporaryUrl"])
        assert media.status_code == 200
        await self.post_transcript(job["enrichmentId"], say(media.content))
        enrichment_id: str = job["enrichmentId"]
        return enrichment_id

    async def post_transcript(self, enrichment_id: str, transcript: dict[str, Any]) -> httpx.Response:
        return await self.http.post(
            f"{self._url}/v1/enrichments/{enrichment_id}/versions/initial/transcript",
            data={"taskId": self.task_id, "status": "OK"},
            files={"transcript": ("transcript.json", json.dumps(transcript), "application/json")},
            headers=await self.headers(),
        )

    async def post(self, job: Any, what: str, **body: Any) -> httpx.Response:
        """Hand in the result of a step: `what` is its name in the path."""
        path = f"/v1/enrichments/{job['enrichmentId']}/versions/{job['enrichmentVersionId']}/{what}"
        answer = {"taskId": self.task_id, "status": "OK", "failureCause": None, **body}
        return await self.http.post(f"{self._url}{path}", json=answer, headers=await self.headers())


def _read(answer: httpx.Response) -> Any:
    if answer.status_code != 200:
        raise ClientCrash(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    return answer.json()


# -- the receiver ------------------------------------------------------------------------------------------------------


@dataclass
class Hook:
    """A receiver that answers as ESUP-Pod does; it counts the e-mails that Pod would send."""

    url: str = ""
    known: set[str] = field(default_factory=set)
    """Enrichments that Pod has noted: others are answered 404, as when the webhook is faster than the creation."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    mails: list[str] = field(default_factory=list)
    knows_all: bool = True
    came: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def take(self, visit: Visit) -> None:
        status, body = self._answer(visit)
        await visit.answer(status, json.dumps(body).encode(), content_type="application/json")
        async with self.came:
            self.came.notify_all()

    def _answer(self, visit: Visit) -> tuple[int, Any]:
        if visit.method != "POST":
            return 405, {}
        if "application/json" not in visit.headers.get("content-type", ""):
            return 415, {}
        data = json.loads(visit.body)
        self.calls.append(data)
        if "id" not in data:
            return 400, {}
        if not self.knows_all and data["id"] not in self.known:
            return 404, {}
        self.mails.append(data["status"])
        return (200, {"status": "OK"}) if data["status"] == "SUCCESS" else (500, {"status": "something went wrong"})

    async def told(self, enrichment_id: str, times: int = 1, within_s: float = 60.0) -> list[dict[str, Any]]:
        """Wait until it was told of this enrichment so often."""

        def found() -> list[dict[str, Any]]:
            return [each for each in self.calls if each.get("id") == enrichment_id]

        async with asyncio.timeout(within_s), self.came:
            await self.came.wait_for(lambda: len(found()) >= times)
        return found()


@contextlib.asynccontextmanager
async def hook(path: str = "/ai-enhancement/webhook/") -> AsyncIterator[Hook]:
    """Started on a free port."""
    async with web() as page:
        receiver = Hook()
        receiver.url = page.on(path, receiver.take)
        yield receiver
