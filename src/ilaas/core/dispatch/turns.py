"""Which waiting ticket is granted next, and where: owner lanes, then interactive, then batch in what is left."""

from __future__ import annotations

from ilaas.core.dispatch.fleet import Fleet
from ilaas.core.dispatch.headroom import Headroom
from ilaas.core.dispatch.ordering import Ageing, ClassQueue
from ilaas.core.dispatch.placement import Placement
from ilaas.core.dispatch.predict import Predictor
from ilaas.core.dispatch.state import Entry, Slot
from ilaas.core.dispatch.waiting import Waiting
from ilaas.core.values import Strategy

Turn = tuple[Entry, Slot]


class Turns:
    """Chooses; grants nothing."""

    __slots__ = ("_ageing", "_fleet", "_headroom", "_placement", "_predictor", "_waiting")

    def __init__(
        self, waiting: Waiting, fleet: Fleet, placement: Placement, predictor: Predictor, headroom: Headroom
    ) -> None:
        self._waiting = waiting
        self._fleet = fleet
        self._placement = placement
        self._predictor = predictor
        self._ageing = Ageing()
        self._headroom = headroom

    def at_once(self, entry: Entry, now: float) -> Slot | None:
        """A server for a ticket that nobody waits before."""
        fleet = self._fleet
        if not fleet.free:
            return None
        if entry.ticket.organisation in fleet.owners:
            slot = self._placement.place(entry, own_only=True)
            if slot is not None or entry.private_only:
                return slot
        if entry.batch and not self._batch_room(now):
            return None
        return self._placement.place(entry)

    def next(self, now: float) -> Turn | None:
        """The next ticket and its server; None when no one that waits may use what is free."""
        waiting = self._waiting
        if waiting.lanes and (turn := self._owners(now)) is not None:
            return turn
        due = self._ageing.due and waiting.batch.live > 0
        if due and (turn := self._of(waiting.batch)) is not None:
            return turn
        if waiting.interactive.live and (turn := self._of(waiting.interactive)) is not None:
            if self._aged(waiting.oldest_batch_s(), now):
                self._ageing.earned(self._fleet.policy.ageing_share)
            return turn
        if waiting.batch.live and not due and self._batch_room(now):
            return self._of(waiting.batch)
        return None

    def _owners(self, now: float) -> Turn | None:
        """An owner's ticket for its own server."""
        lanes, fleet = self._waiting.lanes, self._fleet
        for free in fleet.free.values():
            lane = lanes.get(free.owner)
            if lane is None:
                continue
            entry = lane.first(fleet.fits_own)
            if entry is None or (slot := self._placement.place(entry, own_only=True)) is None:
                continue
            if entry.batch:
                lane.ageing.spent()
            elif self._aged(lane.oldest_batch_s(fleet.fits_own), now):
                lane.ageing.earned(fleet.policy.ageing_share)
            return entry, slot
        return None

    def _of(self, queue: ClassQueue) -> Turn | None:
        entry = queue.first(self._fleet.fits_anybody)
        if entry is None:
            return None
        slot = self._placement.place(entry)
        if slot is None:
            return None
        if entry.batch:
            self._ageing.spent()
        return entry, slot

    def _aged(self, oldest_s: float, now: float) -> bool:
        return now - oldest_s >= self._fleet.policy.ageing_s

    def _batch_room(self, now: float) -> bool:
        """Whether batch may take a slot, with some kept for interactive requests that are about to come."""
        fleet = self._fleet
        if fleet.policy.strategy is Strategy.ROUND_ROBIN:
            return True
        kept = self._headroom.slots(fleet.limit_total, self._predictor.interactive.in_flight, now)
        return fleet.open_total > kept
