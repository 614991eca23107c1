"""Keys of projects: made, changed, rotated and revoked by those who manage the project or its organisation."""

from __future__ import annotations

from dataclasses import replace

from ilaas.core.errors import Conflict, NotFound
from ilaas.core.rights import Action, Caller, Place, reach
from ilaas.core.tenancy import Key
from ilaas.ports.tenancy import KeyFilter
from ilaas.services.administration import NewKey
from ilaas.services.audit_values import key_json
from ilaas.services.checks import check_names
from ilaas.services.governance.office import Office
from ilaas.services.governance.pages import Page, PageRequest
from ilaas.services.governance.versions import check_match
from ilaas.services.governance.views import key_view


class Keys:
    """See the package. A secret is returned once, by the method that made it, and is stored nowhere."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def page(
        self,
        caller: Caller,
        request: PageRequest,
        *,
        organisation: str | None = None,
        project: str | None = None,
        include_dead: bool = False,
    ) -> Page[Key]:
        """Those the caller may see, by id; expired and revoked ones only when asked for."""
        which = KeyFilter(
            reach=reach(caller, Action.KEY_VIEW),
            organisation=organisation,
            project=project,
            live_at_s=None if include_dead else self._office.epoch(),
        )
        found = await self._office.store.page_of_keys(which, request.after_text(), request.limit + 1)
        return request.page(found, lambda key: (key.id,))

    async def get(self, caller: Caller, key_id: str) -> Key:
        """Raises NotFound, also when the caller may not see it."""
        missing = NotFound(f"There is no key '{key_id[:100]}' that you may see.", param="key")
        key = await self._office.store.key(key_id)
        if key is None:
            raise missing
        self._office.demand_sight(caller, Action.KEY_VIEW, Place(key.organisation, key.project), missing)
        return key

    async def create(self, caller: Caller, new: NewKey) -> tuple[str, Key]:
        """Make a key in a project that is there; returns its secret, to be shown this once, and the key.

        Raises NotFound for a project the caller may not see, Forbidden, Conflict for a taken name, InvalidRequest.
        """
        place = Place(new.organisation, new.project)
        missing = NotFound(
            f"There is no project '{new.project[:100]}' of '{new.organisation[:100]}' that you may see.",
            param="project",
        )
        self._office.demand_sight(caller, Action.PROJECT_VIEW, place, missing)
        self._office.demand(caller, Action.KEY_CREATE, place)
        if (new.organisation, new.project) not in (await self._office.store.directory()).projects:
            raise missing
        for model in new.models or ():
            check_names(models=model)
        return await self._office.administration.create_key(new, actor=caller.name)

    async def change(self, caller: Caller, changed: Key, if_match: str | None) -> Key:
        """Replace what may be changed of the key with that id. Raises NotFound, Forbidden, Conflict, Stale and so on.

        A revoked key stays as it is; name, project and organisation stay.
        """
        old = await self.get(caller, changed.id)
        self._office.demand(caller, Action.KEY_CHANGE, Place(old.organisation, old.project))
        check_match(if_match, key_view(old))
        if not old.usable_at(self._office.epoch()):
            raise Conflict(f"The key '{old.id}' is expired or revoked: create a new one.", param="key")
        for model in changed.models or ():
            check_names(models=model)
        kept = replace(
            old,
            priority=changed.priority,
            routing_mode=changed.routing_mode,
            classes=changed.classes,
            models=changed.models,
            expires_at_s=changed.expires_at_s,
            limits=changed.limits,
        )
        if kept != old:
            line = self._office.line(caller, "key.changed", f"key:{old.id}", old.organisation)
            line = replace(line, before=key_json(old), after=key_json(kept))
            await self._office.store.update_key(old, kept, line)
        return kept

    async def revoke(self, caller: Caller, key_id: str) -> Key:
        """End it at once; one that is revoked stays as it is. Raises NotFound, Forbidden."""
        old = await self.get(caller, key_id)
        self._office.demand(caller, Action.KEY_REVOKE, Place(old.organisation, old.project))
        return await self._office.administration.revoke_key(old.id, actor=caller.name)

    async def rotate(self, caller: Caller, key_id: str, overlap_s: float) -> tuple[str, Key]:
        """A new secret for the same name and rights, and its key; the old one works for another `overlap_s`.

        Raises NotFound, Forbidden, Conflict when the key is dead or was replaced, InvalidRequest.
        """
        old = await self.get(caller, key_id)
        self._office.demand(caller, Action.KEY_CHANGE, Place(old.organisation, old.project))
        secret = await self._office.administration.rotate_key(old.id, overlap_s, actor=caller.name)
        rotated = await self.get(caller, old.id)
        return secret, await self.get(caller, rotated.replaced_by or old.id)
