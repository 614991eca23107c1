"""The walk of a model's requests between the production scheduler and coarse servers: sent, granted, begun, ended."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from heapq import heappush
from math import inf, nan

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.events import Effect, Grant, Refusal, RefusalReason, Settlement, Ticket
from ilaas.core.dispatch.scheduler import ModelScheduler
from ilaas.core.values import Outcome, RequestClass
from ilaas.services.answers import refusal_outcome
from ilaas.sim.federation.engine import Job
from ilaas.sim.federation.machine import Machine
from ilaas.sim.federation.plan import ModelPlan
from ilaas.sim.federation.traffic import Traffic

OUTCOMES = tuple(Outcome)
CLASSES = tuple(RequestClass)
UNFINISHED = 255
"""In the place of an outcome: under way at the end."""
_OUTCOME_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}
_CLASS_CODE = {request_class: code for code, request_class in enumerate(CLASSES)}
REFUSED_S = 0.001
"""How long it takes to learn that a dead server refuses the connection."""
UNSETTLED_S = 300.0
"""After the last fault, health checks of servers that are up are skipped: they change nothing any more."""
WAKE, FIRST, CHANGE, REFUSED, OVERDUE, ROUND, CHECK, TICK = range(8)
"""What an event of the timeline is."""

MakeScheduler = Callable[[ModelSpec, Mapping[str, float], float], ModelScheduler]


@dataclass(slots=True)
class Columns:
    """How each request went, by its number. Times are seconds since midnight; not a number where there is none."""

    granted_s: array[float]
    """The first grant."""
    first_s: array[float]
    ended_s: array[float]
    outcome: array[int]
    request_class: array[int]
    """As granted, else as asked."""
    server: array[int]
    """The last one; -1 is none."""

    @classmethod
    def of(cls, number: int) -> Columns:
        """All empty."""
        times = array("d", [nan]) * number
        codes = array("B", [UNFINISHED]) * number
        return cls(times, times[:], times[:], codes, array("B", [0]) * number, array("h", [-1]) * number)


class Requests:
    """The requests of one model, and where each stands."""

    def __init__(self, plan: ModelPlan, traffic: Traffic, make: MakeScheduler = ModelScheduler) -> None:
        self.plan = plan
        self.traffic = traffic
        self.columns = Columns.of(len(traffic))
        self.machines = [Machine(index, box) for index, box in enumerate(plan.boxes)]
        self.continued = 0
        self.now = 0.0
        self._by_id = {machine.box.spec.id: machine for machine in self.machines}
        self._weights = plan.day.weights
        self._scheduler = make(self._spec(), self._weights, 0.0)
        self._heap: list[tuple[float, int, int]] = []
        self._open = 0
        self._queued = 0
        """Requests that wait in the dispatcher."""
        self._due: dict[int, float] = {}
        """First tokens that are to come."""
        self._inside: set[int] = set()
        """Requests that wait in a server's own queue."""
        self._failures: dict[int, Outcome] = {}
        """Of requests that are tried again."""
        self._rest: dict[int, tuple[int, int]] = {}
        """Prompt and answer of answers that are continued."""
        self._unsettled_until_s = -inf
        deadlines = plan.spec.policy.deadlines
        self._first_limit_s = deadlines.first_token_s
        self._uses = {
            demand.index: (
                demand.use.request_class,
                demand.use.max_tokens,
                deadlines.batch_queue_s if demand.use.request_class is RequestClass.BATCH else deadlines.queue_s,
                (-1 - demand.index, demand.use.system_prompt_tokens),
                _CLASS_CODE[demand.use.request_class],
            )
            for demand in plan.demands
        }

    def _spec(self) -> ModelSpec:
        """The model with the servers that are in the catalogue now."""
        servers = tuple(
            replace(machine.box.spec, draining=True) if machine.draining else machine.box.spec
            for machine in self.machines
            if machine.here
        )
        return replace(self.plan.spec, servers=servers)

    def _arrive(self, request: int, now: float) -> None:
        self._open += 1
        traffic = self.traffic
        request_class, max_tokens, patience_s, _, code = self._uses[traffic.use[request]]
        self.columns.request_class[request] = code
        prompt = traffic.prompt_tokens[request]
        ticket = Ticket(
            id=str(request),
            model=self.plan.name,
            organisation=self.plan.day.institutions[traffic.institution[request]],
            request_class=request_class,
            estimated_tokens=prompt + max_tokens,
            context_tokens=prompt + traffic.output_tokens[request],
            prefix_hash=traffic.conversation[request],
            arrived_s=now,
            deadline_s=now + patience_s,
        )
        self._queued += 1
        self._apply(self._scheduler.arrive(ticket, now), now)

    def _apply(self, effects: Iterable[Effect], now: float) -> None:
        """Carry out what the scheduler decided."""
        for effect in effects:
            self._queued -= 1
            if type(effect) is Grant:
                self._granted(effect, now)
            elif type(effect) is Refusal:
                request = int(effect.ticket.id)
                outcome = refusal_outcome(effect)
                if effect.reason is RefusalReason.NO_SERVER:
                    outcome = self._failures.get(request, outcome)
                self._end(request, outcome, now)

    def _granted(self, grant: Grant, now: float) -> None:
        request = int(grant.ticket.id)
        machine = self._by_id[grant.server.id]
        columns, traffic = self.columns, self.traffic
        if columns.granted_s[request] != columns.granted_s[request]:  # not a number: the first grant
            columns.granted_s[request] = now
        columns.request_class[request] = _CLASS_CODE[grant.request_class]
        columns.server[request] = machine.index
        machine.held[request] = now
        if not machine.up:
            heappush(self._heap, (now + REFUSED_S, REFUSED, request))
            return
        prompt, output = traffic.prompt_tokens[request], traffic.output_tokens[request]
        if self._rest:
            prompt, output = self._rest.get(request, (prompt, output))
        if prompt + output > machine.box.engine.context_tokens:
            self._settle(request, machine, Outcome.UPSTREAM_REJECTED, now)
            return
        shared = self._uses[traffic.use[request]][3]
        first_s = machine.engine.submit(Job(request, prompt, output, traffic.conversation[request], shared), now)
        if first_s is None:
            self._inside.add(request)
            heappush(self._heap, (now + self._first_limit_s, OVERDUE, request))
        else:
            self._expect(request, first_s, now)
        self._plan_wake(machine, now)

    def _expect(self, request: int, first_s: float, granted_s: float) -> None:
        """Its first token comes then, or it is overdue before."""
        self._due[request] = first_s
        if first_s - granted_s <= self._first_limit_s:
            heappush(self._heap, (first_s, FIRST, request))
        else:
            heappush(self._heap, (granted_s + self._first_limit_s, OVERDUE, request))

    def _plan_wake(self, machine: Machine, now: float) -> None:
        next_s = machine.engine.next_end_s()
        if next_s < machine.wake_s:
            machine.wake_s = next_s = max(next_s, now)
            heappush(self._heap, (next_s, WAKE, machine.index))

    def _wake(self, index: int, now: float) -> None:
        """Something may have ended in a server."""
        machine = self.machines[index]
        if machine.wake_s != now:
            return  # planned before something earlier was
        machine.wake_s = inf
        engine = machine.engine
        for request in engine.finished(now):
            if request in self._due:
                self._begun(request, machine, now)
            self._settle(request, machine, Outcome.COMPLETED, now)
        self._let_in(machine, now)
        self._plan_wake(machine, now)

    def _let_in(self, machine: Machine, now: float) -> None:
        if machine.engine.waiting:
            for request, first_s in machine.engine.admitted(now):
                self._inside.discard(request)
                self._expect(request, first_s, machine.held[request])

    def _first_token(self, request: int, now: float) -> None:
        if self._due.get(request) == now:
            self._begun(request, self.machines[self.columns.server[request]], now)

    def _begun(self, request: int, machine: Machine, now: float) -> None:
        del self._due[request]
        if self.columns.first_s[request] != self.columns.first_s[request]:
            self.columns.first_s[request] = now
        self._apply(self._scheduler.first_token(str(request), now - machine.held[request], now), now)

    def _settle(self, request: int, machine: Machine, outcome: Outcome, now: float, *, retry: bool = False) -> None:
        """Give the slot back; the request ends with it unless it is tried again or continued."""
        machine.busy_slot_s += now - machine.held.pop(request)
        traffic = self.traffic
        tokens = traffic.prompt_tokens[request] + traffic.output_tokens[request] if outcome is Outcome.COMPLETED else 0
        if retry:
            self._queued += 1
            self._failures[request] = outcome
        if outcome is not Outcome.COMPLETED:
            self._unsettled_until_s = max(self._unsettled_until_s, now + UNSETTLED_S)
        settlement = Settlement(ticket_id=str(request), outcome=outcome, tokens=tokens, retry=retry)
        effects = self._scheduler.settle(settlement, now)
        if not retry:
            self._end(request, outcome, now)
        if effects:
            self._apply(effects, now)

    def _end(self, request: int, outcome: Outcome, now: float) -> None:
        self._open -= 1
        self.columns.ended_s[request] = now
        self.columns.outcome[request] = _OUTCOME_CODE[outcome]
