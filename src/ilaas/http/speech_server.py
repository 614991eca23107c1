"""A speech server of our own, in the manner of OpenAI's, around any transcriber.

It is a server of the federation: so a local engine is dispatched, limited and metered like everybody's.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ilaas.core.enrichment.subtitles import write_srt, write_vtt
from ilaas.core.enrichment.transcripts import text_of
from ilaas.core.enrichment.values import Sentence
from ilaas.core.errors import BodyTooLarge, IlaasError, InvalidRequest, ModelNotFound
from ilaas.core.forms import Field, FileBytes, FormParser, boundary_of
from ilaas.ports.media import MediaTools
from ilaas.ports.speech import Billed, Heard, SpeechTask, Transcriber

log = structlog.get_logger(__name__)

FORMATS = ("json", "text", "verbose_json", "srt", "vtt")
_NOBODY = Billed(organisation="", project="", client_id="")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechServer:
    """What it is made of."""

    transcriber: Transcriber
    tools: MediaTools
    model: str
    """The one name that it answers to."""
    folder: Path
    """For recordings while they are heard."""
    max_bytes: int = 512 * 1024**2


@dataclass(slots=True)
class _Form:
    values: dict[str, str] = field(default_factory=dict)
    granularities: list[str] = field(default_factory=list)
    size: int = 0


def build_speech_server(server: SpeechServer) -> Starlette:
    """POST /v1/audio/transcriptions, GET /v1/models and /health."""

    async def transcriptions(request: Request) -> Response:
        with tempfile.TemporaryDirectory(dir=server.folder) as folder:
            path = Path(folder) / "recording"
            form = await _received(request, path, server.max_bytes)
            wanted = form.values.get("response_format", "json")
            if wanted not in FORMATS:
                raise InvalidRequest(f"The field 'response_format' must be one of {', '.join(FORMATS)}.")
            if form.values.get("model") != server.model:
                raise ModelNotFound(_other_model(form.values.get("model", ""), server.model), param="model")
            duration_s = (await server.tools.probe(path)).duration_s or 0.0
            task = SpeechTask(
                path=path,
                duration_s=duration_s,
                billed=_NOBODY,
                language=form.values.get("language") or None,
                prompt=form.values.get("prompt") or None,
            )
            heard = await server.transcriber.transcribe(task)
            return _answer(heard, wanted, duration_s, with_words="word" in form.granularities)

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": server.model, "object": "model", "owned_by": "local"}]})

    async def health(_: Request) -> Response:
        return PlainTextResponse("OK")

    return Starlette(
        routes=[
            Route("/v1/audio/transcriptions", _told(transcriptions), methods=["POST"]),
            Route("/v1/models", models),
            Route("/health", health),
            Route("/", health),
        ]
    )


def _other_model(asked: str, here: str) -> str:
    return (
        f"The model '{asked[:100]}' is not here, only '{here}': start 'ilaas stt serve' with --model {asked[:100]}, "
        f"or add the server with --served-name {here}."
    )


def _told(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """With errors in OpenAI's shape."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except IlaasError as error:
            log.info("recording_refused", reason=error.message)
            told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
            return JSONResponse({"error": told}, status_code=error.status)

    return endpoint


async def _received(request: Request, path: Path, max_bytes: int) -> _Form:
    """The fields of the form; its file goes to `path`, a piece at a time."""
    form = _Form()
    parser = FormParser(boundary_of(request.headers.get("content-type", "").encode("latin-1")))
    file = await asyncio.to_thread(path.open, "wb")
    try:
        async for chunk in request.stream():
            await _take(form, parser.feed(chunk), file, max_bytes)
        parser.finish()
    finally:
        await asyncio.to_thread(file.close)
    return form


async def _take(form: _Form, events: Sequence[Any], file: BinaryIO, max_bytes: int) -> None:
    for event in events:
        if isinstance(event, FileBytes):
            form.size += len(event.data)
            if form.size > max_bytes:
                raise BodyTooLarge(f"The recording is larger than {max_bytes} bytes. Send it in parts.")
            await asyncio.to_thread(file.write, event.data)
        elif isinstance(event, Field):
            value = event.value.decode("utf-8", "replace")
            if event.name == "timestamp_granularities[]":
                form.granularities.append(value)
            else:
                form.values[event.name] = value


def _answer(heard: Heard, wanted: str, duration_s: float, *, with_words: bool) -> Response:
    text = text_of(heard.sentences)
    if wanted == "text":
        return PlainTextResponse(text + "\n")
    if wanted == "srt":
        return PlainTextResponse(write_srt(heard.sentences))
    if wanted == "vtt":
        return Response(write_vtt(heard.sentences), media_type="text/vtt; charset=utf-8")
    usage = {"type": "duration", "seconds": -(-int(duration_s * 100) // 100)}
    if wanted == "json":
        return JSONResponse({"text": text, "usage": usage})
    return JSONResponse(
        {
            "task": "transcribe",
            "language": heard.language,
            "duration": duration_s,
            "text": text,
            "segments": [_segment(number, each, with_words=with_words) for number, each in enumerate(heard.sentences)],
            "words": [word for each in heard.sentences for word in _words(each)] if with_words else None,
            "usage": usage,
        }
    )


def _segment(number: int, sentence: Sentence, *, with_words: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"id": number, "start": sentence.start, "end": sentence.end, "text": sentence.text}
    return told | {"words": _words(sentence)} if with_words else told


def _words(sentence: Sentence) -> list[dict[str, Any]]:
    return [{"word": each.text, "start": each.start, "end": each.end} for each in sentence.words or ()]
