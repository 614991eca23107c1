"""The openai SDK against the gateway, as researchers use it: chat, streams, tools, errors by class, breaking off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from ilaas.sim.server import SimServerOptions
from tests.support.federation import Federation, Site, chat, federation
from tests.support.patience import PATIENCE_S

MESSAGES = chat()["messages"]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@pytest.fixture
async def fed(tmp_path: Path) -> AsyncIterator[Federation]:
    options = SimServerOptions(models=("org/mistral-served",), record=True, markers=True, api_key="server-secret")
    async with federation(tmp_path, Site("one", options)) as running:
        yield running


async def test_models_are_listed_and_found_by_name(fed: Federation) -> None:
    client = fed.openai()
    listed = [model.id async for model in client.models.list()]
    assert listed == ["mistral"]
    model = await client.models.retrieve("mistral")
    assert model.object == "model"
    assert model.model_dump()["state"] == "available"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("no/such-model")


async def test_a_chat_answers_in_the_models_public_name_with_its_usage(fed: Federation) -> None:
    answer = await fed.openai().chat.completions.create(model="mistral", messages=MESSAGES, max_tokens=12)
    assert answer.model == "mistral"
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 12
    record = (await fed.records(1))[0]
    assert (record["prompt_tokens"], record["completion_tokens"]) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    assert (record["organisation"], record["outcome"], record["server"]) == ("uni-a", "completed", "one")


@pytest.mark.parametrize("asks", [True, False])
async def test_a_stream_has_a_usage_chunk_only_when_it_was_asked_for(fed: Federation, asks: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if asks else {}
    stream = await fed.openai().chat.completions.create(
        model="mistral", messages=MESSAGES, max_tokens=20, stream=True, **options
    )
    chunks = [chunk async for chunk in stream]
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == (1 if asks else 0)
    assert {chunk.model for chunk in chunks} == {"mistral"}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    record = (await fed.records(1))[0]
    assert 0 < record["completion_tokens"] <= 20
    assert not record["estimated"]
    assert record["ttft_ms"] >= 0


async def test_tools_pass_streamed_and_whole(fed: Federation) -> None:
    client = fed.openai()
    answer = await client.chat.completions.create(
        model="mistral", messages=MESSAGES, tools=TOOLS, tool_choice="required"
    )
    calls = answer.choices[0].message.tool_calls
    assert calls
    assert calls[0].function.name == "get_weather"
    json.loads(calls[0].function.arguments)
    stream = await client.chat.completions.create(
        model="mistral", messages=MESSAGES, tools=TOOLS, tool_choice="required", stream=True
    )
    pieces, finish = "", None
    async for chunk in stream:
        if chunk.choices:
            for call in chunk.choices[0].delta.tool_calls or []:
                pieces += (call.function.arguments if call.function else None) or ""
            finish = chunk.choices[0].finish_reason or finish
    json.loads(pieces)
    assert finish == "tool_calls"


async def test_a_structured_output_comes_as_its_schema_says(fed: Federation) -> None:
    answer = await fed.openai().chat.completions.create(
        model="mistral", messages=MESSAGES, response_format={"type": "json_object"}
    )
    json.loads(answer.choices[0].message.content or "")


async def test_embeddings_and_completions(fed: Federation) -> None:
    client = fed.openai()
    vectors = await client.embeddings.create(model="mistral", input=["un", "deux"])
    assert len(vectors.data) == 2
    assert vectors.model == "mistral"
    text = await client.completions.create(model="mistral", prompt="Il était", max_tokens=5)
    assert text.choices[0].text
    endpoints = {record["endpoint"] for record in await fed.records(2)}
    assert endpoints == {"embeddings", "completions"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"query": "a", "documents": ["b", "c"]}),
        ("/v1/score", {"text_1": "a", "text_2": ["b", "c"]}),
        ("/tokenize", {"prompt": "Bonjour à tous"}),
    ],
)
async def test_the_other_paths_answer_too(fed: Federation, path: str, body: dict[str, object]) -> None:
    answer = await fed.http.post(
        path, json={"model": "mistral", **body}, headers={"authorization": f"Bearer {fed.key}"}
    )
    assert answer.status_code == 200, answer.text
    assert "org/mistral-served" not in answer.text


async def test_errors_come_as_the_sdks_own_classes(fed: Federation) -> None:
    client = fed.openai()
    ask = client.chat.completions.create
    with pytest.raises(openai.AuthenticationError) as wrong:
        await fed.openai("ilaas-wrong").chat.completions.create(model="mistral", messages=MESSAGES)
    assert wrong.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as missing:
        await ask(model="mistrall", messages=MESSAGES)
    assert "'mistral'" in missing.value.message
    with pytest.raises(openai.UnprocessableEntityError) as range_error:
        await ask(model="mistral", messages=MESSAGES, temperature=9)
    assert range_error.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as long:
        await ask(model="mistral", messages=MESSAGES, max_tokens=9_000_000)
    assert "context" in long.value.message
    with pytest.raises(openai.BadRequestError):
        await ask(model="mistral", messages=[])
    batch_only = fed.openai(await fed.new_key(classes=frozenset({"batch"})))
    with pytest.raises(openai.PermissionDeniedError):
        await batch_only.chat.completions.create(
            model="mistral", messages=MESSAGES, extra_headers={"x-ilaas-class": "interactive"}
        )


async def test_a_rate_limit_says_when_to_come_back(fed: Federation) -> None:
    from ilaas.core.quota import Limits

    client = fed.openai(await fed.new_key(limits=Limits(requests_per_minute=1)))
    first = await client.chat.completions.with_raw_response.create(model="mistral", messages=MESSAGES, max_tokens=2)
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(model="mistral", messages=MESSAGES)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60


async def test_a_failed_server_is_a_502_and_an_in_stream_error_is_raised_by_the_sdk(fed: Federation) -> None:
    client = fed.openai()
    fed.sites["one"].set_failures("500")
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(model="mistral", messages=MESSAGES)
    assert failed.value.status_code in (502, 503)
    fed.sites["one"].set_failures("die_after=3")
    async with asyncio.timeout(PATIENCE_S):
        while (await fed.state())["models"][0]["servers"][0]["state"] != "up":
            await asyncio.sleep(0.05)
    with pytest.raises(openai.APIError) as broken:
        async for _ in await client.chat.completions.create(
            model="mistral", messages=MESSAGES, max_tokens=50, stream=True
        ):
            pass
    assert "broke off" in str(broken.value)


@pytest.mark.parametrize("stream", [True, False])
async def test_breaking_off_frees_the_slot_and_stops_the_server(tmp_path: Path, stream: bool) -> None:
    options = SimServerOptions(models=("m",), failures="slow_tokens=0.05", record=True)
    async with federation(tmp_path, Site("one", options)) as fed:
        client = fed.openai()
        asking = asyncio.create_task(
            client.chat.completions.create(model="mistral", messages=MESSAGES, max_tokens=5000, stream=stream)
        )
        engine = fed.sites["one"].serving
        async with asyncio.timeout(PATIENCE_S):
            while not engine.running:
                await asyncio.sleep(0.01)
        if stream:
            answer = await asking
            async for _ in answer:  # type: ignore[union-attr]
                break
            await answer.close()  # type: ignore[union-attr]
        else:
            asking.cancel()
            await client.close()
        await fed.at_rest(within_s=2)
        record = (await fed.records(1))[0]
        assert record["outcome"] in ("client_left_decode", "client_left_prefill")
        assert record["estimated"]


async def test_neither_the_key_nor_the_organisation_reaches_the_server_and_its_token_never_comes_back(
    fed: Federation,
) -> None:
    answer = await fed.openai().chat.completions.with_raw_response.create(
        model="mistral",
        messages=MESSAGES,
        extra_headers={"x-openwebui-user-email": "a@b.fr", "x-request-id": "trace-me"},
        extra_body={"routing-mode": "any", "priority": 0},
    )
    seen = fed.sites["one"].recorded[-1]
    text = repr(seen)
    assert fed.key not in text
    assert "uni-a" not in text
    assert "a@b.fr" not in text
    assert "routing-mode" not in text
    assert "trace-me" in text
    assert answer.headers["x-request-id"] == "trace-me"
    assert answer.headers["x-ilaas-server-site"] == "site-one"
    assert "server-secret" not in repr(answer.headers) + answer.text
