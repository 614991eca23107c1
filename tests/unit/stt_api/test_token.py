"""Getting a token, and what a token is good for."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace

from ilaas.core.enrichment.clients import Scope
from ilaas.ports.tenancy import AuditLine
from tests.support.speech_house import START_S
from tests.support.stt_api import SECRET, SttWorld

GRANT = {"grant_type": "client_credentials"}
CREDENTIALS = {**GRANT, "client_id": "pod", "client_secret": SECRET}
REJECTED = "The resource server rejected the request."


async def test_a_token_is_given_for_a_form_for_json_and_for_basic_before_either(stt: SttWorld) -> None:
    basic = ("pod", SECRET)
    answers = [
        await stt.http.post("/api/token", data=CREDENTIALS),
        await stt.http.post("/api/token", json=CREDENTIALS),
        await stt.http.post("/api/token", data=GRANT, auth=basic),
        await stt.http.post("/api/token", json=GRANT, auth=basic),
        await stt.http.post("/api/token", content=json.dumps(GRANT), auth=basic),
        await stt.http.post("/api/token", files={name: (None, value) for name, value in CREDENTIALS.items()}),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["token_type", "expires_in", "access_token"]
        assert answer.json()["token_type"] == "Bearer"
        assert answer.json()["expires_in"] == 86_400
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await stt.http.get("/api/v1/home", headers=headers)).status_code == 202


async def test_a_token_is_a_signed_jwt_that_names_its_client_and_scopes(stt: SttWorld) -> None:
    token = (await stt.http.post("/api/token", json=CREDENTIALS)).json()["access_token"]
    head, claims, _ = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in (*token.split(".")[:2], "e30"))
    assert head["alg"] == "RS256"
    assert claims["sub"] == "pod"
    assert claims["scopes"] == ["scope_client", "scope_default"]
    assert claims["exp"] - claims["iat"] == 86_400


REFUSED: list[tuple[dict[str, str], int, str]] = [
    ({**CREDENTIALS, "client_secret": "wrong"}, 401, "invalid_client"),
    ({**CREDENTIALS, "client_id": "nobody"}, 401, "invalid_client"),
    ({**CREDENTIALS, "client_secret": ""}, 401, "invalid_client"),
    ({**CREDENTIALS, "grant_type": "password"}, 400, "unsupported_grant_type"),
    ({"client_id": "pod", "client_secret": SECRET}, 400, "unsupported_grant_type"),
    ({}, 400, "unsupported_grant_type"),
    (GRANT, 400, "invalid_request"),
    ({**CREDENTIALS, "scope": "scope_evaluation_worker"}, 400, "invalid_scope"),
    ({**CREDENTIALS, "scope": "everything"}, 400, "invalid_scope"),
]


async def test_a_refusal_has_the_shape_that_oauth_libraries_read(stt: SttWorld) -> None:
    for given, status, error in REFUSED:
        for answer in (await stt.http.post("/api/token", json=given), await stt.http.post("/api/token", data=given)):
            assert answer.status_code == status, given
            body = answer.json()
            assert body["error"] == error
            assert body["message"] == body["error_description"]
        if error == "invalid_client":
            assert body == {
                "error": "invalid_client",
                "error_description": "Client authentication failed",
                "message": "Client authentication failed",
            }


async def test_what_is_no_json_and_no_form_is_an_invalid_request(stt: SttWorld) -> None:
    headers = {"content-type": "application/json"}
    for content in (b"{", b"[]", b'"x"', b"\xff"):
        answer = await stt.http.post("/api/token", content=content, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_narrower_scope_can_be_asked_for(stt: SttWorld) -> None:
    given = {**CREDENTIALS, "scope": "scope_default"}
    token = (await stt.http.post("/api/token", json=given)).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    assert (await stt.http.get("/api/v1/home", headers=headers)).status_code == 202
    answer = await stt.http.get("/api/v1/enrichments", headers=headers)
    assert answer.status_code == 403
    assert answer.json() == {
        "status": "KO",
        "errors": [{"path": None, "message": "User not authorized to access this resource"}],
    }


async def test_without_a_good_token_the_answer_is_plain_text_that_asks_for_one(stt: SttWorld) -> None:
    given = ["Bearer", "Bearer x", "Bearer a.b.c", "Basic cG9kOng=", "Bearer " + "x" * 9000, "Bearer é.é.é"]
    for headers in ({}, *({"authorization": each.encode("latin-1")} for each in given)):
        answer = await stt.http.get("/api/v1/enrichments", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.text == REJECTED


async def test_a_token_is_refused_when_it_is_forged_run_out_or_its_client_revoked(stt: SttWorld) -> None:
    token = await stt.token("pod")
    head, claims, signature = token.split(".")
    other = base64.urlsafe_b64encode(json.dumps({"sub": "nudgis", "use": "access"}).encode()).decode().rstrip("=")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")

    async def status(text: str) -> int:
        answer = await stt.http.get("/api/v1/home", headers={"authorization": f"Bearer {text}"})
        return answer.status_code

    assert await status(token) == 202
    assert await status(f"{head}.{other}.{signature}") == 401
    assert await status(f"{unsigned}.{claims}.") == 401
    sealed = await stt.tokens.seal("media", {"sub": "pod", "scopes": ["scope_default"]}, 60.0)
    assert await status(sealed) == 401
    line = AuditLine(at_s=START_S, actor="test", action="client.revoked", subject="client:pod")
    await stt.store.change_client("pod", lambda client: replace(client, active=False), line)
    assert await status(token) == 401
    assert (await stt.http.post("/api/token", json=CREDENTIALS)).status_code == 401
    await stt.store.change_client("pod", lambda client: replace(client, active=True), line)
    assert await status(token) == 202
    stt.house.clock.now += 86_401
    assert await status(token) == 401


async def test_a_scope_that_is_taken_away_is_gone_from_older_tokens_too(stt: SttWorld) -> None:
    assert (await stt.call("GET", "/enrichments")).status_code == 200
    line = AuditLine(at_s=START_S, actor="test", action="client.changed", subject="client:pod")
    await stt.store.change_client("pod", lambda client: replace(client, scopes=frozenset({Scope.DEFAULT})), line)
    assert (await stt.call("GET", "/enrichments")).status_code == 403


async def test_a_client_of_a_closed_project_gets_no_token_and_its_tokens_are_refused(stt: SttWorld) -> None:
    await stt.token("pod")
    stt.open = False
    assert (await stt.http.post("/api/token", json=CREDENTIALS)).status_code == 401
    assert (await stt.call("GET", "/enrichments")).status_code == 401


async def test_keys_change_after_a_month_and_tokens_of_the_old_one_stay_good(stt: SttWorld) -> None:
    await stt.tokens.grant("pod", SECRET, ())
    stt.house.clock.now += 30 * 86_400
    (first,) = await stt.store.signing_keys()
    stt.house.clock.now -= 100
    old = (await stt.tokens.grant("pod", SECRET, ())).token
    stt.house.clock.now += 200
    new = (await stt.tokens.grant("pod", SECRET, ())).token
    keys = await stt.store.signing_keys()
    assert len(keys) == 2
    assert keys[0].id != first.id
    for token in (old, new):
        headers = {"authorization": f"Bearer {token}"}
        assert (await stt.http.get("/api/v1/home", headers=headers)).status_code == 202
    assert stt.signer.key_id(old) == first.id
    assert stt.signer.key_id(new) == keys[0].id


async def test_gateways_that_start_together_agree_on_one_key(stt: SttWorld) -> None:
    granted = await asyncio.gather(*(stt.tokens.grant("pod", SECRET, ()) for _ in range(5)))
    assert len(await stt.store.signing_keys()) == 1
    assert len({stt.signer.key_id(each.token) for each in granted}) == 1


async def test_the_store_notes_when_a_client_got_a_token_last(stt: SttWorld) -> None:
    await stt.token("pod")
    assert (await stt.store.client("pod")).last_token_at_s is not None
