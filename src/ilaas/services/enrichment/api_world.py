"""What all use cases of the speech API share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ilaas.core.enrichment.changes import SpeechLimits
from ilaas.core.enrichment.clients import ApiClient
from ilaas.core.enrichment.values import Enrichment, Version
from ilaas.core.errors import NotFound
from ilaas.ports.content import ObjectStore
from ilaas.ports.enrichment import EnrichmentStore
from ilaas.services.enrichment.offers import Offers
from ilaas.services.enrichment.refusals import (
    deleted_enrichment,
    other_owner,
    unknown_enrichment,
    unknown_version,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiWorld:
    """The ports, and who asks what."""

    store: EnrichmentStore
    objects: ObjectStore
    offers: Offers
    limits: SpeechLimits
    epoch: Callable[[], float]
    new_id: Callable[[], str]
    require_tld: bool = True
    """Whether addresses of media and webhooks need a top-level domain; not where they may be private."""

    async def owned(self, client: ApiClient, enrichment_id: str) -> Enrichment:
        """An enrichment of this client. Raises NotFound, Forbidden for another's."""
        try:
            found = await self.store.enrichment(enrichment_id)
        except NotFound:
            raise unknown_enrichment(enrichment_id) from None
        return self.checked(client, found)

    def checked(self, client: ApiClient, found: Enrichment) -> Enrichment:
        """The same, read already."""
        if found.client_id != client.id:
            raise other_owner(found.id)
        if found.deleted_at_s is not None:
            raise deleted_enrichment(found.id)
        return found

    async def version(self, client: ApiClient, enrichment_id: str, version_id: str) -> tuple[Enrichment, Version]:
        """A version of an enrichment of this client, with its transcript. Raises NotFound, Forbidden."""
        enrichment = await self.owned(client, enrichment_id)
        try:
            return enrichment, await self.store.version(enrichment_id, version_id)
        except NotFound:
            raise unknown_version(enrichment_id, version_id) from None

    async def latest(self, client: ApiClient, enrichment_id: str) -> tuple[Enrichment, Version]:
        """The newest version. Raises NotFound, Forbidden."""
        enrichment = await self.owned(client, enrichment_id)
        found = await self.store.latest_version(enrichment_id)
        if found is None:
            raise NotFound(f"No version for enrichment with ID '{enrichment_id}' has been found", param="id")
        return enrichment, found
