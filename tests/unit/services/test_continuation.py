"""A server that dies in mid-answer: another one goes on, the client sees one stream, and one record is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from ilaas.core.catalogue import Deadlines, DispatchPolicy
from ilaas.core.dispatch.events import RefusalReason
from ilaas.core.impact import Case, ImpactFactors, SiteFactors
from ilaas.core.quota import Limits, Subject
from ilaas.core.values import Continuation, Engine, Outcome
from ilaas.services.context import InferencePolicy
from ilaas.services.impacts import Impacts
from tests.support.twins import Asked, House, server

TOOL = {"type": "function", "function": {"name": "f"}}


def chunk(text: str, finish: str | None = None, name: str = "content", **head: Any) -> bytes:
    choice = {"index": 0, "delta": {name: text}, "finish_reason": finish}
    return orjson.dumps({"id": "one", "created": 1, "model": "org/served", "choices": [choice], **head})


def usage(prompt: int, completion: int, **head: Any) -> bytes:
    told = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return orjson.dumps({"id": "two", "created": 2, "model": "org/served", "choices": [], "usage": told, **head})


def begin(house: House, *texts: str, **fields: Any) -> Asked:
    """A stream of which the client was given some."""
    asked = house.ask(stream=True, **fields)
    asked.call.stream()
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}}
    asked.call.event(orjson.dumps({"id": "one", "created": 1, "model": "org/served", "choices": [role]}))
    for text in texts:
        asked.call.event(chunk(text))
    return asked


def go_on(asked: Asked, *texts: str, prompt: int = 12, finish: str = "stop") -> None:
    """The present server answers to the end."""
    asked.call.stream()
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}}
    asked.call.event(orjson.dumps({"id": "two", "created": 2, "model": "org/served", "choices": [role]}))
    for text in texts:
        asked.call.event(chunk(text, id="two", created=2))
    asked.call.event(chunk("", finish, id="two", created=2))
    asked.call.event(usage(prompt, len(texts)))
    asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()


def die(asked: Asked) -> None:
    asked.call.sink.upstream_failed(Outcome.STREAM_BROKEN, "closed")


def events(asked: Asked) -> list[dict[str, Any]]:
    """What the client was given, without comments; fails unless it ends properly and once."""
    parts = [part for part in asked.writer.body.split(b"\n\n") if part and not part.startswith(b":")]
    assert parts.pop() == b"data: [DONE]"
    assert asked.writer.finished
    return [orjson.loads(part.removeprefix(b"data: ")) for part in parts]


def text_of(asked: Asked) -> str:
    return "".join(choice["delta"].get("content") or "" for tree in events(asked) for choice in tree["choices"])


def code_of(asked: Asked) -> str:
    code: str = events(asked)[-1]["error"]["code"]
    return code


def continued(house: House) -> int:
    return sum(tally.continued for tally in house.accounting.tallies().values())


def end_early(asked: Asked) -> None:
    asked.call.sink.upstream_end()


def fall_silent(asked: Asked) -> None:
    asked.house.inference.sweep()
    asked.house.clock.now += 61
    asked.house.inference.sweep()


def tell_an_error(asked: Asked) -> None:
    asked.call.event(b'{"error":{"message":"engine died","code":500}}')


DEATHS: list[tuple[Callable[[Asked], None], Outcome]] = [
    (die, Outcome.STREAM_BROKEN),
    (end_early, Outcome.STREAM_BROKEN),
    (fall_silent, Outcome.IDLE_TIMEOUT),
    (tell_an_error, Outcome.UPSTREAM_ERROR),
]


@pytest.mark.parametrize(("death", "outcome"), DEATHS)
def test_another_server_goes_on_whatever_the_first_one_died_of(
    death: Callable[[Asked], None], outcome: Outcome
) -> None:
    house = House()
    asked = begin(house, "Un", " deux", max_tokens=9, stream_options={"include_usage": True})
    first = asked.call
    death(asked)
    assert asked.call.server.id == "two"
    sent = orjson.loads(asked.call.request.body)
    assert sent["messages"][-1] == {"role": "assistant", "content": "Un deux"}
    assert (sent["continue_final_message"], sent["add_generation_prompt"], sent["max_tokens"]) == (True, False, 7)
    go_on(asked, " trois", " quatre")
    assert text_of(asked) == "Un deux trois quatre"
    assert {(tree["id"], tree["created"], tree["model"]) for tree in events(asked)} == {("one", 1, "public")}
    assert asked.writer.body.count(b'"role"') == 1
    assert events(asked)[-1]["usage"] == {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
    record = asked.record
    assert (record.outcome, record.status, record.attempts, record.server) == (Outcome.COMPLETED, 200, 2, "two")
    assert (record.prompt_tokens, record.completion_tokens, record.estimated) == (10, 4, False)
    assert [(each.outcome, each.retry) for each in house.broker.settled] == [
        (outcome, True),
        (Outcome.COMPLETED, False),
    ]
    assert house.broker.settled[-1].tokens == 14
    assert continued(house) == 1
    assert first.aborted or death is not fall_silent
    assert house.at_rest()


def test_who_did_not_ask_for_usage_is_not_told_it_and_is_charged_once() -> None:
    house = House()
    house.book.set_limits({Subject.of_key("k1"): Limits(tokens_per_minute=100_000)})
    asked = begin(house, "Un")
    die(asked)
    go_on(asked, " deux", prompt=6)
    assert b"usage" not in asked.writer.body
    assert text_of(asked) == "Un deux"
    assert (asked.record.prompt_tokens, asked.record.completion_tokens) == (5, 2)
    refilled = house.ask()
    assert refilled.writer.status == 0
    assert house.book.status((Subject.of_key("k1"),), house.clock.now, house.clock.now).lines()


def test_the_wait_for_the_other_server_is_kept_open_with_comments_and_is_no_wait_in_the_record() -> None:
    house = House(policy=InferencePolicy(keepalive_comment_s=15))
    asked = begin(house, "Un")
    house.broker.hold = True
    house.clock.now += 30
    die(asked)
    for _ in range(64):
        house.clock.now += 0.25
        house.inference.sweep()
    assert asked.writer.body.endswith(b": queued, position 3, about 4 s\n\n")
    assert not asked.writer.finished
    house.broker.serve(next(iter(house.broker.waiting)))
    go_on(asked, " deux")
    assert text_of(asked) == "Un deux"
    assert asked.record.queue_ms == 250
    assert asked.record.duration_ms == 46_000


@pytest.mark.parametrize("stage", ["queue", "connect", "prefill", "decode"])
def test_a_client_that_leaves_while_another_server_is_sought_frees_everything(stage: str) -> None:
    house = House()
    asked = begin(house, "Un", " deux")
    house.broker.hold = stage == "queue"
    house.upstream.connects = stage != "connect"
    die(asked)
    if stage == "decode":
        asked.call.stream()
        asked.call.event(chunk(" trois"))
    asked.exchange.client_left()  # type: ignore[attr-defined]
    record = asked.record
    assert (record.outcome, record.status) == (Outcome.CLIENT_LEFT_DECODE, 499)
    assert record.completion_tokens == (3 if stage == "decode" else 2)
    assert record.prompt_tokens > 0
    assert house.broker.settled[-1].outcome is {
        "queue": Outcome.STREAM_BROKEN,
        "decode": Outcome.CLIENT_LEFT_DECODE,
    }.get(stage, Outcome.CLIENT_LEFT_PREFILL)
    assert house.at_rest()
    assert house.inference.context.room.taken_bytes == 0


def test_when_no_server_is_left_the_client_is_told_in_the_stream_and_pays_for_what_it_got() -> None:
    house = House()
    asked = begin(house, "Un", " deux")
    die(asked)
    die(asked)
    assert code_of(asked) == "upstream_stream_broken"
    record = asked.record
    assert (record.outcome, record.status, record.attempts) == (Outcome.STREAM_BROKEN, 200, 2)
    assert (record.completion_tokens, record.estimated) == (2, True)
    assert house.at_rest()


def test_a_third_server_goes_on_where_the_second_one_died() -> None:
    house = House(servers=[server("one"), server("two"), server("three")])
    asked = begin(house, "Un", max_tokens=10)
    die(asked)
    asked.call.stream()
    asked.call.event(chunk(" deux", id="two", created=2))
    die(asked)
    sent = orjson.loads(asked.call.request.body)
    assert (sent["messages"][-1]["content"], sent["max_tokens"]) == ("Un deux", 8)
    assert len(sent["messages"]) == 2
    go_on(asked, " trois")
    assert text_of(asked) == "Un deux trois"
    assert {tree["id"] for tree in events(asked)} == {"one"}
    assert (asked.record.attempts, asked.record.prompt_tokens, asked.record.completion_tokens) == (3, 10, 3)
    assert continued(house) == 2


@pytest.mark.parametrize("status", [400, 503])
def test_a_server_that_refuses_to_go_on_is_passed_over_and_its_words_are_not_told(status: int) -> None:
    house = House(servers=[server("one"), server("two"), server("three")])
    asked = begin(house, "Un")
    die(asked)
    asked.call.head(status)
    assert asked.call.server.id == "three"
    go_on(asked, " deux")
    assert text_of(asked) == "Un deux"
    refused = Outcome.UPSTREAM_REJECTED if status == 400 else Outcome.UPSTREAM_ERROR
    assert [each.outcome for each in house.broker.settled] == [Outcome.STREAM_BROKEN, refused, Outcome.COMPLETED]


def test_a_server_that_reasons_anew_in_mid_answer_is_not_believed() -> None:
    house = House()
    asked = begin(house, "Un")
    die(asked)
    asked.call.stream()
    asked.call.event(chunk("Hm", name="reasoning_content", id="two"))
    assert code_of(asked) == "upstream_stream_broken"
    assert b"Hm" not in asked.writer.body
    assert asked.record.outcome is Outcome.STREAM_BROKEN
    assert house.broker.settled[-1].outcome is Outcome.UPSTREAM_REJECTED  # it is well: no fault of its health
    assert house.at_rest()


def test_an_answer_that_broke_while_reasoning_begins_again_without_telling_the_same_twice() -> None:
    house = House()
    asked = house.ask(stream=True, max_tokens=9)
    asked.call.stream()
    asked.call.event(chunk("Let me", name="reasoning_content"))
    die(asked)
    sent = orjson.loads(asked.call.request.body)
    assert (len(sent["messages"]), sent["max_tokens"]) == (1, 9)
    asked.call.stream()
    for text in ("Let me", " see"):
        asked.call.event(chunk(text, name="reasoning_content", id="two"))
    asked.call.event(chunk("Oui", "stop", id="two"))
    asked.call.event(usage(5, 3))
    asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()
    told = [choice["delta"].get("reasoning_content") for tree in events(asked) for choice in tree["choices"]]
    assert told == ["Let me", " see", None]
    assert (asked.record.prompt_tokens, asked.record.completion_tokens) == (5, 3)


def test_a_completion_goes_on_behind_its_prompt() -> None:
    house = House()
    body = {"model": "public", "prompt": "Il", "stream": True, "max_tokens": 9}
    asked = house.ask(body, path="/v1/completions")
    asked.call.stream()
    head = {"id": "a", "object": "text_completion", "created": 1, "model": "org/served"}
    asked.call.event(orjson.dumps({**head, "choices": [{"index": 0, "text": " était", "finish_reason": None}]}))
    die(asked)
    sent = orjson.loads(asked.call.request.body)
    assert (sent["prompt"], sent["max_tokens"]) == ("Il était", 8)
    asked.call.stream()
    choice = {"index": 0, "text": " une fois", "finish_reason": "stop"}
    asked.call.event(orjson.dumps({**head, "id": "b", "choices": [choice]}))
    asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()
    assert "".join(tree["choices"][0]["text"] for tree in events(asked)) == " était une fois"
    assert {tree["id"] for tree in events(asked)} == {"a"}


@pytest.mark.parametrize("how", [die, fall_silent])
def test_an_answer_whose_finish_reason_had_come_is_whole(how: Callable[[Asked], None]) -> None:
    house = House()
    asked = begin(house, "Un", stream_options={"include_usage": True})
    asked.call.event(chunk("", "stop"))
    how(asked)
    assert asked.record.outcome is Outcome.COMPLETED
    assert events(asked)[-1]["usage"]["completion_tokens"] > 0
    assert len(house.upstream.calls) == 1
    assert house.at_rest()


def test_an_answer_that_has_all_its_tokens_ends_for_its_length() -> None:
    house = House()
    asked = begin(house, "Un", " deux", max_tokens=2)
    die(asked)
    assert len(house.upstream.calls) == 1
    last = events(asked)[-1]
    assert (last["choices"][0]["finish_reason"], last["id"], last["model"]) == ("length", "one", "public")
    assert (asked.record.outcome, asked.record.completion_tokens) == (Outcome.COMPLETED, 2)


# -- where it must not be tried ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"guided_json": {"type": "object"}},
        {"tools": [TOOL], "tool_choice": "required"},
    ],
)
def test_what_can_not_be_continued_is_told_in_the_stream(fields: dict[str, Any]) -> None:
    house = House()
    asked = begin(house, "Un", **fields)
    die(asked)
    assert code_of(asked) == "upstream_stream_broken"
    assert len(house.upstream.calls) == 1
    assert house.inference.context.room.taken_bytes == 0


def test_with_tools_a_text_is_continued_and_a_call_that_has_begun_is_not() -> None:
    house = House()
    asked = begin(house, "Un", tools=[TOOL])
    die(asked)
    assert len(house.upstream.calls) == 2
    delta = {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}
    asked.call.stream()
    asked.call.event(orjson.dumps({"id": "two", "choices": [{"index": 0, "delta": delta}]}))
    die(asked)
    assert code_of(asked) == "upstream_stream_broken"
    assert len(house.upstream.calls) == 2
    assert house.at_rest()


def test_a_servers_own_error_is_passed_on_where_the_answer_can_not_be_continued() -> None:
    house = House()
    asked = begin(house, tools=[TOOL])
    delta = {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}
    asked.call.event(orjson.dumps({"id": "one", "choices": [{"index": 0, "delta": delta}]}))
    tell_an_error(asked)
    asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()
    assert events(asked)[-1] == {"error": {"message": "engine died", "code": 500}}
    assert asked.record.outcome is Outcome.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("mode", "spot", "continued"),
    [
        (Continuation.OFF, True, False),
        (Continuation.ON, False, True),
        (Continuation.SPOT, True, True),
        (Continuation.SPOT, False, False),
    ],
)
def test_the_model_says_whether_and_after_which_servers(mode: Continuation, spot: bool, continued: bool) -> None:
    house = House(servers=[server("one", spot=spot), server("two")], dispatch=DispatchPolicy(continuation=mode))
    asked = begin(house, "Un")
    die(asked)
    assert (len(house.upstream.calls) == 2) is continued
    if continued:
        asked.call.stream()
        asked.call.event(chunk(" deux", id="two"))
        asked.call.sink.upstream_failed(Outcome.STREAM_BROKEN, "closed")
        assert code_of(asked) == "upstream_stream_broken"


@pytest.mark.parametrize("engine", [Engine.OLLAMA, Engine.OPENAI, Engine.LITELLM, Engine.LLAMACPP])
def test_a_server_whose_engine_can_not_go_on_is_not_asked(engine: Engine) -> None:
    house = House(servers=[server("one"), server("two", engine=engine), server("three")])
    asked = begin(house, "Un")
    die(asked)
    assert "two" in asked.exchange.ticket.excluded  # type: ignore[attr-defined]
    assert asked.call.server.id == "three"  # the twin grants it all the same, and gets it back
    go_on(asked, " deux")
    assert text_of(asked) == "Un deux"


def test_an_answer_that_is_too_long_to_be_kept_is_not_continued() -> None:
    house = House()
    asked = begin(house, *["x" * 1_000_000] * 5)
    assert house.inference.context.room.taken_bytes == 0
    die(asked)
    assert code_of(asked) == "upstream_stream_broken"


def test_a_gateway_that_ends_does_not_look_for_another_server() -> None:
    house = House()
    asked = begin(house, "Un")
    house.broker.hold = True
    die(asked)
    house.inference.abort_all()
    assert code_of(asked) == "shutting_down"
    assert asked.record.outcome is Outcome.SHUT_DOWN
    assert house.at_rest()


def test_the_longest_time_of_a_request_counts_while_another_server_is_sought() -> None:
    house = House(dispatch=DispatchPolicy(deadlines=Deadlines(total_s=100)))
    asked = begin(house, "Un")
    house.broker.hold = True
    die(asked)
    house.clock.now += 101
    house.inference.sweep()
    assert code_of(asked) == "total_timeout"
    assert house.at_rest()


def test_a_queue_that_refuses_the_broken_answer_leaves_the_reason_that_broke_it() -> None:
    house = House()
    asked = begin(house, "Un")
    house.broker.hold = True
    die(asked)
    house.broker.refuse(RefusalReason.QUEUE_TIMEOUT)
    assert code_of(asked) == "upstream_stream_broken"


def test_a_client_that_reads_slowly_holds_up_the_new_server_too() -> None:
    house = House()
    asked = begin(house, "Un")
    asked.exchange.pause()  # type: ignore[attr-defined]
    die(asked)
    assert asked.call.paused
    asked.exchange.resume()  # type: ignore[attr-defined]
    assert not asked.call.paused


def test_the_energy_of_both_servers_is_in_the_record_and_told_to_the_client() -> None:
    site = SiteFactors(name="s", pue=1.0, grid_g_per_kwh=50, grid_source="t", grid_date="2026")
    case = Case(output_token_nj=10**9, prompt_token_nj=10**6)
    factors = ImpactFactors(
        method="test", measured=False, middle=(case,), low=case, high=case, site=site, grid_ug_per_kwh=50 * 10**6
    )
    house = House()
    house.impacts = Impacts(lambda _: factors, house.clock)
    house.impacts.use(house.registry.catalogue)
    house.inference.context = replace(house.inference.context, impacts=house.impacts)
    asked = house.ask(stream=True, headers={"x-ilaas-impact": "1"})
    asked.call.stream()
    for text in ("Un", " deux"):
        asked.call.event(chunk(text))
    die(asked)
    go_on(asked, " trois", prompt=12)
    prompt = asked.exchange._wishes.parsed.prompt_tokens  # type: ignore[attr-defined]
    # two tokens and the prompt at the first server, one token and prompt with partial answer at the second
    assert asked.record.energy_mj == 3 * 1000 + prompt + 12
    told = events(asked)[-1]["impact"]["energy_wh"]["value"]
    assert told == pytest.approx(asked.record.energy_mj / 3_600_000, rel=1e-2)
    assert asked.record.impact_method == "test"
