"""Takes over the clients of today's dispatcher: each keeps its bearer token and what it may do.

First a plan, made without writing anything; then, when the operator wants it, the plan is carried out. Tokens that are
keys already are left alone, so that it can be run again as often as wanted.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from ilaas.core import keys
from ilaas.core.errors import IlaasError, InvalidRequest
from ilaas.core.people import Person
from ilaas.core.tenancy import Key
from ilaas.core.values import RoutingMode
from ilaas.ports.dispatcher import DispatcherUser
from ilaas.ports.store import AuditLine, Store
from ilaas.services.administration import Administration, NewKey
from ilaas.services.audit_values import person_json
from ilaas.services.checks import check_names, checked_token

_SHORT_TOKEN_CHARS = 16


class Step(StrEnum):
    """What is done with a row."""

    CREATE = "create"
    KNOWN = "known"
    """Its token is a key already."""
    REFUSE = "refuse"
    """It can't be imported; the note says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedUser:
    """One row of the table, and what becomes of it."""

    user: DispatcherUser
    step: Step
    key: NewKey | None = None
    """None when it is refused before there is one."""
    email: str | None = None
    """The contact that is kept as a person, where none has that address."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the import does. Organisations and contacts are made with their first key."""

    users: tuple[PlannedUser, ...]
    organisations: tuple[str, ...] = ()
    """Those that will be created."""
    notes: tuple[str, ...] = ()

    def count(self, step: Step) -> int:
        """How many rows."""
        return sum(each.step is step for each in self.users)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """Where the imported keys go."""

    project: str = "imported"
    organisation_default: str | None = None
    """For rows without an organisation; None refuses them."""
    known_organisations: frozenset[str] = frozenset()
    """Of the configuration file: those that the store does not know yet."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is there before the import."""

    by_digest: Mapping[bytes, Key]
    by_place: Mapping[tuple[str, str, str], Key]
    """Live keys by organisation, project and name."""
    organisations: frozenset[str]


class DispatcherImport:
    """Reads rows, plans, carries out."""

    def __init__(
        self,
        store: Store,
        administration: Administration,
        pepper: bytes,
        epoch: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        """As `Administration` has them."""
        self._store = store
        self._administration = administration
        self._pepper = pepper
        self._epoch = epoch
        self._entropy = entropy

    async def plan(self, users: Iterable[DispatcherUser], options: ImportOptions) -> Plan:
        """What would be done. Writes nothing."""
        known = await self._known(options)
        planned: list[PlannedUser] = []
        names: dict[tuple[str, str, str], DispatcherUser] = {}
        for user in users:
            one = self._planned(user, options, known)
            if one.step is Step.CREATE and one.key is not None:
                place = (one.key.organisation, one.key.project, one.key.name)
                if place in names:
                    one = _refused(one, f"row {names[place].number} has the same name: rename one of them")
                else:
                    names[place] = user
            planned.append(await self._with_contact(one))
        created = {each.key.organisation for each in planned if each.step is Step.CREATE and each.key is not None}
        new = tuple(sorted(created - known.organisations))
        return Plan(users=tuple(planned), organisations=new, notes=tuple(_near(new, known.organisations)))

    async def carry_out(self, plan: Plan, *, actor: str = "operator") -> Plan:
        """Create the keys that are planned; returns what became of each row. A row that fails stops no other one."""
        done: list[PlannedUser] = []
        for each in plan.users:
            if each.step is not Step.CREATE or each.key is None:
                done.append(each)
                continue
            try:
                # The contact first: a row whose key is there is not looked at again.
                if each.email is not None:
                    await self._add_contact(each, each.email, actor)
                await self._administration.import_token(each.key, each.user.token, actor=actor)
            except IlaasError as error:
                if error.retryable:  # the database is away: nothing else will work either
                    raise
                done.append(_refused(each, error.message))
            else:
                done.append(each)
        return replace(plan, users=tuple(done))

    # -- planning -----------------------------------------------------------------------------------------------------

    async def _known(self, options: ImportOptions) -> _Known:
        now = self._epoch()
        everyone = await self._store.list_keys(include_dead=True)
        live = (key for key in everyone if key.usable_at(now) and key.replaced_by is None)
        organisations = (await self._store.directory()).organisations
        return _Known(
            by_digest={key.digest: key for key in everyone},
            by_place={(key.organisation, key.project, key.name): key for key in live},
            organisations=frozenset(organisations) | options.known_organisations,
        )

    def _planned(self, user: DispatcherUser, options: ImportOptions, known: _Known) -> PlannedUser:
        one = PlannedUser(user=user, step=Step.CREATE)
        organisation = (user.organization or "").strip() or options.organisation_default
        if organisation is None:
            return _refused(one, "it has no organisation: give --organisation-default")
        try:
            token = checked_token(user.token)
            key = _new_key(user, organisation, options.project)
        except InvalidRequest as error:
            return _refused(one, error.message)
        one = replace(one, key=key, note="the token is short: rotate it" if len(token) < _SHORT_TOKEN_CHARS else "")
        there = known.by_digest.get(keys.digest(token.encode(), self._pepper))
        if there is not None:
            return replace(one, step=Step.KNOWN, note=self._differences(there, key))
        taken = known.by_place.get((key.organisation, key.project, key.name))
        if taken is not None:
            return _refused(
                one,
                f"the key '{taken.id}' has this name with another token: revoke it, or import with another --project",
            )
        return one

    def _differences(self, there: Key, key: NewKey) -> str:
        if not there.usable_at(self._epoch()):
            return f"as '{there.id}', which is revoked or expired here and stays so"
        names = ("organisation", "name", "priority", "threshold", "routing_mode", "chat_client")
        differ = [name for name in names if getattr(there, name) != getattr(key, name)]
        return f"as '{there.id}'" + (
            f"; left as it is here, though it differs in {', '.join(differ)}" if differ else ""
        )

    async def _with_contact(self, one: PlannedUser) -> PlannedUser:
        email = (one.user.email or "").strip().lower()
        if one.step is not Step.CREATE or not email:
            return one
        name, _, host = email.rpartition("@")
        if not name or not host or "@" in name or not email.isprintable() or " " in email:
            note = "its e-mail is no address and is left out"
            return replace(one, note=f"{one.note}; {note}" if one.note else note)
        return replace(one, email=email)

    async def _add_contact(self, one: PlannedUser, email: str, actor: str) -> None:
        """Keep the address as a person without any role, so that nobody can do anything that was not granted."""
        if await self._store.find_person(email=email) is not None:
            return
        now = self._epoch()
        person = Person(
            id=f"person_{self._entropy(8).hex()}", name=one.user.name.strip(), email=email, created_at_s=now
        )
        line = AuditLine(
            at_s=now, actor=actor, action="person.created", subject=f"person:{person.id}", after=person_json(person)
        )
        await self._store.add_person(person, [], line)


def _new_key(user: DispatcherUser, organisation: str, project: str) -> NewKey:
    """The key of a row. Raises InvalidRequest."""
    name = user.name.strip()
    check_names(organisation=organisation, project=project, name=name)
    mode = user.default_routing_mode.strip().lower().replace("_", "-")
    if mode not in set(RoutingMode):
        raise InvalidRequest(f"its routing mode is {user.default_routing_mode!r}: change it to any of the three")
    return NewKey(
        organisation=organisation,
        project=project,
        name=name,
        priority=user.priority,
        routing_mode=RoutingMode(mode),
        chat_client=(user.client_type or "").strip().lower() == "chat",
        threshold=user.threshold,
    )


def _refused(one: PlannedUser, why: str) -> PlannedUser:
    return replace(one, step=Step.REFUSE, note=why, email=None)


def _near(new: Sequence[str], known: frozenset[str]) -> Iterable[str]:
    """Organisations that are probably another spelling of one that is there."""
    spellings = {name.casefold(): name for name in sorted(known)}
    for name in new:
        for match in difflib.get_close_matches(name.casefold(), spellings, n=1, cutoff=0.85):
            yield f"'{name}' will be new beside '{spellings[match]}': if they are the same, rename it first."
