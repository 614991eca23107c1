"""A real speech engine on this machine's CPU: PocketSphinx, which brings a model of American English.

It is far behind neural models. It proves that words and times of a real engine come through, without any download.
"""

from __future__ import annotations

import asyncio
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ilaas.adapters.media_ffmpeg import SAMPLE_RATE_HZ
from ilaas.adapters.processes import Limits, run
from ilaas.core.enrichment.values import Sentence, Word
from ilaas.core.errors import ConfigError, MediaUnusable
from ilaas.ports.speech import Heard, SpeechTask

_FRAMES_PER_S = 100
_BYTES_PER_S = SAMPLE_RATE_HZ * 2


class PocketSphinxTranscriber:
    """English only. Audio is decoded by ffmpeg and recognised in a thread, one piece at a time."""

    def __init__(self, grammar: str | None = None, *, ffmpeg: str = "ffmpeg") -> None:
        """`grammar` is JSGF text: only its sentences are recognised. Raises ConfigError without the package."""
        try:
            self._engine: Any = importlib.import_module("pocketsphinx")
        except ImportError:
            raise ConfigError("The package 'pocketsphinx' is not installed: pip install pocketsphinx") from None
        self._ffmpeg = ffmpeg
        self._grammar = grammar
        self._one = asyncio.Lock()

    async def transcribe(self, task: SpeechTask) -> Heard:
        """As `ports.speech.Transcriber`."""
        pcm = await self._pcm(task.path, task.duration_s)
        async with self._one:
            sentences = await asyncio.to_thread(lambda: tuple(self._recognised(pcm)))
        return Heard(language="en", sentences=sentences, model="pocketsphinx-en-us")

    async def close(self) -> None:
        """Nothing is kept."""

    async def _pcm(self, path: Path, duration_s: float) -> bytes:
        form = ("-f", "s16le", "-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "pipe:1")
        ran = await run(
            (self._ffmpeg, "-v", "error", "-nostdin", "-i", f"file:{path}", *form),
            Limits(timeout_s=60 + duration_s, output_bytes=int((duration_s + 60) * _BYTES_PER_S)),
        )
        if ran.code != 0:
            raise MediaUnusable("The piece of audio can't be decoded.")
        return ran.out

    def _recognised(self, pcm: bytes) -> Iterator[Sentence]:
        decoder = self._engine.Decoder(samprate=SAMPLE_RATE_HZ, loglevel="FATAL")
        if self._grammar is not None:
            decoder.add_jsgf_string("grammar", self._grammar)
            decoder.activate_search("grammar")
        for speech in self._engine.Segmenter(sample_rate=SAMPLE_RATE_HZ).segment(io.BytesIO(pcm)):
            decoder.start_utt()
            decoder.process_raw(speech.pcm, full_utt=True)
            decoder.end_utt()
            words = tuple(_words(decoder, speech.start_time))
            if words:
                text = "".join(word.text for word in words).strip()
                yield Sentence(text=text, start=words[0].start, end=words[-1].end, words=words)


def _words(decoder: Any, offset_s: float) -> Iterator[Word]:
    for segment in decoder.seg() or ():
        if segment.word[:1] in "<[(":  # silence, noise and fillers
            continue
        start_s = offset_s + segment.start_frame / _FRAMES_PER_S
        end_s = offset_s + (segment.end_frame + 1) / _FRAMES_PER_S
        text = " " + segment.word.partition("(")[0]
        yield Word(text=text, start=round(start_s, 2), end=round(end_s, 2))
