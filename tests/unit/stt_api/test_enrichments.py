"""Lists, one enrichment, new versions by the machine, deletion; and whose they are."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from ilaas.core.enrichment.changes import Failure, SpeechLimits
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import NotificationLevel
from ilaas.ports.enrichment import JobAsk
from tests.support.stt_api import HOOK, PARAMETERS, SttWorld

BASE = [
    *("id", "createdAt", "status", "failureCause", "media", "notificationStatus", "disciplines", "mediaTypes"),
    *("notifiedAt", "aiEvaluation", "endUserIdentifier", "contributors", "aiModel", "infrastructure", "language"),
    *("translateTo", "aiGenerationCount", "mediaTextLength", "mediaDurationInSeconds", "initialVersionId"),
    "lastVersionId",
]
TIMING = [
    *("aiProcessedBy", "aiEvaluatedBy", "transcribedBy", "translatedBy", "latestEnrichmentRequestedAt"),
    *("uploadStartedAt", "uploadEndedAt", "transcribingStartedAt", "transcribingEndedAt", "aiEnrichmentStartedAt"),
    *("aiEnrichmentEndedAt", "translationStartedAt", "translationEndedAt", "aiEvaluationStartedAt"),
    "aiEvaluationEndedAt",
]
PAGE = ["content", "totalElements", "currentPage", "isLastPage"]
UNKNOWN = "0190a0b0-0000-7000-8000-00000000abcd"


def ko(message: str, path: str | None = None) -> dict[str, Any]:
    return {"status": "KO", "errors": [{"path": path, "message": message}]}


async def test_an_enrichment_is_shown_with_every_field_null_or_not(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    shown = await stt.must("GET", f"/enrichments/{enrichment_id}")
    assert sorted(shown) == sorted([*BASE, *TIMING])
    assert shown["media"] is None
    assert shown["aiGenerationCount"] == 0
    begun = datetime.fromisoformat(shown["createdAt"])
    assert begun.utcoffset() == timedelta(0)
    assert len(shown["createdAt"]) == len("2024-01-26T14:40:05+01:00")


async def test_a_finished_one_says_who_did_what_and_when(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    await stt.enriched(enrichment_id)
    shown = await stt.must("GET", f"/enrichments/{enrichment_id}")
    assert shown["status"] == "SUCCESS"
    assert shown["media"] == {"originalFileName": "lecture.mp4", "mimeType": "video/mp4"}
    assert shown["mediaDurationInSeconds"] == 65
    assert shown["mediaTextLength"] == len(" Bonjour à tous. Voici l'énergie.")
    assert shown["transcribedBy"] == shown["aiProcessedBy"] == {"name": "the worker"}
    assert shown["translatedBy"] is None
    assert shown["initialVersionId"] == shown["lastVersionId"]
    for name in ("uploadStartedAt", "uploadEndedAt", "transcribingEndedAt", "aiEnrichmentEndedAt"):
        assert datetime.fromisoformat(shown[name]).tzinfo is not None
    assert shown["translationStartedAt"] is None


async def test_a_list_has_pages_from_one_the_newest_first(stt: SttWorld) -> None:
    empty = await stt.must("GET", "/enrichments")
    assert empty == {"content": [], "totalElements": 0, "currentPage": 1, "isLastPage": True}
    ids = [await stt.create() for _ in range(5)]
    page = await stt.must("GET", "/enrichments")
    assert list(page) == PAGE
    assert [each["id"] for each in page["content"]] == ids[::-1]
    assert sorted(page["content"][0]) == sorted(BASE)
    first = await stt.must("GET", "/enrichments?size=2&page=1&order=ASC&sort=createdAt")
    assert [each["id"] for each in first["content"]] == ids[:2]
    assert (first["totalElements"], first["currentPage"], first["isLastPage"]) == (5, 1, False)
    last = await stt.must("GET", "/enrichments?size=2&page=3&order=asc")
    assert [each["id"] for each in last["content"]] == ids[4:]
    assert last["isLastPage"] is True
    beyond = await stt.must("GET", "/enrichments?size=2&page=4")
    assert (beyond["content"], beyond["isLastPage"]) == ([], False)
    for query in ("sort=status", "sort=updatedAt&order=Desc", "size=1000000", "page=999999999999"):
        assert (await stt.call("GET", f"/enrichments?{query}")).status_code == 200


async def test_the_times_are_in_the_list_when_they_are_asked_for(stt: SttWorld) -> None:
    await stt.create()
    for value in ("true", "True", "1", "on"):
        page = await stt.must("GET", f"/enrichments?withStatus={value}")
        assert sorted(page["content"][0]) == sorted([*BASE, *TIMING])
    page = await stt.must("GET", "/enrichments?withStatus=false")
    assert sorted(page["content"][0]) == sorted(BASE)


async def test_the_list_can_be_of_one_end_user(stt: SttWorld) -> None:
    await stt.create()
    body = {
        "url": "https://a.example.fr/b.mp4",
        "notificationWebhookUrl": HOOK,
        "enrichmentParameters": PARAMETERS,
        "endUserIdentifier": "anne",
    }
    made = await stt.must("POST", "/enrichments/url", json=body)
    page = await stt.must("GET", "/enrichments?endUserIdentifier=anne")
    assert [each["id"] for each in page["content"]] == [made["id"]]
    assert (await stt.must("GET", "/enrichments?endUserIdentifier=bob"))["totalElements"] == 0


async def test_bad_values_in_a_query_are_400_and_wrong_types_404(stt: SttWorld) -> None:
    for query, path in (("size=0", "size"), ("size=-1", "size"), ("page=0", "page"), ("sort=id", "sort")):
        answer = await stt.call("GET", f"/enrichments?{query}")
        assert answer.status_code == 400, query
        assert answer.json()["errors"][0]["path"] == path
    assert (await stt.call("GET", "/enrichments?order=up")).status_code == 400
    for query in ("size=abc", "size=", "page=1.5", "withStatus=maybe", "size=٣"):
        answer = await stt.call("GET", f"/enrichments?{query}")
        assert answer.status_code == 404, query
        assert answer.headers["content-type"] == "application/problem+json"


async def test_unknown_deleted_and_other_people_s_enrichments_differ(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    answer = await stt.call("GET", f"/enrichments/{UNKNOWN}")
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (
        404,
        f"No enrichment with ID '{UNKNOWN}' has been found",
    )
    answer = await stt.call("GET", f"/enrichments/{enrichment_id}", as_="nudgis")
    assert answer.status_code == 403
    assert answer.json() == ko(f"You are not allowed to access enrichment {enrichment_id}")
    answer = await stt.call("DELETE", f"/enrichments/{enrichment_id}", as_="nudgis")
    assert answer.status_code == 403
    assert (await stt.must("DELETE", f"/enrichments/{enrichment_id}")) == {"status": "OK"}
    for method in ("GET", "DELETE"):
        answer = await stt.call(method, f"/enrichments/{enrichment_id}")
        assert answer.status_code == 404
        message = answer.json()["errors"][0]["message"]
        assert message == f"The enrichment that you want to get '{enrichment_id}' has been deleted"
    assert (await stt.must("GET", "/enrichments"))["totalElements"] == 0


async def test_an_id_that_is_no_uuid_is_a_400_and_capitals_do_not_matter(stt: SttWorld) -> None:
    for given in ("1", "url", "x" * 36, "0190a0b0000070008000000000000000", "{0190a0b0-0000-7000-8000-00000000abc"):
        answer = await stt.call("GET", f"/enrichments/{given}")
        assert answer.status_code == 400, given
        assert answer.json() == ko(f"'{given}' is not a valid UUID", "id")
    enrichment_id = await stt.create()
    assert (await stt.must("GET", f"/enrichments/{enrichment_id.upper()}"))["id"] == enrichment_id
    assert str(uuid.UUID(enrichment_id)) == enrichment_id


async def test_deletion_removes_everything_and_stops_the_work(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    await stt.fetched(enrichment_id)
    await stt.must("DELETE", f"/enrichments/{enrichment_id}")
    left = await stt.store.enrichment(enrichment_id)
    assert left.deleted_at_s is not None
    assert left.job is left.parameters.disciplines is left.parameters.media_types is left.notify.url is None
    assert await stt.store.trash() == [f"medias/x/{enrichment_id}/media"]


async def test_the_right_to_delete_has_its_own_refusal(stt: SttWorld) -> None:
    answer = await stt.call("DELETE", f"/enrichments/{UNKNOWN}", as_="judge")
    assert answer.status_code == 403
    assert answer.json() == ko("User not authorized to delete this resource")
    answer = await stt.call("GET", f"/enrichments/{UNKNOWN}", as_="judge")
    assert answer.json() == ko("User not authorized to access this resource")


async def test_every_client_route_wants_the_scope_of_clients(stt: SttWorld) -> None:
    document = (await stt.http.get("/api/doc.json")).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            scopes = [scope for each in operation["security"] for scope in each.get("token", ())]
            url = path.replace("{id}", UNKNOWN).replace("{versionId}", UNKNOWN).replace("{mcqId}", UNKNOWN)
            url = url.replace("{choiceId}", UNKNOWN).removeprefix("/api/v1")
            if not scopes or scopes == ["scope_default"]:
                continue
            other = "judge" if scopes != ["scope_evaluation_worker"] else "pod"
            assert (await stt.call(method.upper(), url, as_=None)).status_code == 401, path
            assert (await stt.call(method.upper(), url, as_=other)).status_code == 403, path


async def test_a_new_version_by_the_machine_goes_through_the_steps_that_are_asked_for(stt: SttWorld) -> None:
    enrichment_id = await stt.create()
    again = {"notificationWebhookUrl": f"{HOOK}2", "notificationLevel": "task", "endUserIdentifier": "bob"}
    path = f"/enrichments/{enrichment_id}/new_ai_version"
    answer = await stt.call("POST", path, json={**again, "enrichmentParameters": PARAMETERS})
    assert answer.status_code == 404  # there is no version yet
    await stt.enriched(enrichment_id)
    before = await stt.must("GET", f"/enrichments/{enrichment_id}")
    for asked, status in (
        ({**PARAMETERS, "generateNotes": True}, "WAITING_AI_ENRICHMENT"),
        ({"generateMetadata": False, "generateQuiz": False, "translateTo": "en"}, "WAITING_TRANSLATION"),
        ({"generateMetadata": False, "generateQuiz": False}, "SUCCESS"),
    ):
        answer = await stt.must("POST", path, json={**again, "enrichmentParameters": asked})
        assert answer == {"status": "OK"}
        shown = await stt.must("GET", f"/enrichments/{enrichment_id}")
        assert shown["status"] == status
        assert shown["lastVersionId"] != before["lastVersionId"]
        assert shown["endUserIdentifier"] == "bob"
        assert shown["aiEnrichmentStartedAt"] is None
        latest = await stt.must("GET", f"/enrichments/{enrichment_id}/versions/latest")
        assert latest["enrichmentVersionMetadata"] is None
        assert latest["transcript"]["text"] == " Bonjour à tous. Voici l'énergie."
        if status != "SUCCESS":
            busy = await stt.call("POST", path, json={**again, "enrichmentParameters": PARAMETERS})
            assert busy.status_code == 400
            await _fail(stt, enrichment_id)
    kept = await stt.store.enrichment(enrichment_id)
    assert kept.notify.url == f"{HOOK}2"
    assert kept.notify.level is NotificationLevel.TASK
    refused = await stt.call("POST", path, json={"enrichmentParameters": PARAMETERS})
    assert refused.json()["errors"][0]["path"] == "notificationWebhookUrl"


async def _fail(stt: SttWorld, enrichment_id: str) -> None:
    """Whatever it waits for fails."""
    ask = JobAsk(steps=frozenset(Step), owner="w", worker_name="w", at_s=stt.house.clock(), lease_s=9.0)
    taken = await stt.store.take_job(ask)
    assert taken is not None
    await stt.store.fail(taken.lease, Failure(cause="No."), stt.house.clock(), SpeechLimits())


async def test_health_home_and_the_public_receiver(stt: SttWorld) -> None:
    health = await stt.call("GET", "/health", as_=None)
    assert (health.status_code, health.json()) == (200, {"kernelStatus": True, "dbConnectionStatus": True})
    home = await stt.call("GET", "/home", as_="judge")
    assert (home.status_code, home.json()) == (202, {"status": "OK"})
    body = {"id": UNKNOWN, "status": "SUCCESS", "initialVersionId": UNKNOWN, "failureCause": None}
    assert (await stt.must("POST", "/webhook", as_=None, json=body)) == {"status": "OK"}
    assert (await stt.call("POST", "/webhook", as_=None, json={**body, "status": "?"})).status_code == 400
    assert (await stt.call("POST", "/webhook", as_=None, json={**body, "id": "?"})).status_code == 400


async def test_unknown_routes_and_methods_are_told_as_problem_details(stt: SttWorld) -> None:
    for method, path, status in (
        ("GET", "/nothing", 404),
        ("GET", "/enrichments/", 404),
        ("PUT", "/enrichments", 405),
        ("POST", f"/enrichments/{UNKNOWN}", 405),
        ("GET", "/enrichments/url/versions/x/y", 404),
    ):
        answer = await stt.call(method, path)
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status


async def test_the_description_names_every_route_and_its_page_needs_nothing_from_elsewhere(stt: SttWorld) -> None:
    document = (await stt.http.get("/api/doc.json")).json()
    assert document["openapi"].startswith("3.")
    statuses = document["components"]["schemas"]["Enrichment"]["properties"]["status"]["enum"]
    assert "WAITING_MEIDA_UPLOAD" in statuses
    assert len(document["paths"]) == 26
    for path in ("/api/doc", "/api/"):
        page = await stt.http.get(path)
        assert page.status_code == 200
        assert "/api/v1/enrichments/{id}/new_ai_version" in page.text
        assert "http://" not in page.text
        assert "https://" not in page.text
    assert (await stt.http.get("/api", follow_redirects=True)).status_code == 200


async def test_beside_the_speech_api_everything_else_is_as_it_was(stt: SttWorld) -> None:
    answer = await stt.http.get("/apinot")
    assert answer.status_code == 404
    assert "error" in answer.json()
    assert (await stt.http.get("/health/liveness")).status_code == 200
