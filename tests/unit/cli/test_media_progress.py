"""How far a media is, as the terminal shows it."""

from __future__ import annotations

import pytest

from ilaas.cli.media_progress import STAGES, progress_of, shown_seconds, stages_asked

ASKED = ["UPLOADING_MEDIA", "TRANSCRIBING_MEDIA", "AI_ENRICHING", "TRANSLATING"]


def share(status: str, in_stage_s: float = 0.0, media_s: float | None = 600.0) -> float:
    return progress_of({"status": status, "mediaDurationInSeconds": media_s}, ASKED, in_stage_s).share


def test_the_bar_only_grows_through_the_states() -> None:
    statuses = [status for stage in STAGES[:4] for status in (stage.waiting, stage.running)]
    shares = [share(status) for status in [*statuses, "SUCCESS"]]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_within_a_step_it_grows_with_time_and_never_into_the_next_one() -> None:
    early, late, very_late = (share("TRANSCRIBING_MEDIA", seconds) for seconds in (1.0, 20.0, 1e6))
    assert early < late < very_late < share("WAITING_AI_ENRICHMENT")


@pytest.mark.parametrize("status", ["SUCCESS", "FAILURE"])
def test_at_the_end_nothing_is_left(status: str) -> None:
    assert progress_of({"status": status}, ASKED, 0.0).left_s is None


def test_a_long_media_takes_longer() -> None:
    def left(media_s: float) -> float:
        found = progress_of({"status": "TRANSCRIBING_MEDIA", "mediaDurationInSeconds": media_s}, ASKED, 0.0)
        return found.left_s or 0.0

    assert left(8 * 3600.0) > 10 * left(60.0)


def test_only_the_steps_that_were_asked_for_count() -> None:
    assert stages_asked({"generateQuiz": False, "translateTo": ""}) == ["UPLOADING_MEDIA", "TRANSCRIBING_MEDIA"]
    assert stages_asked({"generateNotes": True, "translateTo": "en", "aiEvaluation": "ChatGPT"})[2:] == [
        "AI_ENRICHING",
        "TRANSLATING",
        "AI_EVALUATING",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "about 5 s"), (44, "about 45 s"), (90, "about 2 min"), (7200, "about 2.0 h")]
)
def test_times_are_said_roughly(seconds: float, text: str) -> None:
    assert shown_seconds(seconds) == text
