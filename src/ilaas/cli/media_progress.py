"""How far an enrichment is and how long it still takes, from its states and its length: the API tells no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MOST_OF_STEP = 0.95
"""A step that lasts longer than expected stays here until it is done."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: its two statuses, what it is called, and how long it is expected to take."""

    waiting: str
    running: str
    name: str
    base_s: float
    per_media_s: float
    """For each second of the media."""


STAGES = (
    Stage("WAITING_MEIDA_UPLOAD", "UPLOADING_MEDIA", "fetching the media", 5.0, 0.005),
    Stage("WAITING_MEDIA_TRANSCRIPTION", "TRANSCRIBING_MEDIA", "transcribing", 5.0, 0.05),
    Stage("WAITING_AI_ENRICHMENT", "AI_ENRICHING", "writing title, keywords and quiz", 20.0, 0.02),
    Stage("WAITING_TRANSLATION", "TRANSLATING", "translating", 15.0, 0.05),
    Stage("WAITING_AI_EVALUATION", "AI_EVALUATING", "judging the quiz", 15.0, 0.0),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """For a bar: the share that is done, what is being done, and the seconds left (None: it is over)."""

    share: float
    what: str
    left_s: float | None


def progress_of(enrichment: Mapping[str, Any], asked: Sequence[str], in_stage_s: float) -> Progress:
    """`asked` are the running statuses of the steps that this one has; `in_stage_s` since its status changed last."""
    status = str(enrichment["status"])
    if status in {"SUCCESS", "FAILURE"}:
        return Progress(1.0, status.lower(), None)
    length_s = float(enrichment.get("mediaDurationInSeconds") or 600.0)
    stages = [stage for stage in STAGES if stage.running in asked]
    expected_s = [stage.base_s + stage.per_media_s * length_s for stage in stages]
    total_s = sum(expected_s)
    done_s = 0.0
    for stage, seconds in zip(stages, expected_s, strict=True):
        if status == stage.waiting:
            return Progress(done_s / total_s, f"waiting: {stage.name}", total_s - done_s)
        if status == stage.running:
            spent_s = min(in_stage_s, seconds * _MOST_OF_STEP)
            return Progress((done_s + spent_s) / total_s, stage.name, total_s - done_s - spent_s)
        done_s += seconds
    return Progress(0.0, status.lower().replace("_", " "), total_s)


def stages_asked(parameters: Mapping[str, Any]) -> list[str]:
    """The running statuses of the steps that these parameters ask for."""
    asked = ["UPLOADING_MEDIA", "TRANSCRIBING_MEDIA"]
    if any(parameters.get(name) for name in ("generateMetadata", "generateQuiz", "generateNotes")):
        asked.append("AI_ENRICHING")
    if parameters.get("translateTo"):
        asked.append("TRANSLATING")
    if parameters.get("aiEvaluation"):
        asked.append("AI_EVALUATING")
    return asked


def shown_seconds(seconds: float) -> str:
    """`about 2 min`."""
    if seconds < 60:
        return f"about {max(5, round(seconds / 5) * 5)} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"
