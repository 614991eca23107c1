"""Energy and CO2e of a day, reckoned twice.

*Attributed* is what the books would say: the production method (core/impact.py) on the requests of each model on each
server. *Drawn* is what the machines take from the mains by the scenario's watts, idle hours included: the difference is
what nobody's request bears.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ilaas.core.impact import MJ_PER_KWH, UNKNOWN, UNKNOWN_METHOD, Impact, ImpactFactors, SiteFactors, impact_of
from ilaas.core.usage import Usage
from ilaas.services.impacts import Deployed, Estimate
from ilaas.sim.federation.plan import ModelPlan
from ilaas.sim.federation.result import ModelResult, ServerResult

_UG_PER_KG = 10**9
_S_PER_H = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteEnergy:
    """Of one site's machines, overhead (PUE) included."""

    drawn_kwh: float
    idle_kwh: float
    """Of that, drawn while there was nothing to compute."""
    drawn_co2e_kg: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Of the whole day."""

    attributed_kwh: float
    attributed_low_kwh: float
    attributed_high_kwh: float
    co2e_kg: float
    """Of the attributed energy's use."""
    embodied_co2e_kg: float
    method: str
    covered: float
    """Share of the completed requests that the method has a figure for."""
    drawn_kwh: float
    idle_kwh: float
    drawn_co2e_kg: float


def energy_of(
    plans: Sequence[ModelPlan], results: Sequence[ModelResult], sites: Mapping[str, SiteFactors], estimate: Estimate
) -> tuple[Energy, dict[str, SiteEnergy]]:
    """Of the whole, and drawn by site."""
    total = [0] * 5
    covered = completed = 0
    methods: set[str] = set()
    for plan, result in zip(plans, results, strict=True):
        for box, server in zip(plan.boxes, result.servers, strict=True):
            deployed = Deployed.of(plan.spec, box.spec, sites[server.site])
            impact = _impact(server, estimate(deployed) if server.requests else None)
            completed += server.requests
            if impact.method == UNKNOWN_METHOD:
                continue
            methods.add(impact.method)
            covered += server.requests
            parts = (impact.energy_mj, impact.energy_low_mj, impact.energy_high_mj, impact.co2e_ug)
            for number, part in enumerate((*parts, impact.embodied_co2e_ug)):
                total[number] += part * server.requests
    servers = [server for result in results for server in result.servers]
    drawn = {name: _drawn([server for server in servers if server.site == name], site) for name, site in sites.items()}
    return Energy(
        attributed_kwh=round(total[0] / MJ_PER_KWH, 3),
        attributed_low_kwh=round(total[1] / MJ_PER_KWH, 3),
        attributed_high_kwh=round(total[2] / MJ_PER_KWH, 3),
        co2e_kg=round(total[3] / _UG_PER_KG, 2),
        embodied_co2e_kg=round(total[4] / _UG_PER_KG, 2),
        method=", ".join(sorted(methods)) or UNKNOWN_METHOD,
        covered=round(covered / completed, 4) if completed else 0.0,
        drawn_kwh=round(sum(site.drawn_kwh for site in drawn.values()), 1),
        idle_kwh=round(sum(site.idle_kwh for site in drawn.values()), 1),
        drawn_co2e_kg=round(sum(site.drawn_co2e_kg for site in drawn.values()), 3),
    ), drawn


def _impact(server: ServerResult, factors: ImpactFactors | None) -> Impact:
    """Of the mean request of a server: the method is linear in all that it asks."""
    if factors is None:
        return UNKNOWN
    usage = Usage(
        prompt_tokens=round(server.prompt_tokens / server.requests),
        completion_tokens=round(server.output_tokens / server.requests),
    )
    return impact_of(factors, usage, server.duration_s)


def _drawn(servers: Sequence[ServerResult], site: SiteFactors) -> SiteEnergy:
    active_wh = sum(server.active_s * server.busy_w for server in servers) / _S_PER_H
    idle_wh = sum((server.up_s - server.active_s) * server.idle_w for server in servers) / _S_PER_H
    drawn_kwh = (active_wh + idle_wh) * site.pue / 1000
    return SiteEnergy(
        drawn_kwh=round(drawn_kwh, 2),
        idle_kwh=round(idle_wh * site.pue / 1000, 2),
        drawn_co2e_kg=round(drawn_kwh * site.grid_g_per_kwh / 1000, 3),
    )
