"""What an operator and a gateway read of the simulated server, and how it runs as a process."""

import asyncio
import signal
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ilaas.sim.server import SimServerOptions
from tests.unit.sim_server.conftest import chat


async def test_models_health_and_version(site):
    one = await site(models=("a", "b/c"))
    models = (await one.http.get("/v1/models")).json()["data"]
    assert [(model["id"], model["max_model_len"]) for model in models] == [("a", 4_096), ("b/c", 4_096)]
    assert (await one.http.get("/health")).status_code == 200
    assert (await one.http.get("/version")).json()["version"]
    assert (await one.http.get("/nowhere")).status_code == 404
    assert (await one.http.get("/v1/chat/completions")).status_code == 405


async def test_the_key_is_asked_for_under_v1_only(site):
    one = await site(api_key="secret")
    refused = await one.post(chat())
    assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})
    assert (await one.post(chat(), headers={"authorization": "Bearer secret"})).status_code == 200
    assert (await one.http.get("/metrics")).status_code == 200


async def test_metrics_have_the_names_of_vllm(site):
    one = await site(old_metrics=True)
    await one.post(chat())
    await one.events(chat())
    families = {family.name: family for family in text_string_to_metric_families((await one.http.get("/metrics")).text)}
    values = {name: family.samples[0].value for name, family in families.items() if family.type in {"gauge", "counter"}}
    assert values["vllm:num_requests_running"] == values["vllm:num_requests_waiting"] == 0
    assert values["vllm:kv_cache_usage_perc"] == values["vllm:gpu_cache_usage_perc"] == 0
    assert values["vllm:generation_tokens"] == 40
    assert values["vllm:prompt_tokens"] == values["vllm:prefix_cache_queries"] == 8
    for name in ("vllm:time_to_first_token_seconds", "vllm:e2e_request_latency_seconds"):
        counts = [sample.value for sample in families[name].samples if sample.name.endswith("_count")]
        assert counts == [2]
        assert all(sample.labels["model_name"] == "sim" for sample in families[name].samples)


async def test_recorded_requests_show_what_a_gateway_sent(site):
    one = await site(record=True)
    await one.post(chat(), headers={"x-request-id": "abc"})
    last = (await one.state())["last_request"]
    assert last["headers"]["x-request-id"] == "abc"
    assert '"Bonjour"' in last["body"]
    assert one.server.recorded[-1].path == "/v1/chat/completions"


async def test_nothing_is_recorded_unless_told(site):
    one = await site()
    await one.post(chat("Secret"))
    assert "Secret" not in (await one.http.get("/sim/state")).text


async def test_connections_are_kept_and_pipelined_requests_answered_in_order(site):
    one = await site()
    reader, writer = await asyncio.open_connection("127.0.0.1", one.server.port)
    writer.write(
        b"GET /version HTTP/1.1\r\nhost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    raw = await reader.read()
    assert raw.index(b"200 OK") < raw.index(b"404 Not Found")
    writer.close()


async def test_garbage_is_answered_by_400(site):
    one = await site()
    reader, writer = await asyncio.open_connection("127.0.0.1", one.server.port)
    writer.write(b"nonsense\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()


@pytest.mark.parametrize("wrong", [{"models": ()}, {"engine": "abacus"}, {"gap_s": -1}, {"failures": "explode"}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError):
        SimServerOptions(**wrong)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_process_says_its_address_and_ends_cleanly(number):
    program = "from ilaas.sim.server import *; serve_forever(SimServerOptions(models=('m',), site='Lyon'))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("Simulated server of m at site Lyon: http://127.0.0.1:")
    process.send_signal(number)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
