"""The state machine: the contract's table, and what no order of events can bring about."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.enrichment import orders, states
from ilaas.core.enrichment.changes import Failure, SpeechLimits, StepLimits
from ilaas.core.enrichment.results import Enriched
from ilaas.core.enrichment.steps import Status, Step
from ilaas.core.enrichment.values import EnrichmentParameters, Notify, Retention, Version
from ilaas.core.errors import Forbidden, InvalidRequest
from tests.support.enrichment import METADATA, NOW_S, RESULTS, TRANSCRIPT
from tests.support.enrichment_course import Course

LIMITS = SpeechLimits(steps={step: StepLimits(max_attempts=2, max_releases=2) for step in Step})
S = Status

parameters = st.builds(
    EnrichmentParameters,
    translate_to=st.sampled_from([None, "en"]),
    ai_evaluation=st.sampled_from([None, "ChatGPT"]),
    generate_metadata=st.booleans(),
    generate_quiz=st.booleans(),
    generate_notes=st.booleans(),
)


def test_the_strings_are_those_that_clients_compare_with() -> None:
    assert [each.value for each in Status] == [
        "WAITING_MEIDA_UPLOAD",
        "UPLOADING_MEDIA",
        "WAITING_MEDIA_TRANSCRIPTION",
        "TRANSCRIBING_MEDIA",
        "WAITING_AI_ENRICHMENT",
        "AI_ENRICHING",
        "WAITING_TRANSLATION",
        "TRANSLATING",
        "WAITING_AI_EVALUATION",
        "AI_EVALUATING",
        "SUCCESS",
        "FAILURE",
    ]


@pytest.mark.parametrize(
    ("enriches", "translate_to", "evaluation"), list(product([True, False], [None, "en"], [None, "ChatGPT"]))
)
def test_the_way_is_that_of_the_contract(enriches: bool, translate_to: str | None, evaluation: str | None) -> None:
    asked = EnrichmentParameters(
        generate_metadata=False,
        generate_quiz=False,
        generate_notes=enriches,
        translate_to=translate_to,
        ai_evaluation=evaluation,
    )
    expected = [
        S.WAITING_MEDIA_UPLOAD,
        S.UPLOADING_MEDIA,
        S.WAITING_MEDIA_TRANSCRIPTION,
        S.TRANSCRIBING_MEDIA,
        *([S.WAITING_AI_ENRICHMENT, S.AI_ENRICHING] if enriches else []),
        *([S.WAITING_TRANSLATION, S.TRANSLATING] if translate_to else []),
        *([S.WAITING_AI_EVALUATION, S.AI_EVALUATING] if evaluation else []),
        S.SUCCESS,
    ]
    course = Course(asked)
    assert course.run() == expected
    assert [notice.status for notice in course.notices] == [S.SUCCESS]


@given(parameters)
def test_subtitles_skip_the_transcription(asked: EnrichmentParameters) -> None:
    course = Course(asked)
    course.take()
    fetched = replace(RESULTS[Step.FETCH], transcript=TRANSCRIPT, version_id="v1", duration_s=None)
    course.apply(states.finished(course.now, None, fetched, NOW_S))
    assert course.now.initial_version_id == "v1"
    assert S.TRANSCRIBING_MEDIA not in course.run()
    assert course.now.status is S.SUCCESS


@pytest.mark.parametrize("step", list(Step))
def test_every_step_may_fail_and_says_why(step: Step) -> None:
    course = Course(EnrichmentParameters(translate_to="en", ai_evaluation="ChatGPT"))
    while course.take() is not step:
        course.finish()
    course.apply(states.failed(course.now, course.version, Failure(cause="It broke."), NOW_S, LIMITS))
    assert (course.now.status, course.now.failure_cause, course.now.job) == (S.FAILURE, "It broke.", None)
    [notice] = course.notices
    assert (notice.status, notice.failure_cause) == (S.FAILURE, "It broke.")
    assert course.now.media is None or course.now.media.object_key is None


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        (Step.FETCH, "Uploading took too long"),
        (Step.TRANSCRIPTION, "Max transcription retries reached (1)"),
        (Step.ENRICHMENT, "Max enrichment retries reached (1)"),
        (Step.TRANSLATION, "Max translation retries reached (1)"),
        (Step.EVALUATION, "Max evaluation retries reached (1)"),
    ],
)
def test_workers_that_fall_silent_fail_in_the_words_of_the_contract(step: Step, cause: str) -> None:
    course = Course(EnrichmentParameters(translate_to="en", ai_evaluation="ChatGPT"))
    while course.take() is not step:
        course.finish()
    course.apply(states.expired(course.now, course.version, NOW_S + 99))
    assert course.now.failure_cause == cause


def test_metadata_that_were_asked_for_must_be_there() -> None:
    course = Course(EnrichmentParameters())
    while course.take() is not Step.ENRICHMENT:
        course.finish()
    with pytest.raises(InvalidRequest, match="were asked for"):
        states.finished(course.now, course.version, Enriched(), NOW_S)
    course.apply(states.finished(course.now, course.version, Enriched(metadata=METADATA), NOW_S))
    assert course.now.status is S.SUCCESS


def test_an_enrichment_without_a_webhook_orders_no_call() -> None:
    course = Course(EnrichmentParameters())
    course.now = replace(course.now, notify=Notify(url=None))
    course.run()
    assert course.notices == []


def test_results_go_at_a_date_counted_from_the_end() -> None:
    course = Course(EnrichmentParameters())
    course.now = replace(course.now, retention=Retention(keep_media_s=5, keep_results_s=10))
    course.run()
    assert course.now.retention.results_until_s == NOW_S + 10
    assert course.now.media is not None
    assert course.now.media.object_key is not None
    course.apply(orders.removed_by_date(course.now, NOW_S + 4))
    assert course.now.media.object_key is not None
    course.apply(orders.removed_by_date(course.now, NOW_S + 5))
    assert course.now.media.object_key is None
    course.apply(orders.removed_by_date(course.now, NOW_S + 10))
    assert course.now.deleted_at_s == NOW_S + 10


def test_a_version_by_hand_waits_for_the_initial_one() -> None:
    course = Course(EnrichmentParameters())
    version = Version(id="v9", enrichment_id="e1", created_at_s=0, updated_at_s=0, parameters=EnrichmentParameters())
    with pytest.raises(Forbidden, match="No initial version found for the enrichment"):
        orders.version_added(course.now, version, NOW_S)
