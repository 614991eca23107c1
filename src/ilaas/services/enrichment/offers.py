"""Which models, and where, a client may ask for by name: its enrichments wait for a worker that has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ilaas.core.enrichment.clients import ApiClient, Scope
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import EnrichmentParameters, ModelChoice
from ilaas.ports.enrichment import ClientStore
from ilaas.services.enrichment.refusals import Violation

Catalogue = Callable[[ApiClient | None], Sequence[ModelChoice]]
"""Models of the federation itself that a client may use; without a client, all of them."""


@dataclass(frozen=True, slots=True)
class Offers:
    """What the federation's own models and the remote workers have."""

    store: ClientStore
    catalogue: Catalogue

    async def of(self, client: ApiClient) -> Sequence[ModelChoice]:
        """What this client may ask for, each once."""
        return list(dict.fromkeys([*self.catalogue(client), *await self._remote()]))

    async def problems(self, client: ApiClient, asked: EnrichmentParameters) -> Sequence[Violation]:
        """Why the model or the place that was asked for can't be had, in the words that clients know."""
        if asked.ai_model is None and asked.infrastructure is None:
            return ()
        remote = await self._remote()
        everything = [*self.catalogue(None), *remote]
        allowed = [*self.catalogue(client), *remote]
        found = [
            *_one(
                "aiModel",
                asked.ai_model,
                ([each.model for each in everything], [each.model for each in allowed]),
                ("Le modèle IA spécifié n'a pas été trouvé", "Vous n'avez pas accès à ce modèle"),
            ),
            *_one(
                "infrastructure",
                asked.infrastructure,
                ([each.infrastructure for each in everything], [each.infrastructure for each in allowed]),
                ("L'infrastructure spécifiée n'a pas été trouvée", "Vous n'avez pas accès à cette infrastructure"),
            ),
        ]
        if not found and not any(_fits(each, asked) for each in allowed):
            found.append(
                Violation(
                    "aiModel",
                    "Aucun worker d'enrichissement avec les valeurs modèle/infrastructure spécifiés n'a été trouvé",
                )
            )
        return [Violation(f"enrichmentParameters.{each.path}", each.message) for each in found]

    async def _remote(self) -> list[ModelChoice]:
        return [
            client.policy.serves
            for client in await self.store.clients()
            if client.active and Scope.PROCESSING_WORKER in client.scopes and client.policy.serves != ModelChoice()
        ]


def wanted(client: ApiClient, asked: EnrichmentParameters) -> dict[Step, ModelChoice]:
    """The model of each step: as the operator fixed it for the client, else as the client asks."""
    found = dict(client.policy.forced)
    if Step.ENRICHMENT not in found and (asked.ai_model is not None or asked.infrastructure is not None):
        found[Step.ENRICHMENT] = ModelChoice(model=asked.ai_model, infrastructure=asked.infrastructure)
    return found


def _one(
    name: str,
    value: str | None,
    known: tuple[Sequence[str | None], Sequence[str | None]],
    messages: tuple[str, str],
) -> list[Violation]:
    for names, message in zip(known, messages, strict=True):
        if value is not None and value not in names:
            return [Violation(name, message)]
    return []


def _fits(offer: ModelChoice, asked: EnrichmentParameters) -> bool:
    return asked.ai_model in {None, offer.model} and asked.infrastructure in {None, offer.infrastructure}
