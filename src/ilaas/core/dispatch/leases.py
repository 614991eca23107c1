"""Slots taken and given back: what a grant and a settlement change."""

from __future__ import annotations

from ilaas.core.dispatch.events import Grant, Settlement
from ilaas.core.dispatch.fleet import Fleet
from ilaas.core.dispatch.headroom import Headroom
from ilaas.core.dispatch.health import HealthState
from ilaas.core.dispatch.placement import Placement
from ilaas.core.dispatch.predict import Predictor
from ilaas.core.dispatch.state import Entry, Slot
from ilaas.core.dispatch.waiting import Waiting
from ilaas.core.values import SERVER_FAULTS, Outcome, RequestClass

_PROVES_HEALTH = frozenset({Outcome.COMPLETED, Outcome.UPSTREAM_REJECTED, Outcome.CLIENT_LEFT_DECODE})
_OWNER = RequestClass.OWNER


class Leases:
    """Keeps servers, shares and predictions in step with what is under way."""

    __slots__ = ("_fleet", "_headroom", "_placement", "_predictor", "_waiting")

    def __init__(
        self, waiting: Waiting, fleet: Fleet, placement: Placement, predictor: Predictor, headroom: Headroom
    ) -> None:
        self._waiting = waiting
        self._fleet = fleet
        self._placement = placement
        self._predictor = predictor
        self._headroom = headroom

    def grant(self, entry: Entry, slot: Slot, now: float) -> Grant:
        """Take a slot for the ticket. What waited counts against its share, save on its organisation's own server."""
        ticket = entry.ticket
        entry.own = own = slot.owner == ticket.organisation
        if entry.waiting:
            entry.charged = not own
            self._waiting.leave(entry, charge=not own)
        entry.slot = slot
        entry.granted_s = now
        entry.attempts += 1
        slot.in_flight += 1
        if own:
            slot.owner_in_flight += 1
        if slot.health.state is HealthState.PROBING:
            slot.health.probes += 1
            entry.probe = slot.health.period
        else:
            entry.probe = 0
        self._fleet.refresh(slot)
        self._placement.chosen(entry, slot)
        predictor = self._predictor
        (predictor.batch if entry.batch else predictor.interactive).granted(now)
        if not entry.batch:
            self._headroom.granted()
        waited_s = now - ticket.arrived_s
        return Grant(ticket, slot.spec, _OWNER if own else ticket.request_class, max(0.0, waited_s))

    def adopt(self, entry: Entry, slot: Slot, began_s: float) -> None:
        """A lease that was given elsewhere: by another dispatcher, or by a gateway on credit."""
        entry.own = own = slot.owner == entry.ticket.organisation
        entry.slot = slot
        entry.granted_s = began_s
        entry.attempts += 1
        entry.probe = 0
        slot.in_flight += 1
        if own:
            slot.owner_in_flight += 1
        self._fleet.refresh(slot)
        self._placement.chosen(entry, slot)
        (self._predictor.batch if entry.batch else self._predictor.interactive).granted(began_s)
        if not entry.batch:
            self._headroom.granted()

    def release(self, entry: Entry, settlement: Settlement, now: float) -> Slot | None:
        """Give the slot back; health, fairness and predictions learn. None when it holds none."""
        slot, outcome = entry.slot, settlement.outcome
        if slot is None:
            return None
        entry.slot = None
        slot.in_flight -= 1
        if entry.own:
            slot.owner_in_flight -= 1
        self._judge(entry, slot, outcome, now)
        self._fleet.refresh(slot)
        self._placement.released(entry)
        predictor = self._predictor
        # a server that fails at once must not make the waits to come look short
        duration_s = None if settlement.retry or outcome is Outcome.CLIENT_LEFT_QUEUE else now - entry.granted_s
        (predictor.batch if entry.batch else predictor.interactive).settled(entry.granted_s, duration_s)
        if not entry.batch:
            self._headroom.released(now)
        if entry.charged:
            entry.charged = False
            used = _used_tokens(entry, settlement)
            self._waiting.queue_of(entry).correct(entry.ticket.organisation, used - entry.cost)
        return slot

    def _judge(self, entry: Entry, slot: Slot, outcome: Outcome, now: float) -> None:
        health = slot.health
        probe = entry.probe != 0 and entry.probe == health.period
        if probe and health.probes:
            health.probes -= 1
        if outcome in _PROVES_HEALTH:
            slot.served += 1
            health.succeeded(now, probe=probe)
        elif outcome in SERVER_FAULTS:
            slot.failed += 1
            health.failed(now, probe=probe)


def _used_tokens(entry: Entry, settlement: Settlement) -> float:
    """What counts against the organisation's share."""
    if settlement.retry:
        return 0.0
    if settlement.outcome is Outcome.COMPLETED and not settlement.tokens:
        return entry.cost  # a server that tells no count
    return float(settlement.tokens)
