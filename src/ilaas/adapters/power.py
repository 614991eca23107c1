"""Reads the power and energy of a machine's GPUs from a Prometheus exporter's page.

Names verified in the exporters' own files:
- NVIDIA dcgm-exporter, etc/default-counters.csv: `DCGM_FI_DEV_POWER_USAGE` (W), `DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION`
  (mJ since the driver was loaded). With MIG it repeats the GPU's value on the line of each instance.
- utkuozdemir/nvidia_gpu_exporter, docs/METRICS.md: `nvidia_smi_power_draw_watts`, and `_instant_watts` where the first
  is missing; `nvidia_smi_energy_joules_total` with its NVML backend.
- mindprince/nvidia_gpu_prometheus_exporter: `nvidia_gpu_power_usage_milliwatts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import httpx

from ilaas.adapters.statistics.fetch import MAX_BYTES, Answer
from ilaas.adapters.statistics.scan import scan
from ilaas.core.impact_measured import PowerReading

_WATTS = (
    ("DCGM_FI_DEV_POWER_USAGE", 1.0),
    ("nvidia_smi_power_draw_watts", 1.0),
    ("nvidia_smi_power_draw_instant_watts", 1.0),
    ("nvidia_gpu_power_usage_milliwatts", 1e-3),
)
_MILLIJOULES = (
    ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", 1.0),
    ("nvidia_smi_energy_joules_total", 1e3),
)
"""Names and the factor to our unit; of several the first that the page has counts."""

_IDENTITIES = ("UUID", "uuid", "gpu", "index", "minor_number", "device")
"""Labels that name a GPU, the surest first."""


@dataclass(frozen=True, slots=True)
class PowerAnswer:
    """A page's reading, or none and in `fault` what went wrong, without any address in it."""

    reading: PowerReading | None = None
    fault: str | None = None


def read_power(text: str, gpus: Collection[str] = ()) -> PowerReading:
    """Power and energy counters by GPU; empty when the page has neither.

    `gpus` keeps only the GPUs so named by any of their labels (UUID or index), for machines shared by several servers.
    """
    return PowerReading(_by_gpu(text, _WATTS, gpus), _by_gpu(text, _MILLIJOULES, gpus))


def parse_power(text: str) -> float | None:
    """Watts over all GPUs of the page, None when it says nothing of power.

    A single page gives watts by its gauge only; the energy counters, which count better, need two pages: see
    `core.impact_measured.EnergyShare`.
    """
    return read_power(text).total_watts


async def fetch_power(
    client: httpx.AsyncClient, url: str, gpus: Collection[str] = (), timeout_s: float = 3.0
) -> PowerAnswer:
    """Get one page and read it. Never raises: a machine without its exporter is served from the estimate."""
    try:
        request = client.build_request("GET", url, headers={"accept-encoding": "identity", "accept": "*/*"})
    except (httpx.InvalidURL, ValueError):
        return PowerAnswer(fault="the URL is not valid")
    answer = await _fetch(client, request, timeout_s)
    if answer.fault is not None:
        return PowerAnswer(fault=answer.fault)
    reading = read_power(answer.text, gpus)
    if not (reading.watts or reading.energy_mj):
        return PowerAnswer(fault="no GPU power on the page")
    return PowerAnswer(reading)


async def _fetch(client: httpx.AsyncClient, request: httpx.Request, timeout_s: float) -> Answer:
    """Exporters have addresses of their own, beside the servers': so not by the relay. `timeout_s` is for the whole."""
    try:
        async with asyncio.timeout(timeout_s):
            response = await client.send(request, stream=True)
            try:
                return await _read(response)
            finally:
                await response.aclose()
    except TimeoutError:
        return Answer(fault="no answer in time")
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
        return Answer(fault=type(error).__name__)


async def _read(response: httpx.Response) -> Answer:
    if not response.is_success:
        return Answer(response.status_code, fault=f"HTTP {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        return Answer(response.status_code, fault="compressed, though not asked to be")
    parts, size = [], 0
    async for part in response.aiter_raw():
        parts.append(part)
        size += len(part)
        if size > MAX_BYTES:
            return Answer(response.status_code, fault="longer than 4 MiB")
    return Answer(response.status_code, b"".join(parts).decode("utf-8", "replace"))


def _by_gpu(text: str, names: tuple[tuple[str, float], ...], gpus: Collection[str]) -> dict[str, float]:
    for name, factor in names:
        values: dict[str, float] = {}
        for sample in scan(text, name):
            labels = sample.labels
            if gpus and not any(labels.get(label) in gpus for label in _IDENTITIES):
                continue
            gpu = next((labels[label] for label in _IDENTITIES if labels.get(label)), "")
            # The same GPU on several lines is the same reading told again (MIG instances, pods that share it).
            values[gpu] = max(values.get(gpu, 0.0), sample.value * factor)
        if values:
            return values
    return {}
