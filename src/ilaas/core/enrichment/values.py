"""What is asked of a media file and what comes out of it, as immutable values. Times are epoch seconds.

Field for field the contract's shapes in Python's spelling; services and http/stt_api turn them into its JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ilaas.core.enrichment.steps import Job, Lease, Status, Step, StepTimes


class MediaKind(StrEnum):
    """What a file is, by its content."""

    VIDEO = "video"
    AUDIO = "audio"
    SUBTITLES = "subtitles"


class NotificationLevel(StrEnum):
    """When the client's webhook is called: at the end only, or after each step too."""

    DEFAULT = "default"
    TASK = "task"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """A model and a place where it runs; None leaves it open."""

    model: str | None = None
    infrastructure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrichmentParameters:
    """What the client asks for. An enrichment has the latest, each version those it was made with."""

    media_types: tuple[str, ...] | None = None
    disciplines: tuple[str, ...] | None = None
    ai_evaluation: str | None = None
    ai_model: str | None = None
    infrastructure: str | None = None
    language: str | None = None
    """Two letters; None: as it is heard."""
    translate_to: str | None = None
    generate_metadata: bool = True
    generate_quiz: bool = True
    generate_notes: bool = False

    @property
    def enriches(self) -> bool:
        """Whether anything is asked of the language model."""
        return self.generate_metadata or self.generate_quiz or self.generate_notes


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaInfo:
    """The file itself. `object_key` is None once it is removed."""

    original_file_name: str | None
    mime_type: str | None
    kind: MediaKind
    object_key: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word, as its transcriber wrote it (with its leading space), and further keys that came with it."""

    text: str
    start: float
    end: float
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A piece of what was said. `start` and `end` are seconds from the media's beginning; `extra` is kept verbatim."""

    text: str
    start: float
    end: float
    words: tuple[Word, ...] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What was said, whole and in pieces, and its translation."""

    language: str | None
    text: str
    sentences: tuple[Sentence, ...] = ()
    original_filename: str | None = None
    translated_text: str | None = None
    translated_sentences: tuple[Sentence, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Title, description and so on, and what the user thinks of each."""

    title: str | None = None
    translated_title: str | None = None
    description: str | None = None
    translated_description: str | None = None
    topics: tuple[str, ...] = ()
    translated_topics: tuple[str, ...] = ()
    discipline: str | None = None
    media_type: str | None = None
    thumb_up_title: bool | None = None
    thumb_up_description: bool | None = None
    thumb_up_topics: bool | None = None
    thumb_up_discipline: bool | None = None
    thumb_up_media_type: bool | None = None
    user_feedback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer of a question."""

    id: str
    option_text: str
    correct_answer: bool
    translated_option_text: str | None = None
    thumb_up: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPointer:
    """Where in the media the answer is given: "HH:MM:SS", which is what clients parse."""

    start: str
    stop: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question of the quiz, its choices in their order."""

    id: str
    question: str
    choices: tuple[Choice, ...] = ()
    explanation: str | None = None
    translated_question: str | None = None
    translated_explanation: str | None = None
    answer_pointer: AnswerPointer | None = None
    evaluation: Mapping[str, Any] | None = field(default=None, hash=False)
    thumb_up: bool | None = None
    user_feedback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One state of the results: the first one by the machine, then by people or by the machine again."""

    id: str
    enrichment_id: str
    created_at_s: float
    updated_at_s: float
    parameters: EnrichmentParameters
    transcript: Transcript | None = None
    """None when it was not read along."""
    initial: bool = False
    ai_generated: bool = False
    metadata: Metadata | None = None
    """None until enriched."""
    questions: tuple[Question, ...] = ()
    notes: str | None = None
    translated_notes: str | None = None
    end_user_identifier: str | None = None
    last_evaluated_at_s: float | None = None
    failure_cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Where the client is called, how often, and what it answered last."""

    url: str | None
    level: NotificationLevel = NotificationLevel.DEFAULT
    status: str | None = None
    """The HTTP status of the last call, as text; "0" when it never reached anybody."""
    notified_at_s: float | None = None
    count: int = 0
    """How many calls were ordered so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept."""

    keep_media_s: float = 0.0
    """The media, from its transcription on. Zero: removed with it."""
    keep_results_s: float | None = None
    """Everything, from its last success or failure on. None: until deleted."""
    media_until_s: float | None = None
    """When the media is to be removed; None: no date yet, or removed already."""
    results_until_s: float | None = None
    """When everything is to be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrichment:
    """A media file, what is asked of it, and where it is. Its results are its versions."""

    id: str
    client_id: str
    organisation: str
    project: str
    created_at_s: float
    updated_at_s: float
    requested_at_s: float
    """When the client asked last for something."""
    status: Status
    parameters: EnrichmentParameters
    notify: Notify
    media: MediaInfo | None = None
    media_url: str | None = None
    """Where it is fetched from, when it was not uploaded."""
    failure_cause: str | None = None
    end_user_identifier: str | None = None
    contributors: tuple[str, ...] | None = None
    ai_generation_count: int = 0
    media_text_length: int | None = None
    media_duration_s: float | None = None
    initial_version_id: str | None = None
    last_version_id: str | None = None
    """The newest."""
    ai_version_id: str | None = None
    """The newest made by the machine: webhooks call it initialVersionId."""
    times: Mapping[Step, StepTimes] = field(default_factory=dict, hash=False)
    wanted: Mapping[Step, ModelChoice] = field(default_factory=dict, hash=False)
    """The model of each step, when it is not left open: what the client asked for, else what it is tied to."""
    priority: int = 1
    """Higher goes first."""
    interactive: bool = False
    """Its requests to models go in the interactive class, not in batch."""
    retention: Retention = Retention()
    evaluation_mark: float | None = None
    """Share of thumbs up on the quiz, kept when all else is deleted."""
    deleted_at_s: float | None = None
    fence: int = 0
    job: Job | None = None
    """What it waits for or is in; None when its status is final."""

    @property
    def lease(self) -> Lease | None:
        """The lease of whoever has its step in hand, run out or not."""
        job = self.job
        if job is None or job.owner is None or job.lease_until_s is None:
            return None
        return Lease(enrichment_id=self.id, step=job.step, owner=job.owner, fence=self.fence, until_s=job.lease_until_s)
