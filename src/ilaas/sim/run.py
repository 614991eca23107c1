"""The federation in virtual time: workloads, the production scheduler and simulated engines, in one event loop.

Nothing here decides: `ModelScheduler` is the one of the gateway, fed as the gateway feeds it (arrivals, first tokens,
settlements, statistics each interval, health checks, four ticks a second). The run depends on the scenario alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.events import Effect, Grant, Refusal, RefusalReason, Settlement, Ticket
from ilaas.core.dispatch.scheduler import ModelScheduler
from ilaas.core.values import Outcome
from ilaas.services.answers import refusal_outcome
from ilaas.sim.engine_events import EngineEvent, EngineRequest, Finished, FirstToken, Phase, Tokens
from ilaas.sim.many_gateways import ManyGateways
from ilaas.sim.recording import Gauge, Held, Played, Recording
from ilaas.sim.scenario import Event, Scenario
from ilaas.sim.sources import Source, source
from ilaas.sim.station import Station
from ilaas.sim.timeline import Timeline
from ilaas.sim.workload import Planned

TICK_S = 0.25
_REFUSED_S = 0.001
"""How long it takes to learn that a dead server refuses the connection."""
_CLIENT_LEFT = {
    Phase.WAITING: Outcome.CLIENT_LEFT_PREFILL,
    Phase.PREFILL: Outcome.CLIENT_LEFT_PREFILL,
    Phase.DECODE: Outcome.CLIENT_LEFT_DECODE,
}


MakeScheduler = Callable[[ModelSpec, Mapping[str, float], float], ModelScheduler]


@dataclass(slots=True)
class _Active:
    """One request under way."""

    played: Played
    source: Source
    ticket: Ticket
    station: Station | None = None
    """Where it holds a slot."""
    failure: Outcome | None = None
    generated: int = 0


def play(scenario: Scenario, make: MakeScheduler = ModelScheduler, *, gateways: int = 0) -> Recording:
    """Run the scenario in virtual time, from its start to its end or until nothing is left to do.

    With `gateways`, so many share the requests and the dispatcher is another process; with 0 it is in the gateway.
    """
    return _Run(scenario, make, gateways).play()


class _Run:
    def __init__(self, scenario: Scenario, make: MakeScheduler, gateways: int) -> None:
        self._scenario = scenario
        self._clock = Timeline()
        self._recording = Recording()
        self._weights = scenario.weights
        self._specs = {model.name: model.spec() for model in scenario.models}
        self._schedulers: dict[str, ModelScheduler | ManyGateways] = {
            name: ManyGateways(spec, self._weights, self._clock, self._apply, gateways)
            if gateways
            else make(spec, self._weights, 0.0)
            for name, spec in self._specs.items()
        }
        self._stations = {
            server.id: Station(model.name, server) for model in scenario.models for server in model.servers
        }
        self._active: dict[str, _Active] = {}
        self._planned = 0
        """Requests that are still to be sent."""

    def play(self) -> Recording:
        scenario, clock = self._scenario, self._clock
        end_s = scenario.duration_s + scenario.drain_s
        for event in scenario.events:
            clock.at(event.at_s, self._happen, event)
        self._note_slots()
        clock.at(0.0, self._read_statistics)
        clock.at(scenario.health_interval_s, self._check_health)
        clock.at(TICK_S, self._tick)
        for workload in scenario.workloads:
            player = source(workload, scenario.seed, scenario.duration_s)
            for planned in player.start():
                self._plan(player, planned)
        while (self._planned or self._active) and clock.step(end_s):
            pass
        self._recording.ended_s = end_s if self._planned or self._active else min(end_s, clock.now)
        return self._recording

    # -- requests -----------------------------------------------------------------------------------------------------

    def _plan(self, player: Source, planned: Planned | None) -> None:
        if planned is not None:
            self._planned += 1
            self._clock.at(planned.at_s, self._send, (player, planned))

    def _send(self, what: tuple[Source, Planned]) -> None:
        player, planned = what
        now = self._clock.now
        self._planned -= 1
        spec = self._specs[planned.model]
        ticket = planned.ticket(spec, now)
        played = Played(planned, now)
        self._recording.played.append(played)
        self._active[planned.id] = _Active(played, player, ticket)
        self._plan(player, player.sent(planned))
        if planned.stop_after_s is not None:
            self._clock.at(now + planned.stop_after_s, self._stop, planned.id)
        self._apply(self._schedulers[planned.model].arrive(ticket, now))

    def _apply(self, effects: Iterable[Effect]) -> None:
        """Carry out what the scheduler decided, and what follows from that."""
        queue = deque(effects)
        while queue:
            effect = queue.popleft()
            active = self._active[effect.ticket.id]
            if isinstance(effect, Refusal):
                outcome = refusal_outcome(effect)
                if effect.reason is RefusalReason.NO_SERVER and active.failure is not None:
                    outcome = active.failure
                self._end(active, outcome, effect.retry_after_s)
            else:
                queue.extend(self._granted(active, effect))

    def _granted(self, active: _Active, grant: Grant) -> Iterable[Effect]:
        now, ticket, planned = self._clock.now, active.ticket, active.played.planned
        station = active.station = self._stations[grant.server.id]
        active.generated = 0
        active.played.leases.append(Held(grant.server.id, grant.request_class, now))
        attempt = len(active.played.leases)
        if not station.up:
            self._clock.at(now + _REFUSED_S, self._refused, (ticket.id, attempt))
            return ()
        request = EngineRequest(
            id=ticket.id,
            prompt_tokens=planned.prompt_tokens,
            output_tokens=planned.output_tokens,
            prefix=planned.prefix,
            streamed=planned.stop_after_s is not None,
        )
        try:
            station.engine.submit(request, now)
        except ValueError:  # longer than the server's context window: a 400 in the server's words
            return self._settle(active, Outcome.UPSTREAM_REJECTED)
        self._wake(station)
        limit_s = self._specs[ticket.model].policy.deadlines.first_token_s
        self._clock.at(now + limit_s, self._overdue, (ticket.id, attempt))
        return ()

    def _wake(self, station: Station) -> None:
        """Look at the engine when something happens in it next."""
        next_s = station.engine.next_event_s()
        if next_s is not None and next_s < station.wake_s:
            station.wake_s = next_s
            self._clock.at(next_s, self._advance, station)

    def _advance(self, station: Station) -> None:
        """Pass on what happened in an engine."""
        now = self._clock.now
        if now < station.wake_s:
            return
        station.wake_s = float("inf")
        for event in station.engine.advance(now):
            active = self._active.get(event.request_id)
            if active is not None and active.station is station:
                self._progressed(active, event)
        self._wake(station)

    def _settle(self, active: _Active, outcome: Outcome, *, retry: bool = False) -> Iterable[Effect]:
        """Give the slot back; without `retry` the request ends with it."""
        now, played = self._clock.now, active.played
        played.leases[-1].ended_s = now
        started = played.first_token_s is not None
        played.tokens = played.planned.prompt_tokens + active.generated if started else 0
        active.station = None
        active.failure = outcome
        settlement = Settlement(ticket_id=active.ticket.id, outcome=outcome, tokens=played.tokens, retry=retry)
        effects = self._schedulers[active.ticket.model].settle(settlement, now)
        if not retry:
            self._end(active, outcome, None)
        return effects

    def _end(self, active: _Active, outcome: Outcome, retry_after_s: float | None) -> None:
        now, played = self._clock.now, active.played
        played.ended_s, played.outcome = now, outcome
        del self._active[active.ticket.id]
        self._plan(active.source, active.source.ended(played.planned, now, retry_after_s))

    def _progressed(self, active: _Active, event: EngineEvent) -> None:
        if isinstance(event, Tokens):
            active.generated += event.count
        elif isinstance(event, FirstToken):
            active.played.first_token_s = event.at_s
            scheduler = self._schedulers[active.ticket.model]
            self._apply(scheduler.first_token(event.request_id, event.ttft_s, self._clock.now))
        elif isinstance(event, Finished):
            active.generated = event.output_tokens
            if active.played.first_token_s is None:
                active.played.first_token_s = event.at_s
            self._apply(self._settle(active, Outcome.COMPLETED))

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    def _stop(self, ticket_id: str) -> None:
        """The user presses Stop."""
        active = self._active.get(ticket_id)
        if active is None:
            return
        if active.station is None:
            effects = self._schedulers[active.ticket.model].cancel(ticket_id, self._clock.now)
            self._end(active, Outcome.CLIENT_LEFT_QUEUE, None)
            self._apply(effects)
            return
        phase = active.station.engine.cancel(ticket_id, self._clock.now)
        self._wake(active.station)
        self._apply(self._settle(active, _CLIENT_LEFT.get(phase or Phase.WAITING, Outcome.CLIENT_LEFT_PREFILL)))

    def _refused(self, which: tuple[str, int]) -> None:
        """The server refused the connection."""
        active = self._active.get(which[0])
        if active is not None and active.station is not None and len(active.played.leases) == which[1]:
            self._apply(self._settle(active, Outcome.CONNECT_FAILED, retry=True))

    def _overdue(self, which: tuple[str, int]) -> None:
        """No first token in time: another server is tried."""
        active = self._active.get(which[0])
        if active is None or active.station is None or active.played.first_token_s is not None:
            return
        if len(active.played.leases) == which[1]:
            active.station.engine.cancel(which[0], self._clock.now)
            self._apply(self._settle(active, Outcome.FIRST_TOKEN_TIMEOUT, retry=True))

    def _happen(self, event: Event) -> None:
        """A server, or all of a site, goes down, comes up, drains or resumes."""
        for station in self._stations.values():
            if station.server.id == event.server or station.server.site == event.site:
                if event.action == "down":
                    self._go_down(station)
                elif event.action == "up":
                    station.up = True
                else:
                    self._drain(station, draining=event.action == "drain")
        self._note_slots()

    def _go_down(self, station: Station) -> None:
        """All its connections break: who has no token yet is tried elsewhere."""
        station.go_down()
        for active in [active for active in self._active.values() if active.station is station]:
            if active.played.first_token_s is None:
                self._apply(self._settle(active, Outcome.CONNECT_FAILED, retry=True))
            else:
                self._apply(self._settle(active, Outcome.STREAM_BROKEN))

    def _drain(self, station: Station, *, draining: bool) -> None:
        station.draining = draining
        spec = self._specs[station.model]
        servers = tuple(
            replace(server, draining=draining) if server.id == station.server.id else server for server in spec.servers
        )
        spec = self._specs[station.model] = replace(spec, servers=servers)
        self._apply(self._schedulers[station.model].configure(spec, self._weights, self._clock.now))

    # -- what happens all the time ------------------------------------------------------------------------------------

    def _note_slots(self) -> None:
        for model in self._specs:
            slots = sum(station.slots for station in self._stations.values() if station.model == model)
            self._recording.slots.setdefault(model, []).append((self._clock.now, slots))

    def _tick(self, _: object) -> None:
        now = self._clock.now
        for scheduler in self._schedulers.values():
            self._apply(scheduler.tick(now))
        self._clock.at(now + TICK_S, self._tick)

    def _read_statistics(self, _: object) -> None:
        now = self._clock.now
        for station in self._stations.values():
            if not station.up:
                continue
            station.wake_s = min(station.wake_s, now)
            self._advance(station)
            engine = station.engine
            self._recording.gauges.append(Gauge(now, station.server.id, engine.running, engine.waiting))
            if station.server.statistics:
                scheduler = self._schedulers[station.model]
                self._apply(scheduler.report(station.server.id, station.statistics(), now))
        self._clock.at(now + self._scenario.statistics_interval_s, self._read_statistics)

    def _check_health(self, _: object) -> None:
        now = self._clock.now
        for station in self._stations.values():
            self._apply(self._schedulers[station.model].check(station.server.id, station.up, now))
        self._clock.at(now + self._scenario.health_interval_s, self._check_health)
