"""In-memory twins of the ports, driven by the test: nothing here has a clock or a socket of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson

from ilaas.core.catalogue import Catalogue, DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.dispatch.events import (
    Grant,
    ModelView,
    QueuePosition,
    Refusal,
    RefusalReason,
    ServerStatistics,
    Settlement,
    Ticket,
)
from ilaas.core.keys import digest
from ilaas.core.quota import QuotaBook
from ilaas.core.tenancy import Directory, Key, Organisation
from ilaas.core.usage import UsageRecord
from ilaas.ports.broker import Waiter
from ilaas.ports.client import InboundRequest
from ilaas.ports.upstream import UpstreamRequest, UpstreamSink
from ilaas.services.accounting import Accounting
from ilaas.services.admission import Admission
from ilaas.services.context import Context, InferencePolicy
from ilaas.services.impacts import Impacts
from ilaas.services.inference import Inference
from ilaas.services.prices import Prices
from ilaas.services.quotas import Quotas
from ilaas.services.registry import Registry

PEPPER = b"p" * 32
SECRET = "ilaas-test"  # not of our form's length: the checksum is tried only for keys that are not known


class Clock:
    """Time stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class TwinOutbox:
    """Keeps records in a list."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []

    def append(self, record: UsageRecord) -> None:
        self.records.append(record)

    async def close(self) -> None:
        pass


class TwinBroker:
    """Grants at once from a list of servers, or waits for the test."""

    def __init__(self, servers: list[ServerSpec]) -> None:
        self.servers = servers
        self.hold = False
        self.waiting: dict[str, tuple[Ticket, Waiter]] = {}
        self.leases: dict[str, tuple[Ticket, Waiter]] = {}
        self.settled: list[Settlement] = []
        self.first_tokens: list[float] = []
        self.tried: dict[str, int] = {}

    def submit(self, ticket: Ticket, waiter: Waiter) -> None:
        self.waiting[ticket.id] = (ticket, waiter)
        if not self.hold:
            self.serve(ticket.id)

    def serve(self, ticket_id: str) -> None:
        ticket, waiter = self.waiting.pop(ticket_id)
        attempt = self.tried.get(ticket.id, 0)
        self.tried[ticket.id] = attempt + 1
        if attempt >= len(self.servers):
            waiter.refused(Refusal(ticket, RefusalReason.NO_SERVER, 5.0))
            return
        self.leases[ticket.id] = (ticket, waiter)
        waiter.granted(Grant(ticket, self.servers[attempt], ticket.request_class, 0.25))

    def refuse(self, reason: RefusalReason, retry_after_s: float = 7.0) -> None:
        for ticket, waiter in list(self.waiting.values()):
            self.waiting.pop(ticket.id)
            waiter.refused(Refusal(ticket, reason, retry_after_s))

    def cancel(self, ticket: Ticket) -> None:
        self.waiting.pop(ticket.id, None)

    def settle(self, ticket: Ticket, settlement: Settlement) -> None:
        self.settled.append(settlement)
        entry = self.leases.pop(ticket.id)
        if settlement.retry:
            self.waiting[ticket.id] = entry
            if not self.hold:
                self.serve(ticket.id)

    def first_token(self, ticket: Ticket, ttft_s: float) -> None:
        self.first_tokens.append(ttft_s)

    def position(self, ticket: Ticket) -> QueuePosition | None:
        return QueuePosition(ahead=2, predicted_wait_s=4.0) if ticket.id in self.waiting else None

    def report(self, model: str, server_id: str, statistics: ServerStatistics) -> None:
        pass

    def check(self, model: str, server_id: str, *, ok: bool) -> None:
        pass

    def view(self, model: str) -> ModelView | None:
        return None


@dataclass(slots=True)
class TwinCall:
    """One request that the gateway sent; the test answers it."""

    server: ServerSpec
    request: UpstreamRequest
    sink: UpstreamSink
    aborted: bool = False
    paused: bool = False

    def abort(self) -> None:
        self.aborted = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    # what the test does

    def head(self, status: int = 200, kind: bytes = b"application/json") -> None:
        self.sink.upstream_head(status, [(b"content-type", kind)])

    def plain(self, tree: object, status: int = 200) -> None:
        self.head(status)
        self.sink.upstream_body(orjson.dumps(tree))
        self.sink.upstream_end()

    def stream(self) -> None:
        self.head(200, b"text/event-stream; charset=utf-8")

    def event(self, data: bytes) -> None:
        self.sink.upstream_body(b"data: " + data + b"\n\n")


class TwinUpstream:
    """Keeps what was sent."""

    def __init__(self) -> None:
        self.calls: list[TwinCall] = []
        self.connects = True

    def send(self, server: ServerSpec, request: UpstreamRequest, sink: UpstreamSink) -> TwinCall:
        call = TwinCall(server, request, sink)
        self.calls.append(call)
        if self.connects:
            sink.upstream_sent()
        return call

    async def close(self) -> None:
        pass


class TwinWriter:
    """Keeps what the client got."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.finished = False
        self.aborted = False

    def start(self, status: int, headers: bytes, length: int | None) -> None:
        assert not self.status, "two heads"
        self.status = status
        lines = [line.partition(b": ") for line in headers.split(b"\r\n")[:-1]]
        self.headers = {name.decode(): value.decode() for name, _, value in lines}

    def write(self, data: bytes) -> None:
        assert self.status
        assert not self.finished, "written after the end"
        self.body += data

    def finish(self) -> None:
        assert not self.finished, "finished twice"
        self.finished = True

    def abort(self) -> None:
        self.aborted = True

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        self.start(status, headers, len(body))
        self.write(body)
        self.finish()

    @property
    def error(self) -> dict[str, str]:
        tree: dict[str, dict[str, str]] = orjson.loads(self.body)
        return tree["error"]


def server(name: str, **fields: object) -> ServerSpec:
    given: dict[str, object] = {
        "url": f"http://{name}",
        "site": f"site-{name}",
        "owner": "uni-a",
        "served_name": "org/served",
    }
    return ServerSpec(id=name, **{**given, **fields})  # type: ignore[arg-type]


def key(**fields: object) -> Key:
    given: dict[str, object] = {
        "id": "k1",
        "digest": digest(SECRET.encode(), PEPPER),
        "hint": "il…",
        "name": "test",
        "organisation": "uni-a",
        "project": "p",
    }
    return Key(**{**given, **fields})  # type: ignore[arg-type]


@dataclass
class House:
    """One gateway's use case on twins."""

    servers: list[ServerSpec] = field(default_factory=lambda: [server("one"), server("two")])
    keys: list[Key] = field(default_factory=lambda: [key()])
    policy: InferencePolicy = field(default_factory=InferencePolicy)
    model_fields: dict[str, object] = field(default_factory=dict)
    dispatch: DispatchPolicy = field(default_factory=DispatchPolicy)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.broker = TwinBroker(self.servers)
        self.upstream = TwinUpstream()
        self.outbox = TwinOutbox()
        self.registry = Registry(PEPPER, self.clock)
        model = ModelSpec(name="public", servers=tuple(self.servers), policy=self.dispatch, **self.model_fields)  # type: ignore[arg-type]
        self.registry.set_catalogue(Catalogue.of([model, ModelSpec(name="other")]))
        organisations = {name: Organisation(name=name) for name in {each.organisation for each in self.keys}}
        self.registry.set_directory(Directory({each.digest: each for each in self.keys}, organisations))
        self.accounting = Accounting(self.outbox, self.registry.key_used)
        self.book = QuotaBook()
        self.impacts = Impacts(clock=self.clock)
        self.prices = Prices()
        context = Context(
            broker=self.broker,
            upstream=self.upstream,
            accounting=self.accounting,
            quotas=Quotas(self.book, self.clock, self.clock),
            impacts=self.impacts,
            prices=self.prices,
            clock=self.clock,
            epoch=self.clock,
            policy=self.policy,
        )
        self.inference = Inference(Admission(self.registry, self.clock), context, "req-")

    def ask(
        self,
        body: object = None,
        *,
        path: str = "/v1/chat/completions",
        headers: dict[str, str] | None = None,
        **extra: object,
    ) -> Asked:
        """Send a request; `extra` are fields of the body."""
        if body is None:
            body = {"model": "public", "messages": [{"role": "user", "content": "Bonjour"}], **extra}
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"authorization": f"Bearer {SECRET}", "content-type": "application/json", **(headers or {})}
        fields = {name.encode(): value.encode() for name, value in given.items() if value}
        writer = TwinWriter()
        before = len(self.upstream.calls)
        exchange = self.inference.begin(InboundRequest(path, fields, raw, self.clock.now), writer)
        calls = self.upstream.calls
        return Asked(self, writer, exchange, calls[before] if len(calls) > before else None)

    def at_rest(self) -> bool:
        """Nothing is held anywhere."""
        return not (self.inference.active or self.broker.waiting or self.broker.leases or self.book.held())


@dataclass
class Asked:
    """One request of a test."""

    house: House
    writer: TwinWriter
    exchange: object
    first_call: TwinCall | None

    @property
    def call(self) -> TwinCall:
        """The newest request to a server."""
        return self.house.upstream.calls[-1]

    @property
    def record(self) -> UsageRecord:
        """The one usage record."""
        assert len(self.house.outbox.records) == 1, self.house.outbox.records
        return self.house.outbox.records[0]
