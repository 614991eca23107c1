"""Small federations, and the same traffic on the fine-grained engine."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ilaas.core.catalogue import DispatchPolicy
from ilaas.sim.federation.plan import ModelPlan
from ilaas.sim.federation.scenario import Day
from ilaas.sim.federation.traffic import Traffic
from ilaas.sim.recording import Recording
from ilaas.sim.run import play
from ilaas.sim.scenario import Model, Organisation, Scenario, Server
from ilaas.sim.workload import Trace, TraceLine

FLAT = [1.0] * 24


def small_day(**changes: Any) -> Day:
    """Two hours, two sites, two institutions with people and two with servers, one model on four servers."""
    given: dict[str, Any] = {
        "name": "small",
        "hours": 2,
        "profiles": {"flat": FLAT},
        "kinds": {
            "fast": {"preset": "h200", "max_parallel": 16, "idle_w": 100, "busy_w": 500},
            "slow": {"preset": "l40s", "max_parallel": 8, "idle_w": 50, "busy_w": 300},
        },
        "sites": [
            {"name": "lyon", "owner": "univ-lyon", "servers": {"fast": 1, "slow": 1}},
            {"name": "lille", "owner": "univ-lille", "servers": {"fast": 1, "slow": 1}},
        ],
        "institutions": [
            {"name": "nantes", "people": 6_000},
            {"name": "rennes", "people": 2_000, "weight": 2},
            {"name": "univ-lyon", "people": 1_000},
            {"name": "univ-lille", "people": 1_000},
        ],
        "uses": [
            {"name": "chat", "per_person": 2, "profile": "flat", "turns": 2, "pause_s": 30},
            {"name": "corpus", "class": "batch", "per_person": 1, "profile": "flat", "turns": 50, "history": False},
        ],
        "models": [
            {
                "name": "m",
                "parameters_b": 30,
                "uses": {"chat": 1.0, "corpus": 1.0},
                "servers": {"fast": 2, "slow": 2},
            }
        ],
    }
    return Day.model_validate({**given, **changes})


def finely(plan: ModelPlan, traffic: Traffic) -> Recording:
    """The same requests on the same servers, with the engine that computes every step. Prompts share nothing."""
    uses = {demand.index: demand.use for demand in plan.demands}
    lines = tuple(
        TraceLine(
            at_s=at_s,
            organisation=plan.day.institutions[traffic.institution[number]],
            model=plan.name,
            prompt_tokens=traffic.prompt_tokens[number],
            output_tokens=traffic.output_tokens[number],
            request_class=uses[traffic.use[number]].request_class,
        )
        for number, at_s in enumerate(traffic.at_s)
    )
    servers = tuple(
        Server(
            id=box.spec.id,
            site=box.spec.site,
            owner=box.spec.owner,
            params={item.name: getattr(box.engine, item.name) for item in fields(box.engine)},
            max_parallel=box.spec.max_parallel_requests,
            owner_reserved=box.spec.owner_reserved,
        )
        for box in plan.boxes
    )
    policy = {item.name: getattr(plan.spec.policy, item.name) for item in fields(DispatchPolicy)}
    return play(
        Scenario(
            name="finely",
            duration_s=plan.day.duration_s,
            drain_s=plan.day.drain_s,
            statistics_interval_s=plan.day.statistics_interval_s,
            organisations=tuple(Organisation(name=name, weight=weight) for name, weight in plan.day.weights.items()),
            models=(Model(name=plan.name, policy=DispatchPolicy(**policy), servers=servers),),
            workloads=(Trace(name="day", lines=lines),),
        )
    )
