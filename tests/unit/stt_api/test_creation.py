"""Ordering an enrichment by address: every rule of the creation payload, in the contract's words."""

from __future__ import annotations

from typing import Any

from ilaas.core.enrichment.clients import ClientPolicy, Scope
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import ModelChoice
from tests.support.stt_api import HOOK, PARAMETERS, URL, SttWorld

GOOD: dict[str, Any] = {"url": URL, "notificationWebhookUrl": HOOK, "enrichmentParameters": PARAMETERS}
AT = "enrichmentParameters"
NOT_FOUND = "Le modèle IA spécifié n'a pas été trouvé"


def changed(**fields: Any) -> dict[str, Any]:
    return {**GOOD, **fields}


def asking(**parameters: Any) -> dict[str, Any]:
    return {**GOOD, "enrichmentParameters": {**PARAMETERS, **parameters}}


async def test_a_creation_answers_200_at_once_with_the_id_of_one_that_waits(stt: SttWorld) -> None:
    answer = await stt.call("POST", "/enrichments/url", json=GOOD)
    assert answer.status_code == 200
    assert list(answer.json()) == ["status", "id"]
    assert answer.json()["status"] == "OK"
    shown = await stt.must("GET", f"/enrichments/{answer.json()['id']}")
    assert shown["status"] == "WAITING_MEIDA_UPLOAD"


async def test_what_is_left_out_has_the_defaults_of_the_contract(stt: SttWorld) -> None:
    found = await stt.store.enrichment(await stt.create())
    asked = found.parameters
    assert (asked.generate_metadata, asked.generate_quiz, asked.generate_notes) == (True, True, False)
    assert asked.language is asked.translate_to is asked.ai_evaluation is asked.ai_model is None
    assert found.end_user_identifier is None


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (changed(url=None), "url", "The parameter url cannot be empty"),
    (changed(url=""), "url", "The parameter url cannot be empty"),
    (changed(url="http://localhost/a.mp4"), "url", "The given url is not a valid"),
    (changed(url="ftp://media.example.fr/a.mp4"), "url", "The given url is not a valid"),
    (changed(url="/a.mp4"), "url", "The given url is not a valid"),
    (changed(url="https://127.0.0.1/a.mp4"), "url", "The given url is not a valid"),
    (changed(url="https://media.example.fr/a b"), "url", "The given url is not a valid"),
    (changed(url="https://[::1/a"), "url", "The given url is not a valid"),
    (
        changed(notificationWebhookUrl=None),
        "notificationWebhookUrl",
        "The parameter notificationWebhookUrl cannot be empty",
    ),
    (
        changed(notificationWebhookUrl=" "),
        "notificationWebhookUrl",
        "The parameter notificationWebhookUrl cannot be empty",
    ),
    (changed(notificationWebhookUrl="http://pod/x"), "notificationWebhookUrl", "The given url is not a valid"),
    (
        changed(notificationLevel="loud"),
        "notificationLevel",
        "The notification level is either default or task",
    ),
    (changed(enrichmentParameters=None), AT, "The parameter enrichmentParameters cannot be empty"),
    (asking(mediaTypes=[]), f"{AT}.mediaTypes", "At least one media type is expected"),
    (asking(mediaTypes=None), f"{AT}.mediaTypes", "At least one media type is expected"),
    (asking(disciplines=[]), f"{AT}.disciplines", "At least one discipline is expected"),
    (asking(aiEvaluation="Mistral"), f"{AT}.aiEvaluation", "Invalid aiEvaluation value"),
    (asking(aiEvaluation=""), f"{AT}.aiEvaluation", "Invalid aiEvaluation value"),
    (asking(language=""), f"{AT}.language", "Invalid language value"),
    (asking(language="klingon"), f"{AT}.language", "Invalid language value"),
    (asking(translateTo=""), f"{AT}.translateTo", "Invalid translateTo value"),
    (asking(translateTo="xx"), f"{AT}.translateTo", "Invalid translateTo value"),
    (
        asking(language="fr", translateTo="fr"),
        f"{AT}.translateTo",
        "The language and the translation language must be different",
    ),
    (asking(aiModel="gpt-9"), f"{AT}.aiModel", NOT_FOUND),
    (asking(aiModel="secret"), f"{AT}.aiModel", "Vous n'avez pas accès à ce modèle"),
    (
        asking(infrastructure="CentraleSupélec"),
        f"{AT}.infrastructure",
        "L'infrastructure spécifiée n'a pas été trouvée",
    ),
]


async def test_a_value_that_breaks_a_rule_is_a_400_that_names_it(stt: SttWorld) -> None:
    for body, path, message in REFUSED:
        answer = await stt.call("POST", "/enrichments/url", json=body)
        assert answer.status_code == 400
        assert answer.json() == {"status": "KO", "errors": [{"path": path, "message": message}]}, body
    assert (await stt.must("GET", "/enrichments"))["totalElements"] == 0


async def test_all_that_is_wrong_is_told_at_once(stt: SttWorld) -> None:
    body = {"url": "x", "enrichmentParameters": {"language": "xx"}}
    errors = (await stt.call("POST", "/enrichments/url", json=body)).json()["errors"]
    assert [each["path"] for each in errors] == [
        "url",
        "notificationWebhookUrl",
        f"{AT}.mediaTypes",
        f"{AT}.disciplines",
        f"{AT}.language",
    ]


TAKEN: list[dict[str, Any]] = [
    asking(mediaTypes=[], disciplines=[], generateMetadata=False),
    asking(mediaTypes=None, disciplines=None, generateMetadata=False, generateQuiz=False),
    asking(language="fr", translateTo="en", aiEvaluation="ChatGPT", generateNotes=True),
    asking(language="de", translateTo="es"),
    asking(aiModel="mistral"),
    asking(aiModel=None, infrastructure=None, aiEvaluation=None, language=None, translateTo=None),
    asking(generateMetadata=None, generateQuiz=None, generateNotes=None),
    changed(notificationLevel="task", endUserIdentifier="anne"),
    changed(notificationLevel=None, endUserIdentifier=""),
    changed(somethingElse={"deep": [1]}, url="https://média.example.fr/é.mp4"),
    changed(url="HTTPS://Media.Example.FR:8443/a.mp4?x=1#y"),
]


async def test_what_the_contract_allows_is_taken(stt: SttWorld) -> None:
    for body in TAKEN:
        answer = await stt.call("POST", "/enrichments/url", json=body)
        assert answer.status_code == 200, (body, answer.text)


async def test_who_wants_no_call_needs_no_webhook(stt: SttWorld) -> None:
    asked = {name: value for name, value in GOOD.items() if name != "notificationWebhookUrl"}
    answer = await stt.must("POST", "/enrichments/url", json={**asked, "notificationLevel": "none"})
    assert (await stt.store.enrichment(answer["id"])).notify.url is None


async def test_the_spelling_that_esup_pod_sends_names_the_end_user_too(stt: SttWorld) -> None:
    answer = await stt.must("POST", "/enrichments/url", json={**GOOD, "enduserIdentifier": "f00@univ.fr"})
    shown = await stt.must("GET", f"/enrichments/{answer['id']}")
    assert shown["endUserIdentifier"] == "f00@univ.fr"


async def test_languages_by_three_letters_are_taken_as_two(stt: SttWorld) -> None:
    shown = await stt.must("GET", f"/enrichments/{await stt.create(language='fre', translateTo='eng')}")
    assert (shown["language"], shown["translateTo"]) == ("fr", "en")


UNREAD: list[tuple[bytes, str, int]] = [
    (b"{", "application/json", 400),
    (b'{"url": NaN}', "application/json", 400),
    (b"\xff\xfe", "application/json", 400),
    (b"[]", "application/json", 422),
    (b'{"url": 3}', "application/json", 422),
    (b'{"enrichmentParameters": "{}"}', "application/json", 422),
    (b'{"enrichmentParameters": {"generateQuiz": "yes"}}', "application/json", 422),
    (b'{"enrichmentParameters": {"mediaTypes": "cours"}}', "application/json", 422),
    (b'{"enrichmentParameters": {"disciplines": [1]}}', "application/json", 422),
    (b"url=x", "application/x-www-form-urlencoded", 415),
    (b"{}", "text/plain", 415),
]


async def test_what_the_framework_refuses_is_told_as_problem_details(stt: SttWorld) -> None:
    for content, kind, status in UNREAD:
        answer = await stt.call("POST", "/enrichments/url", content=content, headers={"content-type": kind})
        assert answer.status_code == status, content
        assert answer.headers["content-type"] == "application/problem+json"
        body = answer.json()
        assert body["status"] == status
        assert {"type", "title", "status", "detail"} <= body.keys()
        if status == 422:
            assert body["violations"]
            assert all("Body" not in each["title"] for each in body["violations"]), "a name of the code's"


async def test_the_models_that_may_be_asked_for_are_listed_with_those_of_remote_workers(stt: SttWorld) -> None:
    there = ModelChoice(model="qwen", infrastructure="CentraleSupélec")
    await stt.add_client("gpu", (Scope.PROCESSING_WORKER,), ClientPolicy(serves=there))
    listed = await stt.must("GET", "/enrichments/ai_model_infrastructure_combinations")
    assert listed == [
        {"aiModel": "mistral", "infrastructure": None},
        {"aiModel": "qwen", "infrastructure": "CentraleSupélec"},
    ]
    enrichment_id = await stt.create(aiModel="qwen", infrastructure="CentraleSupélec")
    assert (await stt.store.enrichment(enrichment_id)).wanted == {Step.ENRICHMENT: there}
    body = asking(aiModel="mistral", infrastructure="CentraleSupélec")
    errors = (await stt.call("POST", "/enrichments/url", json=body)).json()["errors"]
    assert errors[0]["message"].startswith("Aucun worker d'enrichissement")


async def test_a_model_that_the_operator_fixed_holds_whatever_is_asked_for(stt: SttWorld) -> None:
    forced = {Step.ENRICHMENT: ModelChoice(model="fixed"), Step.TRANSCRIPTION: ModelChoice(model="whisper")}
    policy = ClientPolicy(forced=forced, keep_media_s=5.0, keep_results_s=9.0, priority=3, interactive=True)
    await stt.add_client("tied", (Scope.CLIENT,), policy)
    found = await stt.store.enrichment(await stt.create(as_="tied", aiModel="mistral"))
    assert found.wanted == forced
    assert (found.priority, found.interactive) == (3, True)
    assert (found.retention.keep_media_s, found.retention.keep_results_s) == (5.0, 9.0)
