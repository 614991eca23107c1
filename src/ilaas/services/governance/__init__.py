"""How the federation is governed: organisations, projects, keys, people, roles, servers, the audit trail
and the books.

A file per kind of thing. Every method takes the caller and asks `core.rights.may` first; what the caller may not even
see is `NotFound`, what is seen and may not be done is `Forbidden`. The HTTP API, the portal and the command line use
these and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.services.governance.audit import AuditTrail
from ilaas.services.governance.finance import Finance
from ilaas.services.governance.keys import Keys
from ilaas.services.governance.office import Office
from ilaas.services.governance.organisations import Organisations
from ilaas.services.governance.people import People
from ilaas.services.governance.projects import Projects
from ilaas.services.governance.repeats import Repeats
from ilaas.services.governance.roles import Roles
from ilaas.services.governance.servers import Servers
from ilaas.services.governance.tokens import Tokens

__all__ = ["Governance", "Office"]


@dataclass(frozen=True, slots=True)
class Governance:
    """All of it, put together."""

    office: Office
    organisations: Organisations
    projects: Projects
    keys: Keys
    people: People
    roles: Roles
    tokens: Tokens
    servers: Servers
    audit: AuditTrail
    finance: Finance
    repeats: Repeats

    @classmethod
    def of(cls, office: Office) -> Governance:
        """On one store."""
        return cls(
            office=office,
            organisations=Organisations(office),
            projects=Projects(office),
            keys=Keys(office),
            people=People(office),
            roles=Roles(office),
            tokens=Tokens(office),
            servers=Servers(office),
            audit=AuditTrail(office),
            finance=Finance(office),
            repeats=Repeats(office),
        )
