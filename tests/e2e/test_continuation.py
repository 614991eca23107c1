"""A simulated server that dies in mid-answer beside a good one: the joined answer is that of an undisturbed run, token
by token, with the same usage, one record and nothing left under way."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ilaas.core.catalogue import Deadlines, DispatchPolicy
from ilaas.core.quota import Limits
from ilaas.core.values import Continuation, RoutingMode
from ilaas.sim.params import EngineParams
from ilaas.sim.server import SimServerOptions
from tests.support.federation import Federation, Site, bearer, chat, federation, suppressed
from tests.support.patience import PATIENCE_S

QUICK = EngineParams(slots=8, prefill_tps=1e6, decode_base_s=0.001)
HASTY = Deadlines(queue_s=5, connect_s=0.5, first_token_s=2, answer_s=2, idle_s=0.3, total_s=20)
NEVER_DOWN = DispatchPolicy(failures_before_down=1_000_000, deadlines=HASTY)
TOKENS = 12
SCRIPT = {"Il était": " une fois une reine, et un roi.\n\nIls vivaient au bord de la mer."}


def options(**fields: Any) -> SimServerOptions:
    return SimServerOptions(models=("served",), engine=QUICK, record=True, markers=True, script=SCRIPT, **fields)


def pair(**fields: Any) -> tuple[Site, Site]:
    """uni-a's own server, which is tried first and is to die, and one of uni-b."""
    return Site("bad", options(**fields)), Site("good", options(**fields), owner="uni-b")


@dataclass
class Seen:
    """What a client got."""

    texts: list[str]
    reasoning: str
    ids: set[str]
    models: set[str]
    roles: int
    finish: str | None
    usage: dict[str, int] | None
    error: str | None

    @property
    def text(self) -> str:
        return "".join(self.texts)


async def ask(fed: Federation, key: str, body: dict[str, Any], path: str = "/v1/chat/completions") -> Seen:
    answer = await fed.http.post(path, json=body, headers=bearer(key))
    assert answer.status_code == 200, answer.text
    events = [event for event in answer.text.split("\n\n") if event and not event.startswith(":")]
    assert events.pop() == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    seen = Seen([], "", set(), set(), 0, None, None, None)
    for chunk in chunks:
        if "error" in chunk:
            seen.error = chunk["error"]["code"]
            continue
        seen.ids.add(chunk["id"])
        seen.models.add(chunk["model"])
        seen.usage = chunk.get("usage") or seen.usage
        for choice in chunk["choices"]:
            delta = choice.get("delta", choice)
            seen.roles += "role" in delta
            seen.reasoning += delta.get("reasoning_content") or ""
            if text := delta.get("content") or delta.get("text"):
                seen.texts.append(text)
            seen.finish = choice["finish_reason"] or seen.finish
    return seen


def asked(**fields: Any) -> dict[str, Any]:
    return chat(**{"stream": True, "max_tokens": TOKENS, "stream_options": {"include_usage": True}, **fields})


async def private_key(fed: Federation) -> str:
    # a reservation that was not given back would refuse the next request of the key
    return await fed.new_key(limits=Limits(simultaneous_requests=1), routing_mode=RoutingMode.PRIVATE_FIRST)


DEATHS = ["die_after", "close_after", "hang_after", "error_event"]


@pytest.mark.parametrize("death", DEATHS)
async def test_the_joined_answer_is_that_of_an_undisturbed_run_wherever_the_server_died(
    tmp_path: Path, death: str
) -> None:
    async with federation(tmp_path, *pair(), policy=NEVER_DOWN) as fed:
        key = await private_key(fed)
        whole = await ask(fed, key, asked())
        assert len(whole.texts) == TOKENS
        for cut in range(1, TOKENS) if death != "hang_after" else (1, 4, 9):
            fed.sites["bad"].set_failures(f"{death}={cut},slow_tokens=0.002")
            seen = await ask(fed, key, asked())
            assert (seen.error, seen.text) == (None, whole.text), cut
            assert (seen.usage, seen.finish, seen.roles) == (whole.usage, whole.finish, 1), cut
            assert (len(seen.ids), seen.models) == (1, {"mistral"})
            await fed.at_rest()
        count = 1 + (TOKENS - 1 if death != "hang_after" else 3)
        records = await fed.records(count)
        metrics = (await fed.http.get(f"{fed.ops}/metrics")).text
    assert len(records) == count
    for record in records[1:]:
        assert (record["outcome"], record["attempts"], record["server"]) == ("completed", 2, "good")
        assert not record["estimated"]
    assert {(record["prompt_tokens"], record["completion_tokens"]) for record in records} == {
        (records[0]["prompt_tokens"], TOKENS)
    }
    told = re.findall(r"^ilaas_continued_streams_total{.*} ([\d.]+)$", metrics, re.MULTILINE)
    # an error that comes with the first token is a retry: the client had nothing yet
    assert count - 2 <= sum(map(float, told)) <= count - 1


async def test_a_natural_end_a_stop_sequence_and_a_seed_are_those_of_the_undisturbed_run(tmp_path: Path) -> None:
    async with federation(tmp_path, *pair(median_tokens=20), policy=NEVER_DOWN) as fed:
        key = await private_key(fed)
        for fields in ({"max_tokens": None, "seed": 5}, {"max_tokens": 200, "seed": 6}):
            fed.sites["bad"].set_failures("")
            whole = await ask(fed, key, asked(**fields))
            last = whole.text.split()[-1]
            for more in ({}, {"stop": [last]}):
                fed.sites["bad"].set_failures("")
                whole = await ask(fed, key, asked(**fields, **more))
                fed.sites["bad"].set_failures("close_after=3,slow_tokens=0.002")
                seen = await ask(fed, key, asked(**fields, **more))
                assert (seen.text, seen.finish, seen.usage) == (whole.text, "stop", whole.usage)
        await fed.at_rest()


async def test_an_answer_that_broke_while_reasoning_begins_again_and_one_in_its_text_goes_on(tmp_path: Path) -> None:
    async with federation(tmp_path, *pair(reasoning_tokens=5), policy=NEVER_DOWN) as fed:
        key = await private_key(fed)
        whole = await ask(fed, key, asked())
        assert whole.reasoning
        for cut in (2, 4, 5, 6, 9):
            fed.sites["bad"].set_failures(f"close_after={cut},slow_tokens=0.002")
            seen = await ask(fed, key, asked())
            assert (seen.reasoning, seen.text, seen.usage) == (whole.reasoning, whole.text, whole.usage), cut
        await fed.at_rest()


async def test_a_text_completion_is_continued_too(tmp_path: Path) -> None:
    async with federation(tmp_path, *pair(), policy=NEVER_DOWN) as fed:
        key = await private_key(fed)
        body = {"model": "mistral", "prompt": "Il était", "stream": True, "stream_options": {"include_usage": True}}
        whole = await ask(fed, key, body, "/v1/completions")
        assert whole.text == SCRIPT["Il était"]
        for cut in range(1, len(whole.texts)):
            fed.sites["bad"].set_failures(f"close_after={cut},slow_tokens=0.002")
            seen = await ask(fed, key, body, "/v1/completions")
            assert (seen.text, seen.finish, seen.usage) == (whole.text, whole.finish, whole.usage), cut
            assert len(seen.ids) == 1
        await fed.at_rest()


async def test_a_server_that_is_taken_away_with_many_answers_loses_none(tmp_path: Path) -> None:
    bad, good = pair()
    async with federation(tmp_path, bad, good, policy=NEVER_DOWN) as fed:
        key = await fed.new_key(routing_mode=RoutingMode.PRIVATE_FIRST)
        bodies = [asked(text=f"Question {number}", max_tokens=40) for number in range(8)]
        whole = await asyncio.gather(*(ask(fed, key, body) for body in bodies))
        await fed.at_rest()
        bad.sim.set_failures("slow_tokens=0.01")
        running = [asyncio.create_task(ask(fed, key, body)) for body in bodies]
        async with asyncio.timeout(PATIENCE_S):
            while sum(note.tokens >= 5 for note in bad.sim.journal.notes if note.result == "running") < 8:
                await asyncio.sleep(0.005)
        await bad.sim.stop()
        seen = await asyncio.gather(*running)
        assert [each.text for each in seen] == [each.text for each in whole]
        assert [each.usage for each in seen] == [each.usage for each in whole]
        await fed.at_rest()
        records = await fed.records(16)
        assert sorted(record["attempts"] for record in records) == [1] * 8 + [2] * 8
        await bad.sim.start()


async def test_a_client_that_leaves_while_another_server_is_sought_leaves_nothing_behind(tmp_path: Path) -> None:
    bad, good = pair()
    async with federation(tmp_path, bad, good, policy=NEVER_DOWN) as fed:
        key = await private_key(fed)
        bad.sim.set_failures("close_after=3,slow_tokens=0.002")
        good.sim.set_failures("hang_before_head")
        with suppressed():
            async with fed.http.stream("POST", "/v1/chat/completions", json=asked(), headers=bearer(key)) as answer:
                async with asyncio.timeout(PATIENCE_S):
                    while not any(note.result == "running" for note in good.sim.journal.notes):
                        await asyncio.sleep(0.01)
                assert answer.status_code == 200
        await fed.at_rest()
        (record,) = await fed.records(1)
        assert (record["outcome"], record["completion_tokens"], record["attempts"]) == ("client_left_decode", 3, 2)


async def test_without_another_server_or_after_too_many_the_error_is_told_in_the_stream(tmp_path: Path) -> None:
    sites = [Site(f"bad-{number}", options()) for number in range(4)]
    async with federation(tmp_path, *sites, policy=NEVER_DOWN) as fed:
        for site in sites:
            site.sim.set_failures("close_after=2,slow_tokens=0.002")
        seen = await ask(fed, fed.key, asked())
        assert seen.error == "upstream_stream_broken"
        assert len(seen.texts) >= 6
        await fed.at_rest()
        (record,) = await fed.records(1)
    assert (record["outcome"], record["attempts"]) == ("stream_broken", 3)
    assert record["completion_tokens"] == len(seen.texts)


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"a": {}}}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"tools": [TOOL], "tool_choice": "required"},
        {"text": "Use the tool", "tools": [TOOL]},
    ],
)
async def test_what_can_not_be_continued_ends_with_a_clear_error(tmp_path: Path, fields: dict[str, Any]) -> None:
    bad, good = pair()
    async with federation(tmp_path, bad, good, policy=NEVER_DOWN) as fed:
        key = await private_key(fed)
        bad.sim.set_failures("close_after=2,slow_tokens=0.002")
        seen = await ask(fed, key, asked(**fields))
        assert seen.error == "upstream_stream_broken"
        assert not good.sim.journal.notes
        await fed.at_rest()


@pytest.mark.parametrize(("mode", "spot"), [(Continuation.OFF, True), (Continuation.SPOT, False)])
async def test_a_model_may_keep_its_answers_from_being_continued(
    tmp_path: Path, mode: Continuation, spot: bool
) -> None:
    bad, good = pair()
    bad.spec["spot"] = spot
    policy = DispatchPolicy(failures_before_down=1_000_000, deadlines=HASTY, continuation=mode)
    async with federation(tmp_path, bad, good, policy=policy) as fed:
        key = await private_key(fed)
        bad.sim.set_failures("close_after=2,slow_tokens=0.002")
        assert (await ask(fed, key, asked())).error == "upstream_stream_broken"
        await fed.at_rest()


async def test_the_openai_client_sees_one_stream(tmp_path: Path) -> None:
    async with federation(tmp_path, *pair(), policy=NEVER_DOWN) as fed:
        key = await private_key(fed)
        client = fed.openai(key)
        texts = []
        for failures in ("", "die_after=5,slow_tokens=0.002"):
            fed.sites["bad"].set_failures(failures)
            stream = await client.chat.completions.create(
                model="mistral", messages=[{"role": "user", "content": "Bonjour"}], max_tokens=TOKENS, stream=True
            )
            texts.append("".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]))
        assert texts[0] == texts[1]
        await client.close()
        await fed.at_rest()
