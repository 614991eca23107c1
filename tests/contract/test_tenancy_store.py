"""What every Store does with projects, people, roles, tokens and repeated requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date

import pytest

from ilaas.core.errors import Conflict, NotFound, Stale
from ilaas.core.people import Person, PersonToken, Role, RoleGrant
from ilaas.core.quota.limits import Limits
from ilaas.core.rights import Reach
from ilaas.core.tenancy import Agreement, Organisation, OrganisationKind, Project
from ilaas.ports.store import Store
from ilaas.ports.tenancy import KeptAnswer, KeyFilter
from tests.contract.conftest import Harness
from tests.contract.samples import LILLE, key, line

ALL = Reach(everywhere=True)
WHOLE = Organisation(
    name=LILLE.name,
    kind=OrganisationKind.PARTNER,
    agreement=Agreement(
        starts_on=date(2026, 1, 1), ends_on=date(2028, 12, 31), document_url="https://example.org/é.pdf"
    ),
    model_limits={"mistral/large": Limits(tokens_per_day=5), "llama": Limits(simultaneous_requests=0)},
)
PROJECT = Project(
    organisation=LILLE.name,
    name="linguistique / corpus",
    active=False,
    models=frozenset({"mistral", "llama"}),
    limits=Limits(tokens_per_month=2**40),
)
ANNE = Person(id="person_a", name="Anne", email="anne@example.org", subject="https://idp|anne", created_at_s=5.25)
MANAGER = RoleGrant(Role.ORGANISATION_MANAGER, LILLE.name)
OF_PROJECT = RoleGrant(Role.PROJECT_MANAGER, LILLE.name, PROJECT.name)
OPERATOR = RoleGrant(Role.OPERATOR)


def token(token_id: str = "token_1", **changes: object) -> PersonToken:
    whole = PersonToken(
        id=token_id,
        digest=token_id.encode().ljust(32, b"."),
        hint="ilaas-Ab12…",
        name="laptop",
        person_id=ANNE.id,
        created_at_s=7.5,
        expires_at_s=9e9,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def store(harness: Harness) -> Store:
    await harness.store.put_organisation(LILLE, line())
    await harness.store.add_organisation(Organisation(name="Angers"), line())
    return harness.store


async def unchanged(store: Store, revision: int) -> bool:
    return await store.revision() == revision


# -- organisations and projects ---------------------------------------------------------------------------------------


async def test_an_organisation_is_changed_from_the_state_that_was_read(store: Store) -> None:
    await store.change_organisation(LILLE, WHOLE, line("changed"))
    assert (await store.directory()).organisations[LILLE.name] == WHOLE
    assert (await store.audit(limit=1))[0].action == "changed"
    revision = await store.revision()
    with pytest.raises(Stale):
        await store.change_organisation(LILLE, replace(LILLE, weight=9.0), line())
    with pytest.raises(NotFound):
        await store.change_organisation(Organisation(name="Nowhere"), Organisation(name="Nowhere"), line())
    assert await unchanged(store, revision)


async def test_of_two_changes_of_one_state_one_is_refused(store: Store, harness: Harness) -> None:
    other = harness.another()
    await other.open()
    results = await asyncio.gather(
        *(
            one.change_organisation(LILLE, replace(LILLE, weight=float(number)), line())
            for number, one in enumerate([store, other] * 3, start=5)
        ),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["Stale"] * 5


async def test_a_project_comes_back_with_every_field(store: Store) -> None:
    bare = Project(organisation=LILLE.name, name="bare")
    assert await store.add_project(PROJECT, line("project"))
    assert await store.add_project(bare, line())
    assert (await store.directory()).projects == {
        (LILLE.name, PROJECT.name): PROJECT,
        (LILLE.name, "bare"): bare,
    }


async def test_adding_a_project_never_replaces_one_and_needs_its_organisation(store: Store) -> None:
    await store.add_project(PROJECT, line())
    revision = await store.revision()
    assert not await store.add_project(replace(PROJECT, active=True), line())
    with pytest.raises(NotFound, match="Nowhere"):
        await store.add_project(Project(organisation="Nowhere", name="p"), line())
    assert await unchanged(store, revision)
    assert (await store.directory()).projects[LILLE.name, PROJECT.name] == PROJECT


async def test_a_project_is_changed_from_the_state_that_was_read(store: Store) -> None:
    await store.add_project(PROJECT, line())
    await store.directory()
    changed = replace(PROJECT, active=True, models=None, limits=Limits())
    await store.change_project(PROJECT, changed, line())
    assert (await store.directory()).projects[LILLE.name, PROJECT.name] == changed
    revision = await store.revision()
    with pytest.raises(Stale):
        await store.change_project(PROJECT, changed, line())
    with pytest.raises(NotFound):
        await store.change_project(replace(PROJECT, name="x"), changed, line())
    assert await unchanged(store, revision)


# -- keys -------------------------------------------------------------------------------------------------------------


async def test_a_key_that_was_used_meanwhile_can_still_be_changed(store: Store) -> None:
    await store.add_key(key(), line())
    await store.touch_keys({"key_1": 12.0})
    await store.update_key(key(), key(priority=8), line())
    found = await store.key("key_1")
    assert found is not None
    assert (found.priority, found.last_used_at_s) == (8, 12.0)
    with pytest.raises(Stale):
        await store.update_key(key(), key(priority=9), line())
    with pytest.raises(NotFound):
        await store.update_key(key("key_9"), key("key_9"), line())
    assert await store.key("key_9") is None


async def test_keys_come_in_pages_of_those_within_reach(store: Store, harness: Harness) -> None:
    for number in range(4):
        await store.add_key(key(f"key_{number}", project="a" if number % 2 else "b"), line())
    await store.add_key(key("key_4", organisation="Angers", project="a"), line())
    await store.add_key(key("key_5", project="a", revoked_at_s=harness.clock.now_s - 1), line())

    async def page(after: str | None, limit: int, **which: object) -> list[str]:
        which = {"reach": ALL, "live_at_s": harness.clock.now_s, **which}
        found = await store.page_of_keys(KeyFilter(**which), after, limit)  # type: ignore[arg-type]
        return [one.id for one in found]

    assert await page(None, 2) == ["key_0", "key_1"]
    assert await page("key_1", 9) == ["key_2", "key_3", "key_4"]
    assert await page(None, 9, live_at_s=None) == [f"key_{number}" for number in range(6)]
    assert await page(None, 9, reach=Reach(organisations=frozenset({"Angers"}))) == ["key_4"]
    assert await page(None, 9, reach=Reach(projects=frozenset({(LILLE.name, "a")}))) == ["key_1", "key_3"]
    both = Reach(organisations=frozenset({"Angers"}), projects=frozenset({(LILLE.name, "b")}))
    assert await page("key_0", 9, reach=both) == ["key_2", "key_4"]
    assert await page(None, 9, reach=Reach()) == []
    assert await page(None, 9, organisation=LILLE.name, project="a") == ["key_1", "key_3"]


# -- people -----------------------------------------------------------------------------------------------------------


async def test_a_person_comes_back_with_every_field_and_the_roles(store: Store) -> None:
    await store.add_project(PROJECT, line())
    await store.add_person(ANNE, [MANAGER, OF_PROJECT], line("person"))
    assert await store.person(ANNE.id) == ANNE
    assert await store.find_person(email="anne@example.org") == ANNE
    assert await store.find_person(subject="https://idp|anne") == ANNE
    assert await store.find_person(subject="anne@example.org") is None
    assert await store.person("nobody") is None
    assert await store.grants_of(ANNE.id) == {MANAGER, OF_PROJECT}
    assert await store.grants_of("nobody") == frozenset()
    assert (await store.audit(limit=1))[0].action == "person"


async def test_an_address_belongs_to_one_person_and_none_to_any_number(store: Store) -> None:
    await store.add_person(ANNE, [], line())
    await store.add_person(Person(id="person_b", name="B"), [], line())
    await store.add_person(Person(id="person_c", name="C"), [], line())
    revision = await store.revision()
    with pytest.raises(Conflict) as caught:
        await store.add_person(Person(id="person_d", name="D", email=ANNE.email), [OPERATOR], line())
    assert caught.value.param == "email"
    bob = await store.person("person_b")
    assert bob is not None
    with pytest.raises(Conflict):
        await store.change_person(bob, replace(bob, subject=ANNE.subject), line())
    with pytest.raises(Conflict):
        await store.add_person(replace(ANNE, email=None, subject=None), [], line())
    assert await unchanged(store, revision)
    assert await store.grants_of("person_d") == frozenset()


async def test_a_person_is_changed_from_the_state_that_was_read(store: Store) -> None:
    await store.add_person(ANNE, [], line())
    changed = replace(ANNE, name="Anne D.", email=None, active=False)
    await store.change_person(ANNE, changed, line())
    assert await store.person(ANNE.id) == changed
    with pytest.raises(Stale):
        await store.change_person(ANNE, changed, line())
    with pytest.raises(NotFound):
        await store.change_person(replace(ANNE, id="x"), changed, line())


async def test_people_and_roles_come_in_pages_of_those_within_reach(store: Store) -> None:
    await store.add_project(PROJECT, line())
    await store.add_person(ANNE, [MANAGER, OF_PROJECT], line())
    await store.add_person(Person(id="person_b", name="B"), [RoleGrant(Role.MEMBER, "Angers"), OPERATOR], line())
    await store.add_person(Person(id="person_c", name="C"), [OF_PROJECT], line())
    await store.add_person(Person(id="person_d", name="D"), [], line())

    async def people(reach: Reach, after: str | None = None, limit: int = 9) -> str:
        return "".join(one.id[-1] for one in await store.page_of_people(reach, after, limit))

    project = Reach(projects=frozenset({(LILLE.name, PROJECT.name)}))
    assert await people(ALL) == "abcd"
    assert await people(ALL, "person_a", 2) == "bc"
    assert await people(Reach(organisations=frozenset({LILLE.name}))) == "ac"
    assert await people(Reach(organisations=frozenset({"Angers"}))) == "b"
    assert await people(project) == "ac"
    assert await people(Reach()) == ""
    assert list(await store.page_of_grants(project, None, 9)) == [(ANNE.id, OF_PROJECT), ("person_c", OF_PROJECT)]
    everyone = list(await store.page_of_grants(ALL, None, 9))
    assert len(everyone) == 5
    person_id, grant = everyone[1]
    after = (person_id, grant.organisation or "", grant.project or "", str(grant.role))
    assert list(await store.page_of_grants(ALL, after, 2)) == everyone[2:4]


async def test_a_role_is_granted_once_and_taken_away_once(store: Store) -> None:
    await store.add_person(ANNE, [], line())
    assert await store.grant_role(ANNE.id, MANAGER, line("granted"))
    revision = await store.revision()
    assert not await store.grant_role(ANNE.id, MANAGER, line())
    with pytest.raises(NotFound, match="person"):
        await store.grant_role("nobody", MANAGER, line())
    with pytest.raises(NotFound, match="Nowhere"):
        await store.grant_role(ANNE.id, RoleGrant(Role.MEMBER, "Nowhere"), line())
    with pytest.raises(NotFound, match="project"):
        await store.grant_role(ANNE.id, OF_PROJECT, line())
    assert await store.grants_of(ANNE.id) == {MANAGER}
    assert [one.action for one in await store.audit(limit=1)] == ["granted"]
    assert await store.take_role(ANNE.id, MANAGER, line("taken"))
    assert not await store.take_role(ANNE.id, MANAGER, line())
    assert await store.grants_of(ANNE.id) == frozenset()
    assert [one.action for one in await store.audit(limit=1)] == ["taken"]
    assert await store.revision() > revision


async def test_a_token_comes_back_until_for_ever_with_its_end_and_its_use(store: Store) -> None:
    await store.add_person(ANNE, [], line())
    await store.add_token(token(), line("token"))
    await store.add_token(token("token_0", created_at_s=8.0), line())
    assert list(await store.tokens_of(ANNE.id)) == [token(), token("token_0", created_at_s=8.0)]
    assert await store.find_token(token().digest) == token()
    assert await store.find_token(b"?" * 32) is None
    await store.revoke_token("token_1", 20.0, line("revoked"))
    await store.revoke_token("token_1", 30.0, line())
    revision = await store.revision()
    await store.touch_token("token_1", 40.0)
    await store.touch_token("unknown", 40.0)
    assert await unchanged(store, revision)
    assert await store.find_token(token().digest) == token(revoked_at_s=20.0, last_used_at_s=40.0)
    with pytest.raises(NotFound):
        await store.revoke_token("unknown", 1.0, line())
    with pytest.raises(NotFound):
        await store.add_token(token("token_3", person_id="nobody"), line())
    with pytest.raises(Conflict):
        await store.add_token(token("token_4", digest=token().digest), line())
    assert (await store.directory()).keys == {}


# -- repeated requests, audit -----------------------------------------------------------------------------------------


async def test_an_idempotency_key_is_claimed_once_and_then_tells_its_answer(store: Store, harness: Harness) -> None:
    other = harness.another()
    await other.open()
    claim = KeptAnswer(caller="person_a", key="k", request=b"1", at_s=1000.0)
    claims = await asyncio.gather(*(one.claim_answer(claim, 100.0, 10.0) for one in [store, other] * 3))
    assert claims.count(None) == 1
    assert [one for one in claims if one is not None] == [claim] * 5
    done = replace(claim, status=201, body='{"é":1}')
    await store.keep_answer(done)
    assert await other.claim_answer(replace(claim, request=b"2", at_s=1090.0), 100.0, 10.0) == done
    assert await store.claim_answer(replace(claim, caller="person_b"), 100.0, 10.0) is None
    assert await store.claim_answer(replace(claim, at_s=1101.0), 100.0, 10.0) is None


async def test_a_claim_that_failed_or_whose_process_died_can_be_made_again(store: Store) -> None:
    claim = KeptAnswer(caller="person_a", key="k", request=b"1", at_s=1000.0)
    assert await store.claim_answer(claim, 100.0, 10.0) is None
    await store.drop_claim("person_a", "k")
    assert await store.claim_answer(claim, 100.0, 10.0) is None
    assert await store.claim_answer(replace(claim, at_s=1009.0), 100.0, 10.0) == claim
    assert await store.claim_answer(replace(claim, at_s=1011.0), 100.0, 10.0) is None


async def test_the_audit_trail_comes_in_pages_of_what_is_within_reach(store: Store) -> None:
    for number in range(6):
        where = LILLE.name if number % 2 else None
        changed = replace(line(f"n{number}"), organisation=where, subject=f"key:{number // 2}")
        await store.add_organisation(Organisation(name=f"o{number}"), changed)

    async def page(reach: Reach, subject: str | None = None, before: int | None = None, limit: int = 9) -> list[str]:
        return [one.line.action for one in await store.page_of_audit(reach, subject, before, limit)]

    lille = Reach(organisations=frozenset({LILLE.name}), projects=frozenset({("o", "p")}))
    assert (await page(ALL))[:6] == ["n5", "n4", "n3", "n2", "n1", "n0"]
    assert await page(lille) == ["n5", "n3", "n1"]
    assert await page(ALL, subject="key:1") == ["n3", "n2"]
    assert await page(Reach()) == []
    two = await store.page_of_audit(ALL, None, None, 2)
    assert [one.line.organisation for one in two] == [LILLE.name, None]
    assert await page(ALL, before=two[-1].number, limit=2) == ["n3", "n2"]


async def test_another_process_sees_new_projects_with_the_next_revision(store: Store, harness: Harness) -> None:
    other = harness.another()
    await other.open()
    seen = await other.directory()
    await store.add_project(PROJECT, line())
    assert await other.revision() > seen.revision
    seen = await other.directory()
    assert seen.projects == {(LILLE.name, PROJECT.name): PROJECT}
    await store.change_project(PROJECT, replace(PROJECT, active=True), line())
    assert (await other.directory()).projects[LILLE.name, PROJECT.name].active
    assert not seen.projects[LILLE.name, PROJECT.name].active
