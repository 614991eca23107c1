"""What the federation offers: models, the servers behind them, and the policy each model is dispatched with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ilaas.core.values import Category, Continuation, Engine, Lifecycle, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """How long each stage of a request may last, in seconds; each has its own error."""

    queue_s: float = 570.0
    batch_queue_s: float = 6 * 3600.0
    connect_s: float = 5.0
    first_token_s: float = 120.0
    """Of a streamed answer."""
    answer_s: float = 600.0
    """Of an answer that isn't streamed, whole."""
    idle_s: float = 60.0
    total_s: float = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchPolicy:
    """How one model's requests are held back, ordered and placed."""

    strategy: Strategy = Strategy.LEAST_BUSY
    default_max_parallel: int = 100
    """Ceiling of simultaneous requests of a server that names none."""
    ttft_guard_s: float = 5.0
    """A server whose observed time to first token passes this is given less work (least-busy)."""
    max_wait_s: float = 120.0
    """An interactive request whose predicted wait passes this is refused at once."""
    batch_max_wait_s: float = 6 * 3600.0
    max_queued: int = 10_000
    max_queued_per_organisation: int = 5_000
    ageing_s: float = 300.0
    """A batch request that waited this long gets a share of the slots beside interactive ones."""
    ageing_share: float = 0.1
    max_attempts: int = 3
    """Servers tried for a request, the first one included."""
    continuation: Continuation = Continuation.ON
    """Whether another server goes on with an answer whose server died in the middle of it."""
    scorers: tuple[str, ...] = ("load", "affinity", "own")
    failures_before_down: int = 3
    successes_before_up: int = 2
    down_s: float = 5.0
    """First pause of a server's circuit breaker; doubled at each relapse, at most 60 s."""
    stale_s: float = 10.0
    """Statistics older than this are not used."""
    deadlines: Deadlines = Deadlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """One inference endpoint for one model. Its token is for the gateway only and is never shown."""

    id: str
    url: str
    """Base URL without `/v1`, as in today's configuration."""
    site: str
    owner: str
    """The organisation that provides it."""
    served_name: str
    """The model's name on that server."""
    engine: Engine = Engine.VLLM
    token: str | None = field(default=None, repr=False)
    max_parallel_requests: int | None = None
    owner_reserved: int = 0
    """Slots that only the owner's requests may take."""
    context_window: int | None = None
    quantisation: str | None = None
    gpu_memory_gb: float = 80.0
    """Of one GPU; how many the model needs is reckoned with it (core/impact.py)."""
    power_url: str | None = None
    """The page of the exporter that tells the power of its machine's GPUs."""
    power_gpus: tuple[str, ...] = ()
    """The GPUs it runs on, by UUID or index; empty is all of the page."""
    spot: bool = False
    """It may be taken away at any time, with answers under way."""
    draining: bool = False
    from_file: bool = True
    """Defined in the configuration file (else added at run time)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One public model with its servers."""

    name: str
    servers: tuple[ServerSpec, ...] = ()
    aliases: tuple[str, ...] = ()
    category: Category = Category.GENERALIST
    lifecycle: Lifecycle = Lifecycle.PRODUCTION
    retires_on: str | None = None
    """ISO date from which a deprecated model is gone; announced in answers."""
    context_window: int | None = None
    tool_calling: bool = False
    vision: bool = False
    description: str = ""
    total_parameters_b: tuple[float, float] | None = None
    """Billions of parameters, lowest and highest (equal when known); None is not stated."""
    active_parameters_b: tuple[float, float] | None = None
    """Of them, those that compute each token; None is all."""
    impact_reference: str | None = None
    """The model's name in the impact library's registry, where it is not its own."""
    organisations: frozenset[str] | None = None
    """Who may use it; None is every organisation."""
    policy: DispatchPolicy = DispatchPolicy()
    widest_window: int = field(init=False, default=0)
    """The largest context window of its servers in tokens; 0 when all have the same, so that none need be chosen."""

    def __post_init__(self) -> None:
        windows = {server.context_window for server in self.servers}
        widest = max((window for window in windows if window), default=0)
        object.__setattr__(self, "widest_window", widest if len(windows) > 1 else 0)

    def common_served_name(self) -> str | None:
        """What it is called on its servers, where they agree."""
        names = {server.served_name for server in self.servers}
        return names.pop() if len(names) == 1 else None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models, found by name or alias. Immutable: a change makes a new one, swapped in at once."""

    models: Mapping[str, ModelSpec] = field(default_factory=dict)
    by_name: Mapping[str, ModelSpec] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Iterable[ModelSpec]) -> Catalogue:
        """Index models by name and alias; a name wins over an alias."""
        by_id = {model.name: model for model in models}
        by_name = {alias: model for model in by_id.values() for alias in model.aliases}
        by_name.update(by_id)
        return cls(by_id, by_name)

    def near(self, name: str, names: Iterable[str]) -> list[str]:
        """At most three of `names` that resemble the one asked for."""
        candidates = {candidate.lower(): candidate for candidate in names}
        return [candidates[match] for match in difflib.get_close_matches(name.lower(), candidates, n=3, cutoff=0.4)]
