"""The gateway in front of a real llama.cpp server, driven by the `openai` SDK."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.real.conftest import PATIENCE_S, Federation

pytestmark = pytest.mark.real

MODEL = "tiny-random"
HELLO = [{"role": "user", "content": "hello"}]
LONGER_THAN_THE_TEST = 60_000
"""Tokens: minutes of work for the server, unless it is stopped."""


def test_a_chat_is_answered_under_the_public_name_with_the_servers_own_usage(federation: Federation) -> None:
    answer = federation.client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12)
    assert answer.model == MODEL
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 0
    assert 12 <= answer.usage.completion_tokens <= 13


def test_a_stream_is_whole_and_has_no_usage_chunk_when_none_was_asked_for(federation: Federation) -> None:
    chunks = list(federation.client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert chunks[-1].choices[0].finish_reason == "length"
    assert _pieces(chunks) >= 12


def test_a_stream_ends_with_estimated_usage_when_asked_although_the_server_gives_none(federation: Federation) -> None:
    stream = federation.client().chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = stream
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.prompt_tokens > 0
    assert abs(last.usage.completion_tokens - _pieces(chunks)) <= 2
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens


def test_embeddings_come_back_one_vector_for_each_text(federation: Federation) -> None:
    answer = federation.client().embeddings.create(model=MODEL, input=["hello", "world"], encoding_format="float")
    assert answer.model == MODEL
    assert [len(item.embedding) for item in answer.data] == [128, 128]
    assert answer.data[0].embedding != answer.data[1].embedding


def test_max_completion_tokens_reaches_a_server_that_knows_only_max_tokens(federation: Federation) -> None:
    answer = federation.client().chat.completions.create(model=MODEL, messages=HELLO, max_completion_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert 5 <= answer.usage.completion_tokens <= 6


def test_closing_a_stream_stops_the_server_and_frees_its_only_slot(federation: Federation) -> None:
    client = federation.client()
    stream = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=LONGER_THAN_THE_TEST, stream=True)
    assert next(iter(stream)).choices
    assert federation.server(MODEL)["in_flight"] == 1
    stream.close()
    _wait_until(lambda: federation.server(MODEL)["in_flight"] == 0)
    # the server works on one request at a time: it answers this one only when it was stopped in the other
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=3)
    assert answer.choices[0].message.content


def test_a_request_id_that_the_server_would_refuse_harms_nothing(federation: Federation) -> None:
    # llama_cpp.server answers 400 with no words when x-request-id is not a UUID
    raw = federation.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, max_tokens=3, extra_headers={"x-request-id": "lecture-42"}
    )
    assert raw.headers["x-request-id"] == "lecture-42"
    assert raw.parse().choices


def test_a_server_without_metrics_is_up_and_serves(federation: Federation) -> None:
    _wait_until(lambda: federation.state()["uptime_s"] > 2)  # several rounds of health checks and statistics
    assert federation.server(MODEL)["state"] == "up"
    assert federation.client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=3).choices


def test_a_model_that_the_server_would_answer_to_but_the_federation_lacks_is_refused(federation: Federation) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        federation.client().chat.completions.create(model="tiny-randon", messages=HELLO)
    assert refused.value.code == "model_not_found"
    assert MODEL in refused.value.message


def test_a_negative_max_tokens_that_the_server_would_take_is_refused(federation: Federation) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        federation.client().chat.completions.create(model=MODEL, messages=HELLO, max_tokens=-1)
    assert refused.value.param == "max_tokens"


def test_a_model_on_a_real_and_a_simulated_server_uses_both_at_once(federation: Federation) -> None:
    client = federation.client()
    sites = set()
    streams = []
    for _ in range(2):
        raw = client.chat.completions.with_raw_response.create(
            model="mixed", messages=HELLO, max_tokens=LONGER_THAN_THE_TEST // 2, stream=True
        )
        sites.add(raw.headers["x-ilaas-server-site"])
        streams.append(raw.parse())
    for stream in streams:
        assert next(iter(stream)).model == "mixed"
        stream.close()
    assert sites == {"real", "simulated"}


def _pieces(chunks: Iterable[ChatCompletionChunk]) -> int:
    """Chunks that carry text."""
    return sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks)


def _wait_until(reached: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline_s, "it did not come to that in time"
        time.sleep(0.02)
