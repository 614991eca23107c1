"""Media from the web to the client's webhook: the gateway's own worker, worker processes, and their sudden death."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ilaas.core.enrichment import orders
from ilaas.core.enrichment.steps import Status
from ilaas.services.enrichment.worker import WorkerOptions
from tests.support.media import MediaBox
from tests.support.speech_federation import ALL, SpeechFederation, speech_federation
from tests.support.web import Visit

SCRIPT = "Bonjour à tous. Nous parlons de l'énergie des ordinateurs. Merci de votre attention."
RUNNING = (
    Status.UPLOADING_MEDIA,
    Status.TRANSCRIBING_MEDIA,
    Status.AI_ENRICHING,
    Status.TRANSLATING,
    Status.AI_EVALUATING,
)


@pytest.fixture(scope="session")
def box(tmp_path_factory: pytest.TempPathFactory) -> MediaBox:
    return MediaBox(tmp_path_factory.mktemp("media"))


@pytest.fixture
def lecture(box: MediaBox) -> Path:
    """A video whose metadata say what the simulated server hears."""
    script = ("-metadata", f"comment=ILAAS-SCRIPT: {SCRIPT}")
    return box.video("lecture.mp4", *script, "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac")


@dataclass
class WorkerProcess:
    """`ilaas serve --role worker`, that may be killed and started again."""

    config: Path
    folder: Path
    process: asyncio.subprocess.Process | None = None
    starts: int = 0

    async def start(self) -> None:
        self.starts += 1
        with (self.folder / f"worker-{self.starts}.log").open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "ilaas.cli.main", "serve", "--config", str(self.config), "--role", "worker"),
                *("--metrics-port", "0", "--log-format", "json"),
                stdout=log,
                stderr=log,
            )

    async def end(self, number: signal.Signals) -> int:
        process, self.process = self.process, None
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        return await process.wait()

    @property
    def said(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("worker-*.log")))


def worker_of(speech: SpeechFederation, folder: Path, lease: str = "2s") -> WorkerProcess:
    """On the state of the running gateway, as an operator would start it beside."""
    settings = speech.federation.settings
    config = folder / "worker.yaml"
    config.write_text(
        f"state_dir: {settings.state_dir.resolve()}\n"
        "models:\n"
        "  - {name: mistral, servers: [{url: 'http://127.0.0.1:9', site: s, organisation: uni-a}]}\n"
        "speech:\n"
        "  enabled: true\n"
        "  allow_private_addresses: true\n"
        f"  gateway_url: {speech.federation.url}\n"
        f"  lease: {lease}\n"
    )
    return WorkerProcess(config, folder)


@pytest.fixture
async def apart(tmp_path: Path) -> AsyncIterator[tuple[SpeechFederation, WorkerProcess]]:
    """A gateway without jobs of its own, slow models, and a worker that is not started yet."""
    slow = {"hears": "slow_first_token=1.5", "writes": "slow_first_token=0.7"}
    async with speech_federation(tmp_path, failures=slow, jobs=0) as speech:
        worker = worker_of(speech, tmp_path)
        try:
            yield speech, worker
        finally:
            await worker.end(signal.SIGKILL)


async def test_a_media_goes_from_the_web_to_the_clients_webhook(tmp_path: Path, lecture: Path) -> None:
    async with speech_federation(tmp_path) as speech:
        asked = await speech.ask(lecture, **ALL)
        done = await speech.ended(asked)
        assert (done.status, done.failure_cause) == (Status.SUCCESS, None)
        await speech.page.visited("/hook")
        version = await speech.version(asked)
        assert version.transcript is not None
        assert version.transcript.text == SCRIPT
        assert [each.text for each in version.transcript.translated_sentences or ()] == [
            f"[traduction] {text}." for text in SCRIPT.rstrip(".").split(". ")
        ]
        assert all(each.words for each in version.transcript.sentences)
        assert version.metadata is not None
        assert (version.metadata.title or "").startswith("Bonjour à tous.")
        assert (version.metadata.discipline, version.metadata.media_type) == ("physique", "cours")
        assert version.notes
        assert all(each.evaluation and each.answer_pointer for each in version.questions)
        assert speech.told() == [
            {
                "id": asked,
                "status": "SUCCESS",
                "initialVersionId": version.id,
                "failureCause": None,
                "completedStep": None,
            }
        ]
        assert list((tmp_path / "state/scratch").iterdir()) == []


async def test_its_audio_and_tokens_are_metered_to_the_clients_project(tmp_path: Path, lecture: Path) -> None:
    async with speech_federation(tmp_path) as speech:
        asked = await speech.ask(lecture, **ALL)
        done = await speech.ended(asked)
        records = await speech.federation.records(5)
        assert {(each["organisation"], each["project"]) for each in records} == {("uni-a", "tests")}
        assert {each["request_class"] for each in records} == {"batch"}
        heard = [each["audio_ms"] for each in records if each["model"] == "whisper"]
        assert sum(heard) == pytest.approx((done.media_duration_s or 0) * 1000, rel=0.1)
        written = [each for each in records if each["model"] == "mistral"]
        assert sum(each["completion_tokens"] for each in written) > 0


async def test_odd_media_fail_with_a_reason_and_the_client_is_told(tmp_path: Path, box: MediaBox) -> None:
    async with speech_federation(tmp_path) as speech:
        odd = {
            box.raw("empty.mp4", b""): "empty",
            box.raw("noise.mp3", bytes(range(256)) * 50): "not a video or audio file",
            box.video("silent.mp4", "-an", "-c:v", "libx264", "-preset", "ultrafast"): "no audio track",
        }
        asked = {await speech.ask(path): says for path, says in odd.items()}
        gone = await speech.ask_url(speech.page.url("/nowhere.mp4"))
        for enrichment_id, says in (*asked.items(), (gone, "HTTP status 404")):
            done = await speech.ended(enrichment_id)
            assert done.status is Status.FAILURE
            assert says in (done.failure_cause or "")
        await speech.page.visited("/hook", 4)
        assert {each["status"] for each in speech.told()} == {"FAILURE"}


async def test_a_worker_killed_in_every_step_is_followed_by_one_success_and_one_webhook(
    apart: tuple[SpeechFederation, WorkerProcess], lecture: Path
) -> None:
    speech, worker = apart
    content = lecture.read_bytes()
    held = asyncio.Event()

    async def slowly(visit: Visit) -> None:
        if not held.is_set():
            held.set()
            await asyncio.sleep(60)  # the first one who fetches is killed meanwhile
        await visit.answer(200, content)

    url = speech.page.on("/slow/lecture.mp4", slowly)
    await worker.start()
    asked = await speech.ask_url(url, **ALL)
    resumed_s = []
    for status in RUNNING:
        await speech.until(asked, status)
        fence = (await speech.speech.store.enrichment(asked)).fence
        if status is Status.UPLOADING_MEDIA:
            await asyncio.wait_for(held.wait(), 30)
        assert await worker.end(signal.SIGKILL) == -signal.SIGKILL
        killed_at = time.monotonic()
        await worker.start()
        async with asyncio.timeout(60):
            while (await speech.speech.store.enrichment(asked)).fence == fence:
                await asyncio.sleep(0.02)
        resumed_s.append(time.monotonic() - killed_at)
    done = await speech.ended(asked)
    assert (done.status, done.failure_cause) == (Status.SUCCESS, None), worker.said
    await speech.page.visited("/hook")
    await asyncio.sleep(1.0)
    assert [each["status"] for each in speech.told()] == ["SUCCESS"]
    assert (await speech.version(asked)).questions
    assert max(resumed_s) < 60
    assert not [word for word in ("Bonjour", "ordinateurs", "lecture.mp4") if word in worker.said], "no log tells it"


def test_with_the_usual_lease_a_step_is_resumed_within_a_minute() -> None:
    options = WorkerOptions(owner="w")
    assert options.lease_s + options.poll_s + options.heartbeat_s < 60


async def test_a_worker_that_is_told_to_stop_gives_its_job_back_at_once(
    apart: tuple[SpeechFederation, WorkerProcess], lecture: Path
) -> None:
    speech, worker = apart
    await worker.start()
    asked = await speech.ask(lecture, **ALL)
    await speech.until(asked, Status.TRANSCRIBING_MEDIA)
    assert await worker.end(signal.SIGTERM) == 0
    left = await speech.speech.store.enrichment(asked)
    assert (left.status, left.job and left.job.owner) == (Status.WAITING_MEDIA_TRANSCRIPTION, None)
    await worker.start()
    assert (await speech.ended(asked)).status is Status.SUCCESS


async def test_deleting_in_the_middle_stops_the_requests_to_models(
    apart: tuple[SpeechFederation, WorkerProcess], lecture: Path
) -> None:
    speech, worker = apart
    await worker.start()
    asked = await speech.ask(lecture, **ALL)
    await speech.until(asked, Status.AI_ENRICHING)
    await speech.speech.store.change(asked, lambda each: orders.deleted(each, time.time()))
    await speech.federation.at_rest(10)
    await asyncio.sleep(0.5)
    assert speech.told() == []
    assert await speech.speech.objects.list() == []


async def test_long_speech_is_heard_in_parts_whose_times_are_those_of_the_whole(tmp_path: Path, box: MediaBox) -> None:
    """Without a script, the simulated server makes up what it hears, with times that fill each part."""
    long = box.of("long.mp3", "-filter_complex", "aloop=loop=300:size=2e6", "-t", "1300")
    async with speech_federation(tmp_path) as speech:
        asked = await speech.ask(long, generate_metadata=False, generate_quiz=False, language="fr")
        done = await speech.ended(asked, within_s=120)
        assert done.status is Status.SUCCESS, done.failure_cause
        transcript = (await speech.version(asked)).transcript
        assert transcript is not None
        records = await speech.federation.records(2)
        assert len(records) >= 2
        starts = [each.start for each in transcript.sentences]
        assert starts == sorted(starts)
        assert 1200 < transcript.sentences[-1].end <= 1300.5
