"""What a day says: waiting and refusals by class and institution, use of servers and sites, energy, given and taken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ilaas.core.impact import SiteFactors
from ilaas.services.impacts import Estimate
from ilaas.sim.federation.energy import energy_of
from ilaas.sim.federation.figures import (
    CLASS_NAMES,
    Balance,
    DayReport,
    Group,
    Peak,
    Series,
    SpotUse,
    Spread,
    Streams,
    Use,
)
from ilaas.sim.federation.plan import ModelPlan
from ilaas.sim.federation.result import (
    OUTCOME_CODES,
    SAMPLE_S,
    Counts,
    ModelResult,
    ServerResult,
    percentile,
)
from ilaas.sim.federation.scenario import Day


def build_day_report(
    day: Day, plans: Sequence[ModelPlan], results: Sequence[ModelResult], estimate: Estimate, variant: str = ""
) -> DayReport:
    """Add up what the models left. `estimate` gives the factors of a model on a server (services/impacts.py)."""
    outcomes, waits = _sum(results, "outcomes"), _sum(results, "waits")
    first, tokens = _sum(results, "first_tokens"), _sum(results, "tokens")
    servers = tuple(server for result in results for server in result.servers)
    sites = {site.name: tuple(server for server in servers if server.site == site.name) for site in day.sites}
    factors = {
        site.name: SiteFactors(
            name=site.name, pue=site.pue, grid_g_per_kwh=site.grid_g_per_kwh, grid_source="scenario", grid_date=""
        )
        for site in day.sites
    }
    energy, site_energy = energy_of(plans, results, factors, estimate)
    series = _series(results)
    whole = _group(outcomes, waits, first)
    return DayReport(
        scenario=day.name,
        variant=variant,
        seed=day.seed,
        people=day.people,
        whole=whole,
        classes={
            name: _group(outcomes[n : n + 1], waits[n : n + 1], first[n : n + 1])
            for n, name in enumerate(CLASS_NAMES)
            if outcomes[n].sum()
        },
        institutions={
            member.name: _group(*(part[:, n : n + 1] for part in (outcomes, waits, first)))
            for n, member in enumerate(day.institutions)
        },
        balances={
            member.name: Balance(
                weight=member.weight,
                people=member.people,
                own=int(tokens[n, n]),
                taken=int(tokens[n].sum() - tokens[n, n]),
                given=int(tokens[:, n].sum() - tokens[n, n]),
            )
            for n, member in enumerate(day.institutions)
        },
        models={result.name: _group(result.outcomes, result.waits, result.first_tokens) for result in results},
        uses={"all": Use.of(servers), **{name: Use.of(there) for name, there in sites.items()}},
        model_uses={result.name: Use.of(result.servers) for result in results},
        servers=servers,
        spot=_spot(servers),
        streams=Streams(
            interrupted=sum(server.interrupted for server in servers),
            continued=sum(result.continued for result in results),
            lost=whole.outcomes.get("stream_broken", 0),
        ),
        energy=energy,
        site_energy=site_energy,
        peak=_peak(series),
        series=series,
    )


def write_json(report: DayReport, path: Path) -> Path:
    """The report as JSON; the same run gives the same bytes."""
    path.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return path


def headline(report: DayReport) -> dict[str, float | None]:
    """The figures that are compared first, by what they are called."""
    whole, classes, use, energy = report.whole, report.classes, report.uses["all"], report.energy
    figures: dict[str, float | None] = {
        "requests": whole.requests,
        "completed": whole.outcomes.get("completed", 0),
        "refused or timed out": whole.refused,
        "requests/s, busiest 5 minutes": report.peak.requests_per_s,
        "slots held at once, most": report.peak.streams,
        "waiting at once, most": report.peak.waiting,
    }
    for name, group in classes.items():
        figures[f"{name}: waiting p95 (s)"] = group.waiting_s.p95
        figures[f"{name}: waiting p99 (s)"] = group.waiting_s.p99
        figures[f"{name}: first token p95 (s)"] = group.first_token_s.p95
    figures |= {
        "servers' hours up": use.up_hours,
        "slots used (share)": use.slots_used,
        "time with work (share)": use.active,
        "answer tokens, millions": round(use.output_tokens / 1e6, 1),
        "prompt tokens computed, millions": round(use.prompt_tokens / 1e6, 1),
        "spot servers that came": report.spot.comings,
        "spot servers that went": report.spot.goings,
        "spot's share of answer tokens": report.spot.token_share,
        "streams cut off": report.streams.interrupted,
        "streams continued elsewhere": report.streams.continued,
        "streams lost": report.streams.lost,
        "energy attributed to requests (kWh)": energy.attributed_kwh,
        "CO2e of that, use (kg)": energy.co2e_kg,
        "CO2e, share of making the machines (kg)": energy.embodied_co2e_kg,
        "energy drawn by the machines (kWh)": energy.drawn_kwh,
        "of that while idle (kWh)": energy.idle_kwh,
        "CO2e of the energy drawn (kg)": energy.drawn_co2e_kg,
    }
    return figures


def _sum(results: Sequence[ModelResult], name: str) -> Counts:
    total: Counts = np.sum([getattr(result, name) for result in results], axis=0)
    return total


def _group(outcomes: Counts, waits: Counts, first: Counts) -> Group:
    ended = outcomes.sum(axis=(0, 1))
    names = ["unfinished" if outcome is None else outcome.value for outcome in OUTCOME_CODES]
    return Group(
        requests=int(ended.sum()),
        outcomes={name: int(number) for name, number in zip(names, ended, strict=True) if number},
        waiting_s=Spread.of(waits.sum(axis=(0, 1))),
        first_token_s=Spread.of(first.sum(axis=(0, 1))),
    )


def _spot(servers: Sequence[ServerResult]) -> SpotUse:
    spot = [server for server in servers if server.spot]
    longest_s = max((server.up_s for server in servers), default=0.0)
    tokens = sum(server.output_tokens for server in servers)
    return SpotUse(
        servers=len(spot),
        comings=sum(server.comings for server in spot),
        goings=sum(server.goings for server in spot),
        up_share=round(sum(server.up_s for server in spot) / (longest_s * len(spot)), 4) if spot and longest_s else 0.0,
        token_share=round(sum(server.output_tokens for server in spot) / tokens, 4) if tokens else 0.0,
    )


def _series(results: Sequence[ModelResult]) -> Series:
    arrivals, waiting, running = (_sum(results, name) for name in ("arrivals", "waiting", "running"))
    slow, slots = _sum(results, "slow"), _sum(results, "slots")
    p95 = (percentile(row, 95) for row in slow)
    return Series(
        at_s=[SAMPLE_S * (n + 1) for n in range(len(slots))],
        requests_per_s={
            name: [round(int(number) / SAMPLE_S, 3) for number in row]
            for name, row in zip(CLASS_NAMES, arrivals, strict=True)
        },
        waiting={name: row.tolist() for name, row in zip(CLASS_NAMES, waiting, strict=True)},
        running={name: row.tolist() for name, row in zip(CLASS_NAMES, running, strict=True)},
        slots=slots.tolist(),
        first_token_p95_s=[None if value is None else round(value, 4) for value in p95],
    )


def _peak(series: Series) -> Peak:
    rates = [sum(rate) for rate in zip(*series.requests_per_s.values(), strict=True)]
    highest = max(range(len(rates)), key=lambda n: rates[n], default=None)
    return Peak(
        requests_per_s=round(rates[highest], 1) if highest is not None else 0.0,
        requests_per_s_at=series.at_s[highest] if highest is not None else 0.0,
        streams=max((sum(row) for row in zip(*series.running.values(), strict=True)), default=0),
        waiting=max((sum(row) for row in zip(*series.waiting.values(), strict=True)), default=0),
    )
