"""The simulated server notices that its client left, says so, and frees the slot."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from ilaas.sim.params import EngineParams
from tests.unit.sim_server.conftest import Site, chat

ONE_SLOT = EngineParams(slots=1, prefill_tps=1e6, decode_base_s=0.005)
SLOW_PREFILL = EngineParams(slots=1, prefill_tps=1.0, max_batched_tokens=512)


async def connect(one: Site, body: dict[str, Any], path: str = "/v1/chat/completions") -> asyncio.StreamWriter:
    """Send a request and read nothing."""
    return (await open_request(one, body, path))[1]


async def open_request(
    one: Site, body: dict[str, Any], path: str = "/v1/chat/completions"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", one.server.port)
    content = json.dumps(body).encode()
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(content)) + content)
    return reader, writer


@pytest.mark.parametrize("stream", [True, False])
async def test_in_decode(site, stream):
    one = await site(engine=ONE_SLOT)
    journal, serving = one.server.journal, one.server.serving
    with capture_logs() as logs:
        writer = await connect(one, chat(stream=stream, max_tokens=4_000, ignore_eos=True))
        await journal.until(lambda: serving.running == 1)
        while serving.generation_tokens_total == 0:
            await asyncio.sleep(0.001)
            serving.driver.advance()
        writer.close()
        await journal.until(lambda: journal.notes[0].result == "client_left")
    assert journal.notes[0].phase == "decode"
    assert (serving.running, serving.engine.kv_cache_usage) == (0, 0.0)
    (event,) = [line for line in logs if line["event"] == "client_left"]
    assert event["phase"] == "decode"
    assert event["after_s"] >= 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_in_prefill(site, path):
    one = await site(engine=SLOW_PREFILL)
    journal = one.server.journal
    writer = await connect(one, chat(stream=True) | {"input": "Bonjour"}, path)
    await journal.until(lambda: one.server.serving.running == 1)
    writer.close()
    await journal.until(lambda: journal.notes[0].result == "client_left")
    assert journal.notes[0].phase == "prefill"
    assert one.server.serving.running == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_in_the_queue(site, stream):
    one = await site(engine=SLOW_PREFILL)
    journal, serving = one.server.journal, one.server.serving
    first = await connect(one, chat())
    await journal.until(lambda: serving.running == 1)
    second = await connect(one, chat(stream=stream))
    await journal.until(lambda: len(journal.notes) == 2)
    second.close()
    await journal.until(lambda: journal.notes[1].result == "client_left")
    assert (journal.notes[1].phase, serving.waiting, serving.running) == ("queue", 0, 1)
    first.close()


@pytest.mark.parametrize(
    ("failures", "phase"),
    [("hang_before_head", "queue"), ("hang_in_prefill", "prefill"), ("slow_first_token=99", "prefill")],
)
async def test_while_it_hangs(site, failures, phase):
    one = await site(failures=failures)
    journal = one.server.journal
    reader, writer = await open_request(one, chat(stream=True))
    await journal.until(lambda: len(journal.notes) == 1)
    if phase == "prefill":
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    else:
        writer.write_eof()
        assert await reader.read() == b""
    writer.close()
    await journal.until(lambda: journal.notes[0].result == "client_left")
    assert journal.notes[0].phase == phase


async def test_after_it_fell_silent_in_mid_stream(site):
    one = await site(failures="hang_after=3")
    journal = one.server.journal
    writer = await connect(one, chat(stream=True))
    await journal.until(lambda: bool(journal.notes) and journal.notes[0].tokens == 3)
    assert one.server.serving.running == 0
    writer.close()
    await journal.until(lambda: journal.notes[0].result == "client_left")
    assert (journal.notes[0].phase, journal.notes[0].tokens) == ("decode", 3)


async def test_in_bench_mode(site):
    one = await site(gap_s=0.01)
    journal = one.server.journal
    writer = await connect(one, chat(stream=True, max_tokens=4_000))
    await journal.until(lambda: bool(journal.notes) and journal.notes[0].tokens > 0)
    writer.close()
    await journal.until(lambda: journal.notes[0].result == "client_left")
    assert (journal.notes[0].phase, one.server.serving.running) == ("decode", 0)


async def test_it_is_counted_in_the_metrics_and_told_in_the_state(site):
    one = await site(engine=SLOW_PREFILL)
    journal = one.server.journal
    writer = await connect(one, chat())
    await journal.until(lambda: one.server.serving.running == 1)
    writer.close()
    await journal.until(lambda: journal.clients_left["prefill"] == 1)
    metrics = (await one.http.get("/metrics")).text
    assert 'sim:clients_left_total{phase="prefill"} 1' in metrics
    assert 'sim:clients_left_total{phase="queue"} 0' in metrics
    state = await one.state()
    assert state["clients_left"] == {"queue": 0, "prefill": 1, "decode": 0}
    assert state["requests"][0]["result"] == "client_left"
    assert state["requests"][0]["after_s"] is not None


async def test_a_client_that_reads_slowly_holds_the_answer_back_and_gets_it_whole(site):
    one = await site(gap_s=0.0, failures="huge_event=8000000")
    reader, writer = await open_request(one, chat(stream=True, max_tokens=3_000))
    await one.server.journal.until(lambda: bool(one.server.journal.notes) and one.server.journal.notes[0].tokens > 0)
    got = bytearray()
    while not got.endswith(b"0\r\n\r\n"):
        got += await reader.read(1 << 20)
    assert got.count(b'"delta":{"content":"') == 3_000 + 2
    writer.close()
