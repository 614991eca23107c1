"""Requests with sound: a recording goes in and text comes out, or the other way round.

They walk as all others do (`services.exchange`); what differs is what is sent, what an answer is, and what is counted.
"""

from __future__ import annotations

import orjson

from ilaas.core.audio import PCM_BYTES_PER_S, TranscriptStream, answer_usage
from ilaas.core.media import HEAD_BYTES, guessed_ms, of_beginning
from ilaas.core.usage import Usage
from ilaas.core.values import Outcome
from ilaas.core.wire import EventStream, PlainAnswer, with_field
from ilaas.services.exchange import Exchange
from ilaas.services.stages import Stage

_JSON = b"application/json"


class AudioExchange(Exchange):
    """A transcription, a translation or spoken text."""

    __slots__ = ("_beginning", "_kind", "_sound", "_sound_bytes")

    _kind: bytes
    """The content type of the server's answer."""
    _sound: bool
    """The answer is sound, and is passed on as it comes."""
    _sound_bytes: int
    _beginning: bytes
    """Of the sound, for its length."""

    # -- the server's call-backs ---------------------------------------------------------------------------------------

    def upstream_sent(self) -> None:
        """The wait for the first byte begins, unless the server did not wait for the end of the file."""
        if self._stage is Stage.CONNECTING:
            super().upstream_sent()

    def upstream_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """As for others; what kind of answer it is decides how it is passed on."""
        if self._stage is Stage.CONNECTING:
            super().upstream_sent()
        kind = dict(headers).get(b"content-type", b"")
        self._kind = kind if kind.isascii() else b""
        self._sound, self._sound_bytes, self._beginning = False, 0, b""
        if status == 200 and kind.startswith(b"text/html"):
            self._status = status
            self._try_again(Outcome.UPSTREAM_ERROR, "the server answered with a web page")
            return
        super().upstream_head(status, headers)
        if status == 200 and self._wishes.form is None and not kind.startswith(_JSON):
            self._sound = True

    def upstream_body(self, data: bytes) -> None:
        """Pass sound on at once."""
        if not self._sound:
            super().upstream_body(data)
            return
        self._alive = True
        if self._stage is not Stage.STREAMING:
            self._begin_sound()
        self._sound_bytes += len(data)
        if len(self._beginning) < HEAD_BYTES:
            self._beginning += data[: HEAD_BYTES - len(self._beginning)]
        self._answer.part(data)

    def upstream_end(self) -> None:
        """The sound is whole; the rest as for others."""
        if not self._sound:
            super().upstream_end()
            return
        self._call = None
        if self._stage is not Stage.STREAMING:
            self._try_again(Outcome.STREAM_BROKEN, "the answer is empty")
            return
        self._answer.end()
        self._end(Outcome.COMPLETED, 200, self._estimate())

    # -- the answer ----------------------------------------------------------------------------------------------------

    def _begin_sound(self) -> None:
        now = self._context.clock()
        self._stage = Stage.STREAMING
        self._seen_s, self._ttft_s = now, now - self._sent_s
        self._context.broker.first_token(self.ticket, self._ttft_s)
        self._answer.start(b"content-type: %b\r\n" % self._kind)

    def _answer_plain(self) -> None:
        """A whole answer: JSON, or text, subtitles as the server wrote them."""
        body = self._plain.whole() if self._plain is not None else b""
        usage: Usage | None = None
        if self._kind.startswith(_JSON):
            answer = PlainAnswer(body, orjson.dumps(self.ticket.model))
            if not answer.valid:
                self._try_again(Outcome.UPSTREAM_ERROR, "the answer is not JSON")
                return
            usage = self._counted(answer_usage(body))
            body = answer.body
            if self._wishes.wants_impact:
                body = with_field(body, "impact", self._impact_told(usage))
        elif self._answer.started:  # inside a stream of events, which knows lines of JSON only
            body = orjson.dumps({"text": body.decode("utf-8", "replace")})
        self._answer.whole(body, b"content-type: %b\r\n" % (self._kind or _JSON))
        self._end(Outcome.COMPLETED, 200, usage or self._counted(Usage()))

    def _end_stream(self, events: EventStream) -> None:
        """Servers end a stream of text each in its own way, some with nothing but its end."""
        if self._stage is Stage.STREAMING and isinstance(events, TranscriptStream) and not events.failed():
            self._complete(events)
        else:
            super()._end_stream(events)

    def _break(self, outcome: Outcome, detail: str = "") -> None:
        """Sound has no place for an error: the connection is cut, so that half of it is not taken for the whole."""
        if not self._sound or self._stage is not Stage.STREAMING:
            super()._break(outcome, detail)
            return
        self._answer.cut()
        self._end(outcome, 200, self._estimate())

    # -- what is counted -----------------------------------------------------------------------------------------------

    def _counted(self, usage: Usage | None) -> Usage:
        """With the length of the recording, where the server says nothing of it."""
        usage = usage or Usage()
        form = self._wishes.form
        if not usage.audio_ms and form is not None and form.recording is not None:
            usage.audio_ms = form.recording.audio_ms
            usage.estimated = usage.estimated or form.recording.estimated
        return usage

    def _estimate(self) -> Usage:
        """What was sent of the recording, or received of the speech."""
        sent = self._stage in (Stage.PREFILL, Stage.STREAMING)
        if self._wishes.form is not None:
            return self._counted(Usage(estimated=True)) if sent else Usage(estimated=True)
        usage = super()._estimate()
        if self._stage is Stage.STREAMING:
            usage.audio_ms = self._length()
        return usage

    def _length(self) -> int:
        """Of the speech that came so far, in milliseconds."""
        asked = self._wishes.parsed.fields.get("response_format")
        if asked == "pcm" or self._kind.startswith((b"audio/pcm", b"audio/L16")):
            return self._sound_bytes * 1000 // PCM_BYTES_PER_S
        if self._kind.startswith(b"text/event-stream"):  # of sound in base64
            return guessed_ms(self._sound_bytes * 3 // 4)
        return of_beginning(self._beginning, self._sound_bytes) or guessed_ms(self._sound_bytes)

    def _end(self, outcome: Outcome, status: int, usage: Usage | None = None) -> None:
        """As for others; the recording is forgotten."""
        if usage is not None and outcome is not Outcome.UPSTREAM_REJECTED:
            usage = self._counted(usage)
        super()._end(outcome, status, usage)
        if self._wishes.form is not None:
            self._wishes.form.file.close()
