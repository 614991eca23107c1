"""What every broker does for those who wait: one answer for each submit and retry, whatever they call meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import pytest

from ilaas.adapters.broker_memory import MemoryBroker
from ilaas.core.catalogue import Catalogue, DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.dispatch.events import Grant, Refusal, RefusalReason, ServerStatistics, Settlement, Ticket
from ilaas.core.values import Outcome
from ilaas.ports.broker import Broker


class ManagedBroker(Broker, Protocol):
    """A broker with what the runtime does to it."""

    def configure(self, catalogue: Catalogue, weights: Mapping[str, float]) -> None: ...

    def tick(self) -> None: ...


BROKERS: dict[str, Callable[[Callable[[], float]], ManagedBroker]] = {"memory": MemoryBroker}


class Clock:
    """Seconds that only pass when told."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def server(server_id: str, slots: int = 1) -> ServerSpec:
    return ServerSpec(id=server_id, url="http://s", site="x", owner="x", served_name="m", max_parallel_requests=slots)


def model(*servers: ServerSpec, name: str = "m") -> ModelSpec:
    return ModelSpec(name=name, servers=servers, policy=DispatchPolicy(max_wait_s=1e9, failures_before_down=10_000))


@dataclass
class Waiter:
    """Notes what it is told, and may do something at once."""

    grants: list[Grant] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    on_grant: Callable[[Grant], None] | None = None
    on_refusal: Callable[[Refusal], None] | None = None
    depth: int = 0
    deepest: int = 0

    def granted(self, grant: Grant) -> None:
        self.grants.append(grant)
        self._react(self.on_grant, grant)

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)
        if self.on_refusal is not None:
            self.on_refusal(refusal)

    def _react(self, action: Callable[[Grant], None] | None, grant: Grant) -> None:
        if action is None:
            return
        self.depth += 1
        self.deepest = max(self.deepest, self.depth)
        action(grant)
        self.depth -= 1

    @property
    def told(self) -> int:
        return len(self.grants) + len(self.refusals)

    @property
    def servers(self) -> list[str]:
        return [grant.server.id for grant in self.grants]


class Desk:
    """A broker with one model, and tickets by number."""

    def __init__(self, make: Callable[[Callable[[], float]], ManagedBroker]) -> None:
        self.clock = Clock()
        self.broker = make(self.clock)
        self._number = 0

    def serve(self, *models: ModelSpec) -> None:
        self.broker.configure(Catalogue.of(models), {})

    def ticket(self, name: str = "m") -> Ticket:
        self._number += 1
        return Ticket(id=f"t{self._number}", model=name, organisation="a", arrived_s=self.clock())

    def submit(self, waiter: Waiter | None = None, name: str = "m") -> tuple[Ticket, Waiter]:
        ticket, waiter = self.ticket(name), waiter or Waiter()
        self.broker.submit(ticket, waiter)
        return ticket, waiter

    def follow(self, waiter: Waiter, name: str = "m") -> None:
        """Another request, sent from inside an answer."""
        self.submit(waiter, name)

    def settle(self, ticket: Ticket, outcome: Outcome = Outcome.COMPLETED, *, retry: bool = False) -> None:
        self.broker.settle(ticket, Settlement(ticket_id=ticket.id, outcome=outcome, retry=retry))

    def running(self, name: str = "m") -> int:
        view = self.broker.view(name)
        assert view is not None
        return view.running


@pytest.fixture(params=sorted(BROKERS))
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(BROKERS[request.param])


def test_a_free_slot_is_granted_inside_submit(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    ticket, waiter = desk.submit()
    assert waiter.servers == ["s1"]
    assert waiter.grants[0].ticket is ticket


def test_who_waits_is_granted_when_a_lease_is_settled(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    held, _ = desk.submit()
    _, waiter = desk.submit()
    assert waiter.told == 0
    desk.settle(held)
    assert waiter.servers == ["s1"]
    assert waiter.told == 1


def test_an_unknown_model_is_refused(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    ticket, waiter = desk.submit(name="nothing")
    assert [refusal.reason for refusal in waiter.refusals] == [RefusalReason.NO_SERVER]
    desk.broker.cancel(ticket)
    desk.settle(ticket)
    desk.broker.first_token(ticket, 1.0)
    desk.broker.report("nothing", "s1", ServerStatistics())
    desk.broker.check("nothing", "s1", ok=True)
    assert desk.broker.position(ticket) is None
    assert desk.broker.view("nothing") is None
    assert waiter.told == 1


def test_a_ticket_that_was_cancelled_is_told_nothing(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    held, _ = desk.submit()
    ticket, waiter = desk.submit()
    desk.broker.cancel(ticket)
    desk.broker.cancel(ticket)
    desk.settle(held)
    assert waiter.told == 0
    assert desk.running() == 0


def test_a_deadline_is_told_by_the_tick(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    desk.submit()
    ticket = replace(desk.ticket(), deadline_s=60.0)
    waiter = Waiter()
    desk.broker.submit(ticket, waiter)
    desk.clock.now_s = 61.0
    desk.broker.tick()
    desk.broker.tick()
    assert [refusal.reason for refusal in waiter.refusals] == [RefusalReason.QUEUE_TIMEOUT]


# -- retries -----------------------------------------------------------------------------------------------------------


def test_each_retry_is_answered_once(desk: Desk) -> None:
    desk.serve(model(server("s1"), server("s2"), server("s3")))
    ticket, waiter = desk.submit()
    for told in range(2, 4):
        desk.settle(ticket, Outcome.CONNECT_FAILED, retry=True)
        assert waiter.told == told
    desk.settle(ticket, Outcome.CONNECT_FAILED, retry=True)
    assert sorted(waiter.servers) == ["s1", "s2", "s3"]
    assert [refusal.reason for refusal in waiter.refusals] == [RefusalReason.NO_SERVER]
    assert desk.running() == 0


def test_a_waiter_may_retry_from_inside_its_grant(desk: Desk) -> None:
    desk.serve(model(server("s1"), server("s2"), server("s3")))
    ticket = desk.ticket()
    waiter = Waiter(on_grant=lambda _: desk.settle(ticket, Outcome.CONNECT_FAILED, retry=True))
    desk.broker.submit(ticket, waiter)
    assert sorted(waiter.servers) == ["s1", "s2", "s3"]
    assert len(waiter.refusals) == 1
    assert waiter.deepest == 1, "the stack does not grow with the tries"
    assert desk.running() == 0


def test_a_waiter_may_end_its_lease_from_inside_its_grant_and_a_long_queue_goes_on(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    held, _ = desk.submit()
    waiters = []
    for _ in range(3_000):
        ticket, waiter = desk.ticket(), Waiter()
        waiter.on_grant = lambda grant: desk.settle(grant.ticket)
        desk.broker.submit(ticket, waiter)
        waiters.append(waiter)
    desk.settle(held)
    assert all(waiter.told == 1 for waiter in waiters)
    assert desk.running() == 0


def test_a_waiter_may_cancel_another_that_was_granted_in_the_same_call(desk: Desk) -> None:
    """Both are granted by one change; the first one's answer makes the second leave before it is told."""
    desk.serve(model(server("s1")))
    desk.submit()
    second_ticket = desk.ticket()
    first, second, third = Waiter(on_grant=lambda _: desk.broker.cancel(second_ticket)), Waiter(), Waiter()
    desk.submit(first)
    desk.broker.submit(second_ticket, second)
    desk.submit(third)
    desk.serve(model(server("s1", 3)))
    assert (first.told, second.told, third.told) == (1, 0, 1), "the slot of who left goes to the next"
    assert desk.running() == 3


def test_a_waiter_may_cancel_itself_from_inside_its_grant(desk: Desk) -> None:
    """The lease is still held: it must be settled."""
    desk.serve(model(server("s1")))
    ticket = desk.ticket()
    waiter = Waiter(on_grant=lambda _: desk.broker.cancel(ticket))
    desk.broker.submit(ticket, waiter)
    assert desk.running() == 1
    desk.settle(ticket)
    assert desk.running() == 0
    assert waiter.told == 1


def test_a_waiter_may_submit_from_inside_a_grant_and_a_refusal(desk: Desk) -> None:
    desk.serve(model(server("s1", 2)))
    inner, last = Waiter(), Waiter()
    desk.submit(Waiter(on_grant=lambda _: desk.follow(inner)))
    assert inner.servers == ["s1"]
    refused = Waiter(on_refusal=lambda _: desk.follow(last, "other"))
    desk.submit(refused, name="other")
    assert (refused.told, last.told) == (1, 1)


def test_an_error_of_one_waiter_does_not_lose_what_others_are_told(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    desk.submit()

    def fails(_: Grant) -> None:
        raise RuntimeError("a waiter's own mistake")

    other = Waiter()
    desk.submit(Waiter(on_grant=fails))
    desk.submit(other)
    with pytest.raises(RuntimeError):
        desk.serve(model(server("s1", 3)))
    desk.broker.tick()
    assert other.servers == ["s1"]


# -- models that come and go -------------------------------------------------------------------------------------------


def test_when_a_model_goes_who_waits_is_refused_and_who_is_served_ends_in_peace(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    held, holder = desk.submit()
    _, waiter = desk.submit()
    desk.serve()
    assert [refusal.reason for refusal in waiter.refusals] == [RefusalReason.NO_SERVER]
    assert desk.broker.view("m") is None
    desk.broker.first_token(held, 0.1)
    desk.settle(held)
    assert holder.told == 1


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_retry_after_the_model_went_is_answered(desk: Desk, comes_back: bool) -> None:
    desk.serve(model(server("s1"), server("s2")))
    held, holder = desk.submit()
    desk.serve()
    if comes_back:
        desk.serve(model(server("s1"), server("s2")))
    desk.settle(held, Outcome.CONNECT_FAILED, retry=True)
    assert [refusal.reason for refusal in holder.refusals] == [RefusalReason.NO_SERVER]


def test_models_do_not_share_their_queues(desk: Desk) -> None:
    desk.serve(model(server("s1")), model(server("s2"), name="n"))
    desk.submit()
    _, waiter = desk.submit()
    _, other = desk.submit(name="n")
    assert (waiter.told, other.servers) == (0, ["s2"])


# -- queries -----------------------------------------------------------------------------------------------------------


def test_positions_are_known_while_a_ticket_waits(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    held, _ = desk.submit()
    tickets = [desk.submit()[0] for _ in range(3)]
    positions = [desk.broker.position(ticket) for ticket in tickets]
    assert [position.ahead for position in positions if position is not None] == [0, 1, 2]
    assert desk.broker.position(held) is None
    desk.settle(held)
    assert desk.broker.position(tickets[0]) is None


def test_a_view_tells_what_waits_and_what_runs(desk: Desk) -> None:
    desk.serve(model(server("s1")))
    desk.submit()
    desk.submit()
    view = desk.broker.view("m")
    assert view is not None
    assert (view.running, view.queued["interactive"], view.state) == (1, 1, "busy")
    assert view.queued_by_organisation == {"a": 1}


def test_statistics_checks_and_first_tokens_reach_the_view(desk: Desk) -> None:
    desk.serve(model(server("s1", 4)))
    ticket, _ = desk.submit()
    desk.broker.report("m", "s1", ServerStatistics(running=1, waiting=2, kv_cache_usage=0.5))
    desk.broker.first_token(ticket, 0.25)
    view = desk.broker.view("m")
    assert view is not None
    (one,) = view.servers
    assert (one.waiting, one.kv_cache_usage, one.ttft_s) == (2, 0.5, 0.25)
