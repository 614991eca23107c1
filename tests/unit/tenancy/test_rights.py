"""Every role, every action, own and other places: the whole table, written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.people import Role, RoleGrant
from ilaas.core.rights import Action, Caller, PersonRef, Place, may, reach, why_not

FEDERATION = Place()
OWN, OTHER = Place("Lille"), Place("Lyon")
OWN_PROJECT, SISTER_PROJECT, OTHER_PROJECT = Place("Lille", "p"), Place("Lille", "q"), Place("Lyon", "p")
PLACES = {
    "f": FEDERATION,
    "o": OWN,
    "p": OWN_PROJECT,
    "s": SISTER_PROJECT,
    "x": OTHER,
    "y": OTHER_PROJECT,
}

GRANTS = {
    "operator": RoleGrant(Role.OPERATOR),
    "manager": RoleGrant(Role.ORGANISATION_MANAGER, "Lille"),
    "project": RoleGrant(Role.PROJECT_MANAGER, "Lille", "p"),
    "member": RoleGrant(Role.MEMBER, "Lille"),
    "auditor": RoleGrant(Role.AUDITOR, "Lille"),
    "data": RoleGrant(Role.AUDITOR),
}

# For each action: the places where each role may do it. f: federation as a whole, o: own organisation, p: own project,
# s: another project of the own organisation, x: another organisation, y: a project of it. An operator may do all.
TABLE = """
action               manager project member auditor data
organisation.view    ops     ops     ops    ops     fopsxy
organisation.create  -       -       -      -       -
organisation.change  -       -       -      -       -
project.view         ops     p       ops    ops     fopsxy
project.create       ops     -       -      -       -
project.change       ops     -       -      -       -
key.view             ops     p       -      ops     fopsxy
key.create           ops     p       -      -       -
key.change           ops     p       -      -       -
key.revoke           ops     p       -      -       -
person.view          ops     -       -      ops     fopsxy
person.create        ops     -       -      -       -
person.change        ops     -       -      -       -
role.grant           ops     -       -      -       -
token.view           ops     -       -      ops     fopsxy
token.create         -       -       -      -       -
token.revoke         ops     -       -      -       -
server.view          ops     -       ops    ops     fopsxy
server.manage        ops     -       -      -       -
model.view           fopsxy  fopsxy  fopsxy fopsxy  fopsxy
usage.view           ops     p       -      ops     fopsxy
audit.view           ops     -       -      ops     fopsxy
statement.view       ops     -       -      ops     fopsxy
statement.close      -       -       -      -       -
tariff.view          fopsxy  fopsxy  fopsxy fopsxy  fopsxy
tariff.change        -       -       -      -       -
"""


def cells() -> dict[tuple[str, Action], str]:
    header, *rows = [row.split() for row in TABLE.strip().splitlines()]
    found = {(role, action): "fopsxy" for role in ("operator",) for action in Action}
    for action, *where in rows:
        found.update({(role, Action(action)): places for role, places in zip(header[1:], where, strict=True)})
    return found


def caller(*grants: RoleGrant, person_id: str | None = "person_1") -> Caller:
    return Caller(name="someone", grants=frozenset(grants), person_id=person_id)


def test_the_table_has_every_role_and_every_action() -> None:
    assert set(cells()) == {(role, action) for role in GRANTS for action in Action}
    assert {grant.role for grant in GRANTS.values()} == set(Role)


@pytest.mark.parametrize("role", GRANTS)
@pytest.mark.parametrize("action", Action)
def test_each_role_may_do_what_the_table_says_and_nothing_else(role: str, action: Action) -> None:
    allowed = cells()[role, action]
    for letter, place in PLACES.items():
        assert may(caller(GRANTS[role]), action, place) is (letter in allowed), (role, action, place)


@pytest.mark.parametrize("action", Action)
def test_who_has_no_role_may_do_nothing(action: Action) -> None:
    for place in PLACES.values():
        assert not may(caller(), action, place)
    assert not may(caller(), action, PersonRef("person_2", frozenset({GRANTS["member"]})))


# -- on people --------------------------------------------------------------------------------------------------------

MEMBER_HERE = PersonRef("person_2", frozenset({RoleGrant(Role.MEMBER, "Lille"), GRANTS["project"]}))
ALSO_ELSEWHERE = PersonRef("person_3", frozenset({RoleGrant(Role.MEMBER, "Lille"), RoleGrant(Role.MEMBER, "Lyon")}))
AN_OPERATOR = PersonRef("person_4", frozenset({RoleGrant(Role.MEMBER, "Lille"), RoleGrant(Role.OPERATOR)}))
NOBODY = PersonRef("person_5")


def test_a_manager_changes_those_whose_every_role_is_in_the_own_organisation() -> None:
    manager = caller(GRANTS["manager"])
    for action in (Action.PERSON_CHANGE, Action.TOKEN_REVOKE):
        assert may(manager, action, MEMBER_HERE)
        assert not may(manager, action, ALSO_ELSEWHERE)
        assert not may(manager, action, AN_OPERATOR)
        assert not may(manager, action, NOBODY)
    assert may(manager, Action.PERSON_VIEW, AN_OPERATOR)
    assert not may(manager, Action.PERSON_VIEW, NOBODY)


def test_only_an_operator_makes_a_token_for_someone_else() -> None:
    for name, grant in GRANTS.items():
        assert may(caller(grant), Action.TOKEN_CREATE, MEMBER_HERE) is (name == "operator")


@pytest.mark.parametrize("role", GRANTS)
def test_everyone_sees_oneself_and_makes_and_ends_own_tokens_and_no_more(role: str) -> None:
    me = PersonRef("person_1", frozenset({RoleGrant(Role.OPERATOR)}))
    someone = caller(GRANTS[role])
    for action in (Action.PERSON_VIEW, Action.TOKEN_VIEW, Action.TOKEN_CREATE, Action.TOKEN_REVOKE):
        assert may(someone, action, me)
    for action in (Action.PERSON_CHANGE, Action.ROLE_GRANT):
        assert may(someone, action, me) is (role == "operator")


def test_the_command_line_is_not_taken_for_a_person_without_an_id() -> None:
    assert not may(caller(GRANTS["member"], person_id=None), Action.TOKEN_CREATE, PersonRef("None"))


# -- properties -------------------------------------------------------------------------------------------------------

names = st.sampled_from(["Lille", "Lyon", "Angers"])
projects = st.sampled_from(["p", "q"])
grants = st.one_of(
    st.just(RoleGrant(Role.OPERATOR)),
    st.just(RoleGrant(Role.AUDITOR)),
    st.builds(RoleGrant, st.sampled_from([Role.ORGANISATION_MANAGER, Role.MEMBER, Role.AUDITOR]), names),
    st.builds(RoleGrant, st.just(Role.PROJECT_MANAGER), names, projects),
)
places = st.one_of(st.just(Place()), st.builds(Place, names), st.builds(Place, names, projects))
people = st.builds(PersonRef, st.sampled_from(["person_1", "person_2"]), st.frozensets(grants, max_size=3))


@given(st.frozensets(grants, max_size=5), grants, st.sampled_from(Action), st.one_of(places, people))
def test_nothing_becomes_possible_by_losing_a_role(
    held: frozenset[RoleGrant], lost: RoleGrant, action: Action, subject: Place | PersonRef
) -> None:
    if may(caller(*(held - {lost})), action, subject):
        assert may(caller(*held, lost), action, subject)


@given(st.frozensets(grants, max_size=5), st.sampled_from(Action), places)
def test_lists_show_just_what_may_be_done(held: frozenset[RoleGrant], action: Action, place: Place) -> None:
    assert reach(caller(*held), action).covers(place) is may(caller(*held), action, place)


@given(st.frozensets(grants, max_size=4), st.sampled_from(Action), places)
def test_a_right_in_an_organisation_holds_in_its_projects(
    held: frozenset[RoleGrant], action: Action, place: Place
) -> None:
    if may(caller(*held), action, Place(place.organisation)):
        assert may(caller(*held), action, place)


@given(st.frozensets(grants, max_size=4), st.frozensets(grants, max_size=4))
def test_who_may_change_a_person_may_do_all_that_the_person_may(
    held: frozenset[RoleGrant], of_person: frozenset[RoleGrant]
) -> None:
    if may(caller(*held), Action.PERSON_CHANGE, PersonRef("person_2", of_person)):
        for action in Action:
            for place in PLACES.values():
                assert not may(caller(*of_person), action, place) or may(caller(*held), action, place)


@given(st.frozensets(grants, max_size=3), grants)
def test_nobody_grants_more_than_is_held(held: frozenset[RoleGrant], given_away: RoleGrant) -> None:
    if may(caller(*held), Action.ROLE_GRANT, Place(given_away.organisation, given_away.project)):
        for action in Action:
            for place in PLACES.values():
                assert not may(caller(given_away), action, place) or may(caller(*held), action, place)


# -- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", Action)
def test_a_refusal_says_what_where_and_which_role_it_needs(action: Action) -> None:
    for place in PLACES.values():
        text = why_not(caller(GRANTS["member"]), action, place)
        assert "operator" in text
        assert place.organisation is None or place.organisation in text
        assert place.project is None or f"'{place.project}'" in text
    assert "roles" in why_not(caller(), action, AN_OPERATOR)


@pytest.mark.parametrize(
    ("role", "organisation", "project"),
    [
        (Role.OPERATOR, "Lille", None),
        (Role.MEMBER, None, None),
        (Role.ORGANISATION_MANAGER, "Lille", "p"),
        (Role.PROJECT_MANAGER, "Lille", None),
        (Role.AUDITOR, None, "p"),
    ],
)
def test_a_role_in_a_place_where_it_does_not_exist_is_refused(
    role: Role, organisation: str | None, project: str | None
) -> None:
    with pytest.raises(ValueError, match=r"operator|project|organisation"):
        RoleGrant(role, organisation, project)
