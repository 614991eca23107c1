"""Any sequence of submits, cancels, settlements and retries, on every broker: a model says what must come of it.

The model: a server has two slots; a ticket is granted while fewer hold one, those that wait get the slots that come
free, and whoever is told anything is told exactly once for each submit and retry.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from ilaas.app.local import PrivateRabbitMQ
from ilaas.core.catalogue import Catalogue, DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.dispatch.events import Grant, Refusal, Settlement, Ticket
from ilaas.core.values import Outcome, RequestClass
from ilaas.ports.broker import Broker
from tests.support.brokers import Bench, MemoryBench, RabbitBench

SLOTS = 2
SERVERS = ("s1", "s2")
_numbers = itertools.count()


@dataclass(eq=False)
class Request:
    """A request, what it was told, and what the model says of it."""

    ticket: Ticket
    grants: list[Grant] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    submits: int = 1
    """How often it must be told something, cancelled waits left out."""
    holds: bool = False
    gone: bool = False

    def granted(self, grant: Grant) -> None:
        self.grants.append(grant)
        self.holds = True

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)
        self.gone = True

    @property
    def told(self) -> int:
        return len(self.grants) + len(self.refusals)


def machine(bench: Bench) -> type[RuleBasedStateMachine]:
    class BrokerMachine(RuleBasedStateMachine):
        requests = Bundle("requests")

        def __init__(self) -> None:
            super().__init__()
            self.model = f"m{next(_numbers)}"
            self.all: list[Request] = []
            servers = tuple(
                ServerSpec(
                    id=f"{self.model}-{name}",
                    url="http://s",
                    site="x",
                    owner="x",
                    served_name="m",
                    max_parallel_requests=SLOTS,
                )
                for name in SERVERS
            )
            policy = DispatchPolicy(max_wait_s=1e9, failures_before_down=10_000, max_attempts=2)
            bench.serve(Catalogue.of([ModelSpec(name=self.model, servers=servers, policy=policy)]))

        @rule(target=requests, batch=st.booleans(), organisation=st.sampled_from(["a", "b"]))
        def submit(self, batch: bool, organisation: str) -> Request:
            kind = RequestClass.BATCH if batch else RequestClass.INTERACTIVE
            name = f"t{next(_numbers)}"
            request = bench.do(
                lambda _broker, now: Request(
                    Ticket(id=name, model=self.model, organisation=organisation, request_class=kind, arrived_s=now)
                )
            )
            self.all.append(request)
            bench.do(lambda broker, _now: broker.submit(request.ticket, request))
            self.rest()
            return request

        @rule(request=consumes(requests))
        def leave(self, request: Request) -> None:
            """The client goes: out of the queue, or with what it holds."""
            if not request.gone:
                self.leave_quietly(request)
            self.rest()

        @rule(request=consumes(requests))
        def complete(self, request: Request) -> None:
            if request.holds and not request.gone:
                request.gone = True
                self._settle(request, Outcome.COMPLETED)
            self.rest()

        @rule(request=requests)
        def fail(self, request: Request) -> None:
            """The server fails: the request goes to the other one, or is refused when both have failed it."""
            if request.holds and not request.gone:
                request.submits += 1
                self._settle(request, Outcome.CONNECT_FAILED, retry=True)
            self.rest()

        def _settle(self, request: Request, outcome: Outcome, *, retry: bool = False) -> None:
            request.holds = False
            end = Settlement(ticket_id=request.ticket.id, outcome=outcome, tokens=10, retry=retry)
            bench.do(lambda broker, _now: broker.settle(request.ticket, end))

        def rest(self) -> None:
            """Wait for what must come: no slot is free that somebody who waits may use."""
            assert bench.until(self._settled), self._story()

        def _settled(self) -> bool:
            waiting = [each for each in self.all if not each.gone and not each.holds]
            running = dict.fromkeys(SERVERS, 0)
            for each in self.all:
                if each.holds and not each.gone:
                    running[each.grants[-1].server.id.rpartition("-")[2]] += 1
            for each in waiting:
                failed = {grant.server.id.rpartition("-")[2] for grant in each.grants}
                if any(running[name] < SLOTS for name in SERVERS if name not in failed):
                    # one batch slot may be kept for an interactive request that is about to come
                    spare = sum(SLOTS - running[name] for name in SERVERS)
                    if each.ticket.request_class is RequestClass.INTERACTIVE or spare > 1:
                        return False
            return all(each.told == each.submits or each in waiting for each in self.all)

        def _story(self) -> str:
            return "\n".join(
                f"{each.ticket.id} {each.ticket.request_class} told={each.told}/{each.submits} holds={each.holds} "
                f"gone={each.gone}"
                for each in self.all
            )

        @invariant()
        def no_server_has_too_many(self) -> None:
            for name in SERVERS:
                running = [each for each in self.all if each.holds and each.grants[-1].server.id.endswith(name)]
                assert len(running) <= SLOTS

        @invariant()
        def nobody_is_told_too_often(self) -> None:
            assert all(each.told <= each.submits for each in self.all)

        def teardown(self) -> None:
            for each in self.all:
                if not each.gone:
                    self.leave_quietly(each)
            assert bench.until(lambda: self._running() in (0, -1)), "slots stayed taken"

        def leave_quietly(self, request: Request) -> None:
            bench.do(lambda broker, _now: self._go(broker, request))

        def _go(self, broker: Broker, request: Request) -> None:
            """Where the broker lives, so that no grant comes between the look and the leaving."""
            request.gone = True
            if request.holds:
                request.holds = False
                outcome = Outcome.CLIENT_LEFT_DECODE
                broker.settle(request.ticket, Settlement(ticket_id=request.ticket.id, outcome=outcome, tokens=10))
            else:
                request.submits -= 1
                broker.cancel(request.ticket)

        def _running(self) -> int:
            if isinstance(bench, RabbitBench):
                return bench.running(self.model)
            view = bench.do(lambda broker, _now: broker.view(self.model))
            return view.running if view is not None else -1

    return BrokerMachine


@pytest.fixture(scope="module")
def rabbit(rabbitmq_server: PrivateRabbitMQ) -> Iterator[RabbitBench]:
    bench = RabbitBench(rabbitmq_server.url, "model-based")
    yield bench
    bench.close()


def test_the_broker_in_memory_keeps_to_the_model() -> None:
    run_state_machine_as_test(
        machine(MemoryBench()), settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )


def test_the_broker_over_rabbitmq_keeps_to_the_model(rabbit: RabbitBench) -> None:
    run_state_machine_as_test(
        machine(rabbit),
        settings=settings(
            max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
