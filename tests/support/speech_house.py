"""The internal worker on twins: what the media, the models and the web say is written by the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

from ilaas.adapters.store_memory_enrichment import MemoryEnrichmentStore
from ilaas.core.enrichment import orders
from ilaas.core.enrichment.changes import SpeechLimits
from ilaas.core.enrichment.clients import ApiClient, ClientPolicy
from ilaas.core.enrichment.steps import Status
from ilaas.core.enrichment.values import Enrichment, EnrichmentParameters, Notify, Retention, Sentence, Version
from ilaas.ports.completion import Completed, CompletionTask
from ilaas.ports.content import ObjectStore
from ilaas.ports.enrichment import EnrichmentStore
from ilaas.ports.media import FetchedFile, Probed, Sound, WebhookAnswer
from ilaas.ports.speech import Heard, SpeechTask
from ilaas.ports.tenancy import AuditLine
from ilaas.services.enrichment.context import WorkContext, WorkPolicy
from ilaas.services.enrichment.notify import NotifyPolicy
from ilaas.services.enrichment.schemas import CRITERIA
from ilaas.services.enrichment.worker import Worker, WorkerOptions
from tests.support.objects import TwinObjects

START_S = 1_800_000_000.0
HOOK = "https://pod.example.fr/ai-enhancement/webhook/"


class SlowClock:
    """Epoch seconds; each reading is a little later, and the test moves it."""

    def __init__(self) -> None:
        self.now = START_S

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class TwinTools:
    """Media whose length and silences the test says; files hold anything."""

    def __init__(self) -> None:
        self.probed = Probed(mime_type="video/mp4", is_video=True, duration_s=90.0, sound_s=90.0)
        self.sound = Sound(duration_s=90.0, silences=())
        self.fault: Exception | None = None
        self.cuts: list[tuple[float, float]] = []

    async def probe(self, path: Path) -> Probed:
        if self.fault is not None:
            raise self.fault
        return self.probed

    async def extract(self, source: Path, target: Path, probed: Probed) -> Sound:
        shutil.copy(source, target)
        return self.sound

    async def cut(self, source: Path, target: Path, span: tuple[float, float]) -> None:
        self.cuts.append(span)
        target.write_text(json.dumps(span))


class TwinSource:
    """The web: one file, or a fault."""

    def __init__(self) -> None:
        self.content = b"media"
        self.name: str | None = "lecture.mp4"
        self.fault: Exception | None = None
        self.fetched: list[str] = []

    async def fetch(self, url: str, store: ObjectStore, key: str, *, max_bytes: int) -> FetchedFile:
        self.fetched.append(url)
        if self.fault is not None:
            raise self.fault

        async def chunks() -> AsyncIterator[bytes]:
            yield self.content

        return FetchedFile(stored=await store.put(key, chunks(), max_bytes=max_bytes), name=self.name)

    async def close(self) -> None:
        pass


class TwinTranscriber:
    """Says one sentence for each 10 seconds of a part."""

    def __init__(self) -> None:
        self.tasks: list[SpeechTask] = []
        self.spans: list[tuple[float, float]] = []
        self.language = "fr"
        self.faults: list[Exception] = []
        self.before: Callable[[SpeechTask], Awaitable[None]] | None = None
        self.sentences: tuple[Sentence, ...] | None = None

    async def transcribe(self, task: SpeechTask) -> Heard:
        if self.before is not None:
            await self.before(task)
        if self.faults:
            raise self.faults.pop(0)
        self.tasks.append(task)
        begin, end = json.loads(task.path.read_text())
        self.spans.append((begin, end))
        if self.sentences is not None:
            return Heard(language=self.language, sentences=self.sentences)
        length = end - begin
        sentences = tuple(
            Sentence(text=f" Phrase à {begin + at:.0f} secondes.", start=float(at), end=min(at + 9.0, length))
            for at in range(0, max(int(length), 1), 10)
        )
        return Heard(language=task.language or self.language, sentences=sentences)

    async def close(self) -> None:
        pass


Answer = str | Callable[[CompletionTask], str]


class TwinCompletion:
    """Answers each kind of question well, unless the test says otherwise."""

    def __init__(self) -> None:
        self.tasks: list[CompletionTask] = []
        self.window = 32_768
        self.answers: dict[str, list[Answer | Exception]] = {}
        """Instead of the good answer, in turn: by the name of the question."""
        self.before: Callable[[CompletionTask], Awaitable[None]] | None = None

    async def complete(self, task: CompletionTask) -> Completed:
        if self.before is not None:
            await self.before(task)
        self.tasks.append(task)
        waiting = self.answers.get(task.schema_name)
        if waiting:
            answer = waiting.pop(0)
            if isinstance(answer, Exception):
                raise answer
            text = answer if isinstance(answer, str) else answer(task)
        else:
            text = good_answer(task)
        return Completed(text=text, model="m", prompt_tokens=10, completion_tokens=5, finish_reason="stop")

    async def context_tokens(self, model: str | None) -> int | None:
        return self.window

    async def close(self) -> None:
        pass

    def asked(self, name: str) -> list[CompletionTask]:
        return [task for task in self.tasks if task.schema_name == name]


def good_answer(task: CompletionTask) -> str:
    """What a model that understands everything would say."""
    schema: Mapping[str, Any] = task.schema or {}
    question = task.messages[1].content
    if task.schema_name == "metadata":
        listed = {
            name: schema["properties"][name]["enum"][0]
            for name in ("discipline", "mediaType")
            if name in schema["properties"]
        }
        return json.dumps({"title": "Un titre", "description": "De quoi il s'agit.", "topics": ["énergie"], **listed})
    if task.schema_name == "summary":
        return json.dumps({"summary": "Un résumé. " * 20})
    if task.schema_name == "quiz":
        times = re.findall(r"\[(\d\d:\d\d:\d\d)\]", question)
        each = {
            "question": "Pourquoi ?",
            "explanation": "Parce que.",
            "choices": [{"optionText": "A", "correctAnswer": True}, {"optionText": "B", "correctAnswer": False}],
            "answerPointer": {"startAnswerPointer": times[0], "stopAnswerPointer": times[-1]},
        }
        return json.dumps({"questions": [each] * schema["properties"]["questions"]["maxItems"]})
    if task.schema_name == "translate":
        numbers = re.findall(r"^(\d+): (.*)$", question, re.MULTILINE)
        return json.dumps({"translations": [{"id": int(number), "text": f"EN {text}"} for number, text in numbers]})
    if task.schema_name == "evaluate":
        return json.dumps(dict.fromkeys(CRITERIA, True))
    return "## Notes\n\n- un point"


class TwinWebhooks:
    """Keeps the calls; answers 200 unless the test says otherwise."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any], str | None]] = []
        self.answers: list[WebhookAnswer] = []

    async def call(self, url: str, body: bytes, *, secret: str | None) -> WebhookAnswer:
        self.calls.append((url, json.loads(body), secret))
        return self.answers.pop(0) if self.answers else WebhookAnswer(status=200)

    async def close(self) -> None:
        pass

    @property
    def told(self) -> list[str]:
        """The statuses that the client was told."""
        return [body["status"] for _, body, _ in self.calls]


@dataclass
class SpeechHouse:
    """Everything a worker needs, and one client."""

    scratch: Path
    store: EnrichmentStore = field(default_factory=MemoryEnrichmentStore)
    policy: dict[str, Any] = field(default_factory=dict)
    client: ApiClient = field(
        default_factory=lambda: ApiClient(
            id="pod", name="Pod", organisation="univ-lille", project="video", secret_digest="x", webhook_secret="hush"
        )
    )

    def __post_init__(self) -> None:
        self.clock = SlowClock()
        self.objects = TwinObjects()
        self.tools = TwinTools()
        self.source = TwinSource()
        self.transcriber = TwinTranscriber()
        self.completion = TwinCompletion()
        self.webhooks = TwinWebhooks()
        self._ids = count(1)
        self._workers = count(1)
        self.context = WorkContext(
            store=self.store,
            objects=self.objects,
            tools=self.tools,
            source=self.source,
            transcriber=self.transcriber,
            completion=self.completion,
            webhooks=self.webhooks,
            epoch=self.clock,
            new_id=self.new_id,
            policy=WorkPolicy(scratch_dir=self.scratch, **{"limits": SpeechLimits(), **self.policy}),
        )

    def new_id(self) -> str:
        return f"00000000-0000-7000-8000-{next(self._ids):012x}"

    async def open(self) -> SpeechHouse:
        """With the client in the store."""
        await self.store.open()
        line = AuditLine(at_s=START_S, actor="test", action="client.created", subject="client:pod")
        await self.store.add_client(self.client, line)
        return self

    async def ask(self, *, level: Notify | None = None, **parameters: Any) -> str:
        """An enrichment by URL, as an HTTP request makes it; returns its id."""
        now = self.clock()
        given = {"media_types": ("cours",), "disciplines": ("physique", "histoire"), **parameters}
        policy: ClientPolicy = self.client.policy
        enrichment = Enrichment(
            id=self.new_id(),
            client_id=self.client.id,
            organisation=self.client.organisation,
            project=self.client.project,
            created_at_s=now,
            updated_at_s=now,
            requested_at_s=now,
            status=Status.WAITING_MEDIA_UPLOAD,
            parameters=EnrichmentParameters(**given),
            notify=level or Notify(url=HOOK),
            media_url="https://media.example.fr/lecture.mp4",
            retention=Retention(keep_media_s=policy.keep_media_s, keep_results_s=policy.keep_results_s),
        )
        await self.store.add(orders.created(enrichment, now))
        return enrichment.id

    def worker(self, **options: Any) -> Worker:
        """A worker of its own name, that does not sleep for long."""
        fast = {"poll_s": 0.005, "heartbeat_s": 0.01, "housekeeping_s": 0.01, "notify": NotifyPolicy(settling_s=0.0)}
        return Worker(self.context, WorkerOptions(owner=f"w{next(self._workers)}", **{**fast, **options}))

    @contextlib.asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        """With a worker at work; stopped in order at the end."""
        stop = asyncio.Event()
        task = asyncio.create_task(self.worker(**options).run(stop))
        try:
            yield task
        finally:
            stop.set()
            await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 10)

    async def until(self, enrichment_id: str, *statuses: Status) -> Enrichment:
        """Wait until it has one of these; time runs fast meanwhile, so that pauses end."""
        async with asyncio.timeout(20):
            while (found := await self.store.enrichment(enrichment_id)).status not in statuses:
                await asyncio.sleep(0.002)
        return found

    async def ended(self, enrichment_id: str) -> Enrichment:
        """Wait for its end, moving the clock over pauses and run-out leases."""
        async with asyncio.timeout(20):
            while not (found := await self.store.enrichment(enrichment_id)).status.is_final:
                job = found.job
                if job is not None and job.owner is None and job.not_before_s > self.clock.now:
                    self.clock.now = job.not_before_s
                await asyncio.sleep(0.002)
        return found

    async def told(self, times: int = 1) -> None:
        """Wait until the webhook was called so often."""
        async with asyncio.timeout(20):
            while len(self.webhooks.calls) < times:
                await asyncio.sleep(0.002)

    async def version(self, enrichment: Enrichment) -> Version:
        """The newest."""
        found = await self.store.latest_version(enrichment.id)
        assert found is not None
        return found

    def with_client(self, **policy: Any) -> SpeechHouse:
        """The client's policy, before `open`."""
        self.client = replace(self.client, policy=ClientPolicy(**policy))
        return self
