"""Every waiting ticket of one model: in its class's queue, in its owner's lane, and by its deadline."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush

from ilaas.core.catalogue import DispatchPolicy
from ilaas.core.dispatch.ordering import COMPACT_ABOVE, ClassQueue, Fits, OwnerLane
from ilaas.core.dispatch.state import Entry
from ilaas.core.values import Strategy

Needs = tuple[int, str, tuple[str, ...]]
"""What tickets have in common that may use the same servers: window rank, owner if private-only, excluded servers."""


class Waiting:
    """Keeps the structures in step; decides nothing."""

    __slots__ = (
        "_batch_order",
        "_deadlines",
        "_needs",
        "_organisations",
        "_owners",
        "batch",
        "interactive",
        "lanes",
        "live",
    )

    def __init__(self, policy: DispatchPolicy, weights: Mapping[str, float], owners: frozenset[str]) -> None:
        fair = policy.strategy is not Strategy.ROUND_ROBIN_PRIORITY
        self.interactive = ClassQueue(dict(weights), fair=fair)
        self.batch = ClassQueue(dict(weights), fair=fair)
        self.lanes: dict[str, OwnerLane] = {}
        """By organisation, of those that provide servers and wait."""
        self.live = 0
        self._owners = owners
        self._organisations: dict[str, int] = {}
        self._deadlines: list[tuple[float, int, Entry]] = []
        self._batch_order: deque[Entry] = deque()
        self._needs: dict[Needs, int] = {}

    def configure(self, policy: DispatchPolicy, weights: Mapping[str, float], owners: frozenset[str]) -> None:
        """Take other weights and owners; nobody loses a place."""
        fair = policy.strategy is not Strategy.ROUND_ROBIN_PRIORITY
        self.interactive.configure(dict(weights), fair=fair)
        self.batch.configure(dict(weights), fair=fair)
        if owners == self._owners:
            return
        self._owners = owners
        self.lanes = {}
        for entry in self:
            self._into_lane(entry)

    def __iter__(self) -> Iterator[Entry]:
        """All waiting tickets, in order of arrival."""
        unique = {id(item[2]): item[2] for item in self._deadlines if item[2].waiting}
        return iter(sorted(unique.values(), key=lambda entry: entry.number))

    def queue_of(self, entry: Entry) -> ClassQueue:
        """The queue of its class."""
        return self.batch if entry.batch else self.interactive

    def of_organisation(self, organisation: str) -> int:
        """Tickets of one organisation."""
        return self._organisations.get(organisation, 0)

    def organisations(self) -> dict[str, int]:
        """Tickets by organisation."""
        return dict(self._organisations)

    def needs(self) -> list[Needs]:
        """The different needs of those that wait."""
        return list(self._needs)

    def with_needs(self, needs: Needs) -> list[Entry]:
        """Those that have this need; looks at all, so only for when something is wrong."""
        return [entry for entry in self if needs_of(entry) == needs]

    # -- in and out ----------------------------------------------------------------------------------------------------

    def push(self, entry: Entry) -> None:
        """It waits, for the first time or again in its old place."""
        entry.waiting = True
        self.live += 1
        organisation = entry.ticket.organisation
        self._organisations[organisation] = self._organisations.get(organisation, 0) + 1
        needs = needs_of(entry)
        self._needs[needs] = self._needs.get(needs, 0) + 1
        if not entry.private_only:
            self.queue_of(entry).push(entry)
        self._into_lane(entry)
        heappush(self._deadlines, (entry.ticket.deadline_s, entry.number, entry))
        if entry.batch:
            self._batch_order.append(entry)

    def leave(self, entry: Entry, *, charge: bool) -> None:
        """It waits no more; `charge` counts it against its organisation's share."""
        entry.waiting = False
        self.live -= 1
        organisation = entry.ticket.organisation
        left = self._organisations[organisation] - 1
        if left:
            self._organisations[organisation] = left
        else:
            del self._organisations[organisation]
        needs = needs_of(entry)
        self._needs[needs] -= 1
        if not self._needs[needs]:
            del self._needs[needs]
        if not entry.private_only:
            queue = self.queue_of(entry)
            if charge:
                queue.serve(entry)
            else:
                queue.left(entry)
        lane = self.lanes.get(organisation)
        if lane is not None:
            lane.left(entry)
            if not lane.live:
                del self.lanes[organisation]
        self._compact()

    def overdue(self, now: float) -> list[Entry]:
        """Those whose deadline has passed."""
        found, heap = [], self._deadlines
        while heap and (heap[0][0] <= now or not heap[0][2].waiting):
            item = heappop(heap)
            if item[2].waiting and item[2] not in found:  # a retry stands there twice
                found.append(item[2])
        return found

    def next_deadline_s(self) -> float:
        """The earliest deadline; infinity when nobody waits."""
        heap = self._deadlines
        while heap and not heap[0][2].waiting:
            heappop(heap)
        return heap[0][0] if heap else float("inf")

    def oldest_batch_s(self) -> float:
        """When the oldest waiting batch ticket arrived; infinity when there is none."""
        order = self._batch_order
        while order and not order[0].waiting:
            order.popleft()
        return order[0].ticket.arrived_s if order else float("inf")

    def lane_first(self, owner: str, fits: Fits) -> Entry | None:
        """The next ticket for an owner's own free servers."""
        lane = self.lanes.get(owner)
        return lane.first(fits) if lane is not None else None

    def _into_lane(self, entry: Entry) -> None:
        organisation = entry.ticket.organisation
        if organisation not in self._owners:
            return
        lane = self.lanes.get(organisation)
        if lane is None:
            lane = self.lanes[organisation] = OwnerLane()
        lane.push(entry)

    def _compact(self) -> None:
        heap, order = self._deadlines, self._batch_order
        if len(heap) > COMPACT_ABOVE and len(heap) > 2 * self.live:
            heap[:] = [item for item in heap if item[2].waiting]
            heapify(heap)
        if len(order) > COMPACT_ABOVE and len(order) > 2 * self.live:
            self._batch_order = deque(entry for entry in order if entry.waiting)


def needs_of(entry: Entry) -> Needs:
    """What decides which servers it may use."""
    ticket = entry.ticket
    return (
        ticket.context_tokens if entry.need[0] else 0,
        ticket.organisation if entry.private_only else "",
        ticket.excluded,
    )
