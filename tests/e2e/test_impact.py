"""What requests used and cost, over real sockets: told on request, kept in the records, measured, and paid for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ilaas.app.wiring import open_store
from ilaas.core.billing import Rates, Tariff
from ilaas.core.impact import SiteFactors
from ilaas.core.quota import Limits
from ilaas.core.tenancy import Organisation
from ilaas.services.settlement import Settlement
from ilaas.sim.server import SimServerOptions
from tests.support.federation import Federation, Site, bearer, chat, federation
from tests.support.patience import PATIENCE_S

SACLAY = SiteFactors(
    name="site-one", pue=1.2, pue_low=1.1, pue_high=1.4, grid_g_per_kwh=40.0, grid_source="own", grid_date="2026"
)
KNOWN = {"total_parameters_b": (24.0, 24.0), "active_parameters_b": (24.0, 24.0)}
ASKS = {"x-ilaas-impact": "1"}


class Exporter:
    """A DCGM exporter of two GPUs, one of which belongs to somebody else."""

    def __init__(self) -> None:
        self.port = 0
        self._server: asyncio.Server | None = None
        self._begun_s = time.monotonic()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/metrics"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            body = b"".join(
                b'DCGM_FI_DEV_POWER_USAGE{gpu="%d"} %d\n' % (gpu, power_w) for gpu, power_w in enumerate((300, 5000))
            )
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        writer.close()


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    running = Exporter()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def fed(tmp_path: Path) -> AsyncIterator[Federation]:
    async with federation(tmp_path, Site("one"), model=KNOWN, sites=(SACLAY,)) as running:
        yield running


async def ask(fed: Federation, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    answer = await fed.http.post(
        "/v1/chat/completions", json=chat(**fields), headers={**bearer(fed.key), **(headers or {})}
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_whole_answer_tells_its_impact_when_asked_and_the_record_has_the_same(fed: Federation) -> None:
    assert "impact" not in await ask(fed)
    told = await ask(fed, ASKS, max_tokens=200)
    impact = told["impact"]
    assert impact["method"].startswith("ecologits/")
    assert impact["measured"] is False
    energy, co2e = impact["energy_wh"], impact["usage_gco2e"]
    assert 0 < energy["min"] < energy["value"] < energy["max"]
    assert co2e["value"] == pytest.approx(energy["value"] * 0.04, rel=0.1)
    assert impact["embodied_gco2e"]["value"] > 0
    records = await fed.records(2)
    assert {record["impact_method"] for record in records} == {impact["method"]}
    record = next(each for each in records if each["completion_tokens"] == told["usage"]["completion_tokens"])
    assert energy["min"] <= record["energy_mj"] / 3_600_000 <= energy["max"]
    assert record["energy_low_mj"] < record["energy_mj"] < record["energy_high_mj"]
    assert record["co2e_ug"] == pytest.approx(record["energy_mj"] * 40e6 / 3.6e9, abs=1)
    assert record["embodied_co2e_ug"] > 0
    assert not record["energy_measured"]


@pytest.mark.parametrize("wants_usage", [False, True])
async def test_a_stream_tells_its_impact_in_one_chunk_before_its_end(fed: Federation, wants_usage: bool) -> None:
    body = chat(stream=True, max_tokens=30, **({"stream_options": {"include_usage": True}} if wants_usage else {}))
    headers = {**bearer(fed.key), **ASKS}
    async with fed.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = [line.removeprefix("data: ") async for line in answer.aiter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["impact"]["energy_wh"]["value"] > 0
    assert chunks[-1]["id"] == chunks[0]["id"]
    assert sum("impact" in chunk for chunk in chunks) == 1
    assert sum(bool(chunk.get("usage")) for chunk in chunks) == wants_usage


async def test_the_sdk_reads_a_stream_that_tells_its_impact(fed: Federation) -> None:
    stream = await fed.openai().chat.completions.create(
        model="mistral", messages=chat()["messages"], stream=True, extra_headers=ASKS
    )
    impacts = [chunk.model_extra["impact"] async for chunk in stream if "impact" in (chunk.model_extra or {})]
    assert len(impacts) == 1


async def test_the_list_of_models_compares_their_energy(fed: Federation) -> None:
    (model,) = (await fed.http.get("/v1/models", headers=bearer(fed.key))).json()["data"]
    impact = model["impact"]
    assert impact["energy_wh_per_1k_tokens"]["min"] < impact["energy_wh_per_1k_tokens"]["max"]
    assert impact["gco2e_per_1k_tokens"]["value"] > 0
    assert impact["method"].startswith("ecologits/")


async def test_measured_power_is_preferred_and_said_until_the_exporter_goes_away(
    tmp_path: Path, exporter: Exporter
) -> None:
    site = Site("one", SimServerOptions(gap_s=0.0), spec={"power_url": exporter.url, "power_gpus": ("0",)})
    # The rules of sharing out grow and shrink with the interval: measured after 0.4 s, stale after 1.2 s.
    async with federation(tmp_path, site, model=KNOWN, sites=(SACLAY,), power_interval_s=0.1) as fed:
        measured = await until_measured(fed, wanted=True)
        assert measured["method"].startswith("measured/1 + ecologits/")
        assert measured["embodied_gco2e"] is not None  # the estimate goes on giving it
        await exporter.stop()
        estimated = await until_measured(fed, wanted=False)
        assert estimated["method"].startswith("ecologits/")
        await exporter.start()
        await until_measured(fed, wanted=True)
        kept = await fed.records(3)
        assert {bool(record["energy_measured"]) for record in kept} == {False, True}
        for record in kept:
            assert record["impact_method"].startswith("measured/1") is bool(record["energy_measured"])


async def until_measured(fed: Federation, *, wanted: bool) -> dict[str, Any]:
    """Ask until the answer's energy is measured, or is not."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            impact: dict[str, Any] = (await ask(fed, ASKS, max_tokens=400))["impact"]
            if impact["measured"] is wanted:
                return impact
            await asyncio.sleep(0.05)


async def test_a_budget_in_euros_is_used_up_by_prices_and_then_refuses(tmp_path: Path) -> None:
    poor = Organisation(name="uni-a", limits=Limits(budget_micro_eur_per_month=2_000_000))
    async with federation(tmp_path, Site("one", SimServerOptions(gap_s=0.0), "uni-b"), organisations=(poor,)) as fed:
        await set_tariff(fed, Rates(per_request=900_000))
        await until_priced(fed)
        answers = [await fed.http.post("/v1/chat/completions", json=chat(), headers=bearer(fed.key)) for _ in range(3)]
        refused = next(answer for answer in answers if answer.status_code == 429)
        error = refused.json()["error"]
        assert error["code"] == "insufficient_quota"
        assert "2 euros per month of organisation 'uni-a'" in error["message"]
        assert int(refused.headers["retry-after"]) > 0
        paid = [record["price_micro_eur"] for record in await fed.records(2)]
        assert paid == [900_000, 900_000]
        await fed.at_rest()


async def test_own_servers_are_free_and_so_pass_when_the_budget_is_used_up(tmp_path: Path) -> None:
    poor = Organisation(name="uni-a", limits=Limits(budget_micro_eur_per_month=0))
    async with federation(tmp_path, Site("one", SimServerOptions(gap_s=0.0), "uni-a"), organisations=(poor,)) as fed:
        await set_tariff(fed, Rates(per_request=900_000))
        headers = {**bearer(fed.key), "x-ilaas-routing-mode": "private-only"}
        async with asyncio.timeout(PATIENCE_S):
            while (
                await fed.http.post("/v1/chat/completions", json=chat(), headers=bearer(fed.key))
            ).status_code != 429:
                await asyncio.sleep(0.05)
        assert (await fed.http.post("/v1/chat/completions", json=chat(), headers=headers)).status_code == 200
        assert not any(record["price_micro_eur"] for record in await fed.records(1))


async def set_tariff(fed: Federation, rates: Rates) -> None:
    store = open_store(fed.settings)
    await store.open()
    try:
        today = datetime.now(UTC).date()
        await Settlement(store, time.time).set_tariff(Tariff(model="mistral", valid_from=today, rates=rates))
    finally:
        await store.close()


async def until_priced(fed: Federation) -> None:
    """Wait until a key made after the tariff works: gateways read the store in order."""
    await fed.new_key("uni-c")
