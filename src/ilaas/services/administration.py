"""What operators and members change: keys, organisations and servers. Each change leaves a line in the audit trail.

It works on the Store alone, so that it is the same from the command line, with or without a gateway running, and from
the portal; gateways see the new revision and reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from ilaas.core import keys
from ilaas.core.catalogue import ModelSpec, ServerSpec
from ilaas.core.errors import Conflict, InvalidRequest, NotFound
from ilaas.core.quota.limits import Limits
from ilaas.core.tenancy import Key, Organisation, Project
from ilaas.core.values import Engine, RequestClass, RoutingMode
from ilaas.ports.store import AuditLine, Store, StoredServer
from ilaas.services.audit_values import as_json, key_json, organisation_json, project_json, server_json
from ilaas.services.checks import base_url, check_names, check_not_taken, checked_token, slug

_MIN_HINT_CHARS = len(keys.PREFIX) + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """The key that is asked for; the fields are those of `core.tenancy.Key`."""

    organisation: str
    project: str
    name: str
    priority: int = 0
    routing_mode: RoutingMode = RoutingMode.ANY
    classes: frozenset[RequestClass] = frozenset({RequestClass.INTERACTIVE, RequestClass.BATCH})
    models: frozenset[str] | None = None
    expires_at_s: float | None = None
    limits: Limits = field(default_factory=Limits)
    chat_client: bool = False
    threshold: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewServer:
    """The server that is to be added; the fields are those of `core.catalogue.ServerSpec`."""

    model: str
    """The public name of the model it serves."""
    url: str
    """With or without `/v1` at its end."""
    site: str
    owner: str
    engine: Engine = Engine.VLLM
    token: str | None = field(default=None, repr=False)
    max_parallel_requests: int | None = None
    owner_reserved: int = 0
    served_name: str | None = None
    """None is the model's own name."""
    context_window: int | None = None
    quantisation: str | None = None
    spot: bool = False
    id: str | None = None
    """None makes one of the site, the model and some random characters."""


class Administration:
    """Every change of keys, organisations and servers. `actor` is who asked for it, for the audit trail."""

    def __init__(
        self,
        store: Store,
        pepper: bytes,
        epoch: Callable[[], float],
        entropy: Callable[[int], bytes],
        check_url: Callable[[str], None],
    ) -> None:
        """`entropy` gives that many random bytes; `check_url` raises InvalidRequest for addresses not to be called."""
        self._store = store
        self._pepper = pepper
        self._epoch = epoch
        self._entropy = entropy
        self._check_url = check_url

    # -- keys ---------------------------------------------------------------------------------------------------------

    async def create_key(self, new: NewKey, *, secret: str | None = None, actor: str = "operator") -> tuple[str, Key]:
        """Make a key, and its organisation and project when they are missing; returns its secret, shown once, and it.

        `secret` takes over a token that exists elsewhere. Raises Conflict when a live key of the project has that name.
        """
        check_names(organisation=new.organisation, project=new.project, name=new.name)
        now = self._epoch()
        if new.expires_at_s is not None and new.expires_at_s <= now:
            raise InvalidRequest("The key would be expired already: give an expiry in the future.", param="expires")
        secret = self._secret() if secret is None else checked_token(secret)
        key = Key(
            id=self._id("key"),
            digest=keys.digest(secret.encode(), self._pepper),
            hint=keys.hint(secret),
            name=new.name,
            organisation=new.organisation,
            project=new.project,
            priority=new.priority,
            routing_mode=new.routing_mode,
            classes=new.classes,
            models=new.models,
            created_at_s=now,
            expires_at_s=new.expires_at_s,
            limits=new.limits,
            chat_client=new.chat_client,
            threshold=new.threshold,
        )
        organisation = Organisation(name=new.organisation)
        line = self._line(actor, "organisation.created", f"organisation:{new.organisation}", new.organisation)
        await self._store.add_organisation(organisation, replace(line, after=organisation_json(organisation)))
        project = Project(organisation=new.organisation, name=new.project)
        line = self._line(actor, "project.created", f"project:{project.organisation}/{project.name}", new.organisation)
        await self._store.add_project(project, replace(line, after=project_json(project)))
        line = self._line(actor, "key.created", f"key:{key.id}", key.organisation)
        await self._store.add_key(key, replace(line, after=key_json(key)))
        return secret, key

    async def import_token(self, new: NewKey, token: str, *, actor: str = "operator") -> Key:
        """Accept a token that clients have already as a key. Raises Conflict when it is a key, or was one."""
        return (await self.create_key(new, secret=token, actor=actor))[1]

    async def list_keys(self, *, organisation: str | None = None, include_dead: bool = False) -> Sequence[Key]:
        """Keys by organisation, project, name; expired and revoked ones only when asked for."""
        return await self._store.list_keys(organisation=organisation, include_dead=include_dead)

    async def find_key(self, selector: str) -> Key:
        """The key of that id, secret, or beginning of a secret as shown. Raises NotFound, InvalidRequest if several."""
        selector = selector.strip()
        everyone = await self._store.list_keys(include_dead=True)
        digest = keys.digest(selector.encode(), self._pepper)
        for key in everyone:
            if key.id == selector or key.digest == digest:
                return key
        found = _by_hint(everyone, selector, self._epoch())
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(key.id for key in found)
            raise InvalidRequest(f"Several keys begin like that: {ids}. Give the id of one.", param="key")
        # The selector may be a secret: it is never repeated in a message.
        if keys.is_mistyped(selector) and len(selector) >= len(keys.PREFIX) + keys.RANDOM_CHARS:
            raise InvalidRequest("The key is mistyped: its checksum is wrong. Copy it again, whole.", param="key")
        raise NotFound("There is no such key. 'ilaas key list --all' shows the ids.", param="key")

    async def revoke_key(self, selector: str, *, actor: str = "operator") -> Key:
        """Revoke a key at once, found as in `find_key`; one that is revoked already stays as it is."""
        key = await self.find_key(selector)
        now = self._epoch()
        if key.revoked_at_s is not None and key.revoked_at_s <= now:
            return key
        revoked = replace(key, revoked_at_s=now)
        line = self._line(actor, "key.revoked", f"key:{key.id}", key.organisation)
        await self._store.change_key(revoked, replace(line, before=key_json(key), after=key_json(revoked)))
        return revoked

    async def rotate_key(self, selector: str, overlap_s: float, *, actor: str = "operator") -> str:
        """A new secret for the same name and rights; the old one works for another `overlap_s`, then no more.

        Found as in `find_key`. The new key expires when the old one would have. Raises Conflict when the old one is
        dead or was replaced already.
        """
        if overlap_s < 0:
            raise InvalidRequest("The overlap is a number of seconds, 0 or more.", param="overlap")
        old = await self.find_key(selector)
        now = self._epoch()
        if old.replaced_by is not None:
            raise Conflict(f"The key '{old.id}' was replaced by '{old.replaced_by}' already: rotate that one.")
        if not old.usable_at(now):
            raise Conflict(f"The key '{old.id}' is expired or revoked: create a new one.")
        secret = self._secret()
        new = replace(
            old,
            id=self._id("key"),
            digest=keys.digest(secret.encode(), self._pepper),
            hint=keys.hint(secret),
            created_at_s=now,
            last_used_at_s=None,
        )
        end = now + overlap_s
        expires_at_s = end if old.expires_at_s is None else min(old.expires_at_s, end)
        leaving = replace(old, expires_at_s=expires_at_s, replaced_by=new.id)
        line = self._line(actor, "key.rotated", f"key:{old.id}", old.organisation)
        await self._store.replace_key(leaving, new, replace(line, before=key_json(old), after=key_json(new)))
        return secret

    # -- organisations ------------------------------------------------------------------------------------------------

    async def put_organisation(self, organisation: Organisation, *, actor: str = "operator") -> None:
        """Create an organisation, or change the one of that name; nothing happens when it is so already."""
        check_names(organisation=organisation.name)
        before = (await self._store.directory()).organisations.get(organisation.name)
        action = "organisation.created" if before is None else "organisation.changed"
        line = replace(
            self._line(actor, action, f"organisation:{organisation.name}", organisation.name),
            before=None if before is None else organisation_json(before),
            after=organisation_json(organisation),
        )
        await self._store.put_organisation(organisation, line)

    # -- servers ------------------------------------------------------------------------------------------------------

    async def add_server(
        self, new: NewServer, models: Iterable[ModelSpec] = (), *, actor: str = "operator"
    ) -> StoredServer:
        """Add a server to a model. `models` are those of the file, whose servers hold their ids and addresses too.

        Raises InvalidRequest for an address not to be called, Conflict for a taken id or address.
        """
        check_names(model=new.model, site=new.site, owner=new.owner)
        if new.id is not None:
            check_names(id=new.id)
        if new.max_parallel_requests is not None and new.max_parallel_requests < 1:
            raise InvalidRequest("max_parallel_requests is 1 or more; leave it out for the default.")
        if new.owner_reserved < 0:
            raise InvalidRequest("owner_reserved is 0 or more.", param="owner_reserved")
        url = base_url(new.url)
        of_file = [(model.name, each) for model in models for each in model.servers if each.from_file]
        stored = [(each.model, each.spec) for each in await self._store.servers()]
        check_not_taken(new.model, url, new.id, (*of_file, *stored))
        await asyncio.to_thread(self._check_url, url)  # it may look the name up, which blocks
        spec = ServerSpec(
            id=new.id or f"{slug(new.site)}-{slug(new.model.rpartition('/')[2])}-{self._entropy(3).hex()}",
            url=url,
            site=new.site,
            owner=new.owner,
            served_name=new.served_name or new.model,
            engine=new.engine,
            token=new.token or None,
            max_parallel_requests=new.max_parallel_requests,
            owner_reserved=new.owner_reserved,
            context_window=new.context_window,
            quantisation=new.quantisation,
            spot=new.spot,
            from_file=False,
        )
        server = StoredServer(model=new.model, spec=spec)
        line = self._line(actor, "server.added", f"server:{spec.id}", spec.owner)
        await self._store.put_server(server, replace(line, after=server_json(server)))
        return server

    async def remove_server(self, server_id: str, *, actor: str = "operator") -> None:
        """Remove a server that was added at run time. Raises NotFound, also for one of the configuration file."""
        for server in await self._store.servers():
            if server.spec.id == server_id:
                line = self._line(actor, "server.removed", f"server:{server_id}", server.spec.owner)
                await self._store.remove_server(server_id, replace(line, before=server_json(server)))
                return
        raise NotFound(
            f"No server '{server_id}' was added at run time. One of the configuration file is removed there.",
            param="id",
        )

    async def drain_server(self, server_id: str, *, actor: str = "operator", owner: str | None = None) -> None:
        """Give a server (of the file or added) no new request; those under way end as usual. `owner` is audited."""
        await self._mark(server_id, self._line(actor, "server.drained", f"server:{server_id}", owner), draining=True)

    async def resume_server(self, server_id: str, *, actor: str = "operator", owner: str | None = None) -> None:
        """Lift the drain mark."""
        await self._mark(server_id, self._line(actor, "server.resumed", f"server:{server_id}", owner), draining=False)

    async def _mark(self, server_id: str, line: AuditLine, *, draining: bool) -> None:
        line = replace(
            line,
            before=as_json({"draining": not draining}),
            after=as_json({"draining": draining}),
        )
        await self._store.set_draining(server_id, line, draining=draining)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _line(self, actor: str, action: str, subject: str, organisation: str | None = None) -> AuditLine:
        return AuditLine(at_s=self._epoch(), actor=actor, action=action, subject=subject, organisation=organisation)

    def _secret(self) -> str:
        return keys.make_key(self._entropy(32))

    def _id(self, kind: str) -> str:
        return f"{kind}_{self._entropy(8).hex()}"


def _by_hint(everyone: Sequence[Key], selector: str, epoch_s: float) -> list[Key]:
    """Live keys whose hint begins like that. A beginning too short to mean one key means none."""
    beginning = selector.rstrip("….")
    found: list[Key] = []
    for key in everyone:
        stem = key.hint.rstrip("…")
        meant = stem == beginning or (len(beginning) >= _MIN_HINT_CHARS and stem.startswith(beginning))
        if meant and key.usable_at(epoch_s):
            found.append(key)
    return found
