"""The walk of one inference request, from its head to its ticket; `services.exchange` is what follows.

Everything is synchronous: an uncontended request goes from the client's last byte to the server's socket in one call,
with no task, no future and no timer. Deadlines are looked after by one sweep over the requests under way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ilaas.core.catalogue import ModelSpec
from ilaas.core.dispatch.events import Ticket
from ilaas.core.errors import Draining, IlaasError, UnsupportedMediaType
from ilaas.core.requests import (
    ENDPOINTS,
    Endpoint,
    ParsedRequest,
    parse,
    prefix_hash,
    priority,
    request_class,
    routing_mode,
)
from ilaas.core.tenancy import Key
from ilaas.core.values import Outcome, RequestClass
from ilaas.ports.broker import Broker
from ilaas.ports.client import AnswerWriter, InboundRequest
from ilaas.ports.upstream import Upstream
from ilaas.services.accounting import Accounting
from ilaas.services.admission import Admission
from ilaas.services.answers import error_body, error_headers
from ilaas.services.exchange import Exchange

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferencePolicy:
    """What is the same for all models."""

    keepalive_comment_s: float = 15.0
    max_answer_bytes: int = 64 * 1024 * 1024
    """Of an answer that isn't streamed."""
    historic_overload_text: bool = False
    """Answer overload in the words of today's dispatcher: 503 (200 for chat clients) with `{"error": "Too many…"}`."""


@dataclass(slots=True)
class Wishes:
    """Who asks for what: everything that was established before the ticket."""

    key: Key
    model: ModelSpec
    parsed: ParsedRequest
    request_id: bytes
    upstream_headers: bytes
    received_s: float


class Inference:
    """The use case. One instance per gateway."""

    def __init__(  # noqa: PLR0913  # it is the meeting point of the walk: each argument is one stage
        self,
        *,
        admission: Admission,
        broker: Broker,
        upstream: Upstream,
        accounting: Accounting,
        clock: Callable[[], float],
        epoch: Callable[[], float],
        id_prefix: str,
        policy: InferencePolicy,
    ) -> None:
        """`clock` is monotonic seconds, `epoch` epoch seconds; `id_prefix` makes request ids unique over processes."""
        self.admission = admission
        self.broker = broker
        self.upstream = upstream
        self.accounting = accounting
        self.clock = clock
        self.epoch = epoch
        self.policy = policy
        self.active: set[Exchange] = set()
        self.draining = False
        self._id_prefix = id_prefix
        self._count = 0

    def begin(self, inbound: InboundRequest, writer: AnswerWriter) -> Exchange | None:
        """Start one request. Answers errors itself and then returns None."""
        self._count += 1
        ticket_id = f"{self._id_prefix}{self._count:x}"
        given = inbound.headers.get(b"x-request-id")
        request_id = given if given is not None and _REQUEST_ID.match(given) else ticket_id.encode()
        try:
            exchange = self._admit(inbound, writer, ticket_id, request_id)
        except IlaasError as error:
            self.accounting.rejected(error.code)
            headers = error_headers(error) + b"x-request-id: %b\r\n" % request_id
            writer.answer(error.status, headers, error_body(error))
            return None
        self.active.add(exchange)
        self.broker.submit(exchange.ticket, exchange)
        return exchange

    def _admit(self, inbound: InboundRequest, writer: AnswerWriter, ticket_id: str, request_id: bytes) -> Exchange:
        """Key, body, model, rights, wishes, quota: all that is decided before the queue."""
        if self.draining:
            raise Draining("This gateway is restarting. Try again.", retry_after_s=1)
        headers = inbound.headers
        key = self.admission.authenticate(headers)
        endpoint = self._endpoint(inbound)
        parsed = parse(endpoint, inbound.body)
        model = self.admission.model(key, parsed.model)
        fields = parsed.fields
        mode = routing_mode(fields, headers.get(b"x-ilaas-routing-mode"), key.routing_mode)
        wanted = request_class(headers.get(b"x-ilaas-class"))
        if wanted not in key.classes and b"x-ilaas-class" not in headers:
            wanted = RequestClass.BATCH  # a key for batch only need not say so each time
        self.admission.check_wishes(key, model, wanted, mode)
        now = inbound.received_s
        deadlines = model.policy.deadlines
        batch = wanted is RequestClass.BATCH
        ticket = Ticket(
            id=ticket_id,
            model=model.name,
            organisation=key.organisation,
            request_class=wanted,
            routing_mode=mode,
            priority=priority(fields, key.priority),
            estimated_tokens=parsed.prompt_tokens + parsed.max_tokens,
            prefix_hash=prefix_hash(fields) if len(model.servers) > 1 and endpoint.generates else 0,
            arrived_s=now,
            deadline_s=now + (deadlines.batch_queue_s if batch else deadlines.queue_s),
            max_queued=key.threshold,
        )
        passed = b"x-request-id: %b\r\n" % request_id
        trace = headers.get(b"traceparent")
        if trace is not None and _TRACEPARENT.match(trace):
            passed += b"traceparent: %b\r\n" % trace
        return Exchange(self, writer, ticket, Wishes(key, model, parsed, request_id, passed, now))

    @staticmethod
    def _endpoint(inbound: InboundRequest) -> Endpoint:
        content_type = inbound.headers.get(b"content-type")
        if content_type is not None and content_type != b"application/json":
            kind = content_type.partition(b";")[0].strip().lower()
            if kind != b"application/json" and not kind.endswith(b"+json"):
                shown = kind[:50].decode("latin-1")
                raise UnsupportedMediaType(
                    f"The content type '{shown}' is not taken here: send 'Content-Type: application/json'."
                )
        return ENDPOINTS[inbound.path]

    def sweep(self) -> None:
        """Look after deadlines and keep-alive comments; called about four times a second."""
        now = self.clock()
        for exchange in list(self.active):
            exchange.sweep(now)

    def abort_all(self) -> None:
        """End what is still under way when the grace period of a shutdown is over."""
        for exchange in list(self.active):
            exchange.give_up(Outcome.SHUT_DOWN)
