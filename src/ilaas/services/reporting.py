"""Reports of usage: by organisation, project, key, model, site, class or day, over any period, with their total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ilaas.core.errors import InvalidRequest
from ilaas.core.periods import Period, date_of
from ilaas.core.rollups import Dimension, Totals, UsageLine, UsageQuery, total_of
from ilaas.ports.usage import UsageStore

DASHBOARD_TOKEN_DAYS = 30
DASHBOARD_SHARE_DAYS = 10

_WITHIN: Mapping[Dimension, tuple[Dimension, ...]] = {
    Dimension.PROJECT: (Dimension.ORGANISATION, Dimension.PROJECT),
    Dimension.KEY: (Dimension.ORGANISATION, Dimension.PROJECT, Dimension.KEY),
}
"""Names of projects are only unique within their organisation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Lines and their sum. A line's `values` are those of `columns`; days and hours are ISO texts in UTC."""

    period: Period
    columns: tuple[Dimension, ...]
    lines: Sequence[UsageLine]
    total: Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """The overview that every portal begins with."""

    tokens: Mapping[str, Totals]
    """By day, each of the last 30, quiet ones too."""
    shares: Mapping[str, int]
    """Requests by model over the last 10 days, the most used first."""
    total: Totals = field(default_factory=Totals)
    """Of the 30 days."""


async def report(
    store: UsageStore,
    period: Period,
    by: Sequence[Dimension],
    where: Mapping[Dimension, frozenset[str]] | None = None,
) -> Report:
    """Sums over the period. Raises InvalidRequest for a combination that is not kept."""
    columns = tuple(dict.fromkeys(part for each in by for part in _WITHIN.get(each, (each,))))
    try:
        lines = await store.usage_lines(UsageQuery(period=period, by=columns, where=where or {}))
    except ValueError as error:
        raise InvalidRequest(f"There is no such report: {error}.", param="by") from error
    readable = [UsageLine(tuple(map(_text, columns, line.values)), line.totals) for line in lines]
    return Report(period=period, columns=columns, lines=readable, total=total_of(lines))


def _text(dimension: Dimension, value: str | int) -> str | int:
    if dimension is Dimension.DAY:
        return date_of(int(value)).isoformat()
    if dimension is Dimension.HOUR:
        day, hour = divmod(int(value), 24)
        return f"{date_of(day).isoformat()}T{hour:02d}:00Z"
    return value


async def dashboard(store: UsageStore, now_s: float, organisations: frozenset[str] | None = None) -> Dashboard:
    """Tokens a day over 30 days and shares of requests by model over 10 days; of all organisations, or of some."""
    where = {} if organisations is None else {Dimension.ORGANISATION: organisations}
    month = Period.last_days(DASHBOARD_TOKEN_DAYS, now_s)
    recent = Period.last_days(DASHBOARD_SHARE_DAYS, now_s)
    days = await store.usage_lines(UsageQuery(period=month, by=(Dimension.DAY,), where=where))
    models = await store.usage_lines(UsageQuery(period=recent, by=(Dimension.MODEL,), where=where))
    found = {line.values[0]: line.totals for line in days}
    shares = sorted(((str(line.values[0]), line.totals.requests) for line in models), key=lambda one: (-one[1], one[0]))
    return Dashboard(
        tokens={date_of(day).isoformat(): found.get(day, Totals()) for day in month.days},
        shares=dict(shares),
        total=total_of(days),
    )


def totals_value(totals: Totals) -> dict[str, Any]:
    """Sums as JSON. Energy and CO2e are null when they are known of no request, rather than 0."""
    known = totals.impact_known > 0
    return {
        "requests": totals.requests,
        "completed_requests": totals.completed,
        "estimated_requests": totals.estimated,
        "prompt_tokens": totals.prompt_tokens,
        "completion_tokens": totals.completion_tokens,
        "total_tokens": totals.tokens,
        "cached_tokens": totals.cached_tokens,
        "reasoning_tokens": totals.reasoning_tokens,
        "audio_seconds": totals.audio_ms / 1000,
        "price_micro_eur": totals.price_micro_eur,
        "impact": {
            "requests_known": totals.impact_known,
            "requests_measured": totals.energy_measured,
            "energy_mj": totals.energy_mj,
            "energy_low_mj": totals.energy_low_mj,
            "energy_high_mj": totals.energy_high_mj,
            "co2e_ug": totals.co2e_ug,
            "embodied_co2e_ug": totals.embodied_co2e_ug,
        }
        if known
        else None,
    }
