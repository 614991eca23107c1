"""One model's day in virtual time: what happens to its servers, and what the gateway does all the time.

`ModelScheduler` is the one of the gateway, fed as the gateway feeds it: arrivals, first tokens, settlements,
statistics, health checks, changes of the catalogue, and ticks when it says that time alone has something to do. Models
share nothing but the machines' sites, so that each is played by itself.
"""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf

from ilaas.core.dispatch.scheduler import ModelScheduler
from ilaas.core.values import Continuation, Outcome
from ilaas.sim.federation.machine import Machine, Readings
from ilaas.sim.federation.plan import Action, ModelPlan
from ilaas.sim.federation.requests import (
    CHANGE,
    CHECK,
    REFUSED_S,
    ROUND,
    TICK,
    UNSETTLED_S,
    MakeScheduler,
    Requests,
)
from ilaas.sim.federation.traffic import Traffic


class ModelRun(Requests):
    """One model in virtual time."""

    def __init__(self, plan: ModelPlan, traffic: Traffic, make: MakeScheduler = ModelScheduler) -> None:
        super().__init__(plan, traffic, make)
        self.slots: list[tuple[float, int]] = []
        """(time, slots that requests may take from then on)."""
        self._changes = sorted(
            (change.at_s, number, change.action) for number, box in enumerate(plan.boxes) for change in box.changes
        )
        self._readings: Readings = {}
        self._tick_s = inf

    def play(self) -> None:
        """From midnight to the end of the day, and on until all is answered or the time to drain is over."""
        heap, at_s, number = self._heap, self.traffic.at_s, len(self.traffic)
        day = self.plan.day
        actions = (
            *(self._wake, self._first_token, self._change, self._refused, self._overdue),
            *(self._read_statistics, self._check_health, self._tick),
        )
        for index, (change_s, _, _) in enumerate(self._changes):
            heappush(heap, (change_s, CHANGE, index))
        heappush(heap, (0.0, ROUND, 0))
        heappush(heap, (0.0, CHECK, 0))
        self._note_slots()
        end_s = day.duration_s + day.drain_s
        upcoming, upcoming_s = 0, at_s[0] if number else inf
        while True:
            due_s = heap[0][0]
            if upcoming_s <= due_s:
                self.now = upcoming_s
                self._arrive(upcoming, upcoming_s)
                upcoming += 1
                upcoming_s = at_s[upcoming] if upcoming < number else inf
                continue
            if due_s > end_s or (due_s >= day.duration_s and not self._open):
                break
            _, code, argument = heappop(heap)
            self.now = due_s
            actions[code](argument, due_s)
        for machine in self.machines:
            machine.count_time(self.now)
            machine.engine.advance(self.now)

    # -- servers come and go -------------------------------------------------------------------------------------------

    def _change(self, index: int, now: float) -> None:
        _, number, action = self._changes[index]
        machine = self.machines[number]
        machine.count_time(now)
        if action is Action.DIE:
            machine.alive = False
            self._unsettled_until_s = inf
            self._cut_off(machine, now)
        elif action is Action.REVIVE:
            machine.alive = True
            dead = any(not other.alive for other in self.machines)
            self._unsettled_until_s = inf if dead else now + UNSETTLED_S
        else:
            self._change_catalogue(machine, action, now)
        self._note_slots()

    def _change_catalogue(self, machine: Machine, action: Action, now: float) -> None:
        machine.draining = action is Action.NOTICE
        machine.here = action is not Action.LEAVE
        if action is Action.LEAVE:
            machine.goings += 1
            self._cut_off(machine, now)
        elif action is Action.JOIN:
            machine.comings += 1
        self._apply(self._scheduler.configure(self._spec(), self._weights, now), now)

    def _cut_off(self, machine: Machine, now: float) -> None:
        """All its connections break: who has no token yet is tried elsewhere, a begun answer is continued elsewhere."""
        engine = machine.engine
        under_way = [(request, engine.drop(request, now)) for request in machine.held]
        machine.restart(now)
        for request, generated in under_way:
            begun = request not in self._due and request not in self._inside
            self._due.pop(request, None)
            self._inside.discard(request)
            if not begun or not generated:
                self._settle(request, machine, Outcome.CONNECT_FAILED, now, retry=True)
                continue
            machine.interrupted += 1
            self._break(request, machine, generated, now)

    def _break(self, request: int, machine: Machine, generated: int, now: float) -> None:
        prompt, output = self._rest.get(
            request, (self.traffic.prompt_tokens[request], self.traffic.output_tokens[request])
        )
        mode, spec = self.plan.spec.policy.continuation, machine.box.spec
        wanted = mode is Continuation.ON or (mode is Continuation.SPOT and spec.spot)
        continued = wanted and len(self.machines) > 1 and generated < output
        if continued:
            self.continued += 1
            self._rest[request] = (prompt + generated, output - generated)
        self._settle(request, machine, Outcome.STREAM_BROKEN, now, retry=continued)

    def _refused(self, request: int, now: float) -> None:
        """The server refused the connection."""
        machine = self.machines[self.columns.server[request]]
        granted_s = machine.held.get(request)
        if granted_s is not None and granted_s + REFUSED_S == now:
            self._settle(request, machine, Outcome.CONNECT_FAILED, now, retry=True)

    def _overdue(self, request: int, now: float) -> None:
        """No first token in time: another server is tried."""
        machine = self.machines[self.columns.server[request]]
        granted_s = machine.held.get(request)
        if granted_s is None or granted_s + self._first_limit_s != now:
            return
        if request in self._due or request in self._inside:
            self._due.pop(request, None)
            self._inside.discard(request)
            machine.engine.drop(request, now)
            self._let_in(machine, now)
            self._plan_wake(machine, now)
            self._settle(request, machine, Outcome.FIRST_TOKEN_TIMEOUT, now, retry=True)

    # -- what happens all the time -------------------------------------------------------------------------------------

    def _note_slots(self) -> None:
        self.slots.append((self.now, sum(machine.slots for machine in self.machines)))

    def _read_statistics(self, _: int, now: float) -> None:
        scheduler, readings = self._scheduler, self._readings
        for machine in self.machines:
            if machine.here and machine.alive:
                machine.engine.advance(now)
                effects = scheduler.report(machine.box.spec.id, machine.statistics(readings), now)
                if effects:
                    self._apply(effects, now)
        interval_s = self.plan.day.statistics_interval_s
        heappush(self._heap, (now + interval_s, ROUND, 0))
        if self._queued or now < self._unsettled_until_s:
            self._tick(0, now)

    def _check_health(self, _: int, now: float) -> None:
        if now < self._unsettled_until_s:
            for machine in self.machines:
                if machine.here:
                    self._apply(self._scheduler.check(machine.box.spec.id, machine.alive, now), now)
        heappush(self._heap, (now + self.plan.day.health_interval_s, CHECK, 0))

    def _tick(self, _: int, now: float) -> None:
        """Let time do its part, and again before the next reading of statistics if something is due by then."""
        if now >= self._tick_s:
            self._tick_s = inf
        self._apply(self._scheduler.tick(now), now)
        next_s = self._scheduler.next_event_s()
        soon_s = min(self._tick_s, now + self.plan.day.statistics_interval_s)
        if next_s is not None and now < next_s < soon_s:
            self._tick_s = next_s
            heappush(self._heap, (next_s, TICK, 0))
