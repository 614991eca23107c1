"""Exporters' pages."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from ilaas.adapters.power import fetch_power, parse_power, read_power
from ilaas.core.impact_measured import PowerReading

PAGES = Path(__file__).parent / "pages"
SMI_GPU = "df6e7a7c-7314-46f8-abc4-b88b36dcf3aa"


def page(name: str) -> str:
    return (PAGES / name).read_text()


def test_a_dcgm_page_gives_power_and_energy_of_each_gpu():
    assert read_power(page("dcgm.txt")) == PowerReading(
        {"GPU-aaaa": 412.5, "GPU-bbbb": 87.25}, {"GPU-aaaa": 15152422938.0, "GPU-bbbb": 9001000.0}
    )
    assert parse_power(page("dcgm.txt")) == 499.75


def test_instances_of_one_gpu_are_not_counted_several_times():
    assert parse_power(page("dcgm_mig.txt")) == 200.0


def test_an_nvidia_smi_page_is_read_in_its_units():
    assert read_power(page("nvidia_smi.txt")) == PowerReading({SMI_GPU: 31.07}, {SMI_GPU: 1_234_500.0})


def test_a_page_in_milliwatts_is_read_as_watts():
    text = 'nvidia_gpu_power_usage_milliwatts{minor_number="0",name="T4",uuid="GPU-1"} 13240\n'
    assert parse_power(text) == pytest.approx(13.24)


def test_only_the_servers_own_gpus_count_on_a_shared_machine():
    assert read_power(page("dcgm.txt"), ["1"]).total_watts == 87.25
    assert read_power(page("dcgm.txt"), ["GPU-aaaa"]).total_watts == 412.5
    assert read_power(page("dcgm.txt"), ["7"]) == PowerReading()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<html>",
        "vllm:num_requests_running 3\n",
        'DCGM_FI_DEV_POWER_USAGE{gpu="0"} NaN\n',
        "DCGM_FI_DEV_POWER_USAGE",
    ],
)
def test_a_page_without_power_says_none_not_zero(text):
    assert parse_power(text) is None


def served(text: str) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(text.encode()))


def client(answer: httpx.Response | Exception) -> httpx.AsyncClient:
    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return httpx.AsyncClient(transport=httpx.MockTransport(handle))


async def test_a_page_is_got_and_read():
    async with client(served(page("dcgm.txt"))) as http:
        answer = await fetch_power(http, "http://n1:9400/metrics", ["0"])
    assert (answer.fault, answer.reading.total_watts) == (None, 412.5)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (httpx.Response(500), "HTTP 500"),
        (served("up 1\n"), "no GPU power on the page"),
        (httpx.ConnectError("refused at 10.0.0.1"), "ConnectError"),
    ],
)
async def test_an_exporter_that_fails_is_a_fault_not_an_exception(given, fault):
    async with client(given) as http:
        answer = await fetch_power(http, "http://n1:9400/metrics")
    assert (answer.reading, answer.fault) == (None, fault)


async def test_an_invalid_address_is_a_fault():
    async with client(served("")) as http:
        assert (await fetch_power(http, "http://n1:port/metrics")).fault == "the URL is not valid"
