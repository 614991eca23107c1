"""Requests with recordings and speech through the use case, on twins: what is sent, passed on, counted, and let go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from ilaas.core.audio import Recording
from ilaas.core.billing import Rates, Tariff
from ilaas.core.dispatch.events import RefusalReason
from ilaas.core.forms import FileBegins, FormParser
from ilaas.core.quota import Limits, Subject
from ilaas.core.values import Outcome
from ilaas.ports.client import InboundRequest
from ilaas.ports.upload import ReceivedForm
from tests.support.twins import SECRET, Asked, House, TwinWriter, server

PATH = "/v1/audio/transcriptions"
VERBOSE = {"task": "transcribe", "language": "fr", "duration": 12.5, "text": "Bonjour.", "segments": []}


@dataclass
class TwinFile:
    """A file that says whether it was forgotten."""

    content: bytes = b"sound"
    closed: int = 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    async def read(self, offset: int, size: int) -> bytes:
        return self.content[offset : offset + size]

    def close(self) -> None:
        self.closed += 1


@dataclass
class Desk:
    """A house that takes forms."""

    house: House = field(default_factory=House)
    file: TwinFile = field(default_factory=TwinFile)

    def ask(
        self, *fields: tuple[str, str], path: str = PATH, recording: bool = True, headers: dict[str, str] | None = None
    ) -> Asked:
        named = dict(fields)
        given = [("model", "public")] if "model" not in named else []
        found = Recording(FileBegins("file", "Cours de M. Martin.WAV", "audio/wav"), self.file.size_bytes, 30_000, True)
        form = ReceivedForm(
            [(name, value.encode()) for name, value in (*given, *fields)],
            found if recording else None,
            self.file,
            b"ilaas-boundary",
        )
        lines = {"authorization": f"Bearer {SECRET}", **(headers or {})}
        inbound = InboundRequest(
            path, {name.encode(): value.encode() for name, value in lines.items()}, b"", self.house.clock.now, form
        )
        writer = TwinWriter()
        exchange = self.house.inference.begin(inbound, writer)
        calls = self.house.upstream.calls
        return Asked(self.house, writer, exchange, calls[-1] if calls else None)


def sent_fields(asked: Asked) -> list[tuple[str, bytes]]:
    upload = asked.call.request.upload
    assert upload is not None
    events = FormParser(b"ilaas-boundary").feed(upload.before)
    return [(event.name, event.value) for event in events if hasattr(event, "value")]


def test_the_server_gets_its_own_name_of_the_model_and_nothing_that_is_for_us() -> None:
    asked = Desk().ask(
        ("language", "fr"), ("user", "Ada"), ("routing-mode", "any"), ("timestamp_granularities[]", "word"),
        ("timestamp_granularities[]", "segment"),
    )  # fmt: skip
    assert sent_fields(asked) == [
        ("model", b"org/served"),
        ("language", b"fr"),
        ("timestamp_granularities[]", b"word"),
        ("timestamp_granularities[]", b"segment"),
    ]
    upload = asked.call.request.upload
    assert upload is not None
    assert b'filename="audio.wav"\r\ncontent-type: audio/wav\r\n\r\n' in upload.before
    assert asked.call.request.body == b""
    assert b"Ada" not in upload.before


def test_a_verbose_answer_is_passed_on_and_its_duration_counted() -> None:
    desk = Desk()
    asked = desk.ask(("response_format", "verbose_json"))
    asked.call.plain(VERBOSE)
    assert (asked.writer.status, orjson.loads(asked.writer.body)) == (200, VERBOSE)
    record = asked.record
    assert (record.audio_ms, record.estimated, record.endpoint) == (12_500, False, "audio.transcriptions")
    assert (record.prompt_tokens, record.completion_tokens) == (0, 0)
    assert desk.file.closed
    assert desk.house.at_rest()


@pytest.mark.parametrize(
    ("tree", "counted"),
    [
        ({"text": "a", "usage": {"type": "duration", "seconds": 9}}, (9_000, 0, 0, False)),
        ({"text": "a", "duration": "7.25"}, (7_250, 0, 0, False)),
        ({"text": "a", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 45}}, (30_000, 14, 45, True)),
        ({"text": "a"}, (30_000, 0, 0, True)),
        ({"text": 'say "duration": 99'}, (30_000, 0, 0, True)),
        ({"duration": 4.0, "text": "x" * 200_000}, (4_000, 0, 0, False)),
        ({"text": "a", "duration": -3}, (30_000, 0, 0, True)),
        ({"text": "a", "duration": 1e300}, (30_000, 0, 0, True)),
    ],
)
def test_the_length_is_the_servers_else_the_medias(tree: dict[str, Any], counted: tuple[int, int, int, bool]) -> None:
    asked = Desk().ask()
    asked.call.plain(tree)
    record = asked.record
    assert (record.audio_ms, record.prompt_tokens, record.completion_tokens, record.estimated) == counted


@pytest.mark.parametrize("kind", [b"text/plain; charset=utf-8", b"text/vtt", b"application/x-subrip"])
def test_subtitles_and_text_are_passed_on_byte_for_byte_with_their_type(kind: bytes) -> None:
    body = b'WEBVTT\n\n00:00.000 --> 00:01.000\n{"model":"org/served"}\n'
    asked = Desk().ask(("response_format", "vtt"))
    asked.call.head(200, kind)
    asked.call.sink.upstream_body(body[:9])
    asked.call.sink.upstream_body(body[9:])
    asked.call.sink.upstream_end()
    assert (asked.writer.body, asked.writer.headers["content-type"]) == (body, kind.decode())
    assert (asked.record.audio_ms, asked.record.outcome) == (30_000, Outcome.COMPLETED)


def test_a_streamed_transcript_is_passed_on_as_it_comes() -> None:
    asked = Desk().ask(("stream", "true"))
    asked.call.stream()
    first = b'{"type":"transcript.text.delta","delta":"Bon"}'
    asked.call.event(first)
    assert asked.writer.body == b"data: " + first + b"\n\n"
    last = b'{"type":"transcript.text.done","text":"Bon","usage":{"type":"duration","seconds":3}}'
    asked.call.event(last)
    asked.call.sink.upstream_end()
    assert asked.writer.body.endswith(b"data: " + last + b"\n\n")
    assert asked.writer.finished
    record = asked.record
    assert (record.audio_ms, record.streamed, record.outcome) == (3_000, True, Outcome.COMPLETED)
    assert asked.house.at_rest()


def test_a_stream_without_a_last_event_of_its_own_is_whole_at_its_end() -> None:
    asked = Desk().ask(("stream", "1"))
    asked.call.stream()
    asked.call.event(b'{"text":"Bonjour"}')
    asked.call.sink.upstream_end()
    assert asked.writer.body == b'data: {"text":"Bonjour"}\n\n'
    assert (asked.record.outcome, asked.record.audio_ms) == (Outcome.COMPLETED, 30_000)


def test_a_stream_that_breaks_off_says_so_in_an_event() -> None:
    asked = Desk().ask(("stream", "true"))
    asked.call.stream()
    asked.call.event(b'{"type":"transcript.text.delta","delta":"Bon"}')
    asked.call.sink.upstream_failed(Outcome.STREAM_BROKEN, "closed")
    assert b"upstream_stream_broken" in asked.writer.body
    assert asked.record.outcome is Outcome.STREAM_BROKEN
    assert asked.house.at_rest()


def test_a_server_that_fails_before_its_answer_is_replaced_and_the_recording_sent_again() -> None:
    desk = Desk()
    asked = desk.ask()
    asked.call.sink.upstream_failed(Outcome.CONNECT_FAILED, "gone")
    assert not desk.file.closed
    assert asked.call.server.id == "two"
    assert asked.call.request.upload is not None
    asked.call.plain(VERBOSE)
    assert (asked.writer.status, asked.record.attempts, asked.record.server) == (200, 2, "two")
    assert desk.file.closed


def test_a_web_page_is_no_transcript() -> None:
    asked = Desk().ask(("response_format", "text"))
    asked.call.head(200, b"text/html; charset=utf-8")
    assert asked.call.server.id == "two"


def test_an_answer_before_the_end_of_the_recording_is_taken() -> None:
    house = House()
    house.upstream.connects = False  # the file is still being sent
    desk = Desk(house)
    asked = desk.ask()
    call = asked.call
    call.plain({"error": {"message": "org/served takes 25 MB"}}, 413)
    assert asked.writer.status == 413
    assert asked.writer.error["message"] == "public takes 25 MB"
    assert asked.record.outcome is Outcome.UPSTREAM_REJECTED
    assert asked.record.audio_ms == 0
    assert desk.file.closed


def test_the_end_of_the_sending_does_not_undo_an_answer_that_has_begun() -> None:
    house = House()
    house.upstream.connects = False
    asked = Desk(house).ask(("stream", "true"))
    asked.call.stream()
    asked.call.event(b'{"type":"transcript.text.delta","delta":"Bon"}')
    asked.call.sink.upstream_sent()
    asked.call.sink.upstream_end()
    assert asked.record.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("stage", ["queue", "sending", "prefill", "stream"])
def test_a_client_that_leaves_stops_the_server_and_the_recording_is_forgotten(stage: str) -> None:
    house = House()
    house.broker.hold = stage == "queue"
    house.upstream.connects = stage != "sending"
    desk = Desk(house)
    asked = desk.ask(("stream", "true"))
    if stage == "stream":
        asked.call.stream()
        asked.call.event(b'{"type":"transcript.text.delta","delta":"Bon"}')
    asked.exchange.client_left()  # type: ignore[attr-defined]
    expected = {
        "queue": (Outcome.CLIENT_LEFT_QUEUE, 0),
        "sending": (Outcome.CLIENT_LEFT_PREFILL, 0),
        "prefill": (Outcome.CLIENT_LEFT_PREFILL, 30_000),
        "stream": (Outcome.CLIENT_LEFT_DECODE, 30_000),
    }
    assert (asked.record.outcome, asked.record.audio_ms) == expected[stage]
    if stage != "queue":
        assert asked.call.aborted
    assert desk.file.closed
    assert house.at_rest()


def test_a_refusal_of_the_dispatcher_forgets_the_recording() -> None:
    house = House()
    house.broker.hold = True
    desk = Desk(house)
    asked = desk.ask()
    house.broker.refuse(RefusalReason.QUEUE_FULL)
    assert asked.writer.status == 429
    assert desk.file.closed


@pytest.mark.parametrize(
    ("fields", "recording", "status", "param", "says"),
    [
        ((("model", ""),), True, 400, "model", "is empty"),
        ((("model", "publik"),), True, 404, "model", "Did you mean 'public'"),
        ((("model", "public"), ("model", "other")), True, 400, "model", "more than once"),
        ((), False, 400, "file", "'file' is missing"),
        ((("stream", "yes"),), True, 400, "stream", "true or false"),
        ((("priority", "high"),), True, 400, "priority", "integer"),
        ((("routing-mode", "mine"),), True, 400, "routing-mode", "not known"),
    ],
)
def test_a_wrong_form_is_refused_with_field_and_remedy(
    fields: tuple[tuple[str, str], ...], recording: bool, status: int, param: str, says: str
) -> None:
    desk = Desk()
    asked = desk.ask(*fields, recording=recording)
    assert (asked.writer.status, asked.writer.error["param"]) == (status, param)
    assert says in asked.writer.error["message"]
    assert not desk.house.upstream.calls
    assert desk.house.at_rest()


def test_an_empty_recording_is_refused() -> None:
    asked = Desk(file=TwinFile(b"")).ask()
    assert (asked.writer.status, asked.writer.error["param"]) == (400, "file")


def test_quotas_count_the_request_and_no_tokens_and_the_fair_order_weighs_its_length() -> None:
    desk = Desk()
    key = Subject.of_key("k1")
    desk.house.book.set_limits({key: Limits(requests_per_minute=2, tokens_per_minute=1)})
    asked = desk.ask()
    assert asked.exchange.ticket.estimated_tokens == 300  # type: ignore[attr-defined]
    asked.call.plain(VERBOSE)
    assert desk.house.broker.settled[-1].tokens == 125
    second = desk.ask()
    second.call.plain(VERBOSE)
    third = desk.ask()
    assert (third.writer.status, third.writer.error["param"]) == (429, "requests_per_minute")


def test_a_tariff_per_hour_of_audio_prices_the_recording() -> None:
    from datetime import date

    desk = Desk(House(servers=[server("one", owner="uni-b")]))
    rates = Rates(audio_per_hour=360_000)
    desk.house.prices.set_tariffs([Tariff(model="public", valid_from=date(1970, 1, 1), rates=rates)])
    asked = desk.ask()
    asked.call.plain({"text": "a", "usage": {"type": "duration", "seconds": 100}})
    assert asked.record.price_micro_eur == 10_000


def test_the_batch_class_and_headers_hold_for_forms_too() -> None:
    asked = Desk().ask(headers={"x-ilaas-class": "batch", "x-request-id": "r-1"})
    assert asked.exchange.ticket.request_class == "batch"  # type: ignore[attr-defined]
    assert b"x-request-id: r-1\r\n" in asked.call.request.headers
