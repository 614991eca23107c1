"""What is told of one model: waits to come, places in the queue, and the state that operators see."""

from __future__ import annotations

from dataclasses import dataclass

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.events import ModelView, QueuePosition, ServerView
from ilaas.core.dispatch.fleet import Fleet
from ilaas.core.dispatch.predict import Predictor, wait_s
from ilaas.core.dispatch.state import Entry, Slot
from ilaas.core.dispatch.waiting import Waiting
from ilaas.core.values import RequestClass

ROUNDS = 8
"""Of the estimate of those who will come and go first."""


@dataclass(slots=True)
class Outlook:
    """Reads the scheduler's state; changes nothing."""

    spec: ModelSpec
    waiting: Waiting
    fleet: Fleet
    predictor: Predictor

    def wait_s(self, entry: Entry, now: float) -> float:
        """Seconds until this ticket is served; the formulas are in `predict`."""
        own_ahead = self._own_ahead(entry)
        organisation, predictor = entry.ticket.organisation, self.predictor
        if entry.private_only:
            own = sum(slot.in_flight for slot in self.fleet.slots.values() if slot.owner == organisation)
            return wait_s(own_ahead, predictor.share_of(own, now))
        ahead = own_ahead + self._others_ahead(entry, own_ahead, now)
        if entry.batch:
            rate = predictor.batch_rate(self.spec.policy.ageing_share, now)
            return wait_s(ahead + self.waiting.interactive.live, rate)
        return wait_s(ahead, predictor.release_rate(now))

    def position(self, entry: Entry, now: float) -> QueuePosition:
        """Where a waiting ticket stands."""
        ahead = own_ahead = self._own_ahead(entry)
        if not entry.private_only:
            ahead += int(self._others_ahead(entry, own_ahead, now))
            if entry.batch:
                ahead += self.waiting.interactive.live
        return QueuePosition(ahead=ahead, predicted_wait_s=self.wait_s(entry, now))

    def view(self, now: float) -> ModelView:
        """The model as operators and `/v1/models` see it."""
        waiting, fleet, spec = self.waiting, self.fleet, self.spec
        queued = {
            RequestClass.INTERACTIVE.value: waiting.interactive.live,
            RequestClass.BATCH.value: waiting.batch.live,
        }
        private = waiting.live - waiting.interactive.live - waiting.batch.live
        if private:
            queued[RequestClass.OWNER.value] = private
        usable = fleet.usable_total > 0
        free = fleet.open_total > 0 and not waiting.interactive.live
        rate = self.predictor.release_rate(now)
        return ModelView(
            model=spec.name,
            strategy=spec.policy.strategy.value,
            queued=queued,
            queued_by_organisation=waiting.organisations(),
            running=sum(slot.in_flight for slot in fleet.slots.values()),
            predicted_wait_s=0.0 if free or not usable else wait_s(float(waiting.interactive.live), rate),
            state="unavailable" if not usable else "available" if free else "busy",
            servers=tuple(server_view(slot, now) for slot in fleet.slots.values()),
        )

    def _own_ahead(self, entry: Entry) -> int:
        """Tickets of its own organisation before it."""
        if entry.flow is not None:
            return entry.flow.ahead_of(entry)
        lane = self.waiting.lanes.get(entry.ticket.organisation)
        return lane.ahead_of(entry) if lane is not None else 0

    def _others_ahead(self, entry: Entry, own_ahead: int, now: float) -> float:
        """Tickets of other organisations that are served before it, under fair queueing.

        Never more than its organisation's share leaves them. Below that: those who wait now, and those who will come
        while it waits; how many these are and how long it waits depend on each other, so a few rounds are made.
        """
        organisation = entry.ticket.organisation
        queue = self.waiting.queue_of(entry)
        others = queue.live - queue.waiting_of(organisation)
        if others <= 0:
            return 0.0
        share = (own_ahead + 1) * queue.waiting_weight(organisation) / queue.weight(organisation)
        ahead = min(float(others), share)
        coming = 0.0 if entry.batch else self.predictor.arrival_rate(now) * others / queue.live
        release = self.predictor.release_rate(now)
        for _ in range(ROUNDS):
            if ahead >= share or not coming:
                break
            ahead = min(others + coming * wait_s(own_ahead + ahead, release), share)
        return ahead


def server_view(slot: Slot, now: float) -> ServerView:
    """One server as operators see it."""
    told = slot.fresh(now)
    limit = slot.capacity.limit
    return ServerView(
        id=slot.spec.id,
        site=slot.spec.site,
        owner=slot.spec.owner,
        engine=slot.spec.engine.value,
        state=slot.state_word(),
        in_flight=slot.in_flight,
        limit=limit if limit < 1 << 30 else None,
        waiting=told.waiting if told is not None else None,
        kv_cache_usage=told.kv_cache_usage if told is not None else None,
        ttft_s=slot.capacity.ttft_s,
        served=slot.served,
        failed=slot.failed,
    )
