"""The walk of one inference request, from its head to its ticket; `services.exchange` is what follows.

Everything is synchronous: an uncontended request goes from the client's last byte to the server's socket in one call,
with no task, no future and no timer. Deadlines are looked after by one sweep over the requests under way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ilaas.core.audio import UPLOADS, model_of, parse_form
from ilaas.core.dispatch.events import Ticket
from ilaas.core.errors import Draining, IlaasError, UnsupportedMediaType
from ilaas.core.request_extras import priority, request_class, routing_mode
from ilaas.core.requests import ENDPOINTS, Endpoint, context_tokens, parse, prefix_hash
from ilaas.core.usage import AUDIO_MS_PER_TOKEN
from ilaas.core.values import Outcome, RequestClass
from ilaas.ports.client import AnswerWriter, InboundRequest
from ilaas.services.admission import Admission
from ilaas.services.answers import error_body, error_headers
from ilaas.services.audio import AudioExchange
from ilaas.services.context import Context
from ilaas.services.exchange import Exchange
from ilaas.services.wishes import Wishes

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}\Z")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")


class Inference:
    """The use case. One instance per gateway."""

    def __init__(self, admission: Admission, context: Context, id_prefix: str) -> None:
        """`id_prefix`, the first 24 characters of a UUID, makes request ids unique over processes."""
        self.admission = admission
        self.context = context
        self.active: set[Exchange] = set()
        self.draining = False
        self._id_prefix = id_prefix
        self._count = 0

    def begin(self, inbound: InboundRequest, writer: AnswerWriter) -> Exchange | None:
        """Start one request. None when it has ended already: refused here, or by the dispatcher at once."""
        self._count += 1
        ticket_id = f"{self._id_prefix}{self._count:012x}"
        request_id = self._named(inbound.headers.get(b"x-request-id"), ticket_id)
        try:
            exchange = self._admit(inbound, writer, ticket_id, request_id)
        except IlaasError as error:
            self.context.accounting.rejected(error.code)
            headers = error_headers(error) + b"x-request-id: %b\r\n" % request_id
            writer.answer(error.status, headers, error_body(error))
            return None
        self.active.add(exchange)
        try:
            self.context.broker.submit(exchange.ticket, exchange)
        except BaseException:
            self.active.discard(exchange)
            raise
        return None if exchange.done else exchange

    def name_refused(self, given: bytes | None) -> bytes:
        """The id of a request that was refused before it could begin: the client's own, else a new one."""
        self._count += 1
        return self._named(given, f"{self._id_prefix}{self._count:012x}")

    @staticmethod
    def _named(given: bytes | None, own: str) -> bytes:
        return given if given is not None and _REQUEST_ID.match(given) else own.encode()

    def _admit(self, inbound: InboundRequest, writer: AnswerWriter, ticket_id: str, request_id: bytes) -> Exchange:
        """Key, body, model, rights, wishes, quota: all that is decided before the queue."""
        if self.draining:
            raise Draining("This gateway is restarting. Try again.", retry_after_s=1)
        headers = inbound.headers
        key = self.admission.authenticate(headers)
        form = inbound.form
        if form is None:
            parsed = parse(self._endpoint(inbound), inbound.body)
        else:
            parsed = parse_form(UPLOADS[inbound.path], form.fields, form.recording)
        endpoint = parsed.endpoint
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
            estimated_tokens=parsed.prompt_tokens + parsed.max_tokens + parsed.audio_ms // AUDIO_MS_PER_TOKEN,
            context_tokens=context_tokens(parsed, model.widest_window) if model.widest_window else 0,
            prefix_hash=prefix_hash(fields) if len(model.servers) > 1 and endpoint.generates else 0,
            arrived_s=now,
            deadline_s=now + (deadlines.batch_queue_s if batch else deadlines.queue_s),
            max_queued=key.threshold,
        )
        quotas = self.context.quotas
        subjects = quotas.subjects(key, model.name)
        price = 0
        if quotas.book.budgeted:
            tokens = (parsed.prompt_tokens, parsed.max_tokens)
            price = self.context.prices.estimate(model.name, tokens, mode, self.context.epoch(), parsed.audio_ms)
        reservation = quotas.reserve(subjects, parsed.prompt_tokens + parsed.max_tokens, price)
        passed = b"x-request-id: %b\r\n" % request_id
        trace = headers.get(b"traceparent")
        if trace is not None and _TRACEPARENT.match(trace):
            passed += b"traceparent: %b\r\n" % trace
        told = headers.get(b"x-ilaas-impact") == b"1"
        wishes = Wishes(key, model, parsed, request_id, passed, now, subjects, reservation, told, form)
        if endpoint.audio:
            return AudioExchange(self.context, self.active, writer, ticket, wishes)
        return Exchange(self.context, self.active, writer, ticket, wishes)

    def check_form(self, headers: Mapping[bytes, bytes], fields: Sequence[tuple[str, bytes]]) -> None:
        """Refuse a form before its file is received, as far as its key and the fields that are there tell."""
        if self.draining:
            raise Draining("This gateway is restarting. Try again.", retry_after_s=1)
        key = self.admission.authenticate(headers)
        name = model_of(fields)
        if name is not None:
            self.admission.model(key, name)

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
        packed = inbound.headers.get(b"content-encoding", b"identity")
        if packed != b"identity":
            raise UnsupportedMediaType(
                f"The content encoding '{packed[:50].decode('latin-1')}' is not taken here: send the body unpacked."
            )
        return ENDPOINTS[inbound.path]

    def sweep(self) -> None:
        """Look after deadlines and keep-alive comments; called about four times a second."""
        now = self.context.clock()
        for exchange in list(self.active):
            exchange.sweep(now)

    def slept(self, seconds: float) -> None:
        """Before a sweep that comes late by so much: what may have come meanwhile is still to be read."""
        for exchange in self.active:
            exchange.slept(seconds)

    def abort_all(self) -> None:
        """End what is still under way when the grace period of a shutdown is over."""
        for exchange in list(self.active):
            exchange.give_up(Outcome.SHUT_DOWN)
