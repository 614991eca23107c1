"""What `ilaas simulate federation` does: play every model, and for a what-if those again that it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context

from ilaas.sim.federation.plan import ModelPlan, plan_day
from ilaas.sim.federation.result import ModelResult, percentile, result_of
from ilaas.sim.federation.run import ModelRun
from ilaas.sim.federation.scenario import Day
from ilaas.sim.federation.traffic import draw_traffic
from ilaas.sim.federation.whatif import WhatIf

Told = Callable[[ModelResult], None]


class Study:
    """A scenario and its variants. A model that a variant leaves as it was is not played again."""

    def __init__(self, day: Day, *, jobs: int = 1, told: Told = lambda _: None) -> None:
        """`jobs` processes share the models; `told` hears of each as it is done. Neither changes any number."""
        self.day = day
        self.plans = plan_day(day)
        self._jobs = jobs
        self._told = told
        self._known: list[tuple[ModelPlan, ModelResult]] = []

    def base(self) -> list[ModelResult]:
        """The scenario as it is, in its order of models."""
        return self._results(self.plans)

    def variant(self, what_if: WhatIf) -> tuple[tuple[ModelPlan, ...], list[ModelResult]]:
        """The scenario with changes: its plans and what came out. Raises InvalidRequest for names that it hasn't."""
        what_if.check(self.day, [plan.name for plan in self.plans])
        plans = what_if.plans(self.day, self.neediest())
        return plans, self._results(plans)

    def neediest(self) -> str:
        """The model that people wait for most, by the p99 of waiting, then by its load."""
        waits = {result.name: percentile(result.waits[:2].sum(axis=(0, 1)), 99) or 0.0 for result in self.base()}
        return max(self.plans, key=lambda plan: (waits[plan.name], plan.expected_load)).name

    def _results(self, plans: Sequence[ModelPlan]) -> list[ModelResult]:
        fresh = [plan for plan in plans if self._result(plan) is None]
        for plan, result in zip(fresh, self._played(fresh), strict=True):
            self._known.append((plan, result))
            self._told(result)
        found = [self._result(plan) for plan in plans]
        return [result for result in found if result is not None]

    def _result(self, plan: ModelPlan) -> ModelResult | None:
        return next((result for known, result in self._known if known == plan), None)

    def _played(self, plans: Sequence[ModelPlan]) -> Iterable[ModelResult]:
        with ExitStack() as stack:
            if self._jobs == 1:
                yield from map(play_model, plans)
            else:
                # spawned, not forked: the parent may have threads (of numpy) whose locks a fork would copy
                pool = ProcessPoolExecutor(self._jobs, mp_context=get_context("spawn"))
                yield from stack.enter_context(pool).map(play_model, plans)


def play_model(plan: ModelPlan) -> ModelResult:
    """One model's day. Equal plans give equal results."""
    day = plan.day
    traffic = draw_traffic(plan.name, plan.demands, day.people, plan.seed, day.duration_s)
    run = ModelRun(plan, traffic)
    run.play()
    return result_of(run)
