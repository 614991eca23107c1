"""Usage records brought together to sums: the one loop over records of `core.rollups`, so that it can be compiled."""

from __future__ import annotations

from collections.abc import Iterable

from ilaas.core.usage import UsageRecord
from ilaas.core.values import Outcome

HOUR_MS = 3_600_000
UNKNOWN_METHODS = ("", "unknown")
"""The impact methods of records whose energy and CO2e are not known."""

FinestKey = tuple[int, str, str, str, str, str, str, str, str, str]
"""Hour, organisation, project, key, model, server, site, owner, class, outcome: as `core.rollups.FINEST`."""


def sums_of(records: Iterable[UsageRecord]) -> dict[FinestKey, list[int]]:
    """The measures of `core.rollups.Totals`, in their order, per combination that occurs."""
    groups: dict[FinestKey, list[int]] = {}
    for record in records:
        key = (
            record.finished_at_ms // HOUR_MS,
            record.organisation,
            record.project,
            record.key_id,
            record.model,
            record.server,
            record.site,
            record.owner,
            record.request_class._value_,
            record.outcome._value_,
        )
        sums = groups.get(key)
        if sums is None:
            sums = groups[key] = [0] * 19
        sums[0] += 1
        sums[1] += record.outcome is Outcome.COMPLETED
        sums[2] += record.estimated
        sums[3] += record.impact_method not in UNKNOWN_METHODS
        sums[4] += record.energy_measured
        sums[5] += record.prompt_tokens
        sums[6] += record.completion_tokens
        sums[7] += record.cached_tokens
        sums[8] += record.reasoning_tokens
        sums[9] += record.audio_ms
        sums[10] += record.queue_ms
        sums[11] += record.ttft_ms
        sums[12] += record.duration_ms
        sums[13] += record.price_micro_eur
        sums[14] += record.energy_mj
        sums[15] += record.energy_low_mj
        sums[16] += record.energy_high_mj
        sums[17] += record.co2e_ug
        sums[18] += record.embodied_co2e_ug
    return groups
