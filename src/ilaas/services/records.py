"""The usage record of a request that has ended."""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.core.dispatch.events import Grant, Ticket
from ilaas.core.impact import UNKNOWN, Impact
from ilaas.core.usage import Usage, UsageRecord
from ilaas.core.values import Outcome
from ilaas.services.wishes import Wishes

NOTHING_USED = UNKNOWN._replace(method="")
"""Of a request that no server worked for."""


@dataclass(slots=True, init=False)
class End:
    """How a request ended. Times are durations in seconds; a time to first token of 0 is none."""

    outcome: Outcome
    status: int
    usage: Usage
    attempts: int
    ttft_s: float
    duration_s: float
    impact: Impact
    price_micro_eur: int

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        outcome: Outcome,
        status: int,
        usage: Usage,
        attempts: int,
        ttft_s: float,
        duration_s: float,
        impact: Impact = NOTHING_USED,
        price_micro_eur: int = 0,
    ) -> None:
        self.outcome = outcome
        self.status = status
        self.usage = usage
        self.attempts = attempts
        self.ttft_s = ttft_s
        self.duration_s = duration_s
        self.impact = impact
        self.price_micro_eur = price_micro_eur


def make_record(end: End, wishes: Wishes, ticket: Ticket, grant: Grant | None, finished_at_ms: int) -> UsageRecord:
    """Whole numbers only, and nothing of the content."""
    key, usage, impact = wishes.key, end.usage, end.impact
    server = grant.server if grant is not None else None
    waited_s = grant.waited_s if grant is not None else end.duration_s
    return UsageRecord(
        id=ticket.id,
        finished_at_ms=finished_at_ms,
        organisation=key.organisation,
        project=key.project,
        key_id=key.id,
        endpoint=wishes.parsed.endpoint.name,
        model=ticket.model,
        server=server.id if server is not None else "",
        site=server.site if server is not None else "",
        owner=server.owner if server is not None else "",
        request_class=grant.request_class if grant is not None else ticket.request_class,
        routing_mode=ticket.routing_mode,
        priority=ticket.priority,
        outcome=end.outcome,
        status=end.status,
        streamed=wishes.parsed.stream,
        attempts=end.attempts,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        audio_ms=usage.audio_ms,
        estimated=usage.estimated,
        queue_ms=int(waited_s * 1000),
        ttft_ms=int(end.ttft_s * 1000),
        duration_ms=int(end.duration_s * 1000),
        price_micro_eur=end.price_micro_eur,
        energy_mj=impact.energy_mj,
        energy_low_mj=impact.energy_low_mj,
        energy_high_mj=impact.energy_high_mj,
        co2e_ug=impact.co2e_ug,
        embodied_co2e_ug=impact.embodied_co2e_ug,
        impact_method=impact.method,
        energy_measured=impact.measured,
    )
