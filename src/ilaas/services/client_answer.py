"""The client's side of one request: heads, parts, errors in the right place, and whether anything was sent yet."""

from __future__ import annotations

from ilaas.core.dispatch.events import Grant, QueuePosition
from ilaas.core.errors import IlaasError, NoServer, QueueTimeout, TooBusy
from ilaas.core.upstream_errors import normalise
from ilaas.core.wire import DONE, error_event
from ilaas.ports.client import AnswerWriter
from ilaas.services.answers import JSON_TYPE, STREAM_TYPE, answer_head, error_body, error_headers
from ilaas.services.context import Context
from ilaas.services.wishes import Wishes

HISTORIC_OVERLOAD = b'{"error": "Too many people using the service"}'


class ClientAnswer:
    """Writes one answer. After `whole`, `refusal`, `error` or `end` nothing more may be written."""

    __slots__ = ("_context", "_wishes", "_writer", "grant", "started")

    def __init__(self, context: Context, writer: AnswerWriter, wishes: Wishes) -> None:
        self._context = context
        self._writer = writer
        self._wishes = wishes
        self.grant: Grant | None = None
        self.started = False
        """The client has a head already: an error can only be an event in the stream."""

    def _head(self, kind: bytes) -> bytes:
        wishes = self._wishes
        quota = self._context.quotas.headers(wishes.subjects, wishes.reservation)
        return answer_head(kind, wishes, self.grant) + quota

    def start(self, kind: bytes = STREAM_TYPE) -> None:
        """Open the stream; `kind` is the ready line of its content type."""
        self.started = True
        self._writer.start(200, self._head(kind), None)

    def part(self, data: bytes) -> None:
        """A part of the stream."""
        self._writer.write(data)

    def comment(self, position: QueuePosition | None) -> None:
        """Keep a waiting stream's connection open, and say where it waits."""
        if position is None:
            text = b": waiting for the first token\n\n"
        else:
            text = b": queued, position %d, about %d s\n\n" % (position.ahead + 1, round(position.predicted_wait_s))
        if not self.started:
            self.start()
        self._writer.write(text)

    def end(self, rest: bytes = b"") -> None:
        """The stream is complete."""
        if rest:
            self._writer.write(rest)
        self._writer.finish()

    def whole(self, body: bytes, kind: bytes = JSON_TYPE) -> None:
        """An answer that isn't streamed; as an event when a comment went before it."""
        if self.started:
            self.end(b"data: " + body + b"\n\n" + DONE)
        else:
            self._writer.answer(200, self._head(kind), body)

    def refusal(self, status: int, refusal: bytes) -> None:
        """The server's refusal, in its words and in our form."""
        served = self.grant.server.served_name if self.grant is not None else ""
        body = normalise(status, refusal, served_name=served, public_name=self._wishes.model.name)
        if self.started:
            self.end(error_event(body))
        else:
            self._writer.answer(status, self._head(JSON_TYPE), body)

    def error(self, error: IlaasError) -> None:
        """Our own refusal: an answer with its status, or an event and the end when the stream has begun."""
        body, status = error_body(error), error.status
        if self.started:
            self.end(error_event(body))
            return
        policy = self._context.policy
        if policy.historic_overload_text and isinstance(error, TooBusy | QueueTimeout | NoServer):
            status = 200 if self._wishes.key.chat_client else 503
            body = HISTORIC_OVERLOAD
        self._writer.answer(status, error_headers(error) + self._head(b""), body)

    def cut(self) -> None:
        """Break the connection."""
        self._writer.abort()
