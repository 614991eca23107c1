"""What turns audio into text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ilaas.core.enrichment.values import Sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """Whose work it is: requests to models count towards its quotas."""

    organisation: str
    project: str
    client_id: str
    interactive: bool = False
    """In the interactive class, else in batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechTask:
    """A piece of audio to transcribe."""

    path: Path
    """A local file in a format that the speech servers take."""
    duration_s: float
    billed: Billed
    language: str | None = None
    """Two letters; None: the transcriber finds out."""
    model: str | None = None
    """None: the service's own."""
    prompt: str | None = None
    """What was said just before, or words to expect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What was said in it; times are seconds from the piece's beginning."""

    language: str | None
    """Two letters."""
    sentences: tuple[Sentence, ...]
    model: str | None = None


class Transcriber(Protocol):
    """A speech-to-text engine."""

    async def transcribe(self, task: SpeechTask) -> Heard:
        """Raises an `IlaasError` whose `retryable` says whether trying again can help."""

    async def close(self) -> None:
        """Let go of every connection."""
