"""Which jobs the internal workers leave to remote ones: those that name what only a remote worker has."""

from __future__ import annotations

from collections.abc import Iterable

from ilaas.core.enrichment.clients import SCOPE_OF_STEP, ApiClient
from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import ModelChoice


def left_to_others(clients: Iterable[ApiClient], models: frozenset[str]) -> frozenset[tuple[Step, ModelChoice]]:
    """By step, the models and places of remote workers that the federation, with its `models`, has not itself.

    What nobody has is not among them: an internal worker takes it, and its failure says what is missing.
    """
    found = set()
    for client in clients:
        serves = client.policy.serves
        for step in (step for step, scope in SCOPE_OF_STEP.items() if client.active and scope in client.scopes):
            if serves.model is not None and serves.model not in models:
                found.add((step, ModelChoice(model=serves.model)))
            if serves.infrastructure is not None:
                found.add((step, ModelChoice(infrastructure=serves.infrastructure)))
    return frozenset(found)
