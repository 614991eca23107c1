"""Every way a server can fail, streamed and whole, alone and beside a good one: a named error or an answer, one record,
and nothing left under way."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from ilaas.core.catalogue import Deadlines, DispatchPolicy
from ilaas.core.quota import Limits
from ilaas.core.values import RoutingMode
from ilaas.sim.failures import Fault
from ilaas.sim.params import EngineParams
from ilaas.sim.server import SimServerOptions
from tests.support.federation import Federation, Site, bearer, chat, federation

QUICK = EngineParams(slots=8, prefill_tps=1e6, decode_base_s=0.001)
HASTY = Deadlines(queue_s=5, connect_s=0.5, first_token_s=0.3, answer_s=0.3, idle_s=0.3, total_s=5)
NEVER_DOWN = DispatchPolicy(failures_before_down=1_000_000, deadlines=HASTY)
TOKENS = 12

Wanted = tuple[int, str | None, str]
"""Status, code of the error (in the body, or in an event of the stream), outcome of the record."""

ANSWER: Wanted = (200, None, "completed")
NO_CONNECTION: Wanted = (502, "upstream_failed", "connect_failed")
FAULTY: Wanted = (502, "upstream_failed", "upstream_error")
BUSY: Wanted = (429, "too_busy", "upstream_busy")
LATE: Wanted = (504, "answer_timeout", "answer_timeout")
SILENT: Wanted = (504, "first_token_timeout", "first_token_timeout")
BROKEN: Wanted = (502, "upstream_stream_broken", "stream_broken")
BROKEN_IN_STREAM: Wanted = (200, "upstream_stream_broken", "stream_broken")

CASES: dict[str, tuple[Wanted, Wanted]] = {
    # streamed, whole; tokens come slowly where some of them must have reached the client before the fault
    "refuse": (NO_CONNECTION, NO_CONNECTION),
    "connect_refuse=0": (NO_CONNECTION, NO_CONNECTION),
    "500": (FAULTY, FAULTY),
    "503": (FAULTY, FAULTY),
    "429": (BUSY, BUSY),
    "slow_first_token=9": (SILENT, LATE),
    "die_after=5,slow_tokens=0.005": (BROKEN_IN_STREAM, BROKEN),
    "close_after=5,slow_tokens=0.005": (BROKEN_IN_STREAM, BROKEN),
    "hang_before_head": (SILENT, LATE),
    "hang_in_prefill": (SILENT, LATE),
    "hang_after=5,slow_tokens=0.005": ((200, "idle_timeout", "idle_timeout"), LATE),
    "error_event=5,slow_tokens=0.005": ((200, "500", "upstream_error"), FAULTY),
    "wrong_json": (ANSWER, FAULTY),  # the events of a stream are passed on unread
    "html": (FAULTY, FAULTY),
    "no_done": (ANSWER, ANSWER),
    "no_usage": (ANSWER, ANSWER),
    "huge_event=1000000": (ANSWER, ANSWER),
    "huge_event=6000000": (ANSWER, ANSWER),
    "split": (ANSWER, ANSWER),
    "gzip": (ANSWER, ANSWER),
    "split,gzip": (ANSWER, ANSWER),
    "unhealthy": (ANSWER, ANSWER),
    "slow_tokens=0.002": (ANSWER, ANSWER),
}


def test_no_fault_of_the_simulator_is_left_out() -> None:
    assert {part.partition("=")[0] for case in CASES for part in case.split(",")} == {fault.value for fault in Fault}


@dataclass
class Seen:
    """What a client got."""

    status: int
    code: str | None
    content: str
    text: str
    headers: dict[str, str]


async def ask(fed: Federation, key: str, path: str = "/v1/chat/completions", **fields: Any) -> Seen:
    """One request, read to its end; fails unless the end is a proper one."""
    body = chat(max_tokens=TOKENS, **fields) if path.endswith("chat/completions") else {"model": "mistral", **fields}
    answer = await fed.http.post(path, json=body, headers=bearer(key))
    headers = dict(answer.headers)
    assert "Traceback" not in answer.text
    if not headers["content-type"].startswith("text/event-stream"):
        tree = answer.json()
        if answer.status_code == 200:
            assert "error" not in tree
            choices = tree.get("choices") or [{}]
            content = choices[0].get("message", {}).get("content") or ""
            return Seen(200, None, content, answer.text, headers)
        return Seen(answer.status_code, check_error(tree), "", answer.text, headers)
    events = [event.removeprefix("data: ") for event in answer.text.replace("\r\n", "\n").split("\n\n") if event]
    assert events.pop() == "[DONE]", "the stream has no end"
    code, content = None, ""
    for event in events:
        if event.startswith(":"):
            continue
        assert code is None, "something came after the error"
        try:
            chunk = json.loads(event)
        except json.JSONDecodeError:
            assert '"broken"' in event
            continue
        if "error" in chunk:
            code = check_error(chunk)
        elif chunk["choices"]:
            assert chunk["model"] == "mistral"
            content += chunk["choices"][0]["delta"].get("content") or ""
    return Seen(answer.status_code, code, content, answer.text, headers)


def check_error(tree: dict[str, Any]) -> str:
    """In OpenAI's shape; returns its code."""
    assert tree.keys() == {"error"}
    error = tree["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"]
    return str(error["code"])


Played = list[tuple[str, Seen, dict[str, Any]]]
"""Each case with what the client got and the one record of it."""


async def play(fed: Federation, **key_fields: Any) -> tuple[Played, Played]:
    """Each fault once, streamed and whole, on a gateway that goes on running; after each nothing may be under way."""
    # a reservation that was not given back would refuse the next request of the key
    key = await fed.new_key(limits=Limits(simultaneous_requests=2), **key_fields)
    seen: tuple[list[Seen], list[Seen]] = ([], [])
    sim = fed.sites["bad"]
    for case in CASES:
        sim.set_failures(case)
        for answers, answer in zip(seen, await asyncio.gather(*(ask(fed, key, stream=s) for s in BOTH)), strict=True):
            answers.append(answer)
        await fed.at_rest()
        sim.set_failures("")
        await sim.listening()
    records = sorted(await fed.records(2 * len(CASES)), key=lambda record: record["id"])
    assert len(records) == 2 * len(CASES)
    streamed, whole = (
        list(zip(CASES, answers, [each for each in records if each["streamed"] == stream], strict=True))
        for stream, answers in zip(BOTH, seen, strict=True)
    )
    return streamed, whole


BOTH = (True, False)


async def test_alone_a_faulty_server_gives_a_named_error(tmp_path: Path) -> None:
    site = Site("bad", SimServerOptions(models=("served",), engine=QUICK))
    with capture_logs() as logs:
        async with federation(tmp_path, site, policy=NEVER_DOWN) as fed:
            both = await play(fed)
    for index, played in enumerate(both):
        got = [(case, (each.status, each.code, record["outcome"])) for case, each, record in played]
        assert got == [(case, wanted[index]) for case, wanted in CASES.items()]
        for case, each, record in played:
            assert record["status"] == each.status, case
            assert ("retry-after" in each.headers) == (each.status in (429, 502, 504) and each.code != BROKEN[1]), case
            assert bool(record["estimated"]) == (case == "no_usage" or record["outcome"] != "completed"), case
    assert [line for line in logs if line["log_level"] in ("error", "critical")] == []


async def test_beside_a_good_server_no_answer_is_lost(tmp_path: Path) -> None:
    bad = Site("bad", SimServerOptions(models=("served",), engine=QUICK))
    good = Site("good", SimServerOptions(models=("served",), engine=QUICK), owner="uni-b")
    async with federation(tmp_path, bad, good, policy=NEVER_DOWN) as fed:
        # uni-a's own server is tried first
        both = await play(fed, routing_mode=RoutingMode.PRIVATE_FIRST)
        plain = await ask(fed, fed.key, stream=False)
    for index, played in enumerate(both):
        wanted = []
        for case, either in CASES.items():
            alone = either[index]
            retried = alone != ANSWER
            wanted.append((case, ANSWER if retried else alone, (2, "good") if retried else (1, "bad")))
        got = [
            (case, (each.status, each.code, record["outcome"]), (record["attempts"], record["server"]))
            for case, each, record in played
        ]
        assert got == wanted
        for case, each, record in played:
            if each.code is None:
                assert each.content == plain.content, case
            begun = CASES[case][index][0] == 200  # its head names the server that began
            assert each.headers["x-ilaas-server-site"] == f"site-{'bad' if begun else record['server']}"


OTHERS: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Il était", "max_tokens": TOKENS},
    "/v1/embeddings": {"input": "Bonjour"},
    "/v1/rerank": {"query": "a", "documents": ["b", "c"]},
    "/v1/score": {"text_1": "a", "text_2": ["b"]},
    "/tokenize": {"prompt": "Bonjour"},
}


async def test_every_other_route_names_its_errors_too(tmp_path: Path) -> None:
    async with federation(
        tmp_path, Site("bad", SimServerOptions(models=("served",), engine=QUICK)), policy=NEVER_DOWN
    ) as fed:
        key = await fed.new_key(limits=Limits(simultaneous_requests=1))
        sim = fed.sites["bad"]
        wanted = {"refuse": NO_CONNECTION, "503": FAULTY, "html": FAULTY, "gzip": ANSWER, "hang_before_head": LATE}
        seen = []
        for path, fields in OTHERS.items():
            for case in wanted:
                sim.set_failures(case)
                seen.append((path, case, await ask(fed, key, path, **fields)))
                await fed.at_rest()
        records = sorted(await fed.records(len(seen)), key=lambda record: record["id"])
    got = [
        (path, case, (each.status, each.code, record["outcome"]))
        for (path, case, each), record in zip(seen, records, strict=True)
    ]
    unhurt = {("/tokenize", "hang_before_head")}  # the simulator counts tokens without its engine
    assert got == [
        (path, case, ANSWER if (path, case) in unhurt else want) for path in OTHERS for case, want in wanted.items()
    ]


async def test_a_server_that_goes_on_failing_is_left_alone_and_comes_back_by_itself(tmp_path: Path) -> None:
    policy = DispatchPolicy(failures_before_down=2, down_s=0.3, successes_before_up=1, deadlines=HASTY)
    async with federation(
        tmp_path, Site("bad", SimServerOptions(models=("served",), engine=QUICK)), policy=policy
    ) as fed:
        fed.sites["bad"].set_failures("500")
        codes = [(await ask(fed, fed.key)).code for _ in range(3)]
        assert codes == ["upstream_failed", "upstream_failed", "no_server_available"]
        refused = await ask(fed, fed.key)
        assert (refused.status, int(refused.headers["retry-after"]) >= 1) == (503, True)
        fed.sites["bad"].set_failures("")
        await fed.until_state(lambda state: bool(state["models"][0]["servers"][0]["state"] == "up"))
        assert (await ask(fed, fed.key)).status == 200
        await fed.at_rest()
