"""People who administer: who they are, the roles they have and where, and the tokens they sign in with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What a person is in the federation, an organisation or a project. `core.rights` says what each may do."""

    OPERATOR = "operator"
    """Runs the federation; always federation-wide."""
    ORGANISATION_MANAGER = "organisation-manager"
    PROJECT_MANAGER = "project-manager"
    """Of one named project; of several by several grants."""
    MEMBER = "member"
    AUDITOR = "auditor"
    """Auditor or data officer: sees, and changes nothing. Of one organisation or of the whole federation."""


@dataclass(frozen=True, slots=True)
class RoleGrant:
    """One role in one place. Raises ValueError for a role in a kind of place where it does not exist."""

    role: Role
    organisation: str | None = None
    """None is the whole federation."""
    project: str | None = None

    def __post_init__(self) -> None:
        if self.role is Role.OPERATOR and (self.organisation is not None or self.project is not None):
            raise ValueError("an operator is one of the whole federation: name no organisation and no project")
        if self.role not in {Role.OPERATOR, Role.AUDITOR} and self.organisation is None:
            raise ValueError(f"the role {self.role} is one in an organisation: name it")
        if self.role is Role.PROJECT_MANAGER and self.project is None:
            raise ValueError("a project manager is one of a project: name it")
        if self.role is not Role.PROJECT_MANAGER and self.project is not None:
            raise ValueError(f"the role {self.role} is not one of a project: name the organisation only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Someone who signs in to administer. End users of the models are not people of the federation's books."""

    id: str
    name: str
    email: str | None = None
    """In lower case. Unique."""
    subject: str | None = None
    """The identifier that single sign-on gives (issuer and `sub`). Unique."""
    active: bool = True
    """Whether the person may sign in; a person is never deleted, for the audit trail."""
    created_at_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonToken:
    """A personal access token, without its secret: of the form of a key, and good for administration only."""

    id: str
    digest: bytes = field(repr=False)
    hint: str
    name: str
    person_id: str
    created_at_s: float = 0.0
    expires_at_s: float | None = None
    revoked_at_s: float | None = None
    last_used_at_s: float | None = None

    def usable_at(self, epoch_s: float) -> bool:
        """Neither expired nor revoked."""
        return (self.expires_at_s is None or epoch_s < self.expires_at_s) and (
            self.revoked_at_s is None or epoch_s < self.revoked_at_s
        )
