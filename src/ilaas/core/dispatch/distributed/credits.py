"""The credits that a gateway holds of one model, and which server the next request by credit goes to."""

from __future__ import annotations

from collections.abc import Mapping

from ilaas.core.catalogue import ModelSpec, ServerSpec
from ilaas.core.dispatch.events import Ticket
from ilaas.core.dispatch.placement import PrefixMemory
from ilaas.core.values import RequestClass, RoutingMode

AFFINITY_POINTS = 0.8
OWN_POINTS = 0.4
"""Beside the free share of a server's credits, which is at most 1; as the scheduler weighs them."""


class Credits:
    """Counts, by server, what is allowed and what is used."""

    __slots__ = ("_allowed", "_owners", "_prefixes", "_servers", "_used")

    def __init__(self, spec: ModelSpec) -> None:
        self._allowed: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._prefixes = PrefixMemory()
        self.configure(spec)

    def configure(self, spec: ModelSpec) -> None:
        """The servers of the model, as they are now."""
        self._servers = {server.id: server for server in spec.servers}
        self._owners = frozenset(server.owner for server in spec.servers)

    def allow(self, allowed: Mapping[str, int]) -> None:
        """What the dispatcher allows from now on."""
        self._allowed = {server: count for server, count in allowed.items() if count > 0}

    def drop(self, server: str | None = None) -> None:
        """Use no more credits (of one server that has failed) until the dispatcher allows it anew."""
        if server is None:
            self._allowed = {}
        else:
            self._allowed.pop(server, None)

    def recalled(self, server: str) -> bool:
        """More is used than is allowed: somebody waits for what comes back."""
        return self._used.get(server, 0) > self._allowed.get(server, 0)

    def free(self) -> int:
        """Requests that may begin without asking."""
        return sum(max(0, allowed - self._used.get(server, 0)) for server, allowed in self._allowed.items())

    def take(self, ticket: Ticket) -> ServerSpec | None:
        """A server for the ticket, whose credit is used from now on; None when it must ask the dispatcher.

        Batch always asks: it fills what others leave, and who leaves what is known to the dispatcher only.
        """
        if not self._allowed or ticket.request_class is not RequestClass.INTERACTIVE:
            return None
        best: ServerSpec | None = None
        most = 0.0
        wants_own = ticket.routing_mode is not RoutingMode.ANY and ticket.organisation in self._owners
        last = self._prefixes.server(ticket.prefix_hash)
        for server_id, allowed in self._allowed.items():
            free = allowed - self._used.get(server_id, 0)
            server = self._servers.get(server_id)
            if free <= 0 or server is None or not _fits(server, ticket):
                continue
            own = server.owner == ticket.organisation
            if not own and (wants_own or ticket.routing_mode is RoutingMode.PRIVATE_ONLY):
                continue
            points = free / allowed + (OWN_POINTS if own else 0.0) + (AFFINITY_POINTS if server_id == last else 0.0)
            if points > most:
                best, most = server, points
        if best is not None:
            self._used[best.id] = self._used.get(best.id, 0) + 1
            if ticket.prefix_hash:
                self._prefixes.note(ticket.prefix_hash, best.id)
        return best

    def give_back(self, server: str) -> None:
        """A request by credit has ended."""
        left = self._used.get(server, 0) - 1
        if left > 0:
            self._used[server] = left
        else:
            self._used.pop(server, None)


def _fits(server: ServerSpec, ticket: Ticket) -> bool:
    if server.draining or (ticket.excluded and server.id in ticket.excluded):
        return False
    return not server.context_window or ticket.context_tokens <= server.context_window
