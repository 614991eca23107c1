"""The usage record: what is kept of a request. Never content, never a key; whole numbers only.

`__init__` is written out as in `core.dispatch.tickets`: it is made once per request.
"""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.core.values import Outcome, RequestClass, RoutingMode

AUDIO_MS_PER_TOKEN = 100
"""What a recording weighs in the fair order beside tokens: a second as much as ten of them."""


@dataclass(slots=True, init=False)
class Usage:
    """Token counts and length of audio of one answer, as the server gave them or as estimated."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated: bool
    audio_ms: int
    """Of the recording that was heard, or of the speech that was made."""

    def __init__(
        self,
        prompt_tokens: int = 0,
        completion_tokens: int = 0,
        cached_tokens: int = 0,
        reasoning_tokens: int = 0,
        estimated: bool = False,
        audio_ms: int = 0,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.cached_tokens = cached_tokens
        self.reasoning_tokens = reasoning_tokens
        self.estimated = estimated
        self.audio_ms = audio_ms


@dataclass(slots=True, init=False)
class UsageRecord:
    """One request, once. Not frozen, for speed: it is filled once at the end of a request and never changed.

    Times: `finished_at_ms` is epoch milliseconds, the others durations in milliseconds. Idempotent by `id`.
    """

    id: str
    finished_at_ms: int
    organisation: str
    project: str
    key_id: str
    endpoint: str
    model: str
    server: str
    site: str
    owner: str
    request_class: RequestClass
    routing_mode: RoutingMode
    priority: int
    outcome: Outcome
    status: int
    streamed: bool
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    audio_ms: int
    estimated: bool
    queue_ms: int
    ttft_ms: int
    duration_ms: int
    price_micro_eur: int
    """By the tariff in force; 0 for the use of own servers."""
    energy_mj: int
    """Millijoules of use, without the making of the machine; 0 with `impact_method` empty is 'not known'."""
    energy_low_mj: int
    energy_high_mj: int
    co2e_ug: int
    """Micrograms of CO2e of use."""
    embodied_co2e_ug: int
    """Micrograms of CO2e of the making of the machine, this request's share."""
    impact_method: str
    """Method and version; empty is 'not known'."""
    energy_measured: bool

    def __init__(  # noqa: PLR0913
        self,
        *,
        id: str,  # noqa: A002
        finished_at_ms: int,
        organisation: str,
        project: str,
        key_id: str,
        endpoint: str,
        model: str,
        server: str,
        site: str,
        owner: str,
        request_class: RequestClass,
        routing_mode: RoutingMode,
        priority: int,
        outcome: Outcome,
        status: int,
        streamed: bool,
        attempts: int,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        reasoning_tokens: int,
        audio_ms: int,
        estimated: bool,
        queue_ms: int,
        ttft_ms: int,
        duration_ms: int,
        price_micro_eur: int = 0,
        energy_mj: int = 0,
        energy_low_mj: int = 0,
        energy_high_mj: int = 0,
        co2e_ug: int = 0,
        embodied_co2e_ug: int = 0,
        impact_method: str = "",
        energy_measured: bool = False,
    ) -> None:
        self.id = id
        self.finished_at_ms = finished_at_ms
        self.organisation = organisation
        self.project = project
        self.key_id = key_id
        self.endpoint = endpoint
        self.model = model
        self.server = server
        self.site = site
        self.owner = owner
        self.request_class = request_class
        self.routing_mode = routing_mode
        self.priority = priority
        self.outcome = outcome
        self.status = status
        self.streamed = streamed
        self.attempts = attempts
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = completion_tokens
        self.cached_tokens = cached_tokens
        self.reasoning_tokens = reasoning_tokens
        self.audio_ms = audio_ms
        self.estimated = estimated
        self.queue_ms = queue_ms
        self.ttft_ms = ttft_ms
        self.duration_ms = duration_ms
        self.price_micro_eur = price_micro_eur
        self.energy_mj = energy_mj
        self.energy_low_mj = energy_low_mj
        self.energy_high_mj = energy_high_mj
        self.co2e_ug = co2e_ug
        self.embodied_co2e_ug = embodied_co2e_ug
        self.impact_method = impact_method
        self.energy_measured = energy_measured


Values = tuple[str | int, ...]


def values_of(record: UsageRecord) -> Values:
    """All of a record, in the order of its fields: words as plain text, yes and no as 1 and 0.

    Written out, since every record goes through here twice: into the outbox, and into the store.
    """
    return (
        record.id,
        record.finished_at_ms,
        record.organisation,
        record.project,
        record.key_id,
        record.endpoint,
        record.model,
        record.server,
        record.site,
        record.owner,
        record.request_class._value_,
        record.routing_mode._value_,
        record.priority,
        record.outcome._value_,
        record.status,
        1 if record.streamed else 0,
        record.attempts,
        record.prompt_tokens,
        record.completion_tokens,
        record.cached_tokens,
        record.reasoning_tokens,
        record.audio_ms,
        1 if record.estimated else 0,
        record.queue_ms,
        record.ttft_ms,
        record.duration_ms,
        record.price_micro_eur,
        record.energy_mj,
        record.energy_low_mj,
        record.energy_high_mj,
        record.co2e_ug,
        record.embodied_co2e_ug,
        record.impact_method,
        1 if record.energy_measured else 0,
    )
