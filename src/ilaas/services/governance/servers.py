"""Servers and models: seen by the organisations concerned, added, drained and removed by their owners."""

from __future__ import annotations

from dataclasses import replace

from ilaas.core.catalogue import ModelSpec, ServerSpec
from ilaas.core.errors import Conflict, NotFound, Unprocessable
from ilaas.core.rights import Action, Caller, Place, reach
from ilaas.services.administration import NewServer
from ilaas.services.governance.office import Office
from ilaas.services.governance.pages import Page, PageRequest
from ilaas.services.governance.versions import check_match
from ilaas.services.governance.views import server_view

Placed = tuple[str, ServerSpec]
"""A server and the name of its model."""


class Servers:
    """See the package."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def page(self, caller: Caller, request: PageRequest) -> Page[Placed]:
        """Those of organisations whose servers the caller may see, by id."""
        within = reach(caller, Action.SERVER_VIEW)
        seen = [each for each in (await self._all()).values() if within.covers(Place(each[1].owner))]
        return request.of_all(seen, lambda each: (each[1].id,))

    async def get(self, caller: Caller, server_id: str) -> Placed:
        """Raises NotFound, also when the caller may not see it."""
        missing = NotFound(f"There is no server '{server_id[:100]}' that you may see.", param="server")
        found = (await self._all()).get(server_id)
        if found is None:
            raise missing
        self._office.demand_sight(caller, Action.SERVER_VIEW, Place(found[1].owner), missing)
        return found

    async def add(self, caller: Caller, new: NewServer) -> Placed:
        """Add a server to a model of the catalogue. Raises Forbidden, Unprocessable, InvalidRequest, Conflict."""
        self._office.demand(caller, Action.SERVER_MANAGE, Place(new.owner))
        if new.owner not in (await self._office.store.directory()).organisations:
            raise Unprocessable(f"There is no organisation '{new.owner}'.", param="owner")
        model = self._office.catalogue().models.get(new.model)
        if model is None:
            raise Unprocessable(f"The catalogue has no model '{new.model[:100]}'.", param="model")
        if new.served_name is None:
            new = replace(new, served_name=model.common_served_name())
        models = self._office.catalogue().models.values()
        added = await self._office.administration.add_server(new, models, actor=caller.name)
        return added.model, added.spec

    async def remove(self, caller: Caller, server_id: str) -> None:
        """Raises NotFound, Forbidden, Conflict for one of the configuration file."""
        _, spec = await self.get(caller, server_id)
        self._office.demand(caller, Action.SERVER_MANAGE, Place(spec.owner))
        if spec.from_file:
            raise Conflict(f"The server '{server_id}' is in the configuration file: remove it there.", param="server")
        await self._office.administration.remove_server(server_id, actor=caller.name)

    async def mark(self, caller: Caller, server_id: str, if_match: str | None, *, draining: bool) -> Placed:
        """Drain or resume. Raises NotFound, Forbidden, Stale, PreconditionRequired."""
        model, spec = await self.get(caller, server_id)
        self._office.demand(caller, Action.SERVER_MANAGE, Place(spec.owner))
        check_match(if_match, server_view(model, spec))
        administration = self._office.administration
        change = administration.drain_server if draining else administration.resume_server
        await change(server_id, actor=caller.name, owner=spec.owner)
        return await self.get(caller, server_id)

    def models(self, caller: Caller, request: PageRequest) -> Page[ModelSpec]:
        """All models, by name."""
        self._office.demand(caller, Action.MODEL_VIEW, Place())
        return request.of_all(list(self._office.catalogue().models.values()), lambda model: (model.name,))

    async def _all(self) -> dict[str, Placed]:
        """Of the file and of the store, with the drain marks of this moment."""
        store = self._office.store
        found = {
            server.id: (model.name, server)
            for model in self._office.catalogue().models.values()
            for server in model.servers
            if server.from_file
        }
        for stored in await store.servers():
            found.setdefault(stored.spec.id, (stored.model, stored.spec))
        marked = await store.draining()
        return {
            server_id: (model, replace(spec, draining=server_id in marked))
            for server_id, (model, spec) in found.items()
        }
