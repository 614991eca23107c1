"""The administration API as its clients see it: what works, and every way it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from ilaas.core.keys import digest, is_mistyped
from tests.support.admin import AdminWorld, administering
from tests.support.twins import PEPPER

KEY = {"organisation": "Lille", "project": "corpus", "name": "laptop"}
SERVER = {"model": "mistral", "url": "https://gpu.example.org/v1", "site": "lille", "owner": "Lille", "token": "hidden"}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listening() -> AsyncIterator[AdminWorld]:
    async with administering() as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(listening: AdminWorld) -> AdminWorld:
    """The same listener for all, and each test its own state behind it."""
    await listening.begin_anew()
    return listening


def refused(answer: httpx.Response, status: int, param: str | None = None, word: str = "") -> None:
    """Refused in the one shape, with that status, naming that field."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["code"]
    assert word in error["message"]
    if param is not None:
        assert error["param"] == param, answer.text


# -- 401 --------------------------------------------------------------------------------------------------------------


async def test_without_a_live_token_nothing_is_answered(world: AdminWorld) -> None:
    refused(await world.call("", "GET", "/me"), 401)
    assert (await world.call("", "GET", "/me")).headers["www-authenticate"].startswith("Bearer")
    key = await world.must("operator", "POST", "/keys", KEY)
    live = world.tokens["operator"]
    for header in (
        "",
        "Bearer",
        "Basic abc",
        f"Bearer {live[:-1]}{'0' if live[-1] != '0' else '1'}",
        "Bearer unknown",
        f"Bearer {key['secret']}",
        "Bearer é",
    ):
        answer = await world.http.get("/admin/v1/me", headers={"authorization": header.encode()})
        refused(answer, 401)
    refused(await world.http.post("/admin/v1/keys", content=b"{not json"), 401)


async def test_a_token_ends_at_once_by_revocation_expiry_or_its_persons_end(world: AdminWorld) -> None:
    me = world.people["member"]
    made = await world.must(
        "member", "POST", f"/people/{me}/tokens", {"name": "x", "expires_at": "2027-01-15T08:00:10Z"}
    )
    assert not is_mistyped(made["secret"])
    world.tokens["short"] = made["secret"]
    assert (await world.must("short", "GET", "/me"))["id"] == me
    world.now_s += 10
    refused(await world.call("short", "GET", "/me"), 401)
    made = await world.must("member", "POST", f"/people/{me}/tokens", {"name": "y"})
    world.tokens["again"] = made["secret"]
    assert (await world.call("again", "DELETE", f"/people/{me}/tokens/{made['id']}")).status_code == 204
    refused(await world.call("again", "GET", "/me"), 401)
    etag = await world.etag("manager", f"/people/{me}")
    await world.must("manager", "PATCH", f"/people/{me}", {"active": False}, if_match=etag)
    refused(await world.call("member", "GET", "/me"), 401)


async def test_a_token_is_no_key_for_inference(world: AdminWorld) -> None:
    answer = await world.http.get("/v1/models", headers={"authorization": f"Bearer {world.tokens['operator']}"})
    assert answer.status_code == 401
    assert (await world.store.directory()).keys.get(digest(world.tokens["operator"].encode(), PEPPER)) is None


async def test_the_last_use_of_a_token_is_shown_and_its_secret_is_not(world: AdminWorld) -> None:
    found = (await world.must("member", "GET", f"/people/{world.people['member']}/tokens"))["data"]
    assert [(token["name"], token["last_used_at"]) for token in found] == [("test", "2027-01-15T08:00:00Z")]
    assert set(found[0]) == {
        "id", "person", "hint", "name", "created_at", "expires_at", "revoked_at", "last_used_at",
    }  # fmt: skip


# -- organisations ----------------------------------------------------------------------------------------------------


async def test_an_organisation_is_created_read_changed_and_listed(world: AdminWorld) -> None:
    body = {
        "name": "Université d'Angers",
        "kind": "partner",
        "contributor": False,
        "weight": 2,
        "agreement": {"starts_on": "2026-09-01", "ends_on": None, "document_url": "https://example.org/a.pdf"},
        "limits": {"tokens_per_day": 5},
        "model_limits": {"mistral": {"requests_per_minute": 3}},
    }
    answer = await world.call("operator", "POST", "/organisations", body)
    assert answer.status_code == 201
    made = answer.json()
    assert {name: made[name] for name in body} == body
    path = "/organisations/Universit%C3%A9%20d'Angers"
    read = await world.call("operator", "GET", path)
    assert read.json() == made
    assert read.headers["etag"] == answer.headers["etag"]
    changed = await world.call("operator", "PATCH", path, {"weight": 3.5, "limits": {}}, if_match=read.headers["etag"])
    assert changed.json() == {**made, "weight": 3.5, "limits": {}}
    assert changed.headers["etag"] == await world.etag("operator", path) != read.headers["etag"]
    line = await world.last_line()
    assert (line["who"], line["action"], line["at"]) == (
        world.people["operator"],
        "organisation.changed",
        "2027-01-15T08:00:00Z",
    )
    assert (line["before"]["weight"], line["after"]["weight"]) == (2.0, 3.5)
    names = [each["name"] for each in (await world.must("operator", "GET", "/organisations"))["data"]]
    assert names == ["Lille", "Lyon", "Université d'Angers"]


@pytest.mark.parametrize("role", ["manager", "project", "member", "auditor"])
async def test_others_see_their_own_organisation_only_and_change_nothing_of_what_it_is_granted(
    world: AdminWorld, role: str
) -> None:
    assert [each["name"] for each in (await world.must(role, "GET", "/organisations"))["data"]] == ["Lille"]
    refused(await world.call(role, "GET", "/organisations/Lyon"), 404)
    refused(await world.call(role, "POST", "/organisations", {"name": "Mine"}), 403, word="operator")
    etag = await world.etag(role, "/organisations/Lille")
    answer = await world.call(role, "PATCH", "/organisations/Lille", {"weight": 1000}, if_match=etag)
    refused(answer, 403, word="'Lille'")
    answer = await world.call(role, "PATCH", "/organisations/Lyon", {"weight": 5}, if_match=etag)
    refused(answer, 404)


async def test_who_has_no_role_sees_nothing(world: AdminWorld) -> None:
    for path in ("/organisations", "/projects", "/keys", "/people", "/roles", "/servers"):
        assert (await world.must("nobody", "GET", path))["data"] == []
    for path in ("/models", "/audit"):
        refused(await world.call("nobody", "GET", path), 403)
    assert (await world.must("nobody", "GET", "/me"))["roles"] == []


# -- 412, 428 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/organisations/Lille", {"weight": 2}),
        ("/projects/Lille/corpus", {"active": False}),
        ("/keys/KEY", {"priority": 2}),
        ("/people/PERSON", {"name": "Other"}),
        ("/servers/lille-file", {"draining": True}),
    ],
)
async def test_a_change_names_the_state_it_was_made_from(world: AdminWorld, path: str, body: Any) -> None:
    key = await world.must("operator", "POST", "/keys", KEY)
    path = path.replace("KEY", key["id"]).replace("PERSON", world.people["member"])
    lines = len((await world.must("operator", "GET", "/audit"))["data"])
    refused(await world.call("operator", "PATCH", path, body), 428, "If-Match")
    refused(await world.call("operator", "PATCH", path, body, if_match='"0123"'), 412, "If-Match")
    etag = await world.etag("operator", path)
    assert len((await world.must("operator", "GET", "/audit"))["data"]) == lines
    first = await world.call("operator", "PATCH", path, body, if_match=etag)
    assert first.status_code == 200
    refused(await world.call("operator", "PATCH", path, body, if_match=etag), 412)
    await world.must("operator", "PATCH", path, body, if_match=f'"x", {first.headers["etag"]}')
    await world.must("operator", "PATCH", path, body, if_match="*")
    assert len((await world.must("operator", "GET", "/audit"))["data"]) == lines + 1


# -- projects ---------------------------------------------------------------------------------------------------------


async def test_a_project_is_created_and_changed_by_its_organisations_manager(world: AdminWorld) -> None:
    body = {"organisation": "Lille", "name": "histoire / 20e", "models": ["mistral"], "limits": {"tokens_per_month": 9}}
    made = await world.must("manager", "POST", "/projects", body)
    assert made == {**body, "active": True}
    path = "/projects/Lille/histoire%20%2F%2020e"
    etag = await world.etag("manager", path)
    changed = await world.must("manager", "PATCH", path, {"active": False, "models": None}, if_match=etag)
    assert changed == {**made, "active": False, "models": None}
    assert (await world.last_line())["subject"] == "project:Lille/histoire / 20e"
    refused(await world.call("manager", "POST", "/projects", body), 409, "name")
    refused(await world.call("manager", "POST", "/projects", {**body, "organisation": "Lyon"}), 404)
    refused(await world.call("operator", "POST", "/projects", {**body, "organisation": "Nowhere"}), 404)
    for role in ("project", "member", "auditor", "data"):
        refused(await world.call(role, "POST", "/projects", {**body, "name": "x"}), 403)


async def test_each_role_sees_the_projects_it_may(world: AdminWorld) -> None:
    async def seen(role: str, query: str = "") -> list[str]:
        return [each["name"] for each in (await world.must(role, "GET", f"/projects{query}"))["data"]]

    assert await seen("operator") == await seen("data") == ["corpus", "langues / été", "santé"]
    assert await seen("manager") == await seen("member") == ["corpus", "langues / été"]
    assert await seen("project") == ["corpus"]
    assert await seen("elsewhere") == ["santé"]
    assert await seen("operator", "?organisation=Lyon") == ["santé"]
    assert await seen("manager", "?organisation=Lyon") == []
    refused(await world.call("project", "GET", "/projects/Lille/langues%20%2F%20%C3%A9t%C3%A9"), 404)


# -- keys -------------------------------------------------------------------------------------------------------------


async def test_a_key_is_made_shown_once_and_never_again(world: AdminWorld) -> None:
    body = {
        **KEY,
        "priority": 3,
        "routing_mode": "private-first",
        "classes": ["batch"],
        "models": ["mistral"],
        "limits": {"simultaneous_requests": 2},
        "expires_at": "2030-01-01T01:00:00+01:00",
    }
    answer = await world.call("project", "POST", "/keys", body)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert not is_mistyped(made["secret"])
    assert {**{name: made[name] for name in body}, "expires_at": body["expires_at"]} == body
    assert made["expires_at"] == "2030-01-01T00:00:00Z"
    assert digest(made["secret"].encode(), PEPPER) in (await world.store.directory()).keys
    shown = await world.must("project", "GET", f"/keys/{made['id']}")
    assert "secret" not in shown
    for path in ("/keys", "/audit?limit=200"):
        text = (await world.call("operator", "GET", path)).text
        assert made["secret"] not in text
        assert "digest" not in text


async def test_who_made_a_change_is_answered_when_the_gateway_has_taken_it_over(world: AdminWorld) -> None:
    world.followed.clear()
    await world.must("operator", "GET", "/keys")
    assert world.followed == []
    await world.must("operator", "POST", "/keys", KEY)
    assert world.followed == [await world.store.revision()]
    refused(await world.call("operator", "POST", "/keys", {**KEY, "organisation": "nowhere"}), 404)
    assert len(world.followed) == 1


async def test_a_key_is_changed_rotated_and_revoked(world: AdminWorld) -> None:
    made = await world.must("project", "POST", "/keys", KEY)
    path = f"/keys/{made['id']}"
    etag = await world.etag("project", path)
    await world.store.touch_keys({made["id"]: world.now_s})
    body = {"priority": -5, "limits": {"tokens_per_day": 7}, "models": ["llama"], "expires_at": "2031-01-01T00:00:00Z"}
    changed = await world.must("project", "PATCH", path, body, if_match=etag)
    assert {name: changed[name] for name in body} == body
    assert changed["last_used_at"] == "2027-01-15T08:00:00Z"
    assert (await world.last_line())["action"] == "key.changed"
    rotated = await world.must("project", "POST", f"{path}/rotate", {"overlap_s": 60})
    assert rotated["secret"] != made["secret"]
    assert (rotated["name"], rotated["priority"]) == ("laptop", -5)
    old = await world.must("project", "GET", path)
    assert (old["replaced_by"], old["expires_at"]) == (rotated["id"], "2027-01-15T08:01:00Z")
    refused(await world.call("project", "POST", f"{path}/rotate", {}), 409)
    revoked = await world.must("manager", "POST", f"/keys/{rotated['id']}/revoke")
    assert revoked["revoked_at"] == "2027-01-15T08:00:00Z"
    assert (await world.last_line())["who"] == world.people["manager"]
    refused(await world.call("manager", "PATCH", f"/keys/{rotated['id']}", {"priority": 1}, if_match="*"), 409)
    live = (await world.must("manager", "GET", "/keys"))["data"]
    assert [key["id"] for key in live] == [made["id"]]
    assert len((await world.must("manager", "GET", "/keys?include_dead=true"))["data"]) == 2


async def test_keys_are_made_and_seen_only_where_the_role_says(world: AdminWorld) -> None:
    made = await world.must("operator", "POST", "/keys", KEY)
    other = {**KEY, "project": "langues / été"}
    await world.must("manager", "POST", "/keys", other)
    refused(await world.call("project", "POST", "/keys", other), 404, "project")
    refused(await world.call("manager", "POST", "/keys", {**KEY, "organisation": "Lyon", "project": "santé"}), 404)
    refused(await world.call("operator", "POST", "/keys", {**KEY, "project": "unknown"}), 404, "project")
    refused(await world.call("member", "POST", "/keys", KEY), 403)
    refused(await world.call("auditor", "POST", "/keys", KEY), 403)
    refused(await world.call("operator", "POST", "/keys", KEY), 409, "name")
    assert len((await world.must("project", "GET", "/keys"))["data"]) == 1
    assert len((await world.must("auditor", "GET", "/keys"))["data"]) == 2
    assert (await world.must("elsewhere", "GET", "/keys"))["data"] == []
    for role in ("elsewhere", "member"):
        for method, path in (("GET", ""), ("POST", "/revoke"), ("PATCH", "")):
            refused(await world.call(role, method, f"/keys/{made['id']}{path}", {} if method == "PATCH" else None), 404)
    refused(await world.call("auditor", "POST", f"/keys/{made['id']}/revoke"), 403)


# -- people, roles, tokens --------------------------------------------------------------------------------------------


async def test_a_manager_adds_people_to_the_own_organisation_and_nowhere_else(world: AdminWorld) -> None:
    body = {"name": "Anne", "email": "Anne@Example.org", "roles": [{"role": "member", "organisation": "Lille"}]}
    made = await world.must("manager", "POST", "/people", body)
    assert (made["email"], made["roles"]) == (
        "anne@example.org",
        [{"role": "member", "organisation": "Lille", "project": None}],
    )
    refused(await world.call("manager", "POST", "/people", body), 409, "email")
    body = {"name": "B"}
    for roles in (
        [],
        [{"role": "operator"}],
        [{"role": "auditor"}],
        [{"role": "member", "organisation": "Lyon"}],
        [{"role": "member", "organisation": "Lille"}, {"role": "member", "organisation": "Lyon"}],
    ):
        refused(await world.call("manager", "POST", "/people", {**body, "roles": roles}), 403)
    refused(
        await world.call("operator", "POST", "/people", {**body, "roles": [{"role": "member", "organisation": "No"}]}),
        404,
        "roles",
    )
    line = (await world.must("manager", "GET", f"/audit?subject=person:{made['id']}"))["data"][0]
    assert line["action"] == "person.created"
    assert "Anne" not in str(line)
    assert "example.org" not in str(line)


async def test_a_manager_can_not_take_over_who_has_a_role_elsewhere(world: AdminWorld) -> None:
    operator = world.people["operator"]
    role = {"person": operator, "role": "member", "organisation": "Lille"}
    await world.must("manager", "POST", "/roles", role)
    seen = await world.must("manager", "GET", f"/people/{operator}")
    assert seen["roles"] == [{"role": "member", "organisation": "Lille", "project": None}]
    body = {"email": "mine@example.org"}
    refused(await world.call("manager", "PATCH", f"/people/{operator}", body, if_match="*"), 403, word="roles")
    refused(await world.call("manager", "POST", f"/people/{operator}/tokens", {"name": "x"}), 403)
    refused(await world.call("manager", "POST", f"/people/{world.people['member']}/tokens", {"name": "x"}), 403)
    refused(await world.call("manager", "GET", f"/people/{world.people['elsewhere']}"), 404)
    refused(await world.call("member", "GET", f"/people/{operator}"), 404)


async def test_roles_are_granted_and_taken_where_the_caller_may(world: AdminWorld) -> None:
    nobody = world.people["nobody"]
    role = {"person": nobody, "role": "project-manager", "organisation": "Lille", "project": "corpus"}
    refused(await world.call("project", "POST", "/roles", role), 403)
    refused(await world.call("elsewhere", "POST", "/roles", role), 403)
    refused(await world.call("manager", "POST", "/roles", {"person": nobody, "role": "operator"}), 403)
    made = await world.must("manager", "POST", "/roles", role)
    assert made == role
    refused(await world.call("manager", "POST", "/roles", role), 409, "role")
    refused(await world.call("manager", "POST", "/roles", {**role, "person": "person_x"}), 404, "person")
    refused(await world.call("manager", "POST", "/roles", {**role, "project": "unknown"}), 404, "project")
    assert [each["id"] for each in (await world.must("nobody", "GET", "/keys"))["data"]] == []
    assert len((await world.must("nobody", "GET", "/projects"))["data"]) == 1
    listed = (await world.must("manager", "GET", "/roles"))["data"]
    assert role in listed
    assert all(each["organisation"] == "Lille" for each in listed)
    query = f"?person={nobody}&role=project-manager&organisation=Lille&project=corpus"
    refused(await world.call("elsewhere", "DELETE", f"/roles{query}"), 403)
    assert (await world.call("manager", "DELETE", f"/roles{query}")).status_code == 204
    refused(await world.call("manager", "DELETE", f"/roles{query}"), 404)
    refused(await world.call("manager", "DELETE", f"/roles?person={nobody}&role=member"), 422, "role")
    line = await world.last_line()
    assert (line["action"], line["before"]["project"], line["after"]) == ("role.revoked", "corpus", None)


async def test_tokens_of_others_are_made_by_operators_and_ended_by_managers(world: AdminWorld) -> None:
    member = world.people["member"]
    made = await world.must("operator", "POST", f"/people/{member}/tokens", {"name": "first"})
    refused(await world.call("elsewhere", "DELETE", f"/people/{member}/tokens/{made['id']}"), 404)
    refused(await world.call("auditor", "DELETE", f"/people/{member}/tokens/{made['id']}"), 403)
    assert (await world.call("manager", "DELETE", f"/people/{member}/tokens/{made['id']}")).status_code == 204
    assert (await world.call("manager", "DELETE", f"/people/{member}/tokens/{made['id']}")).status_code == 204
    refused(await world.call("manager", "DELETE", f"/people/{member}/tokens/token_x"), 404)
    past = {"name": "x", "expires_at": "2020-01-01T00:00:00Z"}
    refused(await world.call("member", "POST", f"/people/{member}/tokens", past), 400, "expires_at")
    for number in range(19):
        await world.must("member", "POST", f"/people/{member}/tokens", {"name": f"n{number}"})
    refused(await world.call("member", "POST", f"/people/{member}/tokens", {"name": "one more"}), 409)


# -- servers, models --------------------------------------------------------------------------------------------------


async def test_an_organisation_adds_drains_and_removes_its_own_servers(world: AdminWorld) -> None:
    made = await world.must("manager", "POST", "/servers", SERVER)
    assert (made["url"], made["has_token"], made["from_file"]) == ("https://gpu.example.org", True, False)
    assert "hidden" not in str(made)
    assert made["spot"] is False
    assert made["served_name"] == "m"  # as on the other servers of the model
    refused(await world.call("manager", "POST", "/servers", SERVER), 409, "url")
    path = f"/servers/{made['id']}"
    etag = await world.etag("manager", path)
    assert (await world.must("manager", "PATCH", path, {"draining": True}, if_match=etag))["draining"] is True
    line = (await world.must("manager", "GET", "/audit?limit=1"))["data"][0]
    assert (line["action"], line["organisation"]) == ("server.drained", "Lille")
    assert len((await world.must("manager", "GET", "/servers"))["data"]) == 2
    assert (await world.must("elsewhere", "GET", "/servers"))["data"] == []
    refused(await world.call("elsewhere", "DELETE", path), 404)
    refused(await world.call("member", "DELETE", path), 403)
    refused(await world.call("manager", "DELETE", "/servers/lille-file"), 409)
    assert (await world.call("manager", "DELETE", path)).status_code == 204
    refused(await world.call("manager", "DELETE", path), 404)
    spot = await world.must("manager", "POST", "/servers", {**SERVER, "spot": True})
    assert (await world.must("manager", "GET", f"/servers/{spot['id']}"))["spot"] is True
    refused(await world.call("manager", "POST", "/servers", {**SERVER, "spot": "yes"}), 422, "spot")
    refused(await world.call("manager", "POST", "/servers", {**SERVER, "owner": "Lyon"}), 403)
    refused(await world.call("operator", "POST", "/servers", {**SERVER, "owner": "Nowhere"}), 422, "owner")
    refused(await world.call("manager", "POST", "/servers", {**SERVER, "model": "unknown"}), 422, "model")
    refused(await world.call("manager", "POST", "/servers", {**SERVER, "url": "http://10.0.0.1"}), 400, "url")
    refused(await world.call("manager", "POST", "/servers", {**SERVER, "id": "lille-file"}), 409, "id")


async def test_everyone_with_a_role_sees_the_models_and_where_they_run(world: AdminWorld) -> None:
    models = (await world.must("member", "GET", "/models"))["data"]
    assert [(model["name"], model["sites"]) for model in models] == [("llama", []), ("mistral", ["lille"])]


# -- pages, audit -----------------------------------------------------------------------------------------------------


async def test_pages_follow_on_one_another_whatever_is_added_meanwhile(world: AdminWorld) -> None:
    for number in range(7):
        await world.must("operator", "POST", "/keys", {**KEY, "name": f"k{number}"})
    found: list[str] = []
    cursor = ""
    while True:
        page = await world.must("operator", "GET", f"/keys?limit=3{cursor}")
        found += [key["name"] for key in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
        assert len(page["data"]) == 3
    assert sorted(found) == [f"k{number}" for number in range(7)]
    page = await world.must("operator", "GET", "/audit?limit=4")
    numbers = [line["number"] for line in page["data"]]
    await world.must("operator", "POST", "/keys", {**KEY, "name": "later"})
    following = await world.must("operator", "GET", f"/audit?limit=4&cursor={page['next_cursor']}")
    assert [line["number"] for line in following["data"]] == [numbers[-1] - each for each in range(1, 5)]


async def test_a_cursor_that_is_not_ours_is_refused(world: AdminWorld) -> None:
    for path in ("/organisations", "/projects", "/keys", "/people", "/roles", "/models", "/audit"):
        for cursor in ("x", "W10", "WzFd", "bnVsbA", "WyJhIiwxXQ", "é", "WyJcdWQ4MDAiXQ"):
            answer = await world.call("operator", "GET", f"{path}?cursor={cursor}")
            if (path, cursor) == ("/audit", "WzFd"):
                assert answer.status_code == 200  # [1] is one of the audit trail
            else:
                refused(answer, 400, "cursor")


async def test_an_impossible_page_size_is_refused(world: AdminWorld) -> None:
    for query in ("limit=0", "limit=201", "limit=x", "limit=1.5"):
        refused(await world.call("operator", "GET", f"/keys?{query}"), 422, "limit")


async def test_the_audit_trail_shows_each_organisation_its_own_changes(world: AdminWorld) -> None:
    await world.must("elsewhere", "POST", "/projects", {"organisation": "Lyon", "name": "x"})
    for role in ("manager", "auditor"):
        lines = (await world.must(role, "GET", "/audit?limit=200"))["data"]
        assert {line["organisation"] for line in lines} == {"Lille"}
    assert (await world.must("data", "GET", "/audit"))["data"][0]["subject"] == "project:Lyon/x"
    for role in ("project", "member"):
        refused(await world.call(role, "GET", "/audit"), 403)


async def test_every_change_leaves_one_line_that_tells_who_what_before_and_after(world: AdminWorld) -> None:
    key = await world.must("operator", "POST", "/keys", KEY)
    server = await world.must("operator", "POST", "/servers", SERVER)
    member, nobody = world.people["member"], world.people["nobody"]
    token = await world.must("operator", "POST", f"/people/{member}/tokens", {"name": "t"})
    role = {"person": nobody, "role": "member", "organisation": "Lille"}
    changes: list[tuple[str, str, Any, str, str, bool, bool]] = [
        ("POST", "/organisations", {"name": "New"}, "organisation.created", "organisation:New", False, True),
        ("PATCH", "/organisations/New", {"weight": 2}, "organisation.changed", "organisation:New", True, True),
        ("POST", "/projects", {"organisation": "New", "name": "p"}, "project.created", "project:New/p", False, True),
        ("PATCH", "/projects/New/p", {"active": False}, "project.changed", "project:New/p", True, True),
        ("PATCH", f"/keys/{key['id']}", {"priority": 1}, "key.changed", f"key:{key['id']}", True, True),
        ("POST", f"/keys/{key['id']}/rotate", {}, "key.rotated", f"key:{key['id']}", True, True),
        ("POST", f"/keys/{key['id']}/revoke", None, "key.revoked", f"key:{key['id']}", True, True),
        ("PATCH", f"/people/{member}", {"email": "m@x.fr"}, "person.changed", f"person:{member}", True, True),
        ("POST", "/roles", role, "role.granted", f"person:{nobody}", False, True),
        (
            *("DELETE", f"/roles?person={nobody}&role=member&organisation=Lille", None),
            *("role.revoked", f"person:{nobody}", True, False),
        ),
        ("POST", f"/people/{nobody}/tokens", {"name": "t"}, "token.created", f"person:{nobody}", False, True),
        ("DELETE", f"/people/{member}/tokens/{token['id']}", None, "token.revoked", f"person:{member}", True, True),
        (
            *("PATCH", f"/servers/{server['id']}", {"draining": True}),
            *("server.drained", f"server:{server['id']}", True, True),
        ),
        (
            *("PATCH", f"/servers/{server['id']}", {"draining": False}),
            *("server.resumed", f"server:{server['id']}", True, True),
        ),
        ("DELETE", f"/servers/{server['id']}", None, "server.removed", f"server:{server['id']}", True, False),
    ]
    for method, path, body, action, subject, before, after in changes:
        newest = await world.last_line()
        world.now_s += 1
        await world.must("operator", method, path, body, if_match="*")
        line = await world.last_line()
        assert line["number"] == newest["number"] + 1, path
        assert (line["who"], line["action"], line["subject"]) == (world.people["operator"], action, subject)
        assert line["at"] > newest["at"]
        assert (line["before"] is not None, line["after"] is not None) == (before, after), path
        assert line["before"] != line["after"]
    text = (await world.call("operator", "GET", "/audit?limit=200")).text
    for hidden in ("hidden", "m@x.fr", token["secret"], key["secret"]):
        assert hidden not in text


# -- Idempotency-Key --------------------------------------------------------------------------------------------------


async def test_a_creation_that_is_repeated_is_done_once_and_its_secret_is_not_told_twice(world: AdminWorld) -> None:
    first = await world.call("project", "POST", "/keys", KEY, idempotency_key="k-1")
    again = await world.call("project", "POST", "/keys", KEY, idempotency_key="k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["secret"]
    assert first.json()["note"] is None
    assert again.json()["secret"] is None
    assert "can't be shown again" in again.json()["note"]
    assert {**again.json(), "secret": 0, "note": 0} == {**first.json(), "secret": 0, "note": 0}
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    assert len((await world.must("project", "GET", "/keys"))["data"]) == 1
    refused(
        await world.call("project", "POST", "/keys", {**KEY, "name": "other"}, idempotency_key="k-1"),
        422,
        "Idempotency-Key",
    )
    other_caller = await world.call("manager", "POST", "/keys", {**KEY, "name": "n"}, idempotency_key="k-1")
    assert other_caller.json()["secret"]
    world.now_s += 86_401
    refused(await world.call("project", "POST", "/keys", KEY, idempotency_key="k-1"), 409, "name")


async def test_a_creation_that_failed_can_be_tried_again_with_its_key(world: AdminWorld) -> None:
    made = await world.must("operator", "POST", "/keys", KEY)
    refused(await world.call("operator", "POST", "/keys", KEY, idempotency_key="k"), 409, "name")
    await world.must("operator", "POST", f"/keys/{made['id']}/revoke")
    assert (await world.must("operator", "POST", "/keys", KEY, idempotency_key="k"))["secret"]
    for bad in ("", "x" * 256):
        refused(await world.call("operator", "POST", "/keys", KEY, idempotency_key=bad), 400, "Idempotency-Key")


async def test_every_kind_of_creation_takes_an_idempotency_key(world: AdminWorld) -> None:
    key = await world.must("operator", "POST", "/keys", KEY)
    creations = {
        "/organisations": {"name": "New"},
        "/projects": {"organisation": "Lille", "name": "new"},
        "/people": {"name": "New"},
        f"/people/{world.people['operator']}/tokens": {"name": "new"},
        "/roles": {"person": world.people["nobody"], "role": "operator"},
        "/servers": SERVER,
        f"/keys/{key['id']}/rotate": {},
    }
    for path, body in creations.items():
        first = await world.call("operator", "POST", path, body, idempotency_key=path)
        again = await world.call("operator", "POST", path, body, idempotency_key=path)
        assert (first.status_code, again.status_code) == (201, 201), path
        assert again.json() | {"secret": 0, "note": 0} == first.json() | {"secret": 0, "note": 0}


# -- bodies -----------------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "/organisations", {"name": "x", "revision": 3}, "revision"),
    ("POST", "/organisations", {}, "name"),
    ("POST", "/organisations", {"name": "x", "weight": 0}, "weight"),
    ("POST", "/organisations", {"name": "x", "weight": "2"}, "weight"),
    ("POST", "/organisations", {"name": "a/b"}, "name"),
    ("POST", "/organisations", {"name": "x", "kind": "friend"}, "kind"),
    ("POST", "/organisations", {"name": "x", "kind": None}, "kind"),
    ("POST", "/organisations", {"name": "x", "limits": {"tokens": 1}}, "limits.tokens"),
    ("POST", "/organisations", {"name": "x", "limits": {"tokens_per_day": -1}}, "limits.tokens_per_day"),
    ("POST", "/organisations", {"name": "x", "limits": {"tokens_per_day": True}}, "limits.tokens_per_day"),
    (
        "POST",
        "/organisations",
        {"name": "x", "agreement": {"starts_on": "2027-01-02", "ends_on": "2027-01-01"}},
        "agreement",
    ),
    ("PATCH", "/organisations/Lille", {"name": "Renamed"}, "name"),
    ("POST", "/keys", {**KEY, "id": "key_mine"}, "id"),
    ("POST", "/keys", {**KEY, "digest": "00"}, "digest"),
    ("POST", "/keys", {**KEY, "secret": "ilaas-mine"}, "secret"),
    ("POST", "/keys", {**KEY, "chat_client": True}, "chat_client"),
    ("POST", "/keys", {**KEY, "classes": ["owner"]}, ""),
    ("POST", "/keys", {**KEY, "classes": []}, "classes"),
    ("POST", "/keys", {**KEY, "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
    ("POST", "/people", {"name": "x", "active": False}, "active"),
    ("POST", "/people", {"name": "x", "roles": [{"role": "operator", "organisation": "Lille"}]}, "roles.0"),
    ("PATCH", "/people/x", {"roles": [{"role": "operator"}]}, "roles"),
    ("POST", "/roles", {"person": "x", "role": "king"}, "role"),
    ("POST", "/servers", {**SERVER, "from_file": True}, "from_file"),
    ("PATCH", "/servers/lille-file", {"url": "https://mine.example.org"}, "draining"),
]


async def test_a_field_that_is_wrong_or_can_not_be_set_is_named(world: AdminWorld) -> None:
    lines = len((await world.must("operator", "GET", "/audit?limit=200"))["data"])
    for method, path, body, param in WRONG:
        refused(await world.call("operator", method, path, body, if_match="*"), 422, param or None)
    assert len((await world.must("operator", "GET", "/audit?limit=200"))["data"]) == lines


NO_BODIES = [
    (b"{", "application/json", 400),
    (b'{"name": NaN}', "application/json", 400),
    (b'{"name": "\\ud800"}', "application/json", 400),
    (b"\xff", "application/json", 400),
    (b"[" * 100_000, "application/json", 413),
    (b"[" * 10_000 + b"]" * 10_000, "application/json", 400),
    (b"[" * 1_000 + b"]" * 1_000, "application/json", 400),
    (b"[]", "application/json", 422),
    (b"", "application/json", 422),
    (b'{"name": "x"}', "text/plain", 415),
    (b'{"name": "' + b"x" * 70_000 + b'"}', "application/json", 413),
]


async def test_a_body_that_is_no_json_object_of_a_sensible_size_is_refused(world: AdminWorld) -> None:
    for content, kind, status in NO_BODIES:
        headers = {"authorization": f"Bearer {world.tokens['operator']}", "content-type": kind}
        refused(await world.http.post("/admin/v1/organisations", content=content, headers=headers), status)


async def test_names_that_can_not_be_shown_on_one_line_are_refused(world: AdminWorld) -> None:
    for value in ("a\nb", " a", "a\x00b", "\u202eevil"):
        refused(await world.call("operator", "POST", "/organisations", {"name": value}), 400, "name")
        refused(await world.call("operator", "POST", "/people", {"name": value}), 400, "name")
        refused(await world.call("operator", "POST", "/people", {"name": "x", "subject": value}), 400, "subject")
        refused(await world.call("operator", "POST", "/keys", {**KEY, "models": [value]}), 400, "models")


async def test_unknown_paths_and_methods_are_said_so(world: AdminWorld) -> None:
    refused(await world.call("operator", "GET", "/unknown"), 404)
    answer = await world.call("operator", "PUT", "/keys")
    refused(answer, 405)
    assert answer.headers["allow"] in answer.json()["error"]["message"]


async def test_the_description_is_public_and_names_every_path_and_refusal(world: AdminWorld) -> None:
    answer = await world.http.get("/admin/v1/openapi.json")
    assert answer.status_code == 200
    paths = answer.json()["paths"]
    assert set(paths["/admin/v1/keys"]) == {"get", "post"}
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert {"401", "403", "404", "409", "412", "422", "428"} <= set(operation["responses"]), (path, method)
            assert operation["security"] == [{"HTTPBearer": []}]
    assert answer.json()["components"]["schemas"]["NewKeyBody"]["additionalProperties"] is False
