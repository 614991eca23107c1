"""Which answers may be continued, and what the next server is asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from ilaas.core.catalogue import ServerSpec
from ilaas.core.continuation import Kept, Room, SoFar, before_error, goes_on, may_continue, read, rest_of, used_up
from ilaas.core.request_body import body_for
from ilaas.core.requests import ENDPOINTS, ParsedRequest, parse
from ilaas.core.values import Engine

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
USER = {"role": "user", "content": "Bonjour"}


def chat(**fields: Any) -> ParsedRequest:
    body = {"model": "public", "messages": [USER], "stream": True, **fields}
    return parse(ENDPOINTS[CHAT], orjson.dumps(body))


def completion(**fields: Any) -> ParsedRequest:
    return parse(ENDPOINTS[COMPLETIONS], orjson.dumps({"model": "public", "prompt": "Il", "stream": True, **fields}))


def sent(parsed: ParsedRequest, so_far: SoFar, engine: Engine = Engine.VLLM) -> dict[str, Any]:
    """The body that a server of the engine gets."""
    server = ServerSpec(id="s", url="http://s", site="s", owner="o", served_name="org/served", engine=engine)
    tree: dict[str, Any] = orjson.loads(body_for(rest_of(parsed, so_far, engine), server))
    return tree


PARTIAL = {"role": "assistant", "content": "Il éta", "prefix": True}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 1, "best_of": None},
        {"logprobs": False, "top_logprobs": 0},
        {"response_format": {"type": "text"}},
        {"tools": [TOOL], "tool_choice": "auto"},
        {"seed": 7, "stop": ["fin"], "max_tokens": 5},
        {"messages": [USER, PARTIAL], "continue_final_message": True, "add_generation_prompt": False},
    ],
)
def test_a_plain_stream_may_be_continued(fields: dict[str, Any]) -> None:
    assert may_continue(chat(**fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"stream": False},
        {"n": 2},
        {"logprobs": True},
        {"top_logprobs": 3},
        {"prompt_logprobs": 0},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"guided_json": {"type": "object"}},
        {"guided_regex": "a+"},
        {"structured_outputs": {"choice": ["a"]}},
        {"regex": "a+"},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": TOOL},
        {"messages": [USER, PARTIAL]},
        {"messages": [USER], "continue_final_message": True},
        {"messages": [USER, {**PARTIAL, "content": [{"type": "text", "text": "a"}]}], "continue_final_message": True},
        {"add_generation_prompt": False},
        {"echo": True},
    ],
)
def test_what_can_not_go_right_is_not_tried(fields: dict[str, Any]) -> None:
    assert not may_continue(chat(**fields))


def test_a_completion_is_continued_when_its_prompt_is_one_text() -> None:
    assert may_continue(completion())
    assert not may_continue(completion(prompt=[1, 2, 3]))
    assert not may_continue(completion(prompt=["a", "b"]))
    assert not may_continue(completion(suffix="fin"))
    assert not may_continue(completion(logprobs=0))


def test_only_engines_that_are_known_to_go_on_with_a_text_are_asked_to() -> None:
    assert {engine for engine in Engine if goes_on(engine, chat=True)} == {Engine.VLLM, Engine.SGLANG, Engine.LMDEPLOY}
    assert {engine for engine in Engine if goes_on(engine, chat=False)} == {
        Engine.VLLM,
        Engine.SGLANG,
        Engine.LMDEPLOY,
        Engine.LLAMACPP,
    }


def test_the_text_so_far_goes_as_a_partial_message_with_as_many_tokens_less_and_all_else_as_it_was() -> None:
    parsed = chat(max_tokens=20, min_tokens=8, seed=7, stop=["fin"], temperature=0.5, user="someone")
    body = sent(parsed, SoFar(text="Bonjour à", tokens=5))
    assert body == {
        "model": "org/served",
        "messages": [USER, {"role": "assistant", "content": "Bonjour à"}],
        "continue_final_message": True,
        "add_generation_prompt": False,
        "max_tokens": 15,
        "min_tokens": 3,
        "seed": 7,
        "stop": ["fin"],
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert parsed.fields["messages"] == [USER]


def test_white_space_at_the_end_is_not_sent_and_the_tokens_it_takes_again_are_allowed() -> None:
    body = sent(chat(max_completion_tokens=20), SoFar(text="Un.\n\n", tokens=5, blank_tokens=1))
    assert (body["messages"][-1]["content"], body["max_completion_tokens"]) == ("Un.", 16)


def test_a_message_that_the_client_began_itself_is_lengthened() -> None:
    parsed = chat(messages=[USER, PARTIAL], continue_final_message=True, add_generation_prompt=False)
    assert sent(parsed, SoFar(text="it une", tokens=2))["messages"] == [USER, {**PARTIAL, "content": "Il était une"}]


def test_lmdeploy_goes_on_with_a_last_message_of_the_assistant_without_a_flag() -> None:
    body = sent(chat(max_completion_tokens=9), SoFar(text="Un", tokens=1), Engine.LMDEPLOY)
    assert body["messages"][-1] == {"role": "assistant", "content": "Un"}
    assert "continue_final_message" not in body
    assert body["max_tokens"] == 8


def test_a_completion_goes_on_behind_its_prompt() -> None:
    body = sent(completion(max_tokens=9), SoFar(text=" était une fois", tokens=4))
    assert (body["prompt"], body["max_tokens"]) == ("Il était une fois", 5)


def test_without_a_word_of_the_answer_the_same_request_is_sent_again() -> None:
    parsed = chat(max_tokens=9)
    assert rest_of(parsed, SoFar(text="\n", reasoning="Hm", tokens=3, reasoning_tokens=2), Engine.VLLM) is parsed


def test_an_answer_that_has_all_its_tokens_needs_no_other_server() -> None:
    assert used_up(chat(max_tokens=5), SoFar(tokens=5))
    assert not used_up(chat(max_tokens=5), SoFar(tokens=4))
    assert not used_up(chat(), SoFar(tokens=4000))


# -- what the client was given -----------------------------------------------------------------------------------------


def event(delta: dict[str, Any], **choice: Any) -> bytes:
    tree = {"id": "a", "created": 5, "object": "chat.completion.chunk", "model": "public"}
    return b"data: " + orjson.dumps({**tree, "choices": [{"index": 0, "delta": delta, **choice}]}) + b"\n\n"


def test_text_reasoning_and_identity_are_read_from_the_events() -> None:
    given = b": waiting\n\n" + event({"role": "assistant", "content": ""}) + event({"reasoning_content": "Hm"})
    given += event({"content": "Un"}) + event({"content": " deux"}) + event({"content": "\n"})
    so_far = read(given, chat=True)
    assert (so_far.id, so_far.created, so_far.model) == ("a", 5, "public")
    assert (so_far.text, so_far.partial, so_far.reasoning) == ("Un deux\n", "Un deux", "Hm")
    assert (so_far.tokens, so_far.reasoning_tokens, so_far.blank_tokens, so_far.sent_tokens) == (4, 1, 1, 2)
    assert not so_far.finished
    assert not so_far.foreign
    assert read(given + event({}, finish_reason="stop"), chat=True).finished


@pytest.mark.parametrize(
    "odd",
    [
        event({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}),
        event({"function_call": {"name": "f"}}),
        event({"refusal": "no"}),
        event({"content": [{"type": "text"}]}),
        event({"content": "a"}, index=1),
        b"data: {broken\n\n",
        b'data: {"choices":[5]}\n\n',
        b'data: {"object":"error"}\n\n',
    ],
)
def test_what_is_no_text_makes_the_answer_one_that_is_not_continued(odd: bytes) -> None:
    assert read(event({"content": "Un"}) + odd, chat=True).foreign


def test_an_empty_list_of_tool_calls_is_no_tool_call() -> None:
    assert not read(event({"content": "Un", "tool_calls": [], "refusal": None}), chat=True).foreign


# -- memory ------------------------------------------------------------------------------------------------------------


def test_parts_are_kept_up_to_the_limit_of_an_answer_and_then_dropped() -> None:
    room = Room()
    kept = Kept(room, limit_bytes=200_000)
    assert all(kept.add(b"x" * 50_000) for _ in range(3))
    assert kept.whole() == b"x" * 150_000
    assert 150_000 < room.taken_bytes <= 200_000 + 65536
    assert not kept.add(b"x" * 60_000)
    assert (kept.whole(), room.taken_bytes) == (b"", 0)


def test_all_answers_share_one_room_and_give_it_back() -> None:
    room = Room(limit_bytes=65536)
    first, second = Kept(room), Kept(room)
    assert first.add(b"a")
    assert not second.add(b"b")
    first.drop()
    first.drop()
    assert room.taken_bytes == 0
    assert Kept(room).add(b"c")


def test_small_parts_count_with_what_they_take_beside_their_bytes() -> None:
    kept = Kept(Room(), limit_bytes=65536)
    added = 0
    while kept.add(b""):
        added += 1
    assert added < 2_000


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_an_error_event_is_cut_off_with_all_that_follows(end: bytes) -> None:
    before, error = b'data: {"a":1}' + end, b'event: error\ndata: {"error":{"message":"x"}}' + end
    assert before_error(before + error + b"data: [DONE]" + end) == before
    assert before_error(error) == b""
    assert before_error(before) == before
