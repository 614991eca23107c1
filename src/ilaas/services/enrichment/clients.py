"""OAuth clients of the speech API: made, changed and revoked by those who manage the keys of their project.

What a client may do with the media of all others (the scopes of workers) is given by operators alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from ilaas.core.enrichment import orders
from ilaas.core.enrichment.clients import ApiClient, ClientPolicy, Scope
from ilaas.core.errors import Conflict, InvalidRequest, NotFound
from ilaas.core.rights import Action, Caller, Place, reach
from ilaas.ports.enrichment import EnrichmentStore, ListQuery
from ilaas.services.audit_values import as_json
from ilaas.services.checks import check_names
from ilaas.services.enrichment.client_views import client_view, policy_value
from ilaas.services.enrichment.tokens import secret_digest
from ilaas.services.governance.office import Office
from ilaas.services.governance.pages import Page, PageRequest
from ilaas.services.governance.versions import check_match

MIN_SECRET_CHARS = 16
_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}")
"""It is part of a path in the object store."""
_REVOKED = "The API client was revoked"
_AT_ONCE = 100
OF_CLIENTS = frozenset({Scope.DEFAULT, Scope.CLIENT})
"""What a client is made with when nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewClient:
    """A client that is to be."""

    name: str
    organisation: str
    project: str
    scopes: frozenset[Scope] = OF_CLIENTS
    policy: ClientPolicy = field(default_factory=ClientPolicy)
    signs_webhooks: bool = False
    id: str | None = None
    """As it has been with another service, so that nothing changes for who calls; None makes one."""
    secret: str | None = None
    """The same."""


@dataclass(frozen=True, slots=True)
class MadeClient:
    """A client and its secrets, which are shown once."""

    client: ApiClient
    secret: str


class ApiClients:
    """See above. Every method takes the caller, and raises NotFound for what the caller may not see."""

    def __init__(self, office: Office, store: EnrichmentStore) -> None:
        self._office = office
        self._store = store

    async def page(
        self, caller: Caller, request: PageRequest, *, organisation: str | None = None, project: str | None = None
    ) -> Page[ApiClient]:
        """Those whose keys the caller may see, revoked ones too; by id."""
        within = reach(caller, Action.KEY_VIEW)
        found = await self._store.clients(organisation=organisation, project=project)
        seen = [each for each in found if within.covers(_place(each))]
        return request.of_all(seen, lambda each: (each.id,))

    async def get(self, caller: Caller, client_id: str) -> ApiClient:
        """Raises NotFound, also when the caller may not see it."""
        missing = NotFound(f"There is no speech API client '{client_id[:100]}' that you may see.", param="client_id")
        try:
            client = await self._store.client(client_id)
        except NotFound:
            raise missing from None
        self._office.demand_sight(caller, Action.KEY_VIEW, _place(client), missing)
        return client

    async def create(self, caller: Caller, new: NewClient) -> MadeClient:
        """Raises NotFound for a project the caller may not see, Forbidden, Conflict for a taken id or name."""
        place = Place(new.organisation, new.project)
        missing = NotFound(
            f"There is no project '{new.project[:100]}' of '{new.organisation[:100]}' that you may see.",
            param="project",
        )
        self._office.demand_sight(caller, Action.PROJECT_VIEW, place, missing)
        self._office.demand(caller, Action.KEY_CREATE, place)
        self._check_grant(caller, new.scopes, new.policy)
        if (new.organisation, new.project) not in (await self._office.store.directory()).projects:
            raise missing
        check_names(name=new.name)
        if new.id is not None and not _ID.fullmatch(new.id):
            raise InvalidRequest("An id is 1 to 128 letters, digits, '.', '_', '~' or '-'.", param="id")
        if new.secret is not None and len(new.secret) < MIN_SECRET_CHARS:
            raise InvalidRequest(f"A secret has {MIN_SECRET_CHARS} characters or more.", param="secret")
        secret = new.secret or self._office.entropy(32).hex()
        client = ApiClient(
            id=new.id or self._office.entropy(16).hex(),
            name=new.name,
            organisation=new.organisation,
            project=new.project,
            secret_digest=secret_digest(secret, self._office.pepper),
            scopes=new.scopes | {Scope.DEFAULT},
            created_at_s=self._office.epoch(),
            webhook_secret=self._office.entropy(32).hex() if new.signs_webhooks else None,
            policy=new.policy,
        )
        line = self._office.line(caller, "speech_client.created", f"speech_client:{client.id}", client.organisation)
        await self._store.add_client(client, replace(line, after=_json(client)))
        return MadeClient(client, secret)

    async def change(self, caller: Caller, changed: ApiClient, if_match: str | None) -> ApiClient:
        """Replace name, scopes and policy of the client of that id. Raises Forbidden, Conflict, Stale and so on."""
        old = await self._to_change(caller, changed.id)
        check_match(if_match, client_view(old))
        check_names(name=changed.name)
        scopes = changed.scopes | {Scope.DEFAULT}
        self._check_grant(caller, scopes - old.scopes, changed.policy, old.policy)
        kept = replace(old, name=changed.name, scopes=scopes, policy=changed.policy)
        return await self._write(caller, "changed", old, kept)

    async def revoke(self, caller: Caller, client_id: str) -> ApiClient:
        """Switch it off, now and for good: its tokens are refused at once, and what is not done yet is cancelled.

        Its results stay for as long as its policy says. Raises NotFound, Forbidden.
        """
        old = await self.get(caller, client_id)
        self._office.demand(caller, Action.KEY_REVOKE, _place(old))
        revoked = await self._write(caller, "revoked", old, replace(old, active=False)) if old.active else old
        await self._cancel_all(client_id)
        return revoked

    async def _cancel_all(self, client_id: str) -> None:
        """Also those that an earlier call, which was cut off, has left."""
        query = ListQuery(size=_AT_ONCE)
        while (page := await self._store.page(client_id, query)).content:
            for each in page.content:
                if not each.status.is_final:
                    cancel = partial(orders.cancelled, cause=_REVOKED, at_s=self._office.epoch())
                    await self._store.change(each.id, cancel)
            query = replace(query, page=query.page + 1)

    async def rotate(self, caller: Caller, client_id: str) -> MadeClient:
        """A new secret; the old one is refused from now on. Raises NotFound, Forbidden, Conflict."""
        old = await self._to_change(caller, client_id)
        secret = self._office.entropy(32).hex()
        kept = replace(old, secret_digest=secret_digest(secret, self._office.pepper))
        return MadeClient(await self._write(caller, "rotated", old, kept), secret)

    async def _to_change(self, caller: Caller, client_id: str) -> ApiClient:
        old = await self.get(caller, client_id)
        self._office.demand(caller, Action.KEY_CHANGE, _place(old))
        if not old.active:
            raise Conflict(f"The client '{old.id}' is revoked: create a new one.", param="client_id")
        return old

    def _check_grant(
        self, caller: Caller, scopes: Iterable[Scope], policy: ClientPolicy, old: ClientPolicy | None = None
    ) -> None:
        """Workers get the media of everybody, and of the policy only retention is at nobody's cost: operators only."""
        known = old or ClientPolicy()
        own = replace(policy, keep_media_s=known.keep_media_s, keep_results_s=known.keep_results_s)
        if set(scopes) - OF_CLIENTS or own != known:
            self._office.demand(caller, Action.KEY_CREATE, Place())

    async def _write(self, caller: Caller, verb: str, old: ApiClient, kept: ApiClient) -> ApiClient:
        line = self._office.line(caller, f"speech_client.{verb}", f"speech_client:{old.id}", old.organisation)
        line = replace(line, before=_json(old), after=_json(kept))

        def change(current: ApiClient) -> ApiClient:
            return replace(
                current,
                name=kept.name,
                secret_digest=kept.secret_digest,
                scopes=kept.scopes,
                active=kept.active,
                policy=kept.policy,
            )

        return await self._store.change_client(old.id, change, line)


def _place(client: ApiClient) -> Place:
    return Place(client.organisation, client.project)


def _json(client: ApiClient) -> str:
    """Everything but the secrets."""
    return as_json(
        {
            "id": client.id,
            "name": client.name,
            "organisation": client.organisation,
            "project": client.project,
            "scopes": sorted(client.scopes),
            "active": client.active,
            "signs_webhooks": client.webhook_secret is not None,
            "policy": policy_value(client.policy),
        }
    )
