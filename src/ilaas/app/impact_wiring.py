"""Puts the impact of requests together: the library's estimate, and the readings of machines' power."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx
import structlog

from ilaas.adapters.impact_ecologits import Deployment, Parameters, estimated_factors, find_parameters
from ilaas.adapters.power import fetch_power
from ilaas.core.impact import ImpactFactors
from ilaas.core.impact_measured import SharingRules
from ilaas.services.impacts import Deployed, Impacts, Machine

_USUAL_INTERVAL_S = 5.0
_LEAST_TIMEOUT_S = 0.2
_MOST_TIMEOUT_S = 3.0

log = structlog.get_logger(__name__)


def estimate(deployed: Deployed) -> ImpactFactors | None:
    """By ecologits, with the parameters that the configuration states, else those that the library knows."""
    total = deployed.total_parameters_b
    if total is not None:
        parameters = Parameters(active=deployed.active_parameters_b or total, total=total)
    else:
        known = find_parameters(deployed.names)
        if known is None:
            return None
        parameters = known
    deployment = Deployment(quantisation=deployed.quantisation, gpu_memory_gb=deployed.gpu_memory_gb)
    return estimated_factors(parameters, deployed.site, deployment, deployed.category)


def sharing_rules(interval_s: float) -> SharingRules:
    """The usual rules, whose times are in proportion to the interval between two readings."""
    usual, scale = SharingRules(), interval_s / _USUAL_INTERVAL_S
    return SharingRules(
        window_s=usual.window_s * scale,
        stale_s=usual.stale_s * scale,
        longest_gap_s=usual.longest_gap_s * scale,
        least_measured_s=usual.least_measured_s * scale,
    )


class PowerReader:
    """Reads the power of every machine that has an exporter. Failures cost nobody anything: estimates are used."""

    def __init__(self, impacts: Impacts, interval_s: float) -> None:
        """`interval_s` is how often `read` is called: a page that takes longer is not waited for."""
        self._impacts = impacts
        self._timeout_s = min(max(interval_s, _LEAST_TIMEOUT_S), _MOST_TIMEOUT_S)
        self._client: httpx.AsyncClient | None = None
        self._faults: dict[Machine, str | None] = {}

    async def read(self) -> None:
        """All pages at once, then the measured factors anew."""
        machines = self._impacts.machines()
        if not machines:
            return
        if self._client is None:
            # No proxy and no netrc: exporters are asked at the addresses of the configuration and nowhere else.
            self._client = httpx.AsyncClient(timeout=None, trust_env=False)  # noqa: S113  # see fetch
        await asyncio.gather(*(self._read(self._client, machine) for machine in machines))
        self._faults = {machine: self._faults.get(machine) for machine in machines}
        self._impacts.refresh()

    async def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            await self._client.aclose()

    async def _read(self, client: httpx.AsyncClient, machine: Machine) -> None:
        answer = await fetch_power(client, machine.url, machine.gpus, self._timeout_s)
        if answer.reading is not None:
            self._impacts.read(machine, answer.reading)
        # One event when something begins to fail or to work again; never at each reading.
        before, self._faults[machine] = self._faults.get(machine), answer.fault
        if before is None and answer.fault is not None:
            log.warning("power_reading_failed", host=urlsplit(machine.url).netloc, fault=answer.fault)
        elif before is not None and answer.fault is None:
            log.info("power_reading_recovered", host=urlsplit(machine.url).netloc)
