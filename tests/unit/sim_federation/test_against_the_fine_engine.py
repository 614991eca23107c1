"""The coarse model of servers against the one that computes every step: the same requests, the same scheduler.

docs/scale.md has the numbers. Tolerances are twice what was measured, no more.
"""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from ilaas.sim.engine import Engine
from ilaas.sim.engine_events import EngineRequest, Finished, FirstToken
from ilaas.sim.federation.engine import CoarseEngine, Job
from ilaas.sim.federation.plan import plan_day
from ilaas.sim.federation.run import ModelRun
from ilaas.sim.federation.scenario import Day
from ilaas.sim.federation.traffic import draw_traffic
from ilaas.sim.params import PRESETS
from ilaas.sim.prefix_cache import Prefix
from tests.support.days import finely, small_day


def loaded_day(rate: float) -> Day:
    """Prompts of 1,500 tokens with a wide spread, answers of 400, and jobs of batch beside them."""
    return small_day(
        hours=0.4,
        statistics_interval_s=1,
        uses=[
            {
                "name": "chat",
                "per_person": rate,
                "profile": "flat",
                "history": False,
                "prompt_tokens": {"median": 1_500, "spread": 1.0, "maximum": 20_000},
                "output_tokens": {"median": 400, "spread": 0.7, "maximum": 4_000},
            },
            {
                "name": "corpus",
                "class": "batch",
                "per_person": rate / 3,
                "profile": "flat",
                "turns": 50,
                "pause_s": 0.5,
                "history": False,
            },
        ],
    )


@pytest.mark.parametrize("rate", [4.0, 20.0])
def test_a_day_comes_out_as_with_every_step_computed(rate: float) -> None:
    (plan,) = plan_day(loaded_day(rate))
    day = plan.day
    traffic = draw_traffic(plan.name, plan.demands, day.people, plan.seed, day.duration_s)
    run, fine = ModelRun(plan, traffic), finely(plan, traffic)
    run.play()
    at_s = np.array(traffic.at_s)
    chat = np.array(traffic.use) == 0
    coarse_first, coarse_whole = np.array(run.columns.first_s) - at_s, np.array(run.columns.ended_s) - at_s
    fine_first = np.array([played.ttft_s for played in fine.played], dtype=float)
    fine_whole = np.array([(played.ended_s or np.nan) - played.sent_s for played in fine.played])
    assert len(fine_first) == len(at_s) > 200
    for percent, tolerance in ((50, 0.1), (95, 0.25)):
        first = [np.nanpercentile(times[chat], percent) for times in (coarse_first, fine_first)]
        whole = [np.nanpercentile(times[chat], percent) for times in (coarse_whole, fine_whole)]
        assert first[0] == pytest.approx(first[1], rel=tolerance)
        assert whole[0] == pytest.approx(whole[1], rel=tolerance / 2)
    used = [
        sum(machine.busy_slot_s for machine in run.machines),
        sum((held.ended_s or 0.0) - held.granted_s for played in fine.played for held in played.leases),
    ]
    assert used[0] == pytest.approx(used[1], rel=0.03)


def coarsely(jobs: list[tuple[float, Job]], engine: CoarseEngine) -> dict[int, tuple[float, float]]:
    """Each request's first token and end."""
    first: dict[int, float] = {}
    ended: dict[int, float] = {}
    waiting = list(jobs)
    while waiting or engine.running or engine.waiting:
        due_s = engine.next_end_s()
        if waiting and waiting[0][0] <= due_s:
            at_s, job = waiting.pop(0)
            begun_s = engine.submit(job, at_s)
            if begun_s is not None:
                first[job.request] = begun_s
            continue
        for request in engine.finished(due_s):
            ended[request] = due_s
        first.update(engine.admitted(due_s))
    return {request: (first[request], ended[request]) for request in ended}


def step_by_step(jobs: list[tuple[float, Job]], engine: Engine, prefixes: dict[int, Prefix]) -> dict[int, Any]:
    first: dict[int, float] = {}
    ended: dict[int, float] = {}
    waiting = list(jobs)
    while waiting or engine.next_event_s() is not None:
        due_s = engine.next_event_s()
        if waiting and (due_s is None or waiting[0][0] <= due_s):
            at_s, job = waiting.pop(0)
            request = EngineRequest(
                id=str(job.request),
                prompt_tokens=job.prompt_tokens,
                output_tokens=job.output_tokens,
                prefix=prefixes.get(job.request),
            )
            engine.submit(request, at_s)
            due_s = at_s
        for event in engine.advance(due_s or 0.0):
            if isinstance(event, FirstToken):
                first[int(event.request_id)] = event.at_s
            elif isinstance(event, Finished):
                ended[int(event.request_id)] = event.at_s
    return {request: (first[request], ended[request]) for request in ended}


def conversations(number: int, per_s: float) -> tuple[list[tuple[float, Job]], dict[int, Prefix]]:
    """Talks of five questions, each with all that was said before."""
    rng = Random("talks")
    jobs: list[tuple[float, Job]] = []
    prefixes: dict[int, Prefix] = {}
    plan: list[tuple[float, int, int, int]] = []
    for talk in range(1, number + 1):
        at_s, said = rng.uniform(0.0, number * 5 / per_s), 0
        for _ in range(5):
            said += rng.randint(100, 2_000)
            output = rng.randint(20, 600)
            plan.append((at_s, talk, said, output))
            said += output
            at_s += rng.uniform(20.0, 60.0)
    for request, (at_s, talk, prompt, output) in enumerate(sorted(plan)):
        jobs.append((at_s, Job(request, prompt, output, talk, (0, 0))))
        prefixes[request] = Prefix(tuple(talk << 20 | block for block in range(prompt // 16)), 16)
    return jobs, prefixes


@pytest.mark.parametrize(("preset", "per_s"), [("a100", 2.0), ("h200", 6.0), ("l40s", 0.5)])
def test_conversations_find_their_beginnings_in_the_cache_as_in_the_fine_engine(preset: str, per_s: float) -> None:
    params = PRESETS[preset]
    jobs, prefixes = conversations(80, per_s)
    coarse, fine = CoarseEngine(params), Engine(params)
    rough, exact = coarsely(jobs, coarse), step_by_step(jobs, fine, prefixes)
    assert rough.keys() == exact.keys() == set(range(len(jobs)))
    computed = fine.prefix_cache.queried_tokens - fine.prefix_cache.hit_tokens
    assert coarse.computed_tokens == pytest.approx(computed, rel=0.1)
    sent = {job.request: at_s for at_s, job in jobs}
    for moment, tolerance in ((0, 0.15), (1, 0.05)):
        means = [np.mean([times[request][moment] - sent[request] for request in sent]) for times in (rough, exact)]
        assert means[0] == pytest.approx(means[1], rel=tolerance)


def test_a_lone_answer_takes_exactly_as_long_as_in_the_fine_engine() -> None:
    jobs = [(1.0, Job(0, 10_000, 300, 0, (0, 0)))]
    for params in PRESETS.values():
        if params.context_tokens < 10_300:
            continue
        rough, exact = coarsely(jobs, CoarseEngine(params)), step_by_step(jobs, Engine(params), {})
        assert rough[0][0] == pytest.approx(exact[0][0], rel=0.02)
        assert rough[0][1] == pytest.approx(exact[0][1], rel=0.02)


def test_a_full_server_keeps_the_others_waiting_in_order() -> None:
    params = PRESETS["workstation-ollama"]
    engine = CoarseEngine(params)
    begun = [engine.submit(Job(number, 100, 50, 0, (0, 0)), 0.0) for number in range(6)]
    assert [moment is None for moment in begun] == [False] * 4 + [True] * 2
    assert (engine.running, engine.waiting, engine.waiting_requests()) == (4, 2, [4, 5])
    at_s = engine.next_end_s()
    ended = engine.finished(at_s)
    assert ended[0] == 0
    assert [request for request, _ in engine.admitted(at_s)] == [4, 5][: len(ended)]


def test_a_dropped_answer_tells_how_far_it_was_and_frees_its_room() -> None:
    engine = CoarseEngine(PRESETS["a100"])
    first_s = engine.submit(Job(1, 1_000, 100, 0, (0, 0)), 0.0)
    assert first_s is not None
    assert engine.drop(1, first_s + 10 * 0.0222) == pytest.approx(11, abs=1)
    assert (engine.running, engine.next_end_s()) == (0, float("inf"))
    assert engine.kv_usage == pytest.approx(0.0, abs=1e-9)
