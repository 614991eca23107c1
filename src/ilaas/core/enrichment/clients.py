"""The programs that call the speech API: OAuth clients, each of one project, and remote workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ilaas.core.enrichment.steps import Step
from ilaas.core.enrichment.values import ModelChoice


class Scope(StrEnum):
    """What a token is good for."""

    DEFAULT = "scope_default"
    CLIENT = "scope_client"
    TRANSCRIPTION_WORKER = "scope_transcription_worker"
    PROCESSING_WORKER = "scope_processing_worker"
    EVALUATION_WORKER = "scope_evaluation_worker"
    TRANSLATION_WORKER = "scope_translation_worker"


SCOPE_OF_STEP: Mapping[Step, Scope] = {
    Step.TRANSCRIPTION: Scope.TRANSCRIPTION_WORKER,
    Step.ENRICHMENT: Scope.PROCESSING_WORKER,
    Step.TRANSLATION: Scope.TRANSLATION_WORKER,
    Step.EVALUATION: Scope.EVALUATION_WORKER,
}
"""What a remote worker needs to be given jobs of a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """What the operator fixes for a client."""

    forced: Mapping[Step, ModelChoice] = field(default_factory=dict, hash=False)
    """The model of a step, whatever the client asks for."""
    serves: ModelChoice = field(default_factory=ModelChoice)
    """For a remote worker: what it runs."""
    treat_unspecified: bool = True
    """For a remote worker: whether it also takes jobs that leave the model or the place open."""
    keep_media_s: float = 0.0
    """How long media are kept after their transcription. Zero: removed with it."""
    keep_results_s: float | None = None
    """How long results are kept. None: until deleted."""
    max_upload_bytes: int | None = None
    """None: the service's own limit."""
    max_media_duration_s: float | None = None
    """None: the service's own limit; zero: none."""
    interactive: bool = False
    """Its requests to models go in the interactive class, not in batch."""
    priority: int = 1
    """Of its enrichments; higher goes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiClient:
    """An OAuth client. Times are epoch seconds."""

    id: str
    """The client_id."""
    name: str
    organisation: str
    project: str
    secret_digest: str = field(repr=False)
    """Of its secret, by whatever hash says so in its text."""
    scopes: frozenset[Scope] = frozenset({Scope.DEFAULT, Scope.CLIENT})
    active: bool = True
    created_at_s: float = 0.0
    last_token_at_s: float | None = None
    last_job_at_s: float | None = None
    webhook_secret: str | None = field(default=None, repr=False)
    """Signs the webhooks it gets. Encrypted in the store."""
    policy: ClientPolicy = ClientPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key that signs tokens. Encrypted in the store."""

    id: str
    """The `kid` of the tokens it signs."""
    private_pem: str = field(repr=False)
    created_at_s: float
    retired_at_s: float | None = None
    """From then on it signs no more; tokens that it signed are still taken until they run out."""
