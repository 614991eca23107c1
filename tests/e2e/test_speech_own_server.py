"""`ilaas stt serve`: an engine of this machine as a server of the federation."""

from __future__ import annotations

import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ilaas.adapters.media_ffmpeg import Ffmpeg
from ilaas.adapters.speech_whisper import WhisperTranscriber
from ilaas.core.enrichment.steps import Status
from ilaas.core.enrichment.values import Sentence, Word
from ilaas.core.errors import ConfigError
from ilaas.core.values import Engine
from ilaas.http.speech_server import SpeechServer, build_speech_server
from ilaas.ports.speech import Billed, Heard, SpeechTask
from tests.support.media import MediaBox
from tests.support.processes import Ilaas
from tests.support.speech_federation import speech_federation

WORDS = (Word(text=" Bonjour", start=0.5, end=0.9), Word(text=" à tous.", start=0.9, end=1.5))
SENTENCE = Sentence(text=" Bonjour à tous.", start=0.5, end=1.5, words=WORDS)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> MediaBox:
    return MediaBox(tmp_path_factory.mktemp("media"))


class Says:
    """Hears always the same."""

    def __init__(self) -> None:
        self.tasks: list[SpeechTask] = []

    async def transcribe(self, task: SpeechTask) -> Heard:
        assert task.path.exists()
        self.tasks.append(task)
        return Heard(language=task.language or "fr", sentences=(SENTENCE,))

    async def close(self) -> None:
        pass


@pytest.fixture
async def http(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = build_speech_server(
        SpeechServer(transcriber=Says(), tools=Ffmpeg(), model="whisper", folder=tmp_path, max_bytes=1_000_000)
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://speech") as client:
        yield client


async def ask(http: httpx.AsyncClient, content: bytes, **fields: Any) -> httpx.Response:
    data = {"model": "whisper", **fields}
    return await http.post("/v1/audio/transcriptions", data=data, files={"file": ("a.wav", content, "audio/wav")})


async def test_every_format_is_given(http: httpx.AsyncClient, box: MediaBox, tmp_path: Path) -> None:
    voice = box.voice().read_bytes()
    assert (await ask(http, voice)).json()["text"] == "Bonjour à tous."
    assert (await ask(http, voice, response_format="text")).text == "Bonjour à tous.\n"
    assert (await ask(http, voice, response_format="srt")).text.startswith("1\n00:00:00,500 --> 00:00:01,500\n")
    assert (await ask(http, voice, response_format="vtt")).text.startswith("WEBVTT\n")
    granular = {"timestamp_granularities[]": "word"}
    found = (await ask(http, voice, response_format="verbose_json", language="fr", **granular)).json()
    assert found["language"] == "fr"
    assert found["duration"] == pytest.approx(4.6, abs=0.5)
    assert [each["word"] for each in found["segments"][0]["words"]] == [" Bonjour", " à tous."]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "fields", "status"),
    [
        (b"no media", {}, 422),
        (b"x", {"model": "other"}, 404),
        (b"x", {"response_format": "pdf"}, 400),
        (bytes(1_100_000), {}, 413),
    ],
)
async def test_what_can_not_be_heard_is_refused_with_a_reason(
    content: bytes, fields: dict[str, str], status: int, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    answer = await ask(http, content, **fields)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert list(tmp_path.iterdir()) == []


async def test_another_model_is_refused_with_the_way_to_make_the_names_agree(http: httpx.AsyncClient) -> None:
    told = (await ask(http, b"x", model="openai/whisper-large-v3-turbo")).json()["error"]["message"]
    assert "--model openai/whisper-large-v3-turbo" in told
    assert "--served-name whisper" in told


async def test_it_says_what_it_has(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/models")).json()["data"][0]["id"] == "whisper"
    assert (await http.get("/health")).status_code == 200


async def test_a_real_engine_is_dispatched_and_metered_like_any_server(tmp_path: Path, box: MediaBox) -> None:
    engine = Ilaas(("stt", "serve", "--engine", "pocketsphinx", "--model", "whisper-1", "--port", "0"), tmp_path / "e")
    try:
        engine.says("/v1/audio/transcriptions")
        url = engine.err.split("at ")[1].removesuffix("/v1/audio/transcriptions\n")
        async with speech_federation(tmp_path, hears={"url": url, "engine": Engine.OPENAI}) as speech:
            video = box.video("lecture.webm", "-c:v", "libvpx", "-c:a", "libopus")
            asked = await speech.ask(video, generate_quiz=False)
            done = await speech.ended(asked)
            assert (done.status, done.failure_cause) == (Status.SUCCESS, None)
            transcript = (await speech.version(asked)).transcript
            assert transcript is not None
            assert transcript.language == "en"
            words = [word for each in transcript.sentences for word in each.words or ()]
            assert len(words) >= 5
            assert all(0 <= word.start <= word.end <= 6 for word in words)
            records = await speech.federation.records(2)
            heard = [each for each in records if each["model"] == "whisper"]
            assert 4_000 < sum(each["audio_ms"] for each in heard) < 6_000
    finally:
        engine.kill()


# -- Whisper, whose weights are not at hand here -----------------------------------------------------------------------


class _Model:
    asked: dict[str, Any]

    def __init__(self, path: str, **options: Any) -> None:
        assert options["local_files_only"], "nothing is ever downloaded"

    def transcribe(self, path: str, **options: Any) -> tuple[Any, Any]:
        words = [types.SimpleNamespace(word=each.text, start=each.start, end=each.end) for each in WORDS]
        segment = types.SimpleNamespace(text=SENTENCE.text, start=0.5, end=1.5, words=words)
        assert options["word_timestamps"]
        return iter([segment]), types.SimpleNamespace(language="fr")


async def test_whisper_gives_words_and_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the package's interface; the package and its weights are not needed for it."""
    monkeypatch.setitem(sys.modules, "faster_whisper", types.SimpleNamespace(WhisperModel=_Model))  # type: ignore[arg-type]
    (tmp_path / "model.bin").write_bytes(b"weights")
    billed = Billed(organisation="a", project="b", client_id="c")
    task = SpeechTask(path=tmp_path / "a.flac", duration_s=2.0, billed=billed)
    found = await WhisperTranscriber(tmp_path).transcribe(task)
    assert (found.language, found.sentences) == ("fr", (SENTENCE,))


def test_without_weights_the_operator_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", types.SimpleNamespace(WhisperModel=_Model))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"no model\.bin"):
        WhisperTranscriber(tmp_path)


def test_without_the_package_the_operator_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pip install faster-whisper"):
        WhisperTranscriber(tmp_path)
