"""A federation of gateways and dispatchers in virtual time, with a broker between them that behaves as RabbitMQ does.

Nothing runs beside: events happen in the order of their times, and delays come from one random generator, so that every
run with the same seed is the same. What can go wrong can be made to: processes die or pause, the broker goes away.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ilaas.core.catalogue import Catalogue, ModelSpec
from ilaas.core.dispatch.distributed.dispatcher import Dispatcher
from ilaas.core.dispatch.distributed.gateway import RemoteDispatch
from ilaas.core.dispatch.distributed.messages import write_baton
from ilaas.core.dispatch.events import Effect, Grant, Refusal, Settlement, Ticket
from ilaas.core.values import Outcome

TICK_S = 0.25


class World:
    """Virtual time."""

    def __init__(self, seed: int = 1) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (max(time_s, self.now), self._count, action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.now + seconds, action)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            time_s, _, action = heapq.heappop(self._events)
            self.now = time_s
            action()
        self.now = end


@dataclass
class _Queue:
    """A model's queue, with a single active consumer."""

    ready: deque[tuple[int, bytes]] = field(default_factory=deque)
    unacked: dict[int, bytes] = field(default_factory=dict)
    consumers: list[VirtualDispatcher] = field(default_factory=list)
    active: int = 0
    """Counts who was active: what is acknowledged on a channel of the past has no effect."""


class Broker:
    """Queues of models, mail boxes and news. Each pair of processes sees its letters in order."""

    def __init__(self, world: World, delay_s: tuple[float, float] = (0.0005, 0.003), lost: float = 0.0) -> None:
        self.world = world
        self.delay_s = delay_s
        self.lost = lost
        """Share of letters (not tickets) that never arrive."""
        self.up = True
        self.letters = 0
        self.queues: defaultdict[str, _Queue] = defaultdict(_Queue)
        self.processes: dict[str, VirtualGateway | VirtualDispatcher] = {}
        self._last: dict[tuple[str, str], float] = {}
        self._tag = 0

    def _send(self, sender: str, to: str, arrive: Callable[[], None]) -> None:
        delay = self.world.random.uniform(*self.delay_s)
        at = max(self.world.now + delay, self._last.get((sender, to), 0.0))
        self._last[sender, to] = at
        self.world.at(at, lambda: arrive() if self.up else None)

    def letter(self, sender: str, to: str, body: bytes) -> None:
        self.letters += 1
        if not self.up or self.world.random.random() < self.lost:
            return

        def arrive() -> None:
            process = self.processes.get(to)
            if process is not None and process.alive:
                process.hear(lambda: process.letter(body))

        self._send(sender, to, arrive)

    def news(self, sender: str, deliver: Callable[[VirtualGateway | VirtualDispatcher], None]) -> None:
        if not self.up:
            return
        for name, process in list(self.processes.items()):

            def arrive(process: VirtualGateway | VirtualDispatcher = process) -> None:
                if process.alive:
                    process.hear(lambda: deliver(process))

            self._send(sender, name, arrive)

    def publish(self, sender: str, model: str, body: bytes, confirmed: Callable[[], None] | None = None) -> None:
        def arrive() -> None:
            self._tag += 1
            self.queues[model].ready.append((self._tag, body))
            self.deliver(model)
            if confirmed is not None:
                confirmed()

        if self.up:
            self._send(sender, "queue:" + model, arrive)

    def subscribe(self, model: str, dispatcher: VirtualDispatcher) -> None:
        queue = self.queues[model]
        if dispatcher not in queue.consumers:
            queue.consumers.append(dispatcher)
        self.deliver(model)

    def leave(self, model: str, dispatcher: VirtualDispatcher) -> None:
        """What it holds goes back to the front, in order."""
        queue = self.queues[model]
        if dispatcher not in queue.consumers:
            return
        if queue.consumers[0] is dispatcher:
            queue.active += 1
            queue.ready.extendleft(sorted(queue.unacked.items(), reverse=True))
            queue.unacked = {}
        queue.consumers.remove(dispatcher)
        self.deliver(model)

    def ack(self, model: str, tag: int, active: int) -> None:
        if active == self.queues[model].active:
            self.queues[model].unacked.pop(tag, None)

    def deliver(self, model: str) -> None:
        queue = self.queues[model]
        while self.up and queue.ready and queue.consumers:
            tag, body = queue.ready.popleft()
            queue.unacked[tag] = body
            to = queue.consumers[0]

            def arrive(
                to: VirtualDispatcher = to, tag: int = tag, body: bytes = body, active: int = queue.active
            ) -> None:
                if to.alive and active == queue.active:
                    to.hear(lambda: to.delivery(model, tag, body, active))

            self._send("queue:" + model, to.name, arrive)

    def stop(self) -> None:
        """The broker dies: connections break, durable messages stay."""
        self.up = False
        for queue in self.queues.values():
            queue.ready.extendleft(sorted(queue.unacked.items(), reverse=True))
            queue.unacked = {}
            queue.consumers = []
            queue.active += 1
        for process in list(self.processes.values()):
            process.hear(lambda process=process: process.link(up=False))

    def start(self) -> None:
        self.up = True
        for process in list(self.processes.values()):
            self.world.after(self.world.random.uniform(0.1, 1.0), lambda process=process: self._connect(process))

    def _connect(self, process: VirtualGateway | VirtualDispatcher) -> None:
        if self.up:
            process.hear(lambda: process.link(up=True))


class _Process:
    """What gateways and dispatchers have in common."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.broker = broker
        self.world = broker.world
        self.name = name
        self.alive = True
        self.paused = False
        self.ahead_s = broker.world.random.uniform(-1e6, 1e6)
        """Its clock against that of the world: no process knows another's."""
        self._held: list[Callable[[], None]] = []

    @property
    def now(self) -> float:
        """By its own clock."""
        return self.world.now + self.ahead_s

    def hear(self, what: Callable[[], None]) -> None:
        """Now, or when the process goes on."""
        if self.paused:
            self._held.append(what)
        else:
            what()

    def pause(self, seconds: float) -> None:
        """As SIGSTOP, for a while."""
        self.paused = True
        self.world.after(seconds, self._go_on)

    def _go_on(self) -> None:
        self.paused = False
        held, self._held = self._held, []
        for what in held:
            if self.alive:
                what()


class VirtualDispatcher(_Process):
    """A dispatcher process."""

    def __init__(self, broker: Broker, name: str, catalogue: Catalogue, weights: Mapping[str, float]) -> None:
        super().__init__(broker, name)
        self._base, self._session = name, 0
        self.core = Dispatcher(name)
        self._models = list(catalogue.models)
        self._active: dict[str, int] = {}
        self.core.configure(catalogue, weights, self.now)
        broker.processes[name] = self
        self.link(up=True)
        self._tick()
        self._beat()

    def link(self, *, up: bool) -> None:
        if not self.alive:
            return
        for model in self._models:
            self.broker.leave(model, self)
        self.broker.processes.pop(self.name, None)
        if up:
            self._session += 1
            self.name = f"{self._base}-{self._session}"
        self.broker.processes[self.name] = self
        self.core.link(self.name, self.now, up=up)
        if up:
            for model in self._models:
                self._subscribe(model)

    def _subscribe(self, model: str) -> None:
        self.broker.publish(self.name, model, write_baton(self.name))
        self.broker.subscribe(model, self)

    def _tick(self) -> None:
        if not self.alive:
            return
        self.hear(lambda: (self.core.tick(self.now), self.flush()))
        self.world.after(TICK_S, self._tick)

    def _beat(self) -> None:
        if not self.alive:
            return
        self.hear(self._tell)
        self.world.after(1.0, self._beat)

    def _tell(self) -> None:
        body = self.core.news(self.now)
        self.broker.news(self.name, lambda process: process.news_came(body))

    def flush(self) -> None:
        outgoing = self.core.drain()
        for to, body in outgoing.bodies(self.name):
            self.broker.letter(self.name, to, body)
        for model, tag in outgoing.acks:
            self.broker.ack(model, tag, self._active.get(model, 0))
        for model in outgoing.released:
            self.broker.leave(model, self)
            self._subscribe(model)
        if outgoing.news:
            self._tell()

    def delivery(self, model: str, tag: int, body: bytes, active: int) -> None:
        self._active[model] = active
        self.core.delivery(model, tag, body, self.now)
        self.flush()

    def letter(self, body: bytes) -> None:
        self.core.letter(body, self.now)
        self.flush()

    def news_came(self, body: bytes) -> None:
        self.core.news_came(body, self.now)
        self.flush()

    def gateway_beat(self, gateway: str) -> None:
        self.core.gateway_lives(gateway, self.now)

    def kill(self) -> None:
        self.alive = False
        self.broker.processes.pop(self.name, None)
        for model in self._models:
            self.broker.leave(model, self)

    def lose_connection(self) -> None:
        """The broker takes it for dead (it was paused for too long): what it held goes to the next."""
        for model in self._models:
            self.broker.leave(model, self)
        self.hear(lambda: self.link(up=True) if self.broker.up else None)


@dataclass
class Servers:
    """What is really under way on the servers, and the most there ever was."""

    running: Counter[str] = field(default_factory=Counter)
    most: Counter[str] = field(default_factory=Counter)

    def begin(self, server: str) -> None:
        self.running[server] += 1
        self.most[server] = max(self.most[server], self.running[server])

    def end(self, server: str) -> None:
        self.running[server] -= 1


@dataclass
class Story:
    """One request from its arrival to its one end."""

    ticket: Ticket
    began_s: float
    service_s: float
    ended: list[str] = field(default_factory=list)
    granted_s: list[float] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)

    @property
    def waited_s(self) -> float:
        return self.granted_s[0] - self.began_s


class VirtualGateway(_Process):
    """A gateway process with its requests."""

    def __init__(self, broker: Broker, name: str, catalogue: Catalogue, servers: Servers) -> None:
        super().__init__(broker, name)
        self.core = RemoteDispatch(name)
        self.servers = servers
        self.stories: dict[str, Story] = {}
        self.failing: Callable[[str], bool] = lambda _server: False
        """Whether a server that is sent a request fails it."""
        self.on_end: Callable[[Story], None] = lambda _story: None
        self.core.configure(catalogue, self.now)
        broker.processes[name] = self
        self.link(up=True)
        self._tick()
        self._beat()

    def link(self, *, up: bool) -> None:
        if self.alive:
            self._tell(self.core.link(self.now, up=up))
            if up:
                self.broker.news(self.name, self._greet)
            self.flush()

    def _greet(self, process: VirtualGateway | VirtualDispatcher) -> None:
        if isinstance(process, VirtualDispatcher):
            process.gateway_beat(self.name)

    def _tick(self) -> None:
        if self.alive:
            self.hear(lambda: (self._tell(self.core.tick(self.now)), self.flush()))
            self.world.after(TICK_S, self._tick)

    def _beat(self) -> None:
        if self.alive:
            self.hear(lambda: self.broker.news(self.name, self._greet))
            self.world.after(1.0, self._beat)

    def flush(self) -> None:
        outgoing = self.core.drain()
        for model, wire, body in outgoing.tickets:
            self.broker.publish(self.name, model, body, lambda model=model, wire=wire: self.core.confirmed(model, wire))
        for to, body in outgoing.bodies(self.name):
            self.broker.letter(self.name, to, body)

    def letter(self, body: bytes) -> None:
        self._tell(self.core.letter(body, self.now))
        self.flush()

    def news_came(self, body: bytes) -> None:
        self.core.news_came(body, self.now)
        self.flush()

    # -- requests ------------------------------------------------------------------------------------------------------

    def request(self, ticket: Ticket, service_s: float) -> Story:
        story = self.stories[ticket.id] = Story(ticket, self.world.now, service_s)
        self._tell(self.core.submit(ticket, self.now))
        self.flush()
        return story

    def leave(self, story: Story) -> None:
        """The client goes away while it waits."""
        if not story.ended and not self.core_has_slot(story):
            story.ended.append("left")
            self.core.cancel(story.ticket)
            self.flush()

    def core_has_slot(self, story: Story) -> bool:
        return len(story.granted_s) > len([end for end in story.ended if end == "retried"])

    def _tell(self, effects: list[Effect]) -> None:
        for effect in effects:
            story = self.stories[effect.ticket.id]
            if isinstance(effect, Refusal):
                story.ended.append(effect.reason)
                self.on_end(story)
            elif story.ended and story.ended[-1] != "retried":
                self.core.abandon(effect.ticket, self.now)
            else:
                self._serve(story, effect)

    def _serve(self, story: Story, grant: Grant) -> None:
        server = grant.server.id
        story.granted_s.append(self.world.now)
        story.servers.append(server)
        self.servers.begin(server)
        fails = self.failing(server)
        self.world.after(0.01 if fails else story.service_s, lambda: self.hear(lambda: self._end(story, server, fails)))

    def _end(self, story: Story, server: str, fails: bool) -> None:
        self.servers.end(server)
        if not self.alive:
            return
        outcome = Outcome.CONNECT_FAILED if fails else Outcome.COMPLETED
        story.ended.append("retried" if fails else "completed")
        settlement = Settlement(
            ticket_id=story.ticket.id, outcome=outcome, tokens=story.ticket.estimated_tokens, retry=fails
        )
        self._tell(self.core.settle(story.ticket, settlement, self.now))
        self.flush()
        if not fails:
            self.on_end(story)

    def kill(self) -> None:
        self.alive = False
        self.broker.processes.pop(self.name, None)
        for story in self.stories.values():  # its connections to servers and clients break with it
            if not story.ended or story.ended[-1] == "retried":
                story.ended.append("died")


class Federation:
    """Gateways and dispatchers around one broker."""

    def __init__(
        self,
        *models: ModelSpec,
        gateways: int = 2,
        dispatchers: int = 2,
        seed: int = 1,
        weights: Mapping[str, float] = {},
    ) -> None:
        self.world = World(seed)
        self.broker = Broker(self.world)
        self.catalogue = Catalogue.of(models)
        self.weights = weights = weights or {}
        self.servers = Servers()
        self.gateways = [
            VirtualGateway(self.broker, f"g{number}", self.catalogue, self.servers) for number in range(gateways)
        ]
        self.dispatchers = [
            VirtualDispatcher(self.broker, f"d{number}", self.catalogue, weights) for number in range(dispatchers)
        ]
        self._number = 0
        self.world.run(3.0)

    def request(self, gateway: int = 0, model: str = "m", service_s: float = 1.0, **fields: object) -> Story:
        self._number += 1
        wanted = {"organisation": "a", "estimated_tokens": 100, **fields}
        arrived_s = self.gateways[gateway].now
        ticket = Ticket(id=f"t{self._number}", model=model, arrived_s=arrived_s, **wanted)  # type: ignore[arg-type]
        return self.gateways[gateway].request(ticket, service_s)

    def owner(self, model: str = "m") -> VirtualDispatcher:
        owners = [each for each in self.dispatchers if each.alive and model in each.core.owned()]
        assert len(owners) == 1, owners
        return owners[0]

    def stories(self) -> list[Story]:
        return [story for gateway in self.gateways for story in gateway.stories.values()]

    def at_rest(self) -> None:
        """Every request has ended once, and nobody holds anything."""
        for story in self.stories():
            final = [end for end in story.ended if end != "retried"]
            assert len(final) == 1, (story.ticket.id, story.ended)
        for gateway in self.gateways:
            if gateway.alive:
                assert gateway.core.counts() == (0, 0), gateway.name
        for model in self.catalogue.models:
            owner = self.owner(model)
            view = next(view for view in owner.core.views(owner.now) if view.model == model)
            assert view.running == 0, view
            assert not any(view.queued.values()), view
            assert len(self.broker.queues[model].unacked) <= 1, "only the baton is held"
