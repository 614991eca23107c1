"""Failures of the simulated server, injected and described."""

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest

from ilaas.sim.failures import FailureDraw, Fault, SimFailures
from tests.unit.sim_server.conftest import Site, chat


async def raw_stream(one: Site, body: dict[str, Any]) -> tuple[bytes, Exception | None]:
    """All bytes of an answer, and how the connection broke."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.server.port)
    content = json.dumps(body).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(content) + content
    )
    got, broke = b"", None
    try:
        while data := await reader.read(65536):
            got += data
    except ConnectionError as error:
        broke = error
    writer.close()
    return got, broke


def contents(raw: bytes) -> int:
    return raw.count(b'"delta":{"content":"') - raw.count(b'"delta":{"content":""}')


def test_a_specification_reads_back_as_written():
    text = "500=0.05,503=x2,die_after=20:0.1,slow_first_token=3:1,hang_after=5:x1,gzip=1"
    assert str(SimFailures.parse(text)) == text
    assert SimFailures.parse("") == SimFailures()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("explode", "unknown failure 'explode'; known are refuse"),
        ("die_after", "die_after needs a number of tokens"),
        ("die_after=soon", "tokens of failure die_after: 'soon' is not a number"),
        ("500=2", "probability of failure 500 must be between 0 and 1"),
        ("500=x", "'x' is not a count"),
        ("slow_tokens=-1", "must be 0 or more"),
        ("slow_tokens=nan", "must be 0 or more"),
        ("500=nan", "must be 0 or more"),
    ],
)
def test_a_wrong_specification_says_what_is_wrong(text, words):
    with pytest.raises(ValueError, match=words):
        SimFailures.parse(text)


def test_a_count_strikes_so_many_requests_and_a_probability_about_its_share():
    draw = FailureDraw(SimFailures.parse("500=x2,gzip=0.3"), seed=1)
    drawn = [draw.for_request() for _ in range(1000)]
    assert [Fault.STATUS_500 in faults for faults in drawn] == [True, True] + [False] * 998
    assert 250 < sum(Fault.GZIP in faults for faults in drawn) < 350


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_status_is_answered_so_often_and_then_no_more(site, status):
    one = await site(failures=f"{status}=x2")
    statuses = [(await one.post(chat())).status_code for _ in range(3)]
    assert statuses == [status, status, 200]


async def test_refuse_closes_the_connection_without_an_answer(site):
    one = await site(failures="refuse=x1")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await one.http.get("/health")
    assert (await one.http.get("/health")).status_code == 200


async def test_a_server_that_refuses_everybody_is_told_to_stop_it(site):
    one = await site(failures="refuse")
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        await one.post(chat())
    assert (await one.http.post("/sim/failures", content="")).status_code == 200
    assert (await one.post(chat())).status_code == 200


async def test_connect_refuse_stops_listening_until_the_failures_are_exchanged(site):
    one = await site()
    assert (await one.http.get("/health")).status_code == 200
    one.server.set_failures("connect_refuse=0")
    with pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient() as other:
            await other.get(f"{one.server.url}/health")
    one.server.set_failures("")
    await one.server.listening()
    assert (await one.http.get("/health")).status_code == 200


async def test_an_unhealthy_server_still_answers(site):
    one = await site(failures="unhealthy")
    assert (await one.http.get("/health")).status_code == 503
    assert (await one.post(chat())).status_code == 200


async def test_a_death_in_mid_stream_resets_the_connection_after_so_many_tokens(site):
    one = await site(failures="die_after=7")
    raw, broke = await raw_stream(one, chat(stream=True))
    assert contents(raw) == 7
    assert isinstance(broke, ConnectionResetError)
    assert one.server.serving.running == 0


async def test_a_close_in_mid_stream_is_clean_and_too_early(site):
    one = await site(failures="close_after=7")
    raw, broke = await raw_stream(one, chat(stream=True))
    assert (contents(raw), broke) == (7, None)
    assert not raw.endswith(b"0\r\n\r\n")


async def test_a_whole_answer_dies_in_its_middle(site):
    one = await site(failures="close_after=0")
    with pytest.raises(httpx.RemoteProtocolError):
        await one.post(chat())


async def test_an_error_inside_the_stream_ends_it(site):
    one = await site(failures="error_event=4")
    events = await one.events(chat())
    assert len(events) == 1 + 4 + 2
    assert json.loads(events[-2])["error"]["code"] == 500
    assert (await one.post(chat())).status_code == 500


async def test_a_slow_first_token_and_slow_tokens_change_no_word(site):
    one = await site()
    expected = [json.loads(event)["choices"] for event in (await one.events(chat()))[:-1]]
    one.server.set_failures("slow_first_token=0.02,slow_tokens=0.001")
    assert [json.loads(event)["choices"] for event in (await one.events(chat()))[:-1]] == expected
    assert (await one.post(chat())).status_code == 200


async def test_wrong_json_and_html_are_no_answers(site):
    one = await site(failures="wrong_json")
    with pytest.raises(json.JSONDecodeError):
        (await one.post(chat())).json()
    with pytest.raises(json.JSONDecodeError):
        [json.loads(event) for event in await one.events(chat()) if event != "[DONE]"]
    one.server.set_failures("html")
    answer = await one.post(chat())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html")


async def test_no_done_puts_the_usage_on_the_last_content_chunk(site):
    one = await site(failures="no_done")
    events = await one.events(chat(stream_options={"include_usage": True}))
    last = json.loads(events[-1])
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["usage"]["completion_tokens"] == 20


async def test_no_usage_leaves_it_out_everywhere(site):
    one = await site(failures="no_usage")
    events = await one.events(chat(stream_options={"include_usage": True}))
    assert events[-1] == "[DONE]"
    assert not any("usage" in event for event in events)
    assert "usage" not in (await one.post(chat())).json()


async def test_a_huge_event_is_as_large_as_told(site):
    one = await site(failures="huge_event=100000")
    assert max(len(event) for event in await one.events(chat())) > 100_000
    assert len((await one.post(chat())).content) > 100_000


@pytest.mark.parametrize("failures", ["split", "gzip", "split,gzip"])
async def test_split_and_compressed_answers_mean_the_same(site, failures):
    one = await site()
    expected = [json.loads(event)["choices"] for event in (await one.events(chat()))[:-1]]
    whole = (await one.post(chat())).json()["choices"]
    one.server.set_failures(failures)
    assert [json.loads(event)["choices"] for event in (await one.events(chat()))[:-1]] == expected
    assert (await one.post(chat())).json()["choices"] == whole


async def test_gzip_really_compresses(site):
    one = await site(failures="gzip")
    async with one.http.stream("POST", "/v1/chat/completions", json=chat()) as answer:
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(raw))["object"] == "chat.completion"


async def test_failures_are_exchanged_over_http_and_a_wrong_one_is_refused(site):
    one = await site()
    told = await one.http.post("/sim/failures", content="500=x1")
    assert told.json() == {"failures": "500=x1"}
    assert (await one.post(chat())).status_code == 500
    assert (await one.http.post("/sim/failures", json={"failures": "html"})).status_code == 200
    wrong = await one.http.post("/sim/failures", content="explode")
    assert (wrong.status_code, "explode" in wrong.json()["error"]["message"]) == (400, True)
    assert (await one.state())["failures"] == "html=1"


async def test_a_request_chooses_its_failure_only_where_that_is_allowed(site):
    allowed, forbidden = await site(markers=True), await site()
    marked = {"x-sim-failures": "503"}
    assert (await allowed.post(chat(), headers=marked)).status_code == 503
    assert (await allowed.post(chat())).status_code == 200
    assert (await allowed.post(chat(), headers={"x-sim-failures": "what"})).status_code == 400
    assert (await forbidden.post(chat(), headers=marked)).status_code == 200
