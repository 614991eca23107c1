"""What one model's run depends on, worked out of the scenario: its servers, when they come and go, and its demand.

Machines are dealt out: each next one goes to the model of its group that has the least for what is asked of it, and
stands at the site where that model has fewest, so that every model is at several sites where it can be.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random

from ilaas.core.catalogue import DispatchPolicy, ModelSpec, ServerSpec
from ilaas.sim.federation.scenario import Day, Kind, Models
from ilaas.sim.federation.traffic import Demand
from ilaas.sim.params import EngineParams

_LEAST_STAY_S = 120.0


class Action(StrEnum):
    """What happens to a server."""

    JOIN = "join"
    """It comes into the catalogue."""
    NOTICE = "notice"
    """It will leave, and takes nothing new."""
    LEAVE = "leave"
    """It is gone, and out of the catalogue."""
    DIE = "die"
    """It stops answering; nobody was told."""
    REVIVE = "revive"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happens to one server."""

    at_s: float
    action: Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One server."""

    spec: ServerSpec
    kind: str
    engine: EngineParams
    max_parallel: int
    idle_w: float
    busy_w: float
    spot: bool
    here: bool = True
    """It is in the catalogue when the day begins."""
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """One model. Two plans that are equal give equal runs."""

    name: str
    group: str
    spec: ModelSpec
    boxes: tuple[Box, ...]
    demands: tuple[Demand, ...]
    seed: int
    day: DayFacts

    @property
    def expected_load(self) -> float:
        """Tokens of answers asked for in the day, for each that its servers could give in a second."""
        asked = sum(demand.requests * demand.use.output_tokens.median for demand in self.demands)
        return asked / sum(tokens_per_s(box.engine, box.max_parallel) for box in self.boxes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFacts:
    """What all models have in common."""

    duration_s: float
    drain_s: float
    statistics_interval_s: float
    health_interval_s: float
    institutions: tuple[str, ...]
    people: tuple[int, ...]
    weights: Mapping[str, float] = field(hash=False)


def tokens_per_s(engine: EngineParams, parallel: int) -> float:
    """What a full server generates."""
    parallel = min(parallel, engine.slots)
    return parallel / (engine.decode_base_s + engine.decode_per_sequence_s * parallel)


def plan_day(day: Day) -> tuple[ModelPlan, ...]:
    """The plans of all models, in the order of the scenario."""
    supply = {kind: {site.name: site.servers.get(kind, 0) for site in day.sites} for kind in day.kinds}
    facts = DayFacts(
        duration_s=day.duration_s,
        drain_s=day.drain_s,
        statistics_interval_s=day.statistics_interval_s,
        health_interval_s=day.health_interval_s,
        institutions=tuple(member.name for member in day.institutions),
        people=tuple(member.people for member in day.institutions),
        weights={member.name: member.weight for member in day.institutions},
    )
    return tuple(plan for group in day.models for plan in _group_plans(day, group, supply, facts))


def _group_plans(day: Day, group: Models, supply: dict[str, dict[str, int]], facts: DayFacts) -> tuple[ModelPlan, ...]:
    names = [group.name] if group.models == 1 else [f"{group.name}-{n}" for n in range(1, group.models + 1)]
    popularity = [float(n) ** -group.popularity for n in range(1, group.models + 1)]
    shares = [value / sum(popularity) for value in popularity]
    boxes = _dealt(day, group, names, shares, supply)
    policy = DispatchPolicy(
        **{
            **{name: getattr(group.policy, name) for name in DispatchPolicy.__dataclass_fields__},
            "strategy": group.strategy,
        }
    )
    active = group.active_parameters_b
    return tuple(
        ModelPlan(
            name=name,
            group=group.name,
            spec=ModelSpec(
                name=name,
                policy=policy,
                servers=tuple(box.spec for box in mine),
                total_parameters_b=(group.parameters_b, group.parameters_b),
                category=group.category,
                active_parameters_b=None if active is None else (active, active),
            ),
            boxes=mine,
            demands=_demands(day, group, share),
            seed=day.seed,
            day=facts,
        )
        for name, share, mine in zip(names, shares, boxes, strict=True)
    )


def _demands(day: Day, group: Models, share: float) -> tuple[Demand, ...]:
    return tuple(
        Demand(
            use=use,
            index=index,
            requests=day.people * use.per_person * group.uses[use.name] * share,
            profile=day.profiles[use.profile],
        )
        for index, use in enumerate(day.uses)
        if group.uses.get(use.name)
    )


def _dealt(
    day: Day, group: Models, names: list[str], shares: list[float], supply: dict[str, dict[str, int]]
) -> list[tuple[Box, ...]]:
    def best_first(kind: str) -> tuple[bool, float]:
        described = day.kinds[kind]
        return described.spot is not None, -tokens_per_s(described.engine(group.speed), described.max_parallel)

    boxes: list[list[Box]] = [[] for _ in names]
    power = [0.0] * len(names)
    for kind in sorted((kind for kind in day.kinds if group.servers.get(kind)), key=best_first):
        for _ in range(group.servers[kind]):
            # the first machine of a model counts more than any load: none may be without
            poorest = min(range(len(names)), key=lambda n: (power[n] / shares[n], n))
            held = [box.spec.site for box in boxes[poorest]]
            stock = supply[kind]
            site = min((name for name in stock if stock[name]), key=lambda name: (held.count(name), -stock[name]))
            stock[site] -= 1
            box = make_box(day, group, kind, site, f"{names[poorest]}/{kind}@{site}/{len(held) + 1}")
            boxes[poorest].append(box)
            power[poorest] += tokens_per_s(box.engine, box.max_parallel)
    return [tuple(mine) for mine in boxes]


def make_box(day: Day, group: Models, kind: str, site: str, server_id: str) -> Box:
    """A server of a kind at a site; a spot one comes and goes by draws of its own."""
    described, place = day.kinds[kind], next(item for item in day.sites if item.name == site)
    engine = described.engine(group.speed)
    here, changes = (True, ()) if described.spot is None else _comings(described, server_id, day)
    return Box(
        spec=ServerSpec(
            id=server_id,
            url=f"http://{server_id}",
            site=site,
            owner=place.owner,
            served_name=group.name,
            max_parallel_requests=described.max_parallel,
            owner_reserved=described.owner_reserved,
            context_window=engine.context_tokens,
            quantisation=described.quantisation,
            gpu_memory_gb=described.gpu_memory_gb,
            spot=described.spot is not None,
        ),
        kind=kind,
        engine=engine,
        max_parallel=min(described.max_parallel, engine.slots),
        idle_w=described.idle_w,
        busy_w=described.busy_w,
        spot=described.spot is not None,
        here=here,
        changes=changes,
    )


def _comings(kind: Kind, server_id: str, day: Day) -> tuple[bool, tuple[Change, ...]]:
    spot = kind.spot
    if spot is None:
        return True, ()
    rng = Random(f"{day.seed}/{zlib.crc32(server_id.encode())}")  # noqa: S311  # repeatable, not secret
    here = began_here = rng.random() < spot.present_h / (spot.present_h + spot.away_h)
    changes: list[Change] = []
    at_s, end_s = 0.0, day.duration_s + day.drain_s
    while True:
        mean_h = spot.present_h if here else spot.away_h
        at_s += max(rng.expovariate(1.0 / (mean_h * 3600.0)), spot.notice_s + _LEAST_STAY_S)
        if at_s >= end_s:
            return began_here, tuple(changes)
        if here:
            changes += [Change(at_s - spot.notice_s, Action.NOTICE), Change(at_s, Action.LEAVE)]
        else:
            changes.append(Change(at_s, Action.JOIN))
        here = not here


def with_boxes(plan: ModelPlan, boxes: tuple[Box, ...]) -> ModelPlan:
    """The same model with other servers."""
    return replace(plan, boxes=boxes, spec=replace(plan.spec, servers=tuple(box.spec for box in boxes)))
