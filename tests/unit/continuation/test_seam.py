"""Two streams joined: whatever the place where the first one broke, the client sees one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.continuation import ContinuedStream, SoFar, read
from ilaas.core.wire import EventStream

TOKENS = st.lists(st.sampled_from(["Un", " deux", " ", "\n", "\n\n", "é", '"', "data: x", " fin.\n"]), min_size=1)
PROMPT = 11


def chunks(
    server: str, texts: Sequence[str], *, chat: bool = True, reasoning: Sequence[str] = (), prompt: int = PROMPT
) -> list[bytes]:
    """The events of one server's answer."""
    head = {"id": f"id-{server}", "created": len(server), "model": f"org/{server}"}

    def event(choices: list[Any], **more: Any) -> bytes:
        return b"data: " + orjson.dumps({**head, "choices": choices, **more}) + b"\n\n"

    def choice(text: str, reason: str | None = None, name: str = "content") -> list[Any]:
        inner = {"delta": {name: text}} if chat else {"text": text}
        return [{"index": 0, **inner, "finish_reason": reason}]

    tokens = len(texts) + len(reasoning)
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return [
        *(
            [event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])]
            if chat
            else []
        ),
        *(event(choice(text, name="reasoning_content")) for text in reasoning),
        *(event(choice(text)) for text in texts),
        event(choice("", "stop")),
        event([], usage=usage),
        b"data: [DONE]\n\n",
    ]


def trees(stream: bytes) -> list[dict[str, Any]]:
    events = [event for event in stream.split(b"\n\n") if event and not event.startswith(b":")]
    assert events.pop() == b"data: [DONE]"
    return [orjson.loads(event.removeprefix(b"data: ")) for event in events]


def joined(stream: bytes, name: str = "content") -> str:
    """The text as a client puts it together."""
    found = [choice for tree in trees(stream) for choice in tree["choices"]]
    return "".join((choice["delta"].get(name) if "delta" in choice else choice["text"]) or "" for choice in found)


def packets(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def first_part(events: list[bytes], cut: int) -> tuple[bytes, SoFar]:
    """What the client was given of a stream that broke off after so many events."""
    out = EventStream(b'"public"', wants_usage=True).feed(b"".join(events[:cut]))
    return out, read(out, chat=b'"delta"' in events[0])


def rest(so_far: SoFar, events: list[bytes], size: int = 10**6, *, chat: bool = True) -> tuple[bytes, ContinuedStream]:
    stream = ContinuedStream(b'"public"', so_far, chat=chat, wants_usage=b'"usage"' in events[-2])
    return b"".join(stream.feed(packet) for packet in packets(b"".join(events), size)), stream


def remaining(tokens: Sequence[str], begin: int) -> list[str]:
    """The tokens behind the first `begin` characters; one that is cut keeps its end."""
    left = []
    for token in tokens:
        if begin < len(token):
            left.append(token[begin:])
        begin = max(0, begin - len(token))
    return left


@given(tokens=TOKENS, cut=st.integers(min_value=0), size=st.integers(1, 400), chat=st.booleans())
def test_any_cut_gives_the_same_text_one_role_one_id_and_the_same_usage(
    tokens: list[str], cut: int, size: int, chat: bool
) -> None:
    whole = chunks("one", tokens, chat=chat)
    cut = cut % (len(tokens) + chat) + 1  # before the first event nothing has to be joined
    given_part, so_far = first_part(whole, cut)
    # the server that goes on has the partial text in its prompt, and gives what is behind it
    left = remaining(tokens, len(so_far.partial))
    prompt = PROMPT + (0 if so_far.anew else so_far.sent_tokens)
    second, stream = rest(so_far, chunks("second", left, chat=chat, prompt=prompt), size, chat=chat)
    answer = given_part + second
    assert joined(answer) == "".join(tokens)
    told = trees(answer)
    assert {(tree["id"], tree["created"], tree["model"]) for tree in told} == {("id-one", 3, "public")}
    assert answer.count(b'"role"') == chat
    assert stream.finished()
    assert [choice["finish_reason"] for tree in told for choice in tree["choices"]][-1] == "stop"
    assert stream.usage is not None
    assert stream.usage.prompt_tokens == PROMPT
    assert stream.usage.completion_tokens == len(tokens)
    assert told[-1]["usage"]["total_tokens"] == PROMPT + len(tokens)


@given(thoughts=TOKENS, tokens=TOKENS, cut=st.integers(min_value=0), size=st.integers(1, 400))
def test_reasoning_that_begins_again_and_comes_the_same_is_told_once(
    thoughts: list[str], tokens: list[str], cut: int, size: int
) -> None:
    whole = chunks("one", tokens, reasoning=thoughts)
    given_part, so_far = first_part(whole, cut % (len(thoughts) + 1) + 1)
    second, stream = rest(so_far, chunks("second", tokens, reasoning=thoughts), size)
    answer = given_part + second
    assert joined(answer, "reasoning_content") == "".join(thoughts)
    assert joined(answer) == "".join(tokens)
    assert stream.usage is not None
    assert stream.usage.completion_tokens == len(thoughts) + len(tokens)


def test_other_reasoning_is_passed_on_from_where_it_differs() -> None:
    given_part, so_far = first_part(chunks("one", ["x"], reasoning=["Let me", " see"]), 3)
    second, _ = rest(so_far, chunks("second", ["Oui"], reasoning=["Let me", " think", " more"]))
    assert joined(given_part + second, "reasoning_content") == "Let me seethink more"
    assert joined(given_part + second) == "Oui"


def test_a_server_that_reasons_anew_in_mid_answer_did_not_go_on() -> None:
    given_part, so_far = first_part(chunks("one", ["Un", " deux"]), 2)
    second, stream = rest(so_far, chunks("second", ["Un"], reasoning=["Hm"]), 50)
    assert stream.wrong
    assert stream.failed()
    assert b"not_continued" in second
    assert b"Hm" not in second
    assert given_part


def test_a_tool_call_may_begin_behind_the_seam() -> None:
    _, so_far = first_part(chunks("one", ["Un"]), 2)
    call = {"tool_calls": [{"index": 0, "id": "call-9", "function": {"name": "f", "arguments": ""}}]}
    head = {"id": "id-second", "created": 9, "model": "org/second"}
    events = [
        b"data: " + orjson.dumps({**head, "choices": [{"index": 0, "delta": {"role": "assistant", **call}}]}) + b"\n\n",
        b"data: " + orjson.dumps({**head, "choices": [{"index": 0, "delta": call}]}) + b"\n\n",
        b"data: [DONE]\n\n",
    ]
    second, _ = rest(so_far, events)
    assert [tree["choices"][0]["delta"] for tree in trees(second)] == [call, call]
    assert {tree["id"] for tree in trees(second)} == {"id-one"}


def test_a_server_that_writes_json_with_spaces_and_ends_lines_as_dos_does_is_joined_too() -> None:
    _, so_far = first_part(chunks("one", ["Un"]), 2)
    lines = [
        '{"choices": [{"index": 0, "delta": {"content": " deux"}}], "id": "b", "created": 9, "model": "org/second"}',
        '{"choices": [{"index": 0, "delta": {"content": " trois"}}], "id": "b", "created": 9, "model": "org/second"}',
        "[DONE]",
    ]
    second, _ = rest(so_far, [f"data: {line}\r\n\r\n".encode() for line in lines], 7)
    assert joined(second.replace(b"\r\n", b"\n")) == " deux trois"
    assert {(tree["id"], tree["created"], tree["model"]) for tree in trees(second.replace(b"\r\n", b"\n"))} == {
        ("id-one", 3, "public")
    }


def test_usage_in_every_chunk_is_counted_on_from_where_the_first_server_was() -> None:
    _, so_far = first_part(chunks("one", ["Un", " deux"]), 3)
    events = []
    for count, text in enumerate((" trois", " quatre"), 1):
        usage = {"prompt_tokens": PROMPT + 2, "completion_tokens": count, "total_tokens": PROMPT + 2 + count}
        choice = {"index": 0, "delta": {"content": text}}
        events.append(b"data: " + orjson.dumps({"id": "b", "choices": [choice], "usage": usage}) + b"\n\n")
    second, stream = rest(so_far, [*events, b"data: [DONE]\n\n"])
    assert [tree["usage"]["completion_tokens"] for tree in trees(second)] == [3, 4]
    assert {tree["usage"]["prompt_tokens"] for tree in trees(second)} == {PROMPT}
    assert stream.own_usage is not None
    assert stream.own_usage.completion_tokens == 2


def test_cached_and_reasoning_tokens_of_the_whole_answer_are_told() -> None:
    _, so_far = first_part(chunks("one", ["Un"], reasoning=["Hm", "!"]), 4)
    usage = {
        "prompt_tokens": 20,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 20},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    event = b"data: " + orjson.dumps({"id": "b", "choices": [], "usage": usage}) + b"\n\n"
    second, _ = rest(so_far, [event, b"data: [DONE]\n\n"])
    told = trees(second)[0]["usage"]
    assert (told["prompt_tokens"], told["completion_tokens"]) == (19, 4)
    assert told["prompt_tokens_details"]["cached_tokens"] == 19
    assert told["completion_tokens_details"]["reasoning_tokens"] == 2


def test_a_second_break_is_joined_as_the_first_one_was() -> None:
    tokens = ["Un", " deux", " trois", ".\n", "Fin"]
    given_part, so_far = first_part(chunks("one", tokens), 3)
    second, _ = rest(so_far, chunks("two", tokens[2:])[:3])  # role, " trois", ".\n", then silence
    so_far = read(given_part + second, chat=True)
    assert (so_far.text, so_far.id, so_far.tokens) == ("Un deux trois.\n", "id-one", 4)
    third, stream = rest(so_far, chunks("three", ["\n", "Fin"], prompt=PROMPT + 4))
    assert joined(given_part + second + third) == "".join(tokens)
    assert stream.usage is not None
    assert stream.usage.completion_tokens == 5


@pytest.mark.parametrize("wants_usage", [True, False])
def test_a_server_that_tells_no_usage_leaves_an_estimate_of_the_whole_answer(wants_usage: bool) -> None:
    given_part, so_far = first_part(chunks("one", ["Un", " deux"]), 3)
    stream = ContinuedStream(b'"public"', so_far, chat=True, wants_usage=wants_usage)
    for event in chunks("second", [" trois", " quatre"])[:-2]:
        stream.feed(event)
    assert stream.usage is None
    assert stream.events - 1 == 5  # with the chunk of the finish reason, as of any stream
    assert given_part
