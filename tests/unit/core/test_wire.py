"""The server's answer on its way to the client, cut into packets anywhere."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.upstream_errors import normalise
from ilaas.core.usage import Usage
from ilaas.core.wire import DONE, EventStream, PlainAnswer, error_event, with_field

PUBLIC = b'"public"'
ESTIMATE = Usage(7, 3, estimated=True)


def chunk(text: str, finish: str | None = None, **extra: object) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "org/served",
        "choices": [choice],
        **extra,
    }


def event(tree: object, end: bytes = b"\n\n") -> bytes:
    return b"data: " + orjson.dumps(tree) + end


USAGE = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 8}}
USAGE_EVENT = event({**chunk(""), "choices": [], "usage": USAGE})
TEXT = event(chunk("Bon")) + event(chunk('jour "model":"org/served"', "stop"))


def through(stream: EventStream, data: bytes, cuts: list[int]) -> bytes:
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    out = b""
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        if start < end:
            out += stream.feed(data[start:end])
    if stream.finished():
        out += stream.ending(ESTIMATE)
    return out


def events(data: bytes) -> list[object]:
    return [
        part[6:] if part[6:] == b"[DONE]" else orjson.loads(part[6:])
        for part in data.replace(b"\r\n", b"\n").split(b"\n\n")
        if part
    ]


@given(st.lists(st.integers(0, 2000), max_size=12), st.booleans(), st.booleans(), st.booleans())
def test_the_client_gets_the_same_events_wherever_packets_are_cut(
    cuts: list[int], wants_usage: bool, server_done: bool, dos: bool
) -> None:
    data = TEXT + USAGE_EVENT + (DONE if server_done else b"")
    if dos:
        data = data.replace(b"\n\n", b"\r\n\r\n")
    stream = EventStream(PUBLIC, wants_usage=wants_usage)
    got = events(through(stream, data, cuts))
    texts = [tree["choices"][0]["delta"]["content"] for tree in got if isinstance(tree, dict) and tree["choices"]]  # type: ignore[index]
    assert texts == ["Bon", 'jour "model":"org/served"']
    assert all(tree["model"] == "public" for tree in got if isinstance(tree, dict))
    assert (USAGE in [tree.get("usage") for tree in got if isinstance(tree, dict)]) is wants_usage
    assert stream.usage == Usage(11, 2, 8, 0)
    if server_done:
        assert got[-1] == b"[DONE]"
        assert got.count(b"[DONE]") == 1


def test_a_server_without_done_and_with_usage_on_the_last_chunk_is_completed() -> None:
    stream = EventStream(PUBLIC, wants_usage=False)
    got = events(through(stream, event(chunk("a")) + event({**chunk("b", "stop"), "usage": USAGE}), []))
    assert got[-1] == b"[DONE]"
    assert len(got) == 3
    assert stream.usage is not None
    assert stream.usage.prompt_tokens == 11


@pytest.mark.parametrize("wants_usage", [False, True])
def test_a_server_without_done_that_ends_with_the_usage_chunk_is_completed(wants_usage: bool) -> None:
    stream = EventStream(PUBLIC, wants_usage=wants_usage)
    got = events(through(stream, TEXT + USAGE_EVENT, [len(TEXT)]))
    assert stream.finished()
    assert got.count(b"[DONE]") == 1
    assert any(isinstance(tree, dict) and tree.get("usage") for tree in got) is wants_usage


def test_extra_fields_go_before_the_end_in_the_name_of_the_other_chunks() -> None:
    stream = EventStream(PUBLIC, wants_usage=False, holds_end=True)
    got = events(stream.feed(TEXT + USAGE_EVENT + DONE) + stream.ending(Usage(), {"more": 1}))
    assert got[-2:] == [{**got[-2], "choices": [], "more": 1}, b"[DONE]"]  # type: ignore[dict-item]
    assert (got[-2]["id"], got[-2]["model"]) == ("c1", "public")  # type: ignore[index]
    assert got.count(b"[DONE]") == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"a": 1}', b'{"a": 1,"n":[2]}'),
        (b' {"a":{}} \n', b'{"a":{},"n":[2]}'),
        (b"{ }", b'{"n":[2]}'),
        (b"[1]", b"[1]"),
        (b"", b""),
    ],
)
def test_a_field_is_added_to_an_object_and_to_nothing_else(body: bytes, told: bytes) -> None:
    assert with_field(body, "n", [2]) == told


def test_a_server_without_usage_gives_an_estimated_chunk_to_who_asked_for_it() -> None:
    stream = EventStream(PUBLIC, wants_usage=True)
    got = events(through(stream, TEXT + DONE, [30, 31]))
    assert got[-1] == b"[DONE]"
    assert got[-2]["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}  # type: ignore[index]
    assert got[-2]["choices"] == []  # type: ignore[index]
    assert got[-2]["id"] == "c1"  # type: ignore[index]
    assert got[-2]["model"] == "public"  # type: ignore[index]


def test_usage_in_every_chunk_is_read_and_kept() -> None:
    stream = EventStream(PUBLIC, wants_usage=False)
    first, last = dict(USAGE, completion_tokens=1), USAGE
    got = events(
        through(stream, event({**chunk("a"), "usage": first}) + event({**chunk("b", "stop"), "usage": last}) + DONE, [])
    )
    assert len(got) == 3
    assert stream.usage is not None
    assert stream.usage.completion_tokens == 2


def test_a_stream_that_ends_in_the_middle_is_not_finished() -> None:
    stream = EventStream(PUBLIC, wants_usage=False)
    stream.feed(event(chunk("a")))
    assert not stream.finished()
    assert not stream.failed()


def test_an_error_event_of_the_server_is_recognised_and_a_text_about_errors_is_not() -> None:
    failing = EventStream(PUBLIC, wants_usage=False)
    failing.feed(event({"error": {"message": "boom"}}))
    assert failing.failed()
    talking = EventStream(PUBLIC, wants_usage=False)
    talking.feed(event(chunk("error")))
    assert not talking.failed()


def test_an_event_that_never_ends_is_passed_on_in_pieces_and_not_gathered_for_ever() -> None:
    stream = EventStream(PUBLIC, wants_usage=False)
    passed = sum(len(stream.feed(b"data: " + b"x" * 1_000_000)) for _ in range(12))
    assert passed > 8_000_000


def test_the_name_is_put_back_in_a_first_event_that_is_passed_on_in_pieces_too() -> None:
    stream = EventStream(PUBLIC, wants_usage=False)
    event = b'data: {"model": "org/served", "choices": [{"delta": {"content": "%b"}}]}\n\n' % (b"x" * 6_000_000)
    out = b"".join(stream.feed(event[at : at + 100_000]) for at in range(0, len(event), 100_000))
    assert out == event.replace(b'"model": "org/served"', b'"model":' + PUBLIC)


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_any_bytes_pass_without_an_exception(parts: list[bytes]) -> None:
    stream = EventStream(PUBLIC, wants_usage=True)
    for part in parts:
        stream.feed(part)
    stream.finished()
    stream.failed()
    stream.ending(ESTIMATE)


@pytest.mark.parametrize(
    "body", [b'{"model": "org/served", "usage": %s}', b'{"usage": %s, "id": 1, "model":"org/served"}']
)
def test_a_plain_answer_gets_the_public_name_and_its_usage_is_read(body: bytes) -> None:
    answer = PlainAnswer(body % orjson.dumps(USAGE), PUBLIC)
    assert answer.valid
    assert orjson.loads(answer.body)["model"] == "public"
    assert answer.usage == Usage(11, 2, 8, 0)


def test_a_large_answer_is_not_parsed_whole_and_its_usage_is_still_read() -> None:
    body = orjson.dumps(
        {"data": [0.5] * 40_000, "model": "org/served", "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    )
    answer = PlainAnswer(body, PUBLIC)
    assert answer.valid
    assert answer.usage == Usage(5, 0)
    assert orjson.loads(answer.body)["model"] == "public"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a":', b"3", b"\xff", b"<" + b"x" * 70_000, b"{" + b"x" * 70_000])
def test_what_is_not_json_is_no_answer(body: bytes) -> None:
    assert not PlainAnswer(body, PUBLIC).valid


@given(st.binary(max_size=200))
def test_any_plain_answer_is_judged_without_an_exception(body: bytes) -> None:
    PlainAnswer(body, PUBLIC)


def test_an_error_in_a_stream_is_one_event_and_then_the_end() -> None:
    assert error_event(b'{"error":{}}') == b'data: {"error":{}}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"org/served: too long","type":"BadRequestError","param":null,"code":400}}',
        b'{"object":"error","message":"org/served: too long","type":"BadRequestError","param":null,"code":400}',
        b'{"detail":"org/served: too long"}',
        b'{"error":"org/served: too long"}',
        b'{"error":{"detail":[{"loc":["body","messages"],"msg":"org/served: too long"}]}}',
    ],
)
def test_each_servers_refusal_becomes_the_one_shape_with_its_words_and_the_public_name(body: bytes) -> None:
    error = orjson.loads(normalise(400, body, served_name="org/served", public_name="public"))["error"]
    assert "public: too long" in error["message"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] is None or isinstance(error["code"], str)


@given(st.binary(max_size=200), st.integers(400, 499))
def test_any_refusal_becomes_the_one_shape(body: bytes, status: int) -> None:
    error = orjson.loads(normalise(status, body, served_name="s", public_name="p"))["error"]
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
