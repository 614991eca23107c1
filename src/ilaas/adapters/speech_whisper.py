"""Whisper on this machine, by the package `faster-whisper`, with weights that the operator gives.

Nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

from ilaas.core.enrichment.languages import two_letters
from ilaas.core.enrichment.values import Sentence, Word
from ilaas.core.errors import ConfigError
from ilaas.ports.speech import Heard, SpeechTask


class WhisperTranscriber:
    """One model in memory; one piece of audio at a time, in a thread."""

    def __init__(self, weights: Path, *, device: str = "auto", compute_type: str = "default") -> None:
        """`weights` is the folder of a model converted to CTranslate2. Raises ConfigError."""
        try:
            engine: Any = importlib.import_module("faster_whisper")
        except ImportError:
            raise ConfigError("The package 'faster-whisper' is not installed: pip install faster-whisper") from None
        if not (weights / "model.bin").is_file():
            raise ConfigError(
                f"'{weights}' is not a folder with the weights of a Whisper model (there is no model.bin in it). "
                "Download one made for faster-whisper, and name its folder."
            )
        self._name = weights.name
        self._model = engine.WhisperModel(str(weights), device=device, compute_type=compute_type, local_files_only=True)
        self._one = asyncio.Lock()

    async def transcribe(self, task: SpeechTask) -> Heard:
        """As `ports.speech.Transcriber`."""
        async with self._one:
            return await asyncio.to_thread(self._heard, task)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _heard(self, task: SpeechTask) -> Heard:
        segments, info = self._model.transcribe(
            str(task.path),
            language=task.language,
            initial_prompt=task.prompt,
            word_timestamps=True,
            vad_filter=True,
        )
        sentences = tuple(
            Sentence(
                text=each.text,
                start=round(each.start, 3),
                end=round(each.end, 3),
                words=tuple(
                    Word(text=word.word, start=round(word.start, 3), end=round(word.end, 3))
                    for word in each.words or ()
                )
                or None,
            )
            for each in segments
        )
        return Heard(language=two_letters(info.language or ""), sentences=sentences, model=self._name)
