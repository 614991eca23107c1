"""Speech servers and language models, asked through the gateway's own API."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ilaas.adapters.completion_openai import OpenAiCompletion
from ilaas.adapters.gateway_calls import GatewayCalls
from ilaas.adapters.speech_openai import OpenAiTranscriber
from ilaas.core.enrichment.values import Sentence, Word
from ilaas.core.errors import (
    ContextTooLong,
    InvalidRequest,
    ModelNotFound,
    QuotaExhausted,
    TooBusy,
    Unauthenticated,
    UpstreamFailed,
    UpstreamInvalid,
)
from ilaas.ports.completion import CompletionTask, Message
from ilaas.ports.speech import Billed, Heard, SpeechTask

BILLED = Billed(organisation="univ-lille", project="video", client_id="pod")
CHAT = {"choices": [{"message": {"content": "Bonjour"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 7}}


class Gateway:
    """Answers in turn; the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self.pauses_s: list[float] = []
        self.calls = GatewayCalls(
            "http://gateway", self._key, sleep=self._pause, transport=httpx.MockTransport(self._answer)
        )

    async def _key(self, billed: Billed) -> str:
        return f"key-of-{billed.project}"

    async def _pause(self, seconds: float) -> None:
        self.pauses_s.append(seconds)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def json(self, at: int = -1) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads(self.bodies[at])
        return tree


def ok(tree: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(200, json=tree)


def refused(status: int, code: str, message: str = "No.", **headers: str) -> Callable[[httpx.Request], httpx.Response]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: httpx.Response(status, json={"error": {"message": message, "code": code}}, headers=named)


def task(**fields: Any) -> CompletionTask:
    return CompletionTask(messages=(Message("user", "Salut"),), billed=BILLED, **fields)


async def complete(gateway: Gateway, asked: CompletionTask | None = None) -> str:
    return (await OpenAiCompletion(gateway.calls, "small").complete(asked or task())).text


# -- language models ---------------------------------------------------------------------------------------------------


async def test_the_projects_key_and_the_batch_class_go_along() -> None:
    gateway = Gateway(ok(CHAT))
    assert await complete(gateway) == "Bonjour"
    headers = gateway.requests[0].headers
    assert (headers["authorization"], headers["x-ilaas-class"]) == ("Bearer key-of-video", "batch")
    assert gateway.json()["model"] == "small"


async def test_a_busy_gateway_is_asked_again_when_it_says() -> None:
    gateway = Gateway(refused(429, "too_busy", retry_after="3"), refused(503, "no_server_available"), ok(CHAT))
    assert await complete(gateway) == "Bonjour"
    assert gateway.pauses_s == [3.0, 2.0]


async def test_a_wait_that_is_too_long_is_told_to_the_caller() -> None:
    gateway = Gateway(refused(429, "too_busy", retry_after="300"))
    with pytest.raises(TooBusy) as error:
        await complete(gateway)
    assert (error.value.retry_after_s, gateway.pauses_s) == (300.0, [])


async def test_tries_are_bounded() -> None:
    gateway = Gateway(httpx.ConnectError("no"))
    with pytest.raises(UpstreamFailed, match="can't be reached"):
        await complete(gateway)
    assert len(gateway.requests) == 4


async def test_a_key_that_the_gateway_does_not_know_yet_is_waited_for() -> None:
    gateway = Gateway(refused(401, "invalid_api_key"), refused(401, "invalid_api_key"), ok(CHAT))
    assert await complete(gateway) == "Bonjour"


async def test_a_key_that_stays_unknown_is_an_error() -> None:
    gateway = Gateway(refused(401, "invalid_api_key"))
    with pytest.raises(Unauthenticated):
        await complete(gateway)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "insufficient_quota", QuotaExhausted),
        (400, "context_length_exceeded", ContextTooLong),
        (404, "model_not_found", ModelNotFound),
        (400, "something", InvalidRequest),
    ],
)
async def test_what_can_not_be_helped_is_told_at_once(status: int, code: str, kind: type[Exception]) -> None:
    gateway = Gateway(refused(status, code))
    with pytest.raises(kind):
        await complete(gateway)
    assert len(gateway.requests) == 1


async def test_servers_without_json_schemas_are_asked_in_a_simpler_way_from_then_on() -> None:
    no_schema = refused(400, "x", "response_format json_schema is not supported")
    no_object = refused(400, "x", "Invalid response_format")
    gateway = Gateway(no_schema, no_object, ok(CHAT))
    completion = OpenAiCompletion(gateway.calls, "small")
    asked = task(schema={"type": "object"})
    await completion.complete(asked)
    await completion.complete(asked)
    formats = [json.loads(body).get("response_format", {}).get("type") for body in gateway.bodies]
    assert formats == ["json_schema", "json_object", None, None]


async def test_the_words_of_a_server_are_told_to_nobody() -> None:
    """They may quote the prompt."""
    quoting = refused(400, "x", "Invalid input: 'Bonjour, je suis un texte secret'")
    with pytest.raises(InvalidRequest) as error:
        await complete(Gateway(quoting))
    assert error.value.message == "The model's server refused the request as invalid."
    with pytest.raises(UpstreamFailed) as failure:
        await complete(Gateway(refused(500, "x", "secret")))
    assert "secret" not in failure.value.message


async def test_a_bad_request_for_another_reason_is_no_matter_of_the_format() -> None:
    gateway = Gateway(refused(400, "x", "max_tokens is too large"))
    with pytest.raises(InvalidRequest):
        await complete(gateway, task(schema={"type": "object"}))
    assert len(gateway.requests) == 1


@pytest.mark.parametrize("tree", [{}, {"choices": []}, {"choices": [{}]}, []])
async def test_an_answer_that_is_none_is_a_fault_of_the_server(tree: Any) -> None:
    with pytest.raises(UpstreamInvalid):
        await complete(Gateway(ok(tree)))


async def test_the_context_window_is_the_catalogues_and_asked_for_once() -> None:
    gateway = Gateway(ok(CHAT), ok({"id": "org/m", "context_window": 32768}))
    completion = OpenAiCompletion(gateway.calls, "small")
    await completion.complete(task())
    assert [await completion.context_tokens("org/m") for _ in range(2)] == [32768, 32768]
    assert [request.url.path for request in gateway.requests[1:]] == ["/v1/models/org/m"]


# -- speech servers ----------------------------------------------------------------------------------------------------


async def heard(tmp_path: Path, *answers: Any, **fields: Any) -> tuple[Heard, Gateway]:
    path = tmp_path / "part.flac"
    path.write_bytes(b"fLaC" + bytes(1000))
    gateway = Gateway(*answers)
    asked = SpeechTask(path=path, duration_s=10.0, billed=BILLED, **fields)
    return await OpenAiTranscriber(gateway.calls, "whisper").transcribe(asked), gateway


SEGMENTS = [{"text": " Bonjour à tous.", "start": 0.5, "end": 1.5}, {"text": " Merci.", "start": 2.0, "end": 2.5}]


async def test_segments_with_their_words(tmp_path: Path) -> None:
    segments = [{**SEGMENTS[1], "words": [{"word": " Merci.", "start": 2.0, "end": 2.5}]}]
    found, gateway = await heard(tmp_path, ok({"language": "french", "text": "x", "segments": segments}), language="fr")
    word = Word(text=" Merci.", start=2.0, end=2.5)
    assert found.sentences == (Sentence(text=" Merci.", start=2.0, end=2.5, words=(word,)),)
    assert found.language == "fr"
    form = gateway.bodies[0]
    assert b'name="timestamp_granularities[]"\r\n\r\nword' in form
    assert b'name="language"\r\n\r\nfr' in form
    assert b"fLaC" in form


async def test_words_beside_the_segments_are_put_into_them(tmp_path: Path) -> None:
    """As OpenAI's own service answers: words without their spaces, in a list of their own."""
    words = [
        {"word": "Bonjour", "start": 0.5, "end": 0.9},
        {"word": "à", "start": 0.9, "end": 1.0},
        {"word": "tous.", "start": 1.0, "end": 1.5},
        {"word": "Merci.", "start": 2.0, "end": 2.5},
    ]
    found, _ = await heard(tmp_path, ok({"language": "fr", "text": "x", "segments": SEGMENTS, "words": words}))
    texts = ["".join(word.text for word in each.words or ()) for each in found.sentences]
    assert texts == ["Bonjour à tous.", "Merci."]


async def test_words_alone_make_sentences(tmp_path: Path) -> None:
    words = [{"word": "Bonjour.", "start": 0.5, "end": 0.9}, {"word": "Merci.", "start": 2.5, "end": 3.0}]
    found, _ = await heard(tmp_path, ok({"language": "fr", "text": "x", "words": words}))
    assert [(each.text, each.start) for each in found.sentences] == [("Bonjour.", 0.5), ("Merci.", 2.5)]


async def test_text_alone_is_one_sentence(tmp_path: Path) -> None:
    found, _ = await heard(tmp_path, ok({"text": " Bonjour "}))
    assert found.sentences == (Sentence(text="Bonjour", start=0.0, end=10.0),)
    assert found.language is None


async def test_a_server_that_knows_no_word_times_is_asked_for_less(tmp_path: Path) -> None:
    no_words = refused(400, "x", "timestamp_granularities is not supported")
    found, gateway = await heard(tmp_path, no_words, ok({"language": "fr", "text": "x", "segments": SEGMENTS}))
    assert len(found.sentences) == 2
    assert b"timestamp_granularities" not in gateway.bodies[1]
    assert b"verbose_json" in gateway.bodies[1]
    assert b"fLaC" in gateway.bodies[1], "the file is sent again from its beginning"


async def test_silence_is_no_sentence(tmp_path: Path) -> None:
    empty = {"language": "fr", "text": "", "segments": [{"text": " ", "start": 0, "end": 1}]}
    assert (await heard(tmp_path, ok(empty)))[0].sentences == ()


async def test_segments_without_times_are_a_fault_of_the_server(tmp_path: Path) -> None:
    with pytest.raises(UpstreamInvalid):
        await heard(tmp_path, ok({"text": "x", "segments": [{"text": "x"}]}))


async def test_the_file_is_sent_again_whole_after_a_broken_try(tmp_path: Path) -> None:
    _, gateway = await heard(tmp_path, httpx.ReadError("x"), ok({"text": "Bonjour"}))
    assert gateway.bodies[0].count(b"fLaC") == gateway.bodies[1].count(b"fLaC") == 1
