"""The players of workloads: each tells which requests come, given when earlier ones were sent and ended."""

from __future__ import annotations

from dataclasses import replace

from ilaas.sim.workload import Backlog, Draws, Planned, Poisson, Trace, Users, Workload


class Source:
    """Plays one workload. Each call returns what is to be sent next, or nothing."""

    def start(self) -> list[Planned]:
        """Everything that is known before the first answer."""
        return []

    def sent(self, planned: Planned) -> Planned | None:
        """The request was sent: which one follows, whatever happens to it."""

    def ended(self, planned: Planned, at_s: float, retry_after_s: float | None) -> Planned | None:
        """The request ended (refused when `retry_after_s` is given): which one follows from that."""


def source(workload: Workload, seed: int, duration_s: float) -> Source:
    """The player of a workload. Nothing is planned at or after `duration_s`."""
    if isinstance(workload, Users):
        return _UsersSource(workload, seed, duration_s)
    if isinstance(workload, Poisson):
        return _PoissonSource(workload, seed, duration_s)
    if isinstance(workload, Backlog):
        return _BacklogSource(workload, seed, duration_s)
    return _TraceSource(workload, duration_s)


class _UsersSource(Source):
    """Each user sends, waits for the answer, thinks, and sends again, as long as the ramp has room for them."""

    def __init__(self, spec: Users, seed: int, duration_s: float) -> None:
        self._spec = spec
        self._duration_s = duration_s
        self._draws = [Draws(spec, seed, user) for user in range(max(users for _, users in spec.ramp))]

    def start(self) -> list[Planned]:
        first = (self._next(user, 0.0) for user in range(len(self._draws)))
        return [planned for planned in first if planned is not None]

    def ended(self, planned: Planned, at_s: float, retry_after_s: float | None) -> Planned | None:
        pause_s = self._draws[planned.user].rng.expovariate(1.0) * self._spec.think_s
        return self._next(planned.user, at_s + pause_s + (retry_after_s or 0.0))

    def _next(self, user: int, at_s: float) -> Planned | None:
        active_s = self._spec.active_from(user, at_s)
        if active_s is None or active_s >= self._duration_s:
            return None
        return self._draws[user].next(active_s, self._spec.turns)


class _PoissonSource(Source):
    """Exponential gaps at the rate of the moment."""

    def __init__(self, spec: Poisson, seed: int, duration_s: float) -> None:
        self._spec = spec
        self._duration_s = duration_s
        self._draws = Draws(spec, seed, -1)

    def start(self) -> list[Planned]:
        first = self._next(0.0)
        return [] if first is None else [first]

    def sent(self, planned: Planned) -> Planned | None:
        return self._next(planned.at_s)

    def _next(self, after_s: float) -> Planned | None:
        """One unit of exponential hazard, spent at the rates of the steps it passes."""
        hazard = self._draws.rng.expovariate(1.0)
        at_s = after_s
        ends = [start_s for start_s, _ in self._spec.rate[1:]] + [self._duration_s]
        for (start_s, per_s), end_s in zip(self._spec.rate, ends, strict=True):
            at_s = max(at_s, start_s)
            if end_s <= at_s:
                continue
            if per_s and (gap_s := hazard / per_s) < end_s - at_s:
                return self._draws.next(at_s + gap_s)
            hazard -= per_s * (end_s - at_s)
            at_s = end_s
        return None


class _BacklogSource(Source):
    """All at once."""

    def __init__(self, spec: Backlog, seed: int, duration_s: float) -> None:
        self._spec = spec
        self._duration_s = duration_s
        self._draws = Draws(spec, seed, -1)

    def start(self) -> list[Planned]:
        if self._spec.at_s >= self._duration_s:
            return []
        return [self._draws.next(self._spec.at_s) for _ in range(self._spec.requests)]

    def ended(self, planned: Planned, at_s: float, retry_after_s: float | None) -> Planned | None:
        if retry_after_s is None or at_s + retry_after_s >= self._duration_s:
            return None
        return replace(planned, id=f"{planned.id}'", at_s=at_s + retry_after_s)


class _TraceSource(Source):
    """What was recorded, at the speed asked for."""

    def __init__(self, spec: Trace, duration_s: float) -> None:
        self._spec = spec
        self._duration_s = duration_s

    def start(self) -> list[Planned]:
        spec = self._spec
        return [
            Planned(
                id=f"{spec.name}-{number}",
                at_s=line.at_s / spec.speed,
                workload=spec.name,
                user=-1,
                organisation=line.organisation,
                model=line.model,
                request_class=line.request_class,
                routing_mode=line.routing_mode,
                priority=line.priority,
                prompt_tokens=line.prompt_tokens,
                output_tokens=line.output_tokens,
                estimated_tokens=line.prompt_tokens + line.output_tokens,
                conversation=0,
                prefix=None,
                stop_after_s=None,
            )
            for number, line in enumerate(spec.lines)
            if line.at_s / spec.speed < self._duration_s
        ]
