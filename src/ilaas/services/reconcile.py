"""Brings what operators changed into the running gateway: the file's models, the store's keys, servers and marks.

The file and the store are each read whole and swapped in at once; a request sees the old state or the new, never half.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ilaas.core.billing import Tariff
from ilaas.core.catalogue import Catalogue, ModelSpec
from ilaas.core.errors import StoreUnavailable
from ilaas.core.fairness import FairWeight, in_force
from ilaas.core.impact import SiteFactors
from ilaas.core.quota import Limits, QuotaBook, Subject
from ilaas.core.tenancy import Directory, Organisation
from ilaas.ports.store import AuditLine, Store, StoredServer
from ilaas.services.audit_values import organisation_json
from ilaas.services.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Followers:
    """Who else is told of what changed."""

    catalogue: Callable[[Catalogue, Sequence[SiteFactors]], None] = lambda _catalogue, _sites: None
    """Told the models in force and the sites of the file."""
    tariffs: Callable[[Sequence[Tariff]], None] = lambda _tariffs: None


class Reconcile:
    """Keeps registry, dispatcher and quotas equal to what is configured."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        quotas: QuotaBook,
        configure: Callable[[Catalogue, Mapping[str, float]], None],
        epoch: Callable[[], float] = time.time,
        followers: Followers | None = None,
    ) -> None:
        """`configure` gives the dispatcher its models and the organisations' weights; `epoch` gives epoch seconds."""
        self._store = store
        self._registry = registry
        self._quotas = quotas
        self._configure = configure
        self._followers = followers or Followers()
        self._epoch = epoch
        self._models: tuple[ModelSpec, ...] = ()
        self._organisations: tuple[Organisation, ...] = ()
        self._sites: tuple[SiteFactors, ...] = ()
        self._stored: Sequence[StoredServer] = ()
        self._draining: frozenset[str] = frozenset()
        self._fair: Sequence[FairWeight] = ()
        self._directory = Directory()
        self._revision: int | None = None
        self._reading = asyncio.Lock()

    def use_file(
        self,
        models: tuple[ModelSpec, ...],
        organisations: tuple[Organisation, ...],
        sites: tuple[SiteFactors, ...] = (),
    ) -> None:
        """The configuration file was read: its models, organisations and sites hold from now on."""
        self._models = models
        self._organisations = organisations
        self._sites = sites
        self._revision = None  # so that the next refresh adopts organisations that are new
        self._apply()

    async def refresh(self) -> bool:
        """Read the store again if it changed; tells whether it did. Raises StoreUnavailable (the old state stays)."""
        async with self._reading:  # else a slow reading could put an older state in the place of a newer one
            return await self._read()

    async def follow(self) -> None:
        """Take a change over that was written just now, before who made it is answered.

        When the store does not answer, the change comes with the next of the regular readings.
        """
        with contextlib.suppress(StoreUnavailable):
            await self.refresh()

    async def _read(self) -> bool:
        revision = await self._store.revision()
        if revision == self._revision:
            return False
        self._directory = await self._store.directory()
        if await self._adopt():
            revision = await self._store.revision()
            self._directory = await self._store.directory()
        self._stored = await self._store.servers()
        self._draining = await self._store.draining()
        self._fair = await self._store.fair_weights()
        tariffs = await self._store.tariffs()
        self._revision = revision
        self._followers.tariffs(tariffs)
        self._apply()
        return True

    async def _adopt(self) -> bool:
        """Put the file's organisations into the store, so that they can have projects, keys and people there.

        Only their names: what the file says of them would otherwise hold on after it was taken out of the file.
        """
        missing = [each for each in self._organisations if each.name not in self._directory.organisations]
        for each in (Organisation(name=each.name) for each in missing):
            line = AuditLine(
                at_s=self._epoch(),
                actor="configuration file",
                action="organisation.created",
                subject=f"organisation:{each.name}",
                organisation=each.name,
                after=organisation_json(each),
            )
            await self._store.add_organisation(each, line)
        return bool(missing)

    def _apply(self) -> None:
        catalogue = merge(self._models, self._stored, self._draining)
        organisations = with_file(self._directory.organisations, self._organisations)
        self._registry.set_catalogue(catalogue)
        self._registry.set_directory(replace(self._directory, organisations=organisations))
        self._quotas.set_limits(limits_of(self._registry.directory))
        self._followers.catalogue(catalogue, self._sites)
        self._configure(catalogue, in_force(self._registry.weights(), self._fair))


def with_file(stored: Mapping[str, Organisation], of_file: Sequence[Organisation]) -> dict[str, Organisation]:
    """The organisations in force: what the file says holds; all that it leaves out is the store's.

    A weight of 1, taking part and no limits at all are the defaults, and count as left out.
    """
    organisations = dict(stored)
    for each in of_file:
        known = stored.get(each.name, each)
        organisations[each.name] = replace(
            known,
            weight=known.weight if each.weight == 1.0 else each.weight,
            contributor=each.contributor and known.contributor,
            consumer=each.consumer and known.consumer,
            limits=each.limits or known.limits,
        )
    return organisations


def limits_of(directory: Directory) -> dict[Subject, Limits]:
    """What quotas there are: of organisations, of models as used by one, of projects and of keys."""
    limits: dict[Subject, Limits] = {}
    for organisation in directory.organisations.values():
        if organisation.limits:
            limits[Subject.of_organisation(organisation.name)] = organisation.limits
        for model, of_model in organisation.model_limits.items():
            if of_model:
                limits[Subject.of_model(organisation.name, model)] = of_model
    for project in directory.projects.values():
        if project.limits:
            limits[Subject.of_project(project.organisation, project.name)] = project.limits
    limits.update({Subject.of_key(key.id): key.limits for key in directory.keys.values() if key.limits})
    return limits


def merge(models: Sequence[ModelSpec], stored: Sequence[StoredServer], draining: frozenset[str]) -> Catalogue:
    """The catalogue in force: the file's models with the servers added at run time, and the drain marks.

    A server added for a model that the file no longer has is left out; so is one whose id the file has taken since.
    """
    merged = []
    for model in models:
        known = {server.id for server in model.servers}
        added = [each.spec for each in stored if each.model == model.name and each.spec.id not in known]
        servers = tuple(
            replace(server, draining=True) if server.id in draining and not server.draining else server
            for server in (*model.servers, *added)
        )
        merged.append(replace(model, servers=servers))
    return Catalogue.of(merged)
