"""What comes out of a step, as its worker hands it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ilaas.core.enrichment.values import MediaInfo, Metadata, Question, Transcript


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The media is in the object store. Of subtitles, the transcript is there too."""

    media: MediaInfo
    duration_s: float | None = None
    transcript: Transcript | None = None
    version_id: str | None = None
    """The id of the initial version, given with a transcript."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcribed:
    """What was said."""

    transcript: Transcript
    version_id: str
    """The id of the initial version to be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enriched:
    """What the language model made of it. What was not asked for is None or empty."""

    metadata: Metadata | None = None
    questions: tuple[Question, ...] = ()
    """With the ids that they shall have."""
    notes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslatedQuestion:
    """The translation of one question, the choices' texts by their ids."""

    question: str | None = None
    explanation: str | None = None
    choices: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """Everything in the other language; None where there was nothing to translate.

    `transcript` is a plain one: its `text` and `sentences` are the translated ones.
    """

    transcript: Transcript | None = None
    title: str | None = None
    description: str | None = None
    topics: tuple[str, ...] = ()
    questions: Mapping[str, TranslatedQuestion] = field(default_factory=dict, hash=False)
    """By the question's id."""
    notes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What the judge says of each question, by its id."""

    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)


StepResult = Fetched | Transcribed | Enriched | Translated | Evaluated
