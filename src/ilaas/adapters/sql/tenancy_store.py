"""The part of the Store with which the federation is governed: each method is one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql import answers, keys, organisations, people, projects, revision, tokens
from ilaas.adapters.sql.engine import Database
from ilaas.adapters.sql.tenancy_tables import PEOPLE, PERSON_TOKENS
from ilaas.core.errors import NotFound
from ilaas.core.people import Person, PersonToken, RoleGrant
from ilaas.core.rights import Reach
from ilaas.core.tenancy import Key, Organisation, Project
from ilaas.ports.tenancy import AuditLine, KeptAnswer, KeyFilter, NumberedLine


class SqlTenancy:
    """`ports.tenancy.TenancyStore` on SQLite or PostgreSQL; `SqlStore` is one."""

    _database: Database

    async def change_organisation(self, old: Organisation, new: Organisation, audit: AuditLine) -> None:
        """Raises NotFound or Stale."""
        async with self._change(audit) as (connection, number):
            await organisations.swap(connection, old, new, number)

    async def add_project(self, project: Project, audit: AuditLine) -> bool:
        """Create it unless it is there; says whether it did. Raises NotFound."""
        async with self._database.read() as connection:
            if await projects.find(connection, project.organisation, project.name) is not None:
                return False
        async with self._database.write() as connection:
            number = await revision.bump(connection)
            if await organisations.find(connection, project.organisation) is None:
                raise NotFound(f"There is no organisation '{project.organisation}'.", param="organisation")
            if await projects.find(connection, project.organisation, project.name) is not None:
                return False  # another process was faster
            await projects.add(connection, project, number)
            await revision.record(connection, audit)
            return True

    async def change_project(self, old: Project, new: Project, audit: AuditLine) -> None:
        """Raises NotFound or Stale."""
        async with self._change(audit) as (connection, number):
            await projects.swap(connection, old, new, number)

    async def update_key(self, old: Key, new: Key, audit: AuditLine) -> None:
        """Raises NotFound or Stale."""
        async with self._change(audit) as (connection, number):
            await keys.swap(connection, old, new, number)

    async def key(self, key_id: str) -> Key | None:
        """The key of that id, dead or alive."""
        async with self._database.read() as connection:
            return await keys.find(connection, key_id)

    async def page_of_keys(self, which: KeyFilter, after: str | None, limit: int) -> Sequence[Key]:
        """Keys by id."""
        async with self._database.read() as connection:
            return await keys.page(connection, which, after, limit)

    # -- people -------------------------------------------------------------------------------------------------------

    async def add_person(self, person: Person, grants: Sequence[RoleGrant], audit: AuditLine) -> None:
        """Raises Conflict."""
        async with self._change(audit) as (connection, _):
            await people.add(connection, person, grants)

    async def change_person(self, old: Person, new: Person, audit: AuditLine) -> None:
        """Raises NotFound, Stale or Conflict."""
        async with self._change(audit) as (connection, _):
            await people.swap(connection, old, new)

    async def person(self, person_id: str) -> Person | None:
        """The person of that id."""
        async with self._database.read() as connection:
            return await people.find(connection, PEOPLE.c.id == person_id)

    async def find_person(self, *, email: str | None = None, subject: str | None = None) -> Person | None:
        """The person with that e-mail or that subject."""
        clause = PEOPLE.c.email == email if subject is None else PEOPLE.c.subject == subject
        async with self._database.read() as connection:
            return await people.find(connection, clause)

    async def page_of_people(self, reach: Reach, after: str | None, limit: int) -> Sequence[Person]:
        """People by id, with a role within reach."""
        async with self._database.read() as connection:
            return await people.page(connection, reach, after, limit)

    async def grants_of(self, person_id: str) -> frozenset[RoleGrant]:
        """The roles of a person."""
        async with self._database.read() as connection:
            return await people.grants_of(connection, person_id)

    async def page_of_grants(
        self, reach: Reach, after: tuple[str, str, str, str] | None, limit: int
    ) -> Sequence[tuple[str, RoleGrant]]:
        """Roles within reach."""
        async with self._database.read() as connection:
            return await people.page_of_grants(connection, reach, after, limit)

    async def grant_role(self, person_id: str, grant: RoleGrant, audit: AuditLine) -> bool:
        """Says whether it was new. Raises NotFound."""
        async with self._database.write() as connection:
            await revision.bump(connection)
            if not await people.grant(connection, person_id, grant):
                return False
            organisation, project = grant.organisation, grant.project
            if organisation and await organisations.find(connection, organisation) is None:
                raise NotFound(f"There is no organisation '{organisation}'.", param="organisation")
            if organisation and project and await projects.find(connection, organisation, project) is None:
                raise NotFound(f"The organisation '{organisation}' has no project '{project}'.", param="project")
            await revision.record(connection, audit)
            return True

    async def take_role(self, person_id: str, grant: RoleGrant, audit: AuditLine) -> bool:
        """Says whether the person had it."""
        async with self._database.write() as connection:
            await revision.bump(connection)
            taken = await people.take(connection, person_id, grant)
            if taken:
                await revision.record(connection, audit)
            return taken

    # -- tokens -------------------------------------------------------------------------------------------------------

    async def add_token(self, token: PersonToken, audit: AuditLine) -> None:
        """Raises NotFound for an unknown person."""
        async with self._change(audit) as (connection, _):
            if await people.find(connection, PEOPLE.c.id == token.person_id) is None:
                raise NotFound(f"There is no person '{token.person_id}'.", param="person")
            await tokens.add(connection, token)

    async def revoke_token(self, token_id: str, at_s: float, audit: AuditLine) -> None:
        """Raises NotFound."""
        async with self._change(audit) as (connection, _):
            await tokens.revoke(connection, token_id, at_s)

    async def tokens_of(self, person_id: str) -> Sequence[PersonToken]:
        """By creation, dead ones too."""
        async with self._database.read() as connection:
            return await tokens.where(connection, PERSON_TOKENS.c.person_id == person_id)

    async def find_token(self, digest: bytes) -> PersonToken | None:
        """The token with that digest, dead or alive."""
        async with self._database.read() as connection:
            found = await tokens.where(connection, PERSON_TOKENS.c.digest == digest)
            return found[0] if found else None

    async def touch_token(self, token_id: str, at_s: float) -> None:
        """Note its last use."""
        async with self._database.write() as connection:
            await tokens.touch(connection, token_id, at_s)

    # -- repeated requests, audit -------------------------------------------------------------------------------------

    async def claim_answer(self, claim: KeptAnswer, keep_s: float, claim_s: float) -> KeptAnswer | None:
        """Take the idempotency key, or tell what it is taken by."""
        async with self._database.write() as connection:
            await revision.lock(connection)  # two that claim at once would both find nothing
            return await answers.claim(connection, claim, keep_s, claim_s)

    async def keep_answer(self, answer: KeptAnswer) -> None:
        """The claimed request was answered."""
        async with self._database.write() as connection:
            await answers.keep(connection, answer)

    async def drop_claim(self, caller: str, key: str) -> None:
        """The claimed request failed: it may be tried again."""
        async with self._database.write() as connection:
            await answers.drop(connection, caller, key)

    async def page_of_audit(
        self, reach: Reach, subject: str | None, before: int | None, limit: int
    ) -> Sequence[NumberedLine]:
        """The newest lines first."""
        async with self._database.read() as connection:
            return await revision.page(connection, reach, subject, before, limit)

    @asynccontextmanager
    async def _change(self, audit: AuditLine) -> AsyncIterator[tuple[AsyncConnection, int]]:
        """A transaction that is one change: a new revision before it, its audit line after it."""
        async with self._database.write() as connection:
            number = await revision.bump(connection)
            yield connection, number
            await revision.record(connection, audit)
