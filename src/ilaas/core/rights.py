"""Who may do what: one function, `may`, asked by the API, the portal and the command line alike. All else is denied.

A role gives actions, and the grant of it says where: in the whole federation, in one organisation, in one project.
Roles only ever add: nothing becomes possible by losing one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ilaas.core.people import Role, RoleGrant


class Action(StrEnum):
    """All that is asked for. What a person sees of it is in the words of `docs/administration.md`."""

    ORGANISATION_VIEW = "organisation.view"
    ORGANISATION_CREATE = "organisation.create"
    ORGANISATION_CHANGE = "organisation.change"
    """Kind, agreement, weight, limits: what the federation grants it."""
    PROJECT_VIEW = "project.view"
    PROJECT_CREATE = "project.create"
    PROJECT_CHANGE = "project.change"
    KEY_VIEW = "key.view"
    KEY_CREATE = "key.create"
    KEY_CHANGE = "key.change"
    """Rotate it too."""
    KEY_REVOKE = "key.revoke"
    PERSON_VIEW = "person.view"
    PERSON_CREATE = "person.create"
    PERSON_CHANGE = "person.change"
    """Name, addresses, whether active: who changes how a person signs in could act in that person's name."""
    ROLE_GRANT = "role.grant"
    """And take it away again."""
    TOKEN_VIEW = "token.view"
    TOKEN_CREATE = "token.create"
    TOKEN_REVOKE = "token.revoke"
    SERVER_VIEW = "server.view"
    SERVER_MANAGE = "server.manage"
    """Add, remove, drain, resume."""
    MODEL_VIEW = "model.view"
    USAGE_VIEW = "usage.view"
    AUDIT_VIEW = "audit.view"
    STATEMENT_VIEW = "statement.view"
    STATEMENT_CLOSE = "statement.close"
    TARIFF_VIEW = "tariff.view"
    TARIFF_CHANGE = "tariff.change"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is: in a project, in an organisation, or (neither) in the federation as a whole."""

    organisation: str | None = None
    project: str | None = None


@dataclass(frozen=True, slots=True)
class PersonRef:
    """A person as the subject of an action, with the roles that acting on the person could give away."""

    id: str
    grants: frozenset[RoleGrant] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who acts."""

    name: str
    """As the audit trail has it: the person's id, no personal data."""
    grants: frozenset[RoleGrant] = frozenset()
    person_id: str | None = None
    """None is the command line of the machine itself."""


LOCAL_OPERATOR = Caller(name="operator", grants=frozenset({RoleGrant(Role.OPERATOR)}))
"""Whoever can run commands on the gateway's machine could change its database too."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a caller may do an action. Lists are filtered with it, so that they show just what `may` allows."""

    everywhere: bool = False
    organisations: frozenset[str] = frozenset()
    projects: frozenset[tuple[str, str]] = frozenset()
    """Organisation and name."""

    def covers(self, place: Place) -> bool:
        """Whether the place is within."""
        if self.everywhere:
            return True
        if place.organisation is None:
            return False
        if place.organisation in self.organisations:
            return True
        return place.project is not None and (place.organisation, place.project) in self.projects


_SEEN_BY_ALL = frozenset({Action.MODEL_VIEW, Action.TARIFF_VIEW})
_FEDERATION: Mapping[Role, frozenset[Action]] = {
    Role.OPERATOR: frozenset(Action),
    Role.ORGANISATION_MANAGER: _SEEN_BY_ALL,
    Role.PROJECT_MANAGER: _SEEN_BY_ALL,
    Role.MEMBER: _SEEN_BY_ALL,
    Role.AUDITOR: _SEEN_BY_ALL,
}
"""What a role gives everywhere, wherever it was granted."""

_VIEWS = frozenset(
    {
        Action.ORGANISATION_VIEW,
        Action.PROJECT_VIEW,
        Action.KEY_VIEW,
        Action.PERSON_VIEW,
        Action.SERVER_VIEW,
        Action.USAGE_VIEW,
        Action.AUDIT_VIEW,
        Action.STATEMENT_VIEW,
    }
)
_ORGANISATION: Mapping[Role, frozenset[Action]] = {
    Role.ORGANISATION_MANAGER: _VIEWS
    | {
        Action.PROJECT_CREATE,
        Action.PROJECT_CHANGE,
        Action.KEY_CREATE,
        Action.KEY_CHANGE,
        Action.KEY_REVOKE,
        Action.PERSON_CREATE,
        Action.PERSON_CHANGE,
        Action.ROLE_GRANT,
        Action.TOKEN_VIEW,
        Action.TOKEN_REVOKE,
        Action.SERVER_MANAGE,
    },
    Role.PROJECT_MANAGER: frozenset({Action.ORGANISATION_VIEW}),
    Role.MEMBER: frozenset({Action.ORGANISATION_VIEW, Action.PROJECT_VIEW, Action.SERVER_VIEW}),
    Role.AUDITOR: _VIEWS | {Action.TOKEN_VIEW},
}
"""What a role gives in the organisation that it was granted in."""

_PROJECT: Mapping[Role, frozenset[Action]] = {
    Role.PROJECT_MANAGER: frozenset(
        {
            Action.PROJECT_VIEW,
            Action.KEY_VIEW,
            Action.KEY_CREATE,
            Action.KEY_CHANGE,
            Action.KEY_REVOKE,
            Action.USAGE_VIEW,
        }
    ),
}
"""What a role gives in the project that it was granted in."""

_ON_ONESELF = frozenset({Action.PERSON_VIEW, Action.TOKEN_VIEW, Action.TOKEN_CREATE, Action.TOKEN_REVOKE})
_OF_ANY_ROLE = frozenset({Action.PERSON_VIEW, Action.TOKEN_VIEW})
"""What can be done to a person who has a role within reach; all else needs every role of the person within reach."""


def reach(caller: Caller, action: Action) -> Reach:
    """Where the caller may do it."""
    organisations: set[str] = set()
    projects: set[tuple[str, str]] = set()
    for grant in caller.grants:
        if action in _FEDERATION[grant.role]:
            return Reach(everywhere=True)
        if action in _ORGANISATION.get(grant.role, ()):
            if grant.organisation is None:
                return Reach(everywhere=True)
            organisations.add(grant.organisation)
        elif action in _PROJECT.get(grant.role, ()) and grant.organisation and grant.project:
            projects.add((grant.organisation, grant.project))
    return Reach(organisations=frozenset(organisations), projects=frozenset(projects))


def may(caller: Caller, action: Action, subject: Place | PersonRef) -> bool:
    """Whether the caller may do this to that. Denied unless a role says otherwise.

    To change a person, or what a person signs in with, every role of that person must be within the caller's reach:
    else a manager of one organisation could act as an operator.
    """
    within = reach(caller, action)
    if isinstance(subject, Place):
        return within.covers(subject)
    if within.everywhere or (action in _ON_ONESELF and subject.id == caller.person_id):
        return True
    covered = [within.covers(Place(grant.organisation, grant.project)) for grant in subject.grants]
    return any(covered) if action in _OF_ANY_ROLE else bool(covered) and all(covered)


def why_not(caller: Caller, action: Action, subject: Place | PersonRef) -> str:
    """What to tell someone for whom `may` says no: what was asked, what would be needed, and from whom."""
    verb, thing = _words(action)
    roles = [str(role) for role in Role if action in _ORGANISATION.get(role, ()) or action in _PROJECT.get(role, ())]
    wanted = " or ".join(["operator", *roles])
    if isinstance(subject, PersonRef):
        return (
            f"You may not {verb} {thing} here: the person's roles are not all within yours ({wanted}). "
            "Ask an operator of the federation."
        )
    if subject.organisation is None:
        return f"You may not {verb} {thing} for the whole federation: that needs the role operator."
    where = f"the organisation '{subject.organisation}'"
    if subject.project is not None:
        where = f"the project '{subject.project}' of {where}"
    held = "no role" if not caller.grants else "no role that allows it"
    return f"You may not {verb} {thing} in {where}: you have {held} there. It needs one of: {wanted}."


def _words(action: Action) -> tuple[str, str]:
    thing, _, verb = action.partition(".")
    article = "an" if thing[0] in "aeio" else "a"
    return verb, thing if thing == "usage" else f"{article} {thing}"
