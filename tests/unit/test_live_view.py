"""The terminal view of a running federation."""

from __future__ import annotations

import asyncio
import io

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from ilaas.cli.live import RateMeter, Rates, http_fetch, plain_line, render, run_live
from ilaas.core.values import Outcome


def server(**more: object) -> dict[str, object]:
    return {
        "id": "reims-h200",
        "site": "reims",
        "owner": "univ-a",
        "engine": "vllm",
        "state": "up",
        "in_flight": 12,
        "limit": 32,
        "waiting": 0,
        "kv_cache_usage": 0.83,
        "ttft_s": 0.21,
        "served": 1234,
        "failed": 3,
    } | more


def model(*servers: dict[str, object], **more: object) -> dict[str, object]:
    return {
        "model": "mistral",
        "strategy": "least-busy",
        "queued": {"interactive": 4, "batch": 210},
        "queued_by_organisation": {},
        "running": 12,
        "predicted_wait_s": 3.4,
        "state": "busy",
        "servers": list(servers),
    } | more


def counted(outcome: str, count: int, request_class: str = "interactive") -> dict[str, object]:
    return {"model": "mistral", "class": request_class, "outcome": outcome, "count": count}


def state(*models: dict[str, object], **more: object) -> dict[str, object]:
    return {
        "version": "1.2",
        "uptime_s": 754.0,
        "active": 16,
        "models": list(models),
        "requests": [],
        "tokens": [],
    } | more


def drawn(given_state: dict[str, object], width: int = 100, rates: Rates | None = None) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(render(given_state, width, rates))
    return console.file.getvalue()


def test_a_model_is_shown_with_its_queue_and_each_server_with_its_load():
    text = drawn(state(model(server())), rates=Rates(12.34, 4321.0))
    head, _, title, row = text.splitlines()[:4]
    assert "16 active" in head
    assert "12.3 requests/s" in head
    assert "4 321 tokens/s" in head
    assert title.startswith("mistral busy  queued owner 0 interactive 4 batch 210  wait 3.4 s")
    assert row.split() == [
        "reims-h200",
        "reims",
        "univ-a",
        "vllm",
        "up",
        *["━━━━━━", "12/32", "0", "83%", "210", "ms", "1234", "3"],
    ]


def test_what_a_server_does_not_tell_is_a_dash_and_no_limit_is_infinite():
    text = drawn(state(model(server(limit=None, waiting=None, kv_cache_usage=None, ttft_s=None))))
    assert "12/∞ - - - 1234 3" in " ".join(text.split())


def test_a_model_without_servers_says_so():
    assert "no server" in drawn(state(model(state="unavailable")))


def test_columns_stand_in_the_same_place_for_every_model():
    text = drawn(state(model(server()), model(server(id="x", site="a-much-longer-site", in_flight=0), model="other")))
    rows = [line for line in text.splitlines() if "━" in line and "/32" in line]
    assert len({row.index("━") for row in rows}) == 1


def test_a_narrow_terminal_gets_no_line_that_is_too_long():
    text = drawn(state(model(server(id="a-server-with-quite-a-long-name"))), width=80)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "12/32" in text


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_counted_in_one_column(outcome):
    text = drawn(state(requests=[counted(outcome, 777)]))
    row = next(line for line in text.splitlines() if line.startswith("interactive"))
    column = row.split()[1:].index("777")
    good, left, refused = (
        outcome is Outcome.COMPLETED,
        outcome.startswith("client_left"),
        outcome.startswith(("refused", "rejected"))
        or outcome in ("queue_timeout", "upstream_rejected", "upstream_busy"),
    )
    assert column == (0 if good else 1 if left else 2 if refused else 3)


def test_refusals_before_the_queue_are_shown_when_there_are_any():
    assert "before the queue" not in drawn(state())
    assert "before the queue" in drawn(state(rejected={"invalid_api_key": 4}))


@pytest.mark.parametrize("height", range(12, 60, 7))
def test_the_view_fits_the_screen_and_its_end_is_never_cut(height):
    calm = [
        model(*(server(id=f"calm-{at}", failed=0) for at in range(6)), model=f"m{n}", state="available", queued={})
        for n in range(6)
    ]
    ill = model(
        *(server(id=f"calm-{at}", failed=0) for at in range(9)), server(id="ill", state="down"), model="busy-one"
    )
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(render(state(*calm, ill), 100, None, height))
    lines = console.file.getvalue().splitlines()
    assert len(lines) <= height
    assert lines[-1].startswith("batch")
    assert any("busy-one" in line for line in lines), "what needs a look comes first"
    assert any("ill" in line and "down" in line for line in lines) or height < 14
    assert any("not shown" in line for line in lines) == (height < 62)


def test_on_a_screen_that_is_high_enough_nothing_is_left_out_and_the_order_stays():
    models = [model(server(), model="a", state="available", queued={}), model(server(), model="b")]
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(render(state(*models), 100, None, 30))
    assert console.file.getvalue() == drawn(state(*models))


NUMBERS = st.none() | st.integers(0, 10**7)


@given(
    in_flight=st.integers(0, 10**5),
    limit=NUMBERS,
    waiting=NUMBERS,
    ttft=st.none() | st.floats(0, 1e6),
    width=st.integers(60, 200),
)
def test_any_numbers_can_be_drawn_in_any_width(in_flight, limit, waiting, ttft, width):
    text = drawn(state(model(server(in_flight=in_flight, limit=limit, waiting=waiting, ttft_s=ttft))), width)
    assert max(len(line) for line in text.splitlines()) <= width


def test_rates_come_from_two_states():
    before = state(requests=[counted("completed", 10)], tokens=[{"completion": 100}])
    after = state(requests=[counted("completed", 30), counted("refused_busy", 10)], tokens=[{"completion": 500}])
    assert Rates.between(before, after, 4.0) == Rates(7.5, 100.0)


def test_a_gateway_that_began_anew_has_no_negative_rate():
    assert Rates.between(state(requests=[counted("completed", 10)]), state(), 1.0) == Rates()


def test_the_meter_looks_back_over_a_few_seconds():
    meter = RateMeter()
    assert meter.add(state(requests=[counted("completed", 0)]), 0.0) == Rates()
    assert meter.add(state(requests=[counted("completed", 4)]), 2.0).requests_per_s == 2.0
    assert meter.add(state(requests=[counted("completed", 4)]), 6.0).requests_per_s == 0.0


def test_the_plain_line_sums_the_federation_up():
    line = plain_line(state(model(server(), server(state="down"))), Rates(1.0, 50.0))
    assert line == "active 16  queued 214  running 12  servers up 1/2  finished 0  1.0 requests/s  50 tokens/s"


class Script:
    """A gateway that gives one answer after the other, and ends the view when there are no more."""

    def __init__(self, *answers: dict[str, object] | Exception) -> None:
        self.answers = list(answers)
        self.pauses: list[float] = []

    async def fetch(self) -> dict[str, object]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if not self.answers:
            raise asyncio.CancelledError


async def show(script: Script, console: Console, **more: object) -> str:
    with pytest.raises(asyncio.CancelledError):
        await run_live(script.fetch, console=console, sleep=script.sleep, **more)
    return console.file.getvalue()


async def test_in_a_terminal_the_view_is_drawn_twice_a_second_below_what_stays():
    script = Script(state(model(server())), state(model(server(in_flight=31))))
    console = Console(width=100, height=30, file=io.StringIO(), force_terminal=True, color_system=None)
    text = await show(script, console, top=Text("http://127.0.0.1:8000"))
    assert script.pauses == [0.5, 0.5]
    assert "http://127.0.0.1:8000" in text
    assert "31/32" in text


async def test_a_gateway_that_does_not_answer_is_waited_for():
    script = Script(httpx.ConnectError("refused"), state(model(server())))
    console = Console(width=100, height=30, file=io.StringIO(), force_terminal=True, color_system=None)
    text = await show(script, console)
    assert "does not answer" in text
    assert "12/32" in text


async def test_where_there_is_no_terminal_a_plain_line_comes_every_five_seconds():
    script = Script(state(model(server())), httpx.ReadTimeout("late"), state(model(server())))
    text = await show(script, Console(width=40, file=io.StringIO()))
    assert script.pauses == [5.0, 5.0, 5.0]
    first, second, third = text.splitlines()
    assert first.startswith("active 16  queued 214")
    assert second == "the gateway does not answer"
    assert third.startswith("active 16")


async def test_the_state_is_fetched_from_the_ops_listener():
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200 if request.url.path == "/state" else 404, json={"active": 3})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        assert await http_fetch(client, "http://127.0.0.1:9")() == {"active": 3}
