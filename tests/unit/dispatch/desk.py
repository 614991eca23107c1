"""A scheduler with a clock that only moves when told, and short words for what tests do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ilaas.core.catalogue import DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.dispatch.events import Effect, Grant, Refusal, ServerStatistics, Settlement, Ticket
from ilaas.core.dispatch.scheduler import ModelScheduler
from ilaas.core.values import Outcome, RequestClass


def server(server_id: str, slots: int | None = 1, owner: str = "federation", **changes: Any) -> ServerSpec:
    """A server of so many slots."""
    return ServerSpec(
        id=server_id,
        url=f"http://{server_id}",
        site=owner,
        owner=owner,
        served_name="m",
        max_parallel_requests=slots,
        **changes,
    )


def model(*servers: ServerSpec, **policy: Any) -> ModelSpec:
    """A model; nobody is refused for a long wait unless the policy says so."""
    return ModelSpec(name="m", servers=servers, policy=DispatchPolicy(**{"max_wait_s": 1e9, **policy}))


class Desk:
    """Tickets are named; what they were granted and refused is kept by name."""

    def __init__(self, *servers: ServerSpec, weights: Mapping[str, float] | None = None, **policy: Any) -> None:
        self.now = 1_000.0
        self.spec = model(*servers, **policy)
        self.weights = dict(weights or {})
        self.scheduler = ModelScheduler(self.spec, self.weights, self.now)
        self.granted: dict[str, Grant] = {}
        self.refused: dict[str, Refusal] = {}
        self.order: list[str] = []
        """Tickets in the order in which they were granted."""

    def ask(self, name: str, organisation: str = "a", **changes: Any) -> str | None:
        """A request comes; the server it was granted at once."""
        ticket = Ticket(id=name, model="m", organisation=organisation, **{"arrived_s": self.now, **changes})
        self.note(self.scheduler.arrive(ticket, self.now))
        return self.server_of(name)

    def batch(self, name: str, organisation: str = "a", **changes: Any) -> str | None:
        """A batch request comes."""
        return self.ask(name, organisation, request_class=RequestClass.BATCH, **changes)

    def end(self, name: str, outcome: Outcome = Outcome.COMPLETED, **changes: Any) -> list[str]:
        """A lease ends; the tickets that were granted by that."""
        self.granted.pop(name, None)
        settlement = Settlement(ticket_id=name, outcome=outcome, **changes)
        return self.note(self.scheduler.settle(settlement, self.now))

    def fail(self, name: str, outcome: Outcome = Outcome.CONNECT_FAILED) -> list[str]:
        """The server failed the request before its first token: it is to be tried again."""
        return self.end(name, outcome, retry=True)

    def cancel(self, name: str) -> list[str]:
        """The client leaves."""
        return self.note(self.scheduler.cancel(name, self.now))

    def tell(self, server_id: str, **gauges: Any) -> list[str]:
        """A server's statistics come."""
        return self.note(self.scheduler.report(server_id, ServerStatistics(**gauges), self.now))

    def check(self, server_id: str, *, ok: bool) -> list[str]:
        """An active check ends."""
        return self.note(self.scheduler.check(server_id, ok, self.now))

    def wait(self, seconds: float, step_s: float = 0.25) -> list[str]:
        """Time passes, tick by tick."""
        found: list[str] = []
        for _ in range(round(seconds / step_s)):
            self.now += step_s
            found += self.note(self.scheduler.tick(self.now))
        return found

    def configure(self, *servers: ServerSpec, **policy: Any) -> list[str]:
        """The catalogue changes; without servers only the policy does."""
        changed = replace(self.spec.policy, **policy)
        self.spec = replace(self.spec, servers=servers or self.spec.servers, policy=changed)
        return self.note(self.scheduler.configure(self.spec, self.weights, self.now))

    def note(self, effects: list[Effect]) -> list[str]:
        """Keep what came out; the tickets granted."""
        names = []
        for effect in effects:
            if isinstance(effect, Grant):
                self.granted[effect.ticket.id] = effect
                self.order.append(effect.ticket.id)
                names.append(effect.ticket.id)
            else:
                self.refused[effect.ticket.id] = effect
        return names

    def server_of(self, name: str) -> str | None:
        """Where a ticket is served now."""
        grant = self.granted.get(name)
        return grant.server.id if grant is not None else None

    def down(self, server_id: str) -> None:
        """Active checks take a server down."""
        for _ in range(self.spec.policy.failures_before_down):
            self.check(server_id, ok=False)

    def state(self, server_id: str) -> str:
        """Its state in the view."""
        return next(one.state for one in self.scheduler.view(self.now).servers if one.id == server_id)

    def limit(self, server_id: str) -> int | None:
        """Its limit in the view."""
        return next(one.limit for one in self.scheduler.view(self.now).servers if one.id == server_id)

    def waiting(self) -> int:
        """How many wait."""
        return sum(self.scheduler.view(self.now).queued.values())
