"""The dispatcher of one model: events in, grants and refusals out. Pure: time is passed in, nothing waits, nothing is
drawn. A slot that is given back is used in the same call. docs/dispatcher.md has the rules in words.

`turns` says who is next, `placement` where to, `admission` who is refused, `leases` what a grant and its end change;
`waiting` and `fleet` hold the tickets and the servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.admission import Admission
from ilaas.core.dispatch.events import (
    Effect,
    ModelView,
    QueuePosition,
    Refusal,
    RefusalReason,
    ServerStatistics,
    Settlement,
    Ticket,
)
from ilaas.core.dispatch.fleet import Fleet
from ilaas.core.dispatch.headroom import Headroom
from ilaas.core.dispatch.health import HealthState
from ilaas.core.dispatch.leases import Leases
from ilaas.core.dispatch.outlook import Outlook
from ilaas.core.dispatch.placement import Placement
from ilaas.core.dispatch.predict import Predictor, retry_after_s
from ilaas.core.dispatch.state import NO_NEED, Entry
from ilaas.core.dispatch.turns import Turns
from ilaas.core.dispatch.waiting import Waiting
from ilaas.core.values import Outcome

MODEL_GONE_RETRY_S = 30.0


class ModelScheduler:
    """One model's queue and servers."""

    def __init__(self, spec: ModelSpec, weights: Mapping[str, float], now: float) -> None:
        """`weights` by organisation, 1 when missing; `now` in seconds on any clock that never goes back."""
        self._fleet = fleet = Fleet(spec, now)
        self._waiting = waiting = Waiting(spec.policy, weights, fleet.owners)
        self._predictor = predictor = Predictor()
        self._headroom = headroom = Headroom()
        self._placement = placement = Placement(fleet)
        self._turns = Turns(waiting, fleet, placement, predictor, headroom)
        self._leases = Leases(waiting, fleet, placement, predictor, headroom)
        self._outlook = Outlook(spec, waiting, fleet, predictor)
        self._admission = Admission(waiting, fleet, self._outlook)
        self._entries: dict[str, Entry] = {}
        """Of tickets that wait and of those that hold a slot, by ticket."""
        self._number = 0

    # -- tickets -------------------------------------------------------------------------------------------------------

    def arrive(self, ticket: Ticket, now: float) -> list[Effect]:
        """A new ticket: granted now, refused now, or it waits."""
        self._number += 1
        entry = Entry(ticket, self._number, self._fleet.need(ticket.context_tokens, ticket.excluded))
        if not entry.batch:
            self._predictor.arrived(now)
        refusal = self._admission.unserviceable(entry, now)
        if refusal is not None:
            return [refusal]
        self._entries[ticket.id] = entry
        if not self._waiting.live and (slot := self._turns.at_once(entry, now)) is not None:
            grant = self._leases.grant(entry, slot, now)
            if not entry.batch:
                self._headroom.arrived(now, behind_batch=False)
            return [grant]
        self._waiting.push(entry)
        effects = self._pump(now)
        if not entry.batch:
            self._headroom.arrived(now, behind_batch=entry.waiting and self._predictor.batch.in_flight > 0)
        if entry.waiting and (refusal := self._admission.too_long(entry, now)) is not None:
            self._drop(refusal)
            effects.append(refusal)
        return effects

    def cancel(self, ticket_id: str, now: float) -> list[Effect]:  # noqa: ARG002  # every event has its time
        """The one who waits has left. A ticket that is not waiting here is left alone."""
        entry = self._entries.get(ticket_id)
        if entry is not None and entry.waiting:
            self._waiting.leave(entry, charge=False)
            del self._entries[ticket_id]
        return []

    def settle(self, settlement: Settlement, now: float) -> list[Effect]:
        """A lease has ended: the slot is free, health and fairness learn; with `retry` the ticket waits again."""
        entry = self._entries.get(settlement.ticket_id)
        if entry is None:
            return []
        slot = self._leases.release(entry, settlement, now)
        if slot is None:
            return []
        if settlement.retry:
            entry.ticket.excluded = (*entry.ticket.excluded, slot.id)
            return self._again(entry, now)
        del self._entries[settlement.ticket_id]
        return self._pump(now) if self._waiting.live else []

    def abandon(self, ticket_id: str, now: float) -> list[Effect]:
        """A grant whose waiter had left already: the slot comes back, and nothing is learned."""
        return self.settle(Settlement(ticket_id=ticket_id, outcome=Outcome.CLIENT_LEFT_QUEUE), now)

    def first_token(self, ticket_id: str, ttft_s: float, now: float) -> list[Effect]:
        """The server has begun to answer."""
        entry = self._entries.get(ticket_id)
        slot = entry.slot if entry is not None else None
        if slot is None:
            return []
        capacity = slot.capacity
        slot.began(ttft_s)
        if slot.fresh(now) is not None:
            return []
        limit = capacity.limit
        capacity.observe(slot.in_flight, now)
        if capacity.limit == limit:
            return []
        self._fleet.refresh(slot)
        return self._pump(now)

    def adopt(self, ticket: Ticket, server_id: str, began_s: float, now: float) -> None:
        """Take over a lease that was given elsewhere; it is settled here. Not of a server that is here no more."""
        slot = self._fleet.slots.get(server_id)
        if slot is None or ticket.id in self._entries:
            return
        self._number += 1
        entry = self._entries[ticket.id] = Entry(ticket, self._number, NO_NEED)
        self._leases.adopt(entry, slot, began_s)
        if not entry.batch:
            self._predictor.arrived(now)
            self._headroom.arrived(now, behind_batch=False)

    def holds(self, ticket_id: str) -> bool:
        """Whether the ticket waits here or has a slot."""
        return ticket_id in self._entries

    # -- servers -------------------------------------------------------------------------------------------------------

    def report(self, server_id: str, statistics: ServerStatistics, now: float) -> list[Effect]:
        """A reading of a server's gauges."""
        slot = self._fleet.slots.get(server_id)
        if slot is None:
            return []
        slot.statistics, slot.told_at_s = statistics, now
        slot.capacity.report(statistics, slot.in_flight, now)
        slot.assess(now)
        self._fleet.refresh(slot)
        return self._pump(now)

    def check(self, server_id: str, ok: bool, now: float) -> list[Effect]:
        """The result of an active health check."""
        slot = self._fleet.slots.get(server_id)
        if slot is None or not slot.health.checked(now, ok=ok):
            return []
        self._fleet.refresh(slot)
        return self._pump(now)

    def lend(self, unused: Mapping[str, int], now: float) -> list[Effect]:
        """How many slots of each server gateways may give away themselves and have not yet; a missing one has none."""
        gained = False
        for slot in self._fleet.slots.values():
            lent = unused.get(slot.id, 0)
            if lent != slot.lent:
                gained = gained or lent < slot.lent
                slot.lent = lent
                self._fleet.refresh(slot)
        return self._pump(now) if gained and self._waiting.live else []

    def spare(self) -> dict[str, int]:
        """Slots by server that may be lent, those that are lent already included, while nobody waits; else none."""
        if self._waiting.live:
            return {}
        return {
            slot.id: slot.shared + slot.lent
            for slot in self._fleet.slots.values()
            if slot.usable and slot.health.state is HealthState.UP
        }

    @property
    def waiting(self) -> int:
        """Tickets that wait."""
        return self._waiting.live

    def configure(self, spec: ModelSpec, weights: Mapping[str, float], now: float) -> list[Effect]:
        """The model, its servers or the weights changed. Nothing under way and nobody's place is lost."""
        fleet = self._fleet
        self._outlook.spec = spec
        fleet.configure(spec, now)
        self._placement.configure()
        self._waiting.configure(
            spec.policy, weights, fleet.owners, lambda it: fleet.need(it.ticket.context_tokens, it.ticket.excluded)
        )
        return self._pump(now)

    def close(self) -> list[Effect]:
        """The model is gone: everybody who waits is refused."""
        refusals = [Refusal(entry.ticket, RefusalReason.NO_SERVER, MODEL_GONE_RETRY_S) for entry in self._waiting]
        return self._dropped(refusals)

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Deadlines, breakers whose pause is over, and tickets that no server is left for."""
        for slot in self._fleet.slots.values():
            slot.health.wake(now)
            if slot.fresh(now) is None:
                slot.capacity.observe(slot.in_flight, now)
            slot.assess(now)
            self._fleet.refresh(slot)
        effects = self._dropped(self._admission.overdue(now))
        effects.extend(self._dropped(self._admission.stranded(now)))
        effects.extend(self._pump(now))
        return effects

    def next_event_s(self) -> float | None:
        """When `tick` has something to do if nothing else happens before; None when never."""
        slots = self._fleet.slots.values()
        times = [self._waiting.next_deadline_s(), self._admission.gives_up_at_s()]
        times.extend(slot.health.down_until_s for slot in slots if slot.health.state is HealthState.DOWN)
        earliest = min(times)
        return earliest if earliest != float("inf") else None

    # -- queries -------------------------------------------------------------------------------------------------------

    def position(self, ticket_id: str, now: float) -> QueuePosition | None:
        """Where a ticket waits; None when it does not."""
        entry = self._entries.get(ticket_id)
        if entry is None or not entry.waiting:
            return None
        return self._outlook.position(entry, now)

    def view(self, now: float) -> ModelView:
        """The model as operators see it."""
        return self._outlook.view(now)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> list[Effect]:
        """Use every free slot that somebody waits for."""
        effects: list[Effect] = []
        while self._fleet.free and self._waiting.live:
            turn = self._turns.next(now)
            if turn is None:
                break
            effects.append(self._leases.grant(*turn, now))
        return effects

    def _again(self, entry: Entry, now: float) -> list[Effect]:
        """Back to the old place, without the server that failed."""
        ticket, fleet = entry.ticket, self._fleet
        need = fleet.need(ticket.context_tokens, ticket.excluded)
        retried = Entry(ticket, entry.number, need, entry.attempts)
        some = fleet.any_for(need, ticket.organisation, private_only=entry.private_only)
        if entry.attempts >= fleet.policy.max_attempts or not some:
            del self._entries[ticket.id]
            refusal = Refusal(ticket, RefusalReason.NO_SERVER, retry_after_s(fleet.back_in_s(now)))
            return [*self._pump(now), refusal]
        self._entries[ticket.id] = retried
        self._waiting.push(retried)
        return self._pump(now)

    def _dropped(self, refusals: Iterable[Refusal]) -> list[Effect]:
        effects: list[Effect] = []
        for refusal in refusals:
            self._drop(refusal)
            effects.append(refusal)
        return effects

    def _drop(self, refusal: Refusal) -> None:
        self._waiting.leave(self._entries.pop(refusal.ticket.id), charge=False)
