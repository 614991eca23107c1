"""Chat and text completions of the simulated server, as clients see them."""

import asyncio
import json
from typing import Any

import openai
import pytest

from ilaas.sim.params import EngineParams
from tests.unit.sim_server.conftest import chat

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        },
    },
}


def text_of(events: list[str]) -> str:
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])


def sdk(site: Any, **options: Any) -> openai.AsyncOpenAI:
    options = {"api_key": "any", "max_retries": 0, **options}
    return openai.AsyncOpenAI(base_url=f"{site.server.url}/v1", **options)


async def test_a_stream_and_a_whole_answer_say_the_same(site):
    one = await site()
    whole = (await one.post(chat())).json()
    events = await one.events(chat())
    assert whole["choices"][0]["message"]["content"] == text_of(events)
    assert whole["usage"] == {
        "prompt_tokens": 4,
        "total_tokens": 24,
        "completion_tokens": 20,
        "prompt_tokens_details": None,
    }
    assert len(events) == 1 + 20 + 1 + 1  # role, tokens, finish, [DONE]
    assert json.loads(events[0])["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


async def test_usage_comes_in_a_chunk_without_choices_only_when_it_is_asked_for(site):
    one = await site()
    events = await one.events(chat(stream_options={"include_usage": True}))
    last = json.loads(events[-2])
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 20)
    assert not any("usage" in event for event in await one.events(chat()))


async def test_the_openai_sdk_streams_a_chat(site):
    one = await site()
    async with sdk(one) as client:
        stream = await client.chat.completions.create(
            model="sim", messages=[{"role": "user", "content": "Bonjour"}], max_completion_tokens=5, stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert len([piece for piece in pieces if piece]) == 5


async def test_the_openai_sdk_meets_its_own_exceptions(site):
    one = await site(api_key="secret")
    async with sdk(one) as stranger, sdk(one, api_key="secret") as client:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.completions.create(model="other", prompt="x")
        with pytest.raises(openai.BadRequestError, match="maximum context length is 4096"):
            await client.completions.create(model="sim", prompt="x" * 40_000)
        one.server.set_failures("429")
        with pytest.raises(openai.RateLimitError):
            await client.completions.create(model="sim", prompt="x")


@pytest.mark.parametrize("cut", [0, 1, 7, 30, 79, 80])
async def test_a_broken_answer_goes_on_where_it_was_left_even_on_another_server(site, cut):
    one, other = await site(), await site(models=("other-name",))
    undisturbed = text_of(await one.events(chat("Raconte")))
    body = chat("Raconte", model="other-name", continue_final_message=True, add_generation_prompt=False)
    body["messages"] = [*body["messages"], {"role": "assistant", "content": undisturbed[:cut]}]
    body["max_tokens"] = max(1, 20 - cut // 4)
    rest = text_of(await other.events(body))
    joined = undisturbed[:cut] + rest
    assert joined.startswith(undisturbed) if cut < 80 else rest


async def test_a_continued_scripted_answer_ends_where_the_undisturbed_one_does(site):
    one = await site(script={"capital": "Paris est la capitale."})
    assert text_of(await one.events(chat("La capital ?"))) == "Paris est la capitale."
    body = chat("La capital ?", continue_final_message=True, add_generation_prompt=False)
    body["messages"] = [*body["messages"], {"role": "assistant", "content": "Paris est "}]
    assert text_of(await one.events(body)) == "la capitale."


async def test_continuing_needs_the_generation_prompt_turned_off(site):
    one = await site()
    answer = await one.post(chat(continue_final_message=True))
    assert answer.status_code == 400
    assert "add_generation_prompt" in answer.json()["error"]["message"]


async def test_a_stop_string_ends_the_answer_before_itself(site):
    one = await site(script={"count": "one two three four"})
    choice = (await one.post(chat("count", stop=["three"]))).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two ", "stop")


async def test_seeds_and_choices_give_other_answers_and_the_same_again(site):
    one = await site()
    choices = (await one.post(chat(n=3))).json()["choices"]
    texts = [choice["message"]["content"] for choice in choices]
    assert len(set(texts)) == 3
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    seeded = (await one.post(chat(seed=7))).json()["choices"][0]["message"]["content"]
    assert seeded not in texts
    assert (await one.post(chat(seed=7))).json()["choices"][0]["message"]["content"] == seeded


async def test_streamed_choices_are_told_apart_by_their_index(site):
    one = await site()
    whole = (await one.post(chat(n=2))).json()["choices"]
    texts = ["", ""]
    for event in await one.events(chat(n=2)):
        if event != "[DONE]":
            choice = json.loads(event)["choices"][0]
            texts[choice["index"]] += choice["delta"]["content"]
    assert texts == [choice["message"]["content"] for choice in whole]


@pytest.mark.parametrize(
    ("text", "choice"),
    [("Call a tool", "auto"), ("x", "required"), ("x", {"type": "function", "function": {"name": "weather"}})],
)
async def test_a_tool_call_is_streamed_in_pieces(site, text, choice):
    one = await site()
    body = chat(text, tools=[WEATHER], tool_choice=choice)
    whole = (await one.post(body)).json()["choices"][0]
    assert whole["finish_reason"] == "tool_calls"
    assert json.loads(whole["message"]["tool_calls"][0]["function"]["arguments"]) == {"city": "texte", "days": 2}
    deltas = [json.loads(event)["choices"][0] for event in await one.events(body) if event != "[DONE]"]
    calls = [delta["delta"]["tool_calls"][0] for delta in deltas if "tool_calls" in delta["delta"]]
    assert calls[0]["id"] == whole["message"]["tool_calls"][0]["id"]
    assert calls[0]["function"]["name"] == "weather"
    assert all(call["index"] == 0 for call in calls)
    assert len(calls) > 3
    assert json.loads("".join(call["function"]["arguments"] for call in calls)) == {"city": "texte", "days": 2}
    assert deltas[-1]["finish_reason"] == "tool_calls"


async def test_no_tool_is_called_without_need_and_none_when_forbidden(site):
    one = await site()
    for body in (chat("x", tools=[WEATHER]), chat("a tool", tools=[WEATHER], tool_choice="none")):
        assert (await one.post(body)).json()["choices"][0]["message"]["content"]


async def test_structured_outputs_are_valid(site):
    one = await site()
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "parts": {"type": "array", "items": {"$ref": "#/$defs/part"}}},
        "$defs": {"part": {"type": "object", "properties": {"ok": {"type": "boolean"}, "size": {"type": "number"}}}},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    events = await one.events(chat(response_format=wanted))
    assert json.loads(text_of(events)) == {"kind": "a", "parts": [{"ok": True, "size": 1}]}
    plain = (await one.post(chat(response_format={"type": "json_object"}))).json()
    assert isinstance(json.loads(plain["choices"][0]["message"]["content"]), dict)


async def test_reasoning_comes_before_the_answer_in_a_field_of_its_own(site):
    one = await site(reasoning_tokens=6)
    deltas = [json.loads(event)["choices"][0]["delta"] for event in await one.events(chat()) if event != "[DONE]"]
    assert ["reasoning_content" in delta for delta in deltas[1:]] == [True] * 6 + [False] * 15
    assert len((await one.post(chat())).json()["choices"][0]["message"]["reasoning_content"]) > 6


async def test_an_image_costs_tokens(site):
    one = await site()
    parts = [
        {"type": "text", "text": "Bonjour"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    answer = (await one.post(chat() | {"messages": [{"role": "user", "content": parts}]})).json()
    assert answer["usage"]["prompt_tokens"] > 576


async def test_logprobs_are_given_for_each_token(site):
    one = await site()
    whole = (await one.post(chat(logprobs=True))).json()["choices"][0]
    assert len(whole["logprobs"]["content"]) == 20
    chunks = [json.loads(event) for event in (await one.events(chat(logprobs=True)))[1:-2]]
    assert [chunk["choices"][0]["logprobs"]["content"][0]["token"] for chunk in chunks] == [
        entry["token"] for entry in whole["logprobs"]["content"]
    ]


async def test_a_text_completion_streams_text(site):
    one = await site()
    body = {"model": "sim", "prompt": "Il était", "max_tokens": 6, "logprobs": 1}
    whole = (await one.post(body, "/v1/completions")).json()
    chunks = [json.loads(event) for event in (await one.events(body, "/v1/completions"))[:-1]]
    assert whole["object"] == chunks[0]["object"] == "text_completion"
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    assert len(whole["choices"][0]["logprobs"]["tokens"]) == 6


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": "2"}, "n"),
        ({"stop": [1]}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"routing-mode": "any"}, "routing-mode"),
    ],
)
async def test_a_wrong_field_is_named(site, change, param):
    one = await site()
    answer = await one.post(chat() | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert answer.json()["error"]["code"] == 400


async def test_unknown_fields_pass_and_bad_json_does_not(site):
    one = await site()
    assert (await one.post(chat(something="else"))).status_code == 200
    assert (await one.http.post("/v1/chat/completions", content=b'{"model":')).status_code == 400
    assert (await one.http.post("/v1/chat/completions", content=b"[]")).status_code == 400


async def test_errors_have_the_flat_shape_of_older_servers_when_told(site):
    one = await site(old_errors=True)
    answer = (await one.post(chat(model="other"))).json()
    assert (answer["object"], answer["code"], answer["type"]) == ("error", 404, "NotFoundError")


async def test_bench_mode_gives_exactly_the_tokens_asked_for(site):
    one = await site(gap_s=0.001)
    assert len(await one.events(chat(max_tokens=300))) == 303
    assert (await one.post(chat(max_tokens=50))).json()["usage"]["completion_tokens"] == 50
    zero = await site(gap_s=0.0)
    assert len(await zero.events(chat(max_tokens=300))) == 303


async def test_a_second_request_with_the_same_beginning_finds_it_in_the_cache(site):
    one = await site()
    long = "Bonjour à tous. " * 100
    await one.post(chat(long + "Un"))
    second = (await one.post(chat(long + "Deux"))).json()
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] >= 300


async def test_requests_beyond_the_slots_wait_in_the_engine_and_are_all_answered(site):
    one = await site(engine=EngineParams(slots=2, prefill_tps=1e6, decode_base_s=0.002))
    answers = [asyncio.ensure_future(one.post(chat(f"Question {number}"))) for number in range(8)]
    await one.server.journal.until(lambda: one.server.serving.waiting > 0 and one.server.serving.running == 2)
    assert all(answer.status_code == 200 for answer in await asyncio.gather(*answers))
    assert (one.server.serving.running, one.server.serving.waiting) == (0, 0)
