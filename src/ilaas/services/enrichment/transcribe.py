"""The step from media to transcript: long audio is cut at silences, heard in parts and joined with right times."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from ilaas.core.enrichment.results import Transcribed
from ilaas.core.enrichment.shapes import sentence_from_json, sentences_json
from ilaas.core.enrichment.steps import Part
from ilaas.core.enrichment.transcripts import Silence, Span, joined, plan_cuts, text_of
from ilaas.core.enrichment.values import Transcript
from ilaas.core.errors import InvalidRequest, MediaUnusable, UpstreamInvalid
from ilaas.ports.speech import Heard, SpeechTask
from ilaas.services.enrichment.context import Work
from ilaas.services.enrichment.fetch import check_duration, check_text, download
from ilaas.services.enrichment.scratch import scratch_folder
from ilaas.services.enrichment.together import Piece, all_of, once

log = structlog.get_logger(__name__)


async def transcribe(work: Work) -> Transcribed:
    """What was said in the media. Raises `MediaUnusable` when there is no sound, or nobody speaks."""
    parts = await work.parts()
    if parts and all(part.result is not None for part in parts.values()):
        return _transcribed(work, _ordered(parts))
    media = work.enrichment.media
    if media is None:
        raise MediaUnusable("The enrichment has no media to transcribe.")
    async with scratch_folder(work) as folder:
        source, sound = folder / "media", folder / "sound.flac"
        await download(work, media, source)
        heard = await work.context.tools.extract(source, sound, await work.context.tools.probe(source))
        source.unlink()
        if not parts:
            await check_duration(work, heard.duration_s, media.kind)
            parts = await _planned(work, heard.duration_s, heard.silences)
        await _hear(work, folder, _ordered(parts))
    return _transcribed(work, _ordered(await work.parts()))


async def _planned(work: Work, duration_s: float, silences: Sequence[tuple[float, float]]) -> dict[int, Part]:
    """The plan is kept first: whoever resumes the step must cut at the same places."""
    policy = work.context.policy
    spans = plan_cuts(
        duration_s,
        [Silence(start_s, end_s) for start_s, end_s in silences],
        target_s=policy.part_target_s,
        longest_s=policy.part_longest_s,
    )
    numbered = enumerate(spans)
    await work.keep(*(Part(step=work.step, number=at, start_s=each.start_s, end_s=each.end_s) for at, each in numbered))
    return await work.parts()


async def _hear(work: Work, folder: Path, parts: Sequence[Part]) -> None:
    """The first part alone when the language is not known, so that the others are heard in the same one."""
    language = work.enrichment.parameters.language or _language(parts)
    pieces = [part for part in parts if part.result is None]
    if language is None and len(pieces) > 1:
        first, *pieces = pieces
        result = await once(work, _piece(work, folder, first, None))
        language = result["language"]
    await all_of(work, [_piece(work, folder, part, language) for part in pieces])


def _piece(work: Work, folder: Path, part: Part, language: str | None) -> Piece:
    do = partial(_hear_part, work, folder, part, language)
    return Piece(number=part.number, span_s=(part.start_s, part.end_s), do=do)


async def _hear_part(work: Work, folder: Path, part: Part, language: str | None) -> dict[str, Any]:
    path = folder / f"part-{part.number}.flac"
    await work.context.tools.cut(folder / "sound.flac", path, (part.start_s, part.end_s))
    task = SpeechTask(
        path=path, duration_s=part.end_s - part.start_s, billed=work.billed, language=language, model=work.model
    )
    heard: Heard = await work.context.transcriber.transcribe(task)
    path.unlink()
    log.info("part_transcribed", enrichment=work.enrichment.id, part=part.number, sentences=len(heard.sentences))
    return {"language": heard.language or language, "sentences": sentences_json(heard.sentences)}


def _transcribed(work: Work, parts: Sequence[Part]) -> Transcribed:
    pieces = []
    for part in parts:
        try:
            sentences = [sentence_from_json(raw, "sentences") for raw in _result(part)["sentences"]]
        except InvalidRequest as error:
            raise UpstreamInvalid(f"The speech server's answer is not usable: {error.message}") from error
        pieces.append((Span(part.start_s, part.end_s), sentences))
    whole = joined(pieces)
    text = text_of(whole)
    if not text:
        raise MediaUnusable("No speech was heard in the media.")
    check_text(work, text)
    media = work.enrichment.media
    transcript = Transcript(
        language=work.enrichment.parameters.language or _language(parts) or work.context.policy.language,
        text=text,
        sentences=whole,
        original_filename=media.original_file_name if media is not None else None,
    )
    return Transcribed(transcript=transcript, version_id=work.context.new_id())


def _language(parts: Sequence[Part]) -> str | None:
    """The one that is heard longest in what was heard so far."""
    seconds: Counter[str] = Counter()
    for part in parts:
        language = _result(part).get("language") if part.result is not None else None
        if language is not None:
            seconds[language] += int(part.end_s - part.start_s) + 1
    return seconds.most_common(1)[0][0] if seconds else None


def _result(part: Part) -> dict[str, Any]:
    """What was kept of a part."""
    result: dict[str, Any] = json.loads(part.result or "{}")
    return result


def _ordered(parts: dict[int, Part]) -> list[Part]:
    return [parts[number] for number in sorted(parts)]
