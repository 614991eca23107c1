"""The dispatcher of one model: events in, grants and refusals out. Pure: time is passed in, nothing waits, nothing is
drawn. A slot that is given back is used in the same call. docs/dispatcher.md has the rules in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.events import (
    Effect,
    Grant,
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
from ilaas.core.dispatch.ordering import rank
from ilaas.core.dispatch.outlook import Outlook
from ilaas.core.dispatch.placement import PrefixMemory, Scene, may_use, pick, pick_next
from ilaas.core.dispatch.predict import Predictor, retry_after_s
from ilaas.core.dispatch.state import Entry, Slot
from ilaas.core.dispatch.waiting import Waiting
from ilaas.core.values import SERVER_FAULTS, Outcome, RequestClass, Strategy

STRANDED_S = 10.0
"""How long waiting tickets hope for a server to come back when none that they may use is up."""

_PROVES_HEALTH = frozenset({Outcome.COMPLETED, Outcome.UPSTREAM_REJECTED, Outcome.CLIENT_LEFT_DECODE})


class ModelScheduler:
    """One model's queue and servers."""

    def __init__(self, spec: ModelSpec, weights: Mapping[str, float], now: float) -> None:
        """`weights` by organisation, 1 when missing; `now` in seconds on any clock that never goes back."""
        self._policy = spec.policy
        self._fleet = Fleet(spec, now)
        self._waiting = Waiting(spec.policy, weights, self._fleet.owners)
        self._entries: dict[str, Entry] = {}
        self._headroom = Headroom()
        self._predictor = Predictor()
        self._outlook = Outlook(spec, self._waiting, self._fleet, self._predictor)
        self._scene = Scene(prefixes=PrefixMemory())
        self._number = 0
        self._last_slot = 0
        self._credit = 0.0
        """Of aged batch tickets, in grants."""
        self._stranded: dict[object, float] = {}

    # -- tickets -------------------------------------------------------------------------------------------------------

    def arrive(self, ticket: Ticket, now: float) -> list[Effect]:
        """A new ticket: granted now, refused now, or it waits."""
        self._number += 1
        entry = Entry(ticket, self._number, rank(ticket.arrived_s, ticket.priority))
        entry.need = (self._fleet.window_rank(ticket.context_tokens), bool(ticket.excluded))
        if not entry.batch:
            self._predictor.arrived(now)
        refusal = self._unserviceable(entry, now)
        if refusal is not None:
            return [refusal]
        self._entries[ticket.id] = entry
        if not self._waiting.live and (slot := self._place_at_once(entry, now)) is not None:
            self._noted(entry, waits=False, now=now)
            return [self._grant(entry, slot, now)]
        self._waiting.push(entry)
        effects = self._pump(now)
        self._noted(entry, waits=entry.waiting, now=now)
        if entry.waiting and (refusal := self._too_long(entry, now)) is not None:
            self._forget(entry)
            effects.append(refusal)
        return effects

    def cancel(self, ticket_id: str, now: float) -> list[Effect]:  # noqa: ARG002  # every event has its time
        """The one who waits has left. A ticket that is not waiting here is left alone."""
        entry = self._entries.get(ticket_id)
        if entry is not None and entry.waiting:
            self._forget(entry)
        return []

    def settle(self, settlement: Settlement, now: float) -> list[Effect]:
        """A lease has ended: the slot is free, health and fairness learn; with `retry` the ticket waits again."""
        entry = self._entries.get(settlement.ticket_id)
        if entry is None or entry.slot is None:
            return []
        slot, entry.slot = entry.slot, None
        self._release(entry, slot, settlement, now)
        if not settlement.retry:
            del self._entries[settlement.ticket_id]
            return self._pump(now)
        return self._again(entry, slot, now)

    def abandon(self, ticket_id: str, now: float) -> list[Effect]:
        """A grant whose waiter had left already: the slot comes back, and nothing was learned."""
        return self.settle(Settlement(ticket_id=ticket_id, outcome=Outcome.CLIENT_LEFT_QUEUE), now)

    def first_token(self, ticket_id: str, ttft_s: float, now: float) -> list[Effect]:
        """The server has begun to answer."""
        entry = self._entries.get(ticket_id)
        if entry is None or entry.slot is None:
            return []
        slot = entry.slot
        slot.capacity.observe_ttft(ttft_s)
        if slot.fresh(now) is None:
            slot.capacity.observe(slot.in_flight, now)
            self._fleet.refresh(slot)
            return self._pump(now)
        return []

    # -- servers -------------------------------------------------------------------------------------------------------

    def report(self, server_id: str, statistics: ServerStatistics, now: float) -> list[Effect]:
        """A reading of a server's gauges."""
        slot = self._fleet.slots.get(server_id)
        if slot is None:
            return []
        slot.statistics, slot.told_at_s = statistics, now
        slot.capacity.report(statistics, slot.in_flight, now)
        self._fleet.refresh(slot)
        return self._pump(now)

    def check(self, server_id: str, ok: bool, now: float) -> list[Effect]:
        """The result of an active health check."""
        slot = self._fleet.slots.get(server_id)
        if slot is None or not slot.health.checked(now, ok=ok):
            return []
        self._fleet.refresh(slot)
        return self._pump(now)

    def configure(self, spec: ModelSpec, weights: Mapping[str, float], now: float) -> list[Effect]:
        """The model, its servers or the weights changed. Nothing under way and nobody's place is lost."""
        self._policy = spec.policy
        self._outlook.spec = spec
        self._fleet.configure(spec, now)
        self._waiting.configure(spec.policy, weights, self._fleet.owners)
        return self._pump(now)

    def close(self) -> list[Effect]:
        """The model is gone: everybody who waits is refused."""
        return [self._refuse(entry, RefusalReason.NO_SERVER, 30.0) for entry in list(self._waiting)]

    # -- time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Deadlines, breakers whose pause is over, and tickets that no server is left for."""
        for slot in self._fleet.slots.values():
            slot.health.wake(now)
            if slot.fresh(now) is None:
                slot.capacity.observe(slot.in_flight, now)
            self._fleet.refresh(slot)
        effects: list[Effect] = [
            self._refuse(entry, RefusalReason.QUEUE_TIMEOUT, self._outlook.wait_s(entry, now))
            for entry in self._waiting.overdue(now)
        ]
        effects.extend(self._give_up_stranded(now))
        effects.extend(self._pump(now))
        return effects

    def next_event_s(self) -> float | None:
        """When `tick` has something to do if nothing else happens before; None when never."""
        times = [self._waiting.next_deadline_s()]
        times.extend(
            slot.health.down_until_s for slot in self._fleet.slots.values() if slot.health.state is HealthState.DOWN
        )
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

    # -- refusals ------------------------------------------------------------------------------------------------------

    def _unserviceable(self, entry: Entry, now: float) -> Refusal | None:
        """No server that is up may ever serve it."""
        if self._fleet.any_for(entry):
            return None
        ticket = entry.ticket
        if ticket.context_tokens and not ticket.excluded:
            narrow = Entry(replace(ticket, context_tokens=0), 0, 0.0)
            if self._fleet.any_for(narrow):
                return Refusal(ticket, RefusalReason.CONTEXT_TOO_LONG, 1.0)
        return Refusal(ticket, RefusalReason.NO_SERVER, retry_after_s(self._fleet.back_in_s(now)))

    def _too_long(self, entry: Entry, now: float) -> Refusal | None:
        """The queue is full, or the wait would be too long."""
        ticket, policy, waiting = entry.ticket, self._policy, self._waiting
        wait_s = self._outlook.wait_s(entry, now)
        full = (
            waiting.live > policy.max_queued
            or waiting.of_organisation(ticket.organisation) > policy.max_queued_per_organisation
            or (ticket.max_queued is not None and waiting.live > ticket.max_queued)
        )
        if full:
            return Refusal(ticket, RefusalReason.QUEUE_FULL, retry_after_s(wait_s))
        longest = policy.batch_max_wait_s if entry.batch else policy.max_wait_s
        if ticket.max_wait_s is not None:
            longest = min(longest, ticket.max_wait_s)
        if wait_s > longest:
            return Refusal(ticket, RefusalReason.BUSY, retry_after_s(wait_s - longest))
        return None

    def _refuse(self, entry: Entry, reason: RefusalReason, wait_s: float) -> Refusal:
        self._forget(entry)
        return Refusal(entry.ticket, reason, retry_after_s(wait_s))

    def _forget(self, entry: Entry) -> None:
        if entry.waiting:
            self._waiting.leave(entry, charge=False)
        self._entries.pop(entry.ticket.id, None)

    def _give_up_stranded(self, now: float) -> list[Effect]:
        """Those whose every server has been down for a while."""
        since: dict[object, float] = {}
        effects: list[Effect] = []
        for needs in self._waiting.needs():
            some = self._waiting.with_needs(needs) if not self._serves(needs) else []
            if not some:
                continue
            began = self._stranded.get(needs, now)
            if now - began < STRANDED_S:
                since[needs] = began
                continue
            back_s = self._fleet.back_in_s(now)
            effects.extend(self._refuse(entry, RefusalReason.NO_SERVER, back_s) for entry in some)
        self._stranded = since
        return effects

    def _serves(self, needs: tuple[int, str, tuple[str, ...]]) -> bool:
        context, owner, excluded = needs
        return any(
            (not owner or slot.spec.owner == owner)
            and slot.spec.id not in excluded
            and (slot.spec.context_window is None or context <= slot.spec.context_window)
            for slot in self._fleet.usable()
        )

    # -- grants --------------------------------------------------------------------------------------------------------

    def _pump(self, now: float) -> list[Effect]:
        """Use every free slot that somebody waits for."""
        effects: list[Effect] = []
        while self._fleet.free and self._waiting.live:
            chosen = self._next(now)
            if chosen is None:
                break
            effects.append(self._grant(*chosen, now))
        return effects

    def _next(self, now: float) -> tuple[Entry, Slot] | None:
        """Owner lanes, then interactive, then batch; an aged batch ticket has its share beside interactive."""
        waiting, fleet = self._waiting, self._fleet
        if waiting.lanes:
            for free in fleet.free.values():
                entry = waiting.lane_first(free.spec.owner, fleet.fits_own)
                if entry is not None and (slot := self._place(entry, now, own_only=True)) is not None:
                    return entry, slot
        aged = self._credit >= 1.0 and waiting.batch.live > 0
        if waiting.interactive.live and not aged:
            entry = waiting.interactive.first(fleet.fits_anybody)
            if entry is not None and (slot := self._place(entry, now)) is not None:
                self._age(now)
                return entry, slot
        if waiting.batch.live and (aged or self._batch_room(now)):
            entry = waiting.batch.first(fleet.fits_anybody)
            if entry is not None and (slot := self._place(entry, now)) is not None:
                self._credit = max(0.0, self._credit - 1.0)
                return entry, slot
        if aged and waiting.interactive.live:
            entry = waiting.interactive.first(fleet.fits_anybody)
            if entry is not None and (slot := self._place(entry, now)) is not None:
                return entry, slot
        return None

    def _age(self, now: float) -> None:
        """An interactive grant while a batch ticket has waited too long: batch earns a part of a grant."""
        if now - self._waiting.oldest_batch_s() >= self._policy.ageing_s:
            share = self._policy.ageing_share
            self._credit = min(self._credit + share / max(1e-9, 1.0 - share), 1.0)

    def _batch_room(self, now: float) -> bool:
        """Whether batch may take a slot, with some kept for interactive requests that are about to come."""
        if self._policy.strategy is Strategy.ROUND_ROBIN:
            return True
        kept = self._headroom.slots(self._fleet.limit_total, self._predictor.interactive.in_flight, now)
        return self._fleet.open_total > kept

    def _place_at_once(self, entry: Entry, now: float) -> Slot | None:
        """A server for a ticket that nobody waits before."""
        if not self._fleet.free:
            return None
        if self._fleet.owners and entry.ticket.organisation in self._fleet.owners:
            slot = self._place(entry, now, own_only=True)
            if slot is not None or entry.private_only:
                return slot
        if entry.batch and not self._batch_room(now):
            return None
        return self._place(entry, now)

    def _place(self, entry: Entry, now: float, *, own_only: bool = False) -> Slot | None:
        organisation = entry.ticket.organisation
        candidates = [
            slot
            for slot in self._fleet.free.values()
            if slot.spec.owner == organisation or (not own_only and slot.open > slot.reserved)
        ]
        if self._policy.strategy is not Strategy.LEAST_BUSY:
            return pick_next(candidates, entry, self._last_slot)
        if len(candidates) == 1:
            return candidates[0] if may_use(candidates[0], entry) else None
        scene = self._scene
        scene.now = now
        limit = self._fleet.limit_total
        scene.best_ttft_s = min((ttft_s for slot in candidates if (ttft_s := slot.capacity.ttft_s)), default=0.0)
        scene.mean_load = (limit - self._fleet.open_total) / limit if limit else 1.0
        return pick(candidates, entry, scene, self._policy.scorers)

    def _grant(self, entry: Entry, slot: Slot, now: float) -> Grant:
        ticket = entry.ticket
        own = slot.spec.owner == ticket.organisation
        if entry.waiting:
            self._waiting.leave(entry, charge=not own)
            entry.charged = not own
        else:
            entry.charged = False
        entry.slot = slot
        entry.granted_s = now
        entry.attempts += 1
        entry.granted_class = RequestClass.OWNER if own else ticket.request_class
        slot.in_flight += 1
        slot.served += 1
        if own:
            slot.owner_in_flight += 1
        if slot.health.state is HealthState.PROBING:
            slot.health.probes += 1
            entry.probe = True
        self._last_slot = slot.number
        self._fleet.refresh(slot)
        self._predictor.of(ticket.request_class).granted(now)
        if not entry.batch:
            self._headroom.granted()
        self._scene.prefixes.note(ticket.prefix_hash, slot.spec.id)
        return Grant(ticket, slot.spec, entry.granted_class, max(0.0, now - ticket.arrived_s))

    def _noted(self, entry: Entry, *, waits: bool, now: float) -> None:
        if not entry.batch:
            self._headroom.arrived(now, behind_batch=waits and self._predictor.batch.in_flight > 0)

    # -- settlements ---------------------------------------------------------------------------------------------------

    def _release(self, entry: Entry, slot: Slot, settlement: Settlement, now: float) -> None:
        ticket, outcome = entry.ticket, settlement.outcome
        slot.in_flight -= 1
        if entry.granted_class is RequestClass.OWNER:
            slot.owner_in_flight -= 1
        self._predictor.of(ticket.request_class).settled(now - entry.granted_s)
        if not entry.batch:
            self._headroom.released(now)
        if entry.probe:
            slot.health.probes = max(0, slot.health.probes - 1)
        if outcome in SERVER_FAULTS:
            slot.failed += 1
            slot.health.failed(now, probe=entry.probe)
        elif outcome in _PROVES_HEALTH:
            slot.health.succeeded(now, probe=entry.probe)
        entry.probe = False
        self._fleet.refresh(slot)
        if entry.charged:
            used = 0.0 if settlement.retry else float(settlement.tokens) or entry.cost
            self._waiting.queue_of(entry).correct(ticket.organisation, used - entry.cost)
            entry.charged = False

    def _again(self, entry: Entry, slot: Slot, now: float) -> list[Effect]:
        """Back to the old place, without the server that failed."""
        ticket = entry.ticket
        ticket.excluded = (*ticket.excluded, slot.spec.id)
        entry.need = (entry.need[0], True)
        if entry.attempts >= self._policy.max_attempts or not self._fleet.any_for(entry):
            del self._entries[ticket.id]
            refusal = Refusal(ticket, RefusalReason.NO_SERVER, retry_after_s(self._fleet.back_in_s(now)))
            return [*self._pump(now), refusal]
        self._waiting.push(entry)
        return self._pump(now)
