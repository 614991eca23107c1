"""Spoken answers through the use case, on twins: passed on as they come, counted, cut when they break off."""

from __future__ import annotations

from dataclasses import replace

import orjson

from ilaas.core.catalogue import DispatchPolicy
from ilaas.core.values import Outcome
from tests.support.twins import House

SPEECH = {"model": "public", "input": "Bonjour à tous", "voice": "alloy", "response_format": "wav"}


def wav(seconds: float) -> bytes:
    size = int(seconds * 48_000)
    head = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0" + (24_000).to_bytes(4, "little")
    return head + (48_000).to_bytes(4, "little") + b"\2\0\x10\0data\xff\xff\xff\xff" + bytes(size)


def test_speech_is_passed_on_as_it_comes_and_its_length_counted() -> None:
    house = House()
    asked = house.ask(SPEECH, path="/v1/audio/speech")
    assert orjson.loads(asked.call.request.body)["model"] == "org/served"
    asked.call.head(200, b"audio/wav")
    sound = wav(2.5)
    asked.call.sink.upstream_body(sound[:1000])
    assert asked.writer.body == sound[:1000]
    assert asked.writer.headers["content-type"] == "audio/wav"
    asked.call.sink.upstream_body(sound[1000:])
    asked.call.sink.upstream_end()
    assert asked.writer.body == sound
    assert asked.writer.finished
    record = asked.record
    assert (record.endpoint, record.audio_ms, record.outcome) == ("audio.speech", 2_500, Outcome.COMPLETED)
    assert record.estimated
    assert record.prompt_tokens > 0
    assert record.ttft_ms == 0
    assert house.at_rest()


def test_speech_that_breaks_off_is_cut_rather_than_ended() -> None:
    house = House()
    asked = house.ask(SPEECH, path="/v1/audio/speech")
    asked.call.head(200, b"audio/mpeg")
    asked.call.sink.upstream_body(b"\xff\xfb\x10\xc4" + bytes(100))
    asked.call.sink.upstream_failed(Outcome.STREAM_BROKEN, "gone")
    assert asked.writer.aborted
    assert not asked.writer.finished
    assert asked.record.outcome is Outcome.STREAM_BROKEN
    assert house.at_rest()


def test_speech_of_a_server_that_fails_or_gives_nothing_is_asked_for_elsewhere() -> None:
    house = House()
    asked = house.ask(SPEECH, path="/v1/audio/speech")
    asked.call.head(200, b"audio/wav")
    asked.call.sink.upstream_end()
    assert asked.call.server.id == "two"
    asked.call.head(200, b"audio/wav")
    asked.call.sink.upstream_body(wav(1))
    asked.call.sink.upstream_end()
    assert (asked.writer.status, asked.record.attempts) == (200, 2)


def test_speech_that_falls_silent_is_cut_after_the_idle_deadline() -> None:
    policy = DispatchPolicy()
    house = House(dispatch=replace(policy, deadlines=replace(policy.deadlines, idle_s=5.0)))
    asked = house.ask(SPEECH, path="/v1/audio/speech")
    asked.call.head(200, b"audio/wav")
    asked.call.sink.upstream_body(wav(1)[:100])
    house.clock.now += 1
    house.inference.sweep()
    house.clock.now += 6
    house.inference.sweep()
    assert asked.writer.aborted
    assert asked.record.outcome is Outcome.IDLE_TIMEOUT
