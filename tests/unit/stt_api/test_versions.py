"""Versions: read, written by people, downloaded, judged, deleted."""

from __future__ import annotations

import json
from typing import Any

from tests.support.stt_api import SttWorld

FIELDS = [
    *("createdAt", "updatedAt", "id", "enrichmentVersionMetadata", "multipleChoiceQuestions", "initialVersion"),
    *("lastEvaluationDate", "aiGenerated", "disciplines", "mediaTypes", "endUserIdentifier", "aiEvaluation"),
    *("aiModel", "infrastructure", "language", "translateTo", "notes", "translatedNotes", "failureCause"),
]
METADATA = [
    *("title", "translatedTitle", "description", "translatedDescription", "topics", "translatedTopics"),
    *("discipline", "mediaType", "thumbUpTitle", "thumbUpDescription", "thumbUpTopics", "thumbUpDiscipline"),
    *("thumbUpMediaType", "userFeedback"),
]
QUESTION = [
    *("id", "question", "translatedQuestion", "explanation", "translatedExplanation", "choices", "answerPointer"),
    *("evaluation", "thumbUp", "userFeedback"),
]
TRANSCRIPT = ["originalFilename", "language", "text", "translatedText", "sentences", "translatedSentences"]
UNKNOWN = "0190a0b0-0000-7000-8000-00000000abcd"
OWN = {
    "enrichmentVersionMetadata": json.dumps({"title": "Le mien", "topics": ["a"], "discipline": "physique"}),
    "multipleChoiceQuestions": json.dumps(
        [{"question": "Q ?", "choices": [{"optionText": "A", "correctAnswer": True}, {"optionText": "B"}]}]
    ),
    "notes": "# Mes notes",
}
SRT = "1\n00:00:00,000 --> 00:00:02,500\n Bonjour à tous.\n\n2\n00:00:02,500 --> 00:00:05,000\n Voici l'énergie.\n\n"


def as_form(**fields: str) -> dict[str, Any]:
    return {"files": {name: (None, value) for name, value in fields.items()}}


async def test_a_version_is_shown_with_every_field_null_or_not(stt: SttWorld) -> None:
    enrichment_id = await stt.create(language="fr", translateTo="en")
    found = await stt.translated(enrichment_id)
    latest = await stt.must("GET", f"/enrichments/{enrichment_id}/versions/latest")
    assert sorted(latest) == sorted([*FIELDS, "transcript"])
    assert latest["id"] == found.initial_version_id
    assert (latest["initialVersion"], latest["aiGenerated"]) == (True, True)
    assert sorted(latest["enrichmentVersionMetadata"]) == sorted(METADATA)
    assert latest["enrichmentVersionMetadata"]["translatedTitle"] == "A title"
    assert latest["enrichmentVersionMetadata"]["translatedTopics"] == []
    (question,) = latest["multipleChoiceQuestions"]
    assert sorted(question) == sorted(QUESTION)
    assert question["answerPointer"] == {"startAnswerPointer": "00:00:02", "stopAnswerPointer": "00:00:05"}
    assert sorted(question["choices"][0]) == ["correctAnswer", "id", "optionText", "thumbUp", "translatedOptionText"]
    assert sorted(latest["transcript"]) == sorted(TRANSCRIPT)
    assert latest["transcript"]["sentences"][0] == {
        "text": " Bonjour à tous.",
        "start": 0.0,
        "end": 2.5,
        "no_speech_prob": 0.01,
    }
    one = await stt.must("GET", f"/enrichments/{enrichment_id}/versions/{latest['id']}")
    assert one == latest


async def test_the_latest_version_is_there_before_the_success_with_null_metadata(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    answer = await stt.call("GET", f"/enrichments/{enrichment_id}/versions/latest")
    assert answer.status_code == 404
    message = f"No version for enrichment with ID '{enrichment_id}' has been found"
    assert answer.json()["errors"][0]["message"] == message
    await stt.transcribed(enrichment_id)
    latest = await stt.must("GET", f"/enrichments/{enrichment_id}/versions/latest")
    assert latest["enrichmentVersionMetadata"] is None
    assert latest["multipleChoiceQuestions"] == []


async def test_the_list_has_two_when_nothing_is_asked_and_transcripts_unless_refused(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    await stt.enriched(enrichment_id)
    path = f"/enrichments/{enrichment_id}/versions"
    made = [(await stt.must("POST", path, **as_form(**OWN)))["id"] for _ in range(3)]
    bare = await stt.must("GET", path)
    assert [each["id"] for each in bare["content"]] == made[:0:-1]
    assert (bare["totalElements"], bare["currentPage"], bare["isLastPage"]) == (4, 1, False)
    assert "transcript" in bare["content"][0]
    capital = await stt.must("GET", f"{path}?withTranscript=True")
    assert len(capital["content"]) == 4
    assert "transcript" in capital["content"][0]
    without = await stt.must("GET", f"{path}?withTranscript=false&order=ASC&size=50")
    assert "transcript" not in without["content"][0]
    assert [each["id"] for each in without["content"]][1:] == made
    assert (await stt.call("GET", f"{path}?sort=status")).status_code == 400


async def test_a_version_that_is_not_this_enrichment_s_is_a_403(stt: SttWorld) -> None:
    first, second = await stt.create(), None
    await stt.enriched(first)
    second = await stt.create()
    version = (await stt.must("GET", f"/enrichments/{first}/versions/latest"))["id"]
    for enrichment_id, version_id in ((first, UNKNOWN), (second, version)):
        where = f"/enrichments/{enrichment_id}/versions/{version_id}"
        expected = (
            f"The enrichment version {version_id} has not been found or the enrichment id {enrichment_id} in the url "
            "is incorrect"
        )
        for method, path, body in (
            ("GET", where, None),
            ("DELETE", where, None),
            ("GET", f"{where}/download_transcript", None),
            ("POST", f"{where}/evaluate", {}),
            ("POST", f"{where}/mcq/{UNKNOWN}", {}),
            ("POST", f"{where}/mcq/{UNKNOWN}/choice/{UNKNOWN}", {}),
        ):
            answer = await stt.call(method, path, json=body)
            assert answer.status_code == 403, path
            assert answer.json()["errors"][0]["message"] == expected
    answer = await stt.call("GET", f"/enrichments/{first}/versions/x")
    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "versionId")
    assert (await stt.call("GET", f"/enrichments/{first}/versions/{version}", as_="nudgis")).status_code == 403


async def test_a_person_s_version_keeps_the_newest_transcript_unless_it_brings_one(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    path = f"/enrichments/{enrichment_id}/versions"
    early = await stt.call("POST", path, **as_form(**OWN))
    assert early.status_code == 403
    assert early.json()["errors"][0]["message"].startswith("No initial version found for the enrichment. Please wait")
    await stt.enriched(enrichment_id)
    made = await stt.must("POST", path, **as_form(**OWN, translatedNotes="# My notes"))
    shown = await stt.must("GET", f"{path}/{made['id']}")
    assert (shown["initialVersion"], shown["aiGenerated"]) == (False, False)
    assert shown["enrichmentVersionMetadata"]["title"] == "Le mien"
    assert (shown["notes"], shown["translatedNotes"]) == ("# Mes notes", "# My notes")
    assert shown["transcript"]["text"] == " Bonjour à tous. Voici l'énergie."
    (question,) = shown["multipleChoiceQuestions"]
    assert [each["correctAnswer"] for each in question["choices"]] == [True, False]
    assert question["answerPointer"] == {"startAnswerPointer": "00:00:00", "stopAnswerPointer": "00:01:05"}
    mine = {"language": "fr", "text": "x", "sentences": [{"text": "x", "start": 0, "end": 1.25, "odd": [1]}]}
    files = {"transcript": ("t.json", json.dumps(mine), "application/json")}
    made = await stt.must("POST", path, data={"notes": "n"}, files=files)
    shown = await stt.must("GET", f"{path}/{made['id']}")
    assert shown["transcript"]["sentences"] == mine["sentences"]
    assert shown["enrichmentVersionMetadata"] is None


async def test_questions_may_come_as_objects_with_commas_between_and_no_brackets(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    await stt.enriched(enrichment_id)
    one = json.dumps({"question": "Q", "choices": [{"optionText": "A", "correctAnswer": True}]})
    path = f"/enrichments/{enrichment_id}/versions"
    made = await stt.must("POST", path, **as_form(multipleChoiceQuestions=f"{one},{one}"))
    shown = await stt.must("GET", f"{path}/{made['id']}")
    assert [each["question"] for each in shown["multipleChoiceQuestions"]] == ["Q", "Q"]


async def test_a_person_s_version_can_be_sent_to_be_translated(stt: SttWorld) -> None:
    enrichment_id = await stt.create(language="fr", translateTo="en")
    await stt.translated(enrichment_id)
    path = f"/enrichments/{enrichment_id}/versions"
    await stt.must("POST", path, **as_form(**OWN, translate="false"))
    assert (await stt.must("GET", f"/enrichments/{enrichment_id}"))["status"] == "SUCCESS"
    await stt.must("POST", path, **as_form(**OWN, translate="true"))
    assert (await stt.must("GET", f"/enrichments/{enrichment_id}"))["status"] == "WAITING_TRANSLATION"


async def test_what_is_wrong_with_a_person_s_version_is_named(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    await stt.enriched(enrichment_id)
    for fields, path in (
        ({"enrichmentVersionMetadata": "{"}, "enrichmentVersionMetadata"),
        ({"enrichmentVersionMetadata": "[]"}, "enrichmentVersionMetadata"),
        ({"enrichmentVersionMetadata": '{"title": 1}'}, "enrichmentVersionMetadata.title"),
        ({"enrichmentVersionMetadata": '{"discipline": "magie"}'}, "enrichmentVersionMetadata.discipline"),
        ({"enrichmentVersionMetadata": '{"mediaType": "film"}'}, "enrichmentVersionMetadata.mediaType"),
        ({"enrichmentVersionMetadata": '{"topics": [1]}'}, "enrichmentVersionMetadata.topics"),
        ({"multipleChoiceQuestions": "3"}, "multipleChoiceQuestions"),
        ({"multipleChoiceQuestions": "[{}]"}, "multipleChoiceQuestions[0].question"),
        ({"transcript": '{"text": "x"}'}, "transcript.sentences"),
        ({"transcript": "{"}, "transcript"),
    ):
        answer = await stt.call("POST", f"/enrichments/{enrichment_id}/versions", **as_form(**fields))
        assert answer.status_code == 400, fields
        assert answer.json()["errors"][0]["path"] == path


async def test_versions_are_deleted_with_200_and_the_first_one_never(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    await stt.enriched(enrichment_id)
    path = f"/enrichments/{enrichment_id}/versions"
    first = (await stt.must("GET", f"{path}/latest"))["id"]
    own = (await stt.must("POST", path, **as_form(**OWN)))["id"]
    assert await stt.must("DELETE", f"{path}/{own}") == {"status": "OK"}
    assert (await stt.must("GET", f"/enrichments/{enrichment_id}"))["lastVersionId"] == first
    answer = await stt.call("DELETE", f"{path}/{first}")
    assert answer.status_code == 403
    assert answer.json()["errors"][0]["message"] == "Can't delete initial version"


async def test_the_transcript_is_downloaded_as_srt_or_vtt_in_either_language(stt: SttWorld) -> None:
    enrichment_id = await stt.create(language="fr", translateTo="en")
    await stt.translated(enrichment_id)
    version = (await stt.must("GET", f"/enrichments/{enrichment_id}/versions/latest"))["id"]
    path = f"/enrichments/{enrichment_id}/versions/{version}/download_transcript"
    for query in ("", "?format=srt", "?format=SRT", "?language=fr", "?language=fre"):
        answer = await stt.call("GET", f"{path}{query}")
        assert (answer.status_code, answer.text) == (200, SRT), query
        assert answer.headers["content-disposition"] == 'attachment; filename="lecture.srt"'
    for query in ("?format=vtt", "?format=VTT&language="):
        answer = await stt.call("GET", f"{path}{query}")
        assert answer.text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.500\n Bonjour à tous.\n\n")
        assert answer.headers["content-disposition"] == 'attachment; filename="lecture.vtt"'
    assert " EN Bonjour à tous." in (await stt.call("GET", f"{path}?language=en")).text
    wrong = await stt.call("GET", f"{path}?format=ass")
    assert (wrong.status_code, list(wrong.json()["errors"][0])) == (400, ["format"])
    wrong = await stt.call("GET", f"{path}?language=de")
    assert (wrong.status_code, list(wrong.json()["errors"][0])) == (400, ["language"])


async def test_a_file_name_that_is_not_ascii_is_given_both_ways(stt: SttWorld) -> None:
    data = {
        "notificationWebhookUrl": "https://a.example.fr/b",
        "enrichmentParameters": '{"generateMetadata":false,"generateQuiz":false}',
    }
    vtt = b"WEBVTT\n\n00:00.000 --> 00:02.000\nBonjour\n"
    made = await stt.must("POST", "/enrichments/upload", data=data, files={"file": ('Été "1".vtt', vtt, "text/vtt")})
    async with stt.house.working():
        await stt.house.ended(made["id"])
    version = (await stt.must("GET", f"/enrichments/{made['id']}/versions/latest"))["id"]
    answer = await stt.call("GET", f"/enrichments/{made['id']}/versions/{version}/download_transcript")
    disposition = answer.headers["content-disposition"]
    assert disposition.isascii()
    assert "filename*=utf-8''%C3%89t%C3%A9" in disposition


async def test_what_people_think_is_kept_and_counts_for_the_mark(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    await stt.enriched(enrichment_id)
    version = await stt.must("GET", f"/enrichments/{enrichment_id}/versions/latest")
    assert version["lastEvaluationDate"] is None
    path = f"/enrichments/{enrichment_id}/versions/{version['id']}"
    question = version["multipleChoiceQuestions"][0]
    choice = question["choices"][1]
    body = {
        "enrichmentVersionMetadata": {"thumbUpTitle": True, "thumbUpTopics": False, "userFeedback": "Bien"},
        "multipleChoiceQuestions": [
            {
                "id": question["id"],
                "thumbUp": True,
                "userFeedback": "Juste",
                "choices": [{"id": choice["id"], "thumbUp": False}],
            }
        ],
    }
    answer = await stt.must("POST", f"{path}/evaluate", json=body)
    assert list(answer) == ["status", "enrichmentVersion"]
    shown = answer["enrichmentVersion"]
    assert shown["enrichmentVersionMetadata"]["thumbUpTitle"] is True
    assert shown["enrichmentVersionMetadata"]["thumbUpTopics"] is False
    assert shown["enrichmentVersionMetadata"]["thumbUpDescription"] is None
    assert shown["enrichmentVersionMetadata"]["title"] == "Un titre"
    assert shown["multipleChoiceQuestions"][0]["userFeedback"] == "Juste"
    assert shown["multipleChoiceQuestions"][0]["choices"][1]["thumbUp"] is False
    assert shown["lastEvaluationDate"] is not None
    assert (await stt.store.enrichment(enrichment_id)).evaluation_mark == 1.0
    one = await stt.must("POST", f"{path}/mcq/{question['id']}", json={"thumbUp": False, "userFeedback": "Non"})
    assert one["enrichmentVersion"]["multipleChoiceQuestions"][0]["thumbUp"] is False
    assert (await stt.store.enrichment(enrichment_id)).evaluation_mark == 0.0
    where = f"{path}/mcq/{question['id']}/choice/{choice['id']}"
    two = await stt.must("POST", where, json={"thumbUp": True})
    assert two["enrichmentVersion"]["multipleChoiceQuestions"][0]["choices"][1]["thumbUp"] is True
    assert two["enrichmentVersion"]["multipleChoiceQuestions"][0]["userFeedback"] == "Non"
    assert await stt.must("GET", path) == two["enrichmentVersion"]
    assert (await stt.call("POST", f"{path}/mcq/{UNKNOWN}", json={"thumbUp": True})).status_code == 404
    assert (await stt.call("POST", f"{path}/mcq/{question['id']}/choice/{UNKNOWN}", json={})).status_code == 404
    assert (await stt.call("POST", f"{path}/mcq/x", json={})).status_code == 400
    assert (await stt.call("POST", f"{path}/evaluate", json={"multipleChoiceQuestions": 3})).status_code == 422


async def test_only_what_the_machine_made_can_be_judged(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    await stt.enriched(enrichment_id)
    own = (await stt.must("POST", f"/enrichments/{enrichment_id}/versions", **as_form(**OWN)))["id"]
    answer = await stt.call("POST", f"/enrichments/{enrichment_id}/versions/{own}/evaluate", json={})
    assert answer.status_code == 400
