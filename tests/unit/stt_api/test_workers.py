"""The API of remote workers: each step taken and handed in, and everything that is refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ilaas.core.enrichment.clients import ClientPolicy, Scope
from ilaas.core.enrichment.values import ModelChoice
from tests.support.stt_api import SECRET, SttWorld
from tests.support.stt_clients import RemoteWorker

SAID = {
    "language": "french",
    "text": " Bonjour.",
    "sentences": [
        {
            "text": " Bonjour.",
            "start": 0,
            "end": 1.5,
            "is_transient": False,
            "words": [{"text": " Bonjour.", "start": 0, "end": 1.5, "probability": 0.9}],
        }
    ],
}
MADE: dict[str, Any] = {
    "enrichmentVersionMetadata": {
        "title": "Titre",
        "description": "Texte",
        "topics": ["a"],
        "discipline": "physique",
        "mediaType": "cours",
    },
    "multipleChoiceQuestions": [
        {
            "question": "Q ?",
            "explanation": "E",
            "choices": [{"optionText": "A", "correctAnswer": True}, {"optionText": "B", "correctAnswer": False}],
            "answerPointer": {"startAnswerPointer": "12.0", "stopAnswerPointer": "00:59:00"},
        }
    ],
    "notes": "# Notes",
}
NOT_YOURS = "You are not allowed to access this enrichment"


class Workers:
    """One of each step."""

    def __init__(self, url: str) -> None:
        self.transcriber = RemoteWorker(url, "transcriber", SECRET)
        self.enricher = RemoteWorker(url, "enricher", SECRET)
        self.translator = RemoteWorker(url, "translator", SECRET)
        self.judge = RemoteWorker(url, "judge", SECRET)
        self.all = (self.transcriber, self.enricher, self.translator, self.judge)


@pytest.fixture
async def workers(stt: SttWorld) -> AsyncIterator[Workers]:
    made = Workers(stt.url)
    yield made
    for each in made.all:
        await each.close()


async def status_of(stt: SttWorld, enrichment_id: str) -> str:
    found: str = (await stt.must("GET", f"/enrichments/{enrichment_id}"))["status"]
    return found


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["message"]


async def test_remote_workers_do_all_steps_of_an_enrichment(stt: SttWorld, workers: Workers) -> None:
    enrichment_id = await stt.create(language="fr", translateTo="en", aiEvaluation="ChatGPT", generateNotes=True)
    assert await workers.transcriber.take("transcription/job") is None
    await stt.fetched(enrichment_id)
    assert await workers.transcriber.transcribe(lambda media: SAID if media == b"the media's bytes" else {})
    assert await status_of(stt, enrichment_id) == "WAITING_AI_ENRICHMENT"

    job = await workers.enricher.take("job/ai_enrichment")
    assert job is not None
    assert list(job) == [
        *("enrichmentId", "enrichmentVersionId", "transcript", "mediaTypes", "disciplines"),
        *("generateMetadata", "generateQuiz", "generateNotes"),
    ]
    assert (job["generateMetadata"], job["generateQuiz"], job["generateNotes"]) == (True, True, True)
    assert sorted(job["transcript"]) == ["language", "originalFilename", "sentences", "text"]
    assert job["transcript"]["sentences"] == SAID["sentences"]
    assert job["transcript"]["language"] == "fr"
    assert await status_of(stt, enrichment_id) == "AI_ENRICHING"
    assert (await workers.enricher.post(job, "ai_enrichment", **MADE)).json() == {"status": "OK"}

    job = await workers.translator.take("job/translation")
    assert job is not None
    assert (job["language"], job["translateTo"], job["notes"]) == ("fr", "en", "# Notes")
    assert sorted(job["transcript"]) == ["sentences", "text"]
    assert job["enrichmentVersionMetadata"] == {"title": "Titre", "description": "Texte", "topics": ["a"]}
    (question,) = job["multipleChoiceQuestions"]
    assert sorted(question) == ["choices", "explanation", "id", "question"]
    assert sorted(question["choices"][0]) == ["id", "optionText"]
    translated = {
        "transcript": {"text": " Hello.", "sentences": [{"text": " Hello.", "start": 0, "end": 1.5}]},
        "enrichmentVersionMetadata": {"title": "Title", "description": "Text", "topics": ["b"]},
        "multipleChoiceQuestions": [
            {**question, "question": "Question?", "choices": [{**question["choices"][0], "optionText": "The A"}]}
        ],
        "notes": "# The notes",
    }
    assert (await workers.translator.post(job, "translation", **translated)).json() == {"status": "OK"}

    job = await workers.judge.take("job/ai_evaluation", evaluator="ChatGPT")
    assert job is not None
    assert sorted(job["transcript"]) == ["language", "text"]
    (question,) = job["multipleChoiceQuestions"]
    assert question["translatedQuestion"] == "Question?"
    assert question["choices"][0]["correctAnswer"] is True
    verdict = [{"id": question["id"], "evaluation": json.dumps({"isRelated": True, "score": 4})}]
    assert (await workers.judge.post(job, "ai_evaluation", evaluations=verdict)).json() == {"status": "OK"}

    shown = await stt.must("GET", f"/enrichments/{enrichment_id}")
    assert shown["status"] == "SUCCESS"
    assert shown["transcribedBy"] == {"name": "transcriber"}
    assert shown["aiEvaluatedBy"] == {"name": "judge"}
    version = await stt.must("GET", f"/enrichments/{enrichment_id}/versions/latest")
    (question,) = version["multipleChoiceQuestions"]
    assert question["evaluation"] == {"isRelated": True, "score": 4}
    assert question["answerPointer"] == {"startAnswerPointer": "00:00:12", "stopAnswerPointer": "00:01:05"}
    assert question["choices"][0]["translatedOptionText"] == "The A"
    assert version["enrichmentVersionMetadata"]["translatedTitle"] == "Title"
    assert version["transcript"]["translatedSentences"][0]["text"] == " Hello."
    assert version["translatedNotes"] == "# The notes"
    assert version["language"] == version["transcript"]["language"] == "fr"


async def test_without_a_job_a_worker_is_told_404_in_the_words_of_the_contract(stt: SttWorld) -> None:
    for name, path, message in (
        ("transcriber", "transcription/job", "No transcription job currently available"),
        ("enricher", "job/ai_enrichment", "No job currently available"),
        ("translator", "job/translation", "No job currently available"),
        ("judge", "job/ai_evaluation", "No job currently available"),
    ):
        answer = await stt.call("GET", f"/enrichments/{path}/oldest?taskId={uuid.uuid4()}", as_=name)
        assert refusal(answer) == (404, message)
        wrong = await stt.call("GET", f"/enrichments/{path}/oldest?taskId=1", as_=name)
        assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (400, "taskId")


async def test_a_transcription_job_is_a_link_that_needs_no_token_and_runs_out(stt: SttWorld, workers: Workers) -> None:
    enrichment_id = await stt.create(language="en")
    await stt.fetched(enrichment_id)
    job = await workers.transcriber.take("transcription/job")
    assert job is not None
    assert list(job) == ["enrichmentId", "mediaTemporaryUrl", "language"]
    assert (job["enrichmentId"], job["language"]) == (enrichment_id, "en")
    link = job["mediaTemporaryUrl"]
    assert link.startswith(f"{stt.url}/media/")
    whole = await workers.judge.http.get(link)
    assert (whole.status_code, whole.content) == (200, b"the media's bytes")
    assert whole.headers["content-type"] == "video/mp4"
    part = await workers.judge.http.get(link, headers={"range": "bytes=4-8"})
    assert (part.status_code, part.content) == (206, b"media")
    assert part.headers["content-range"] == "bytes 4-8/17"
    tail = await workers.judge.http.get(link, headers={"range": "bytes=-5"})
    assert tail.content == b"bytes"
    assert (await workers.judge.http.get(link, headers={"range": "bytes=17-"})).status_code == 416
    head = await workers.judge.http.head(link)
    assert (head.headers["content-length"], head.content) == ("17", b"")
    assert (await workers.judge.http.get(link + "x")).status_code == 404
    token = await stt.token("pod")
    assert (await workers.judge.http.get(f"{stt.url}/media/{token}")).status_code == 404
    stt.house.clock.now += 7 * 3600
    assert (await workers.judge.http.get(link)).status_code == 404


async def test_a_failure_is_told_with_its_cause_as_a_form_and_as_json(stt: SttWorld, workers: Workers) -> None:
    enrichment_id = await stt.create()
    await stt.fetched(enrichment_id)
    job = await workers.transcriber.take("transcription/job")
    assert job is not None
    data = {"taskId": workers.transcriber.task_id, "status": "KO", "failureCause": "No speech"}
    answer = await stt.call(
        "POST", f"/enrichments/{enrichment_id}/versions/initial/transcript", as_="transcriber", data=data
    )
    assert (answer.status_code, answer.json()) == (200, {"status": "OK"})
    shown = await stt.must("GET", f"/enrichments/{enrichment_id}")
    assert (shown["status"], shown["failureCause"]) == ("FAILURE", "No speech")
    other = await stt.create()
    await stt.transcribed(other)
    job = await workers.enricher.take("job/ai_enrichment")
    answer = await workers.enricher.post(job, "ai_enrichment", status="KO", failureCause="Too odd")
    assert answer.json() == {"status": "OK"}
    assert (await stt.must("GET", f"/enrichments/{other}"))["failureCause"] == "Too odd"
    assert (await stt.must("GET", f"/enrichments/{other}/versions/latest"))["failureCause"] == "Too odd"


async def test_an_unavailable_model_puts_the_step_back_in_line(stt: SttWorld, workers: Workers) -> None:
    enrichment_id = await stt.create()
    await stt.transcribed(enrichment_id)
    job = await workers.enricher.take("job/ai_enrichment")
    answer = await workers.enricher.post(job, "ai_enrichment", status="UNAVAILABLE")
    assert answer.json() == {"status": "OK"}
    assert await status_of(stt, enrichment_id) == "WAITING_AI_ENRICHMENT"
    assert await workers.enricher.take("job/ai_enrichment") is not None


async def test_who_hands_in_what_it_does_not_have_is_refused(stt: SttWorld, workers: Workers) -> None:
    enrichment_id = await stt.create()
    await stt.fetched(enrichment_id)
    assert refusal(await workers.transcriber.post_transcript(enrichment_id, SAID)) == (403, NOT_YOURS)
    await workers.transcriber.take("transcription/job")
    taken = workers.transcriber.task_id
    workers.transcriber.task_id = str(uuid.uuid4())
    assert refusal(await workers.transcriber.post_transcript(enrichment_id, SAID)) == (403, NOT_YOURS)
    await stt.add_client("other", (Scope.TRANSCRIPTION_WORKER,))
    other = RemoteWorker(stt.url, "other", SECRET)
    other.task_id = workers.transcriber.task_id = taken
    assert refusal(await other.post_transcript(enrichment_id, SAID)) == (403, NOT_YOURS)
    await other.close()
    answer = await workers.transcriber.post_transcript(enrichment_id, SAID)
    assert answer.json()["id"] == (await stt.must("GET", f"/enrichments/{enrichment_id}"))["initialVersionId"]
    again = await workers.transcriber.post_transcript(enrichment_id, SAID)
    assert refusal(again) == (403, "There is already an initial version found for the enrichment")
    assert (await workers.transcriber.post_transcript(str(uuid.uuid4()), SAID)).status_code == 404
    job = await workers.enricher.take("job/ai_enrichment")
    assert job is not None
    elsewhere = await workers.enricher.post({**job, "enrichmentVersionId": str(uuid.uuid4())}, "ai_enrichment", **MADE)
    assert elsewhere.status_code == 403
    await stt.must("DELETE", f"/enrichments/{enrichment_id}")
    assert (await workers.enricher.post(job, "ai_enrichment", **MADE)).status_code == 404


async def test_a_worker_that_is_too_late_is_refused_and_another_does_it(stt: SttWorld, workers: Workers) -> None:
    enrichment_id = await stt.create()
    await stt.transcribed(enrichment_id)
    job = await workers.enricher.take("job/ai_enrichment")
    late = workers.enricher.task_id
    assert await workers.enricher.take("job/ai_enrichment") is None
    stt.house.clock.now += 3601
    again = await workers.enricher.take("job/ai_enrichment")
    assert again == job
    quick, workers.enricher.task_id = workers.enricher.task_id, late
    assert refusal(await workers.enricher.post(job, "ai_enrichment", **MADE)) == (403, NOT_YOURS)
    workers.enricher.task_id = quick
    assert (await workers.enricher.post(job, "ai_enrichment", **MADE)).status_code == 200


async def test_a_result_that_breaks_a_rule_is_named_and_the_worker_may_try_again(
    stt: SttWorld, workers: Workers
) -> None:
    enrichment_id = await stt.create()
    await stt.fetched(enrichment_id)
    await workers.transcriber.take("transcription/job")
    for bad in ({}, {"text": "x"}, {**SAID, "sentences": [{"text": "x", "start": "0"}]}):
        assert (await workers.transcriber.post_transcript(enrichment_id, bad)).status_code == 400
    assert (await workers.transcriber.post_transcript(enrichment_id, SAID)).status_code == 200
    job = await workers.enricher.take("job/ai_enrichment")
    metadata = MADE["enrichmentVersionMetadata"]
    for bad, path in (
        ({"enrichmentVersionMetadata": None}, "metadata"),
        ({"enrichmentVersionMetadata": {**metadata, "discipline": "magie"}}, "enrichmentVersionMetadata.discipline"),
        ({"enrichmentVersionMetadata": {**metadata, "mediaType": "film"}}, "enrichmentVersionMetadata.mediaType"),
        ({"multipleChoiceQuestions": [{"question": 1}]}, "multipleChoiceQuestions[0].question"),
        ({"status": "MAYBE"}, "status"),
    ):
        answer = await workers.enricher.post(job, "ai_enrichment", **{**MADE, **bad})
        assert answer.status_code == 400, bad
        assert answer.json()["errors"][0]["path"] == path
    assert (await workers.enricher.post(job, "ai_enrichment", **MADE)).status_code == 200


async def test_a_translation_may_come_as_a_form_with_a_file(stt: SttWorld, workers: Workers) -> None:
    enrichment_id = await stt.create(language="fr", translateTo="en")
    await stt.enriched(enrichment_id)
    job = await workers.translator.take("job/translation")
    assert job is not None
    transcript = {"text": " Hello", "sentences": [{"text": " Hello", "start": 0, "end": 1}]}
    answer = await stt.call(
        "POST",
        f"/enrichments/{enrichment_id}/versions/{job['enrichmentVersionId']}/translation",
        as_="translator",
        data={
            "taskId": workers.translator.task_id,
            "status": "OK",
            "enrichmentVersionMetadata": json.dumps({"title": "Title"}),
            "multipleChoiceQuestions": json.dumps(job["multipleChoiceQuestions"]),
            "notes": "# N",
        },
        files={"transcriptFile": ("t.json", json.dumps(transcript), "application/json")},
    )
    assert answer.json() == {"status": "OK"}
    version = await stt.must("GET", f"/enrichments/{enrichment_id}/versions/latest")
    assert version["transcript"]["translatedText"] == " Hello"
    assert version["enrichmentVersionMetadata"]["translatedTitle"] == "Title"
    assert version["multipleChoiceQuestions"][0]["translatedQuestion"] == "Pourquoi ?"


async def test_a_worker_gets_jobs_for_what_it_runs_and_open_ones_when_it_takes_those(stt: SttWorld) -> None:
    there = ModelChoice(model="qwen", infrastructure="here")
    await stt.add_client("open", (Scope.PROCESSING_WORKER,), ClientPolicy(serves=there))
    await stt.add_client("strict", (Scope.PROCESSING_WORKER,), ClientPolicy(serves=there, treat_unspecified=False))
    unnamed = await stt.create()
    await stt.transcribed(unnamed)
    path = f"/enrichments/job/ai_enrichment/oldest?taskId={uuid.uuid4()}"
    assert (await stt.call("GET", path, as_="strict")).status_code == 404
    assert (await stt.must("GET", path, as_="open"))["enrichmentId"] == unnamed
    named = await stt.create(aiModel="qwen", infrastructure="here")
    await stt.transcribed(named)
    assert (await stt.must("GET", path, as_="strict"))["enrichmentId"] == named
    other = await stt.create(aiModel="mistral")
    await stt.transcribed(other)
    assert (await stt.call("GET", path, as_="open")).status_code == 404
    assert (await stt.store.client("strict")).last_job_at_s is not None


async def test_a_worker_that_looks_whether_the_server_is_up_finds_it(stt: SttWorld) -> None:
    for path in ("/", "/api", "/api/"):
        assert (await stt.http.get(path, follow_redirects=True)).status_code == 200
