"""What dies, and what the clients see of it. Real RabbitMQ, PostgreSQL, gateways, dispatchers and servers.

After each: every request has ended once with an answer or an error that says why, every gauge is 0, and every usage
record is in the store exactly once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence

import pytest

from ilaas.app.local import PrivatePostgres
from ilaas.app.settings import Role
from tests.support.fault_proxy import FaultProxy
from tests.support.platform import Load, Platform, beside

_names = itertools.count(1)
BUSY = 12
"""Clients: more than the two servers have slots, so that tickets wait."""


async def begun(platform: Platform, *, clients: int = BUSY, tokens: int = 20) -> tuple[Load, str]:
    """Load on both gateways, under a key whose project no other test has."""
    project = f"p{next(_names)}"
    key = await platform.create_key(project)
    urls = [part.url for part in platform.cluster.gateways]
    for url in urls:
        await platform.until(lambda url=url: platform.knows(url, key))
    load = platform.load(urls, key, clients=clients, tokens=tokens)
    await load.more(BUSY)
    return load, project


async def sound(
    platform: Platform, load: Load, project: str, *, killed: bool = False, others: Sequence[Load] = ()
) -> Counter[str]:
    """The load ends, and everything is as it must be after it.

    `killed`: a gateway died with its clients' connections, and with the records of its last two milliseconds.
    """
    counts = await load.end()
    answers = sum(counts.values()) + sum([sum((await other.end()).values()) for other in others])
    if not killed:
        assert counts["cut"] == 0, counts
    await platform.until(platform.at_rest)
    finished = answers - counts["cut"] - (BUSY // 2 if killed else 0)
    records: Counter[str] = Counter()
    for _ in range(200):
        records = await platform.records(project)
        if len(records) >= finished:
            break
        await asyncio.sleep(0.1)
    assert set(records.values()) <= {1}
    assert finished <= len(records) <= answers, (len(records), answers, counts)
    return counts


async def test_a_dispatcher_that_is_killed_loses_no_ticket(platform: Platform, told: list[str]) -> None:
    load, project = await begun(platform)
    owner = platform.owner()
    assert owner is not None
    platform.part(owner).kill()
    took_s = await platform.until(lambda: platform.owner() is not None)
    await load.more(BUSY)
    told.append(f"another dispatcher owned the model after {took_s:.2f} s")
    counts = await sound(platform, load, project)
    assert counts.keys() == {"answered"}, counts


async def test_a_gateway_that_is_killed_frees_its_leases(platform: Platform, told: list[str]) -> None:
    load, project = await begun(platform)
    platform.part("g1").kill()
    took_s = await load.more(3 * BUSY)
    told.append(f"{3 * BUSY} more answers of the other gateway after {took_s:.2f} s")
    await platform.until(lambda: platform.slots_held() <= BUSY // 2)
    await beside(lambda: platform.start_again("g1"))
    await load.more(BUSY)
    counts = await sound(platform, load, project, killed=True)
    assert counts.keys() <= {"answered", "cut"}, counts


@pytest.mark.parametrize("moment", ["prefill", "stream"])
async def test_a_server_that_is_killed_interrupts_no_client(platform: Platform, told: list[str], moment: str) -> None:
    load, project = await begun(platform, tokens=2 if moment == "prefill" else 60)
    platform.kill_server("s1")
    took_s = await load.more(BUSY)
    told.append(f"{BUSY} more answers of the other server after {took_s:.2f} s")
    await beside(lambda: platform.start_server("s1"))
    counts = await sound(platform, load, project)
    assert counts.keys() == {"answered"}, counts
    assert len({answer.text for answer in load.answers}) == 1, "continued answers read as undisturbed ones"


async def test_a_broker_that_restarts_is_missed_for_seconds_only(platform: Platform, told: list[str]) -> None:
    load, project = await begun(platform)
    await beside(platform.rabbitmq.kill)
    await asyncio.sleep(1.0)
    await beside(platform.rabbitmq.start)
    took_s = await load.more(BUSY)
    told.append(f"{BUSY} more answers {took_s:.2f} s after the broker was back")
    counts = await sound(platform, load, project)
    assert counts.keys() <= {"answered", "error no_server_available"}, counts


async def test_a_broker_that_hangs_is_noticed(platform: Platform, told: list[str]) -> None:
    load, project = await begun(platform)
    platform.rabbitmq.pause()
    await asyncio.sleep(9.0)
    platform.rabbitmq.resume()
    took_s = await load.more(BUSY)
    told.append(f"{BUSY} more answers {took_s:.2f} s after the broker went on")
    counts = await sound(platform, load, project)
    assert counts.keys() <= {"answered", "error no_server_available"}, counts


async def test_without_the_database_nothing_stops_and_no_record_is_lost(
    platform: Platform, postgres_server: PrivatePostgres, told: list[str]
) -> None:
    load, project = await begun(platform)
    await beside(postgres_server.crash)
    await load.more(3 * BUSY)
    await beside(postgres_server.start)
    counts = await sound(platform, load, project)
    assert counts.keys() == {"answered"}, counts
    told.append(f"{counts['answered']} answers, as many records")


async def test_a_dispatcher_that_was_paused_grants_nothing_late(platform: Platform, told: list[str]) -> None:
    load, project = await begun(platform)
    owner = platform.owner()
    assert owner is not None
    platform.part(owner).pause()
    await asyncio.sleep(3.0)
    platform.part(owner).resume()
    took_s = await load.more(BUSY)
    told.append(f"{BUSY} more answers {took_s:.2f} s after it went on")
    counts = await sound(platform, load, project)
    assert counts.keys() <= {"answered", "error no_server_available"}, counts


async def test_every_part_is_restarted_under_load_and_no_request_fails(platform: Platform, told: list[str]) -> None:
    await platform.balance()
    project = f"p{next(_names)}"
    key = await platform.create_key(project)
    for part in platform.cluster.gateways:
        await platform.until(lambda url=part.url: platform.knows(url, key))
    load = platform.load([platform.haproxy.url], key, clients=BUSY)
    await load.more(BUSY)
    for name in ("d0", "d1", "g0", "g1"):
        await beside(lambda name=name: platform.cluster.restart(name))
        if name.startswith("g"):
            await platform.until(lambda name=name: platform.haproxy.states()[name])
        await load.more(5)
    counts = await sound(platform, load, project)
    assert counts.keys() == {"answered"}, counts
    told.append(f"{counts['answered']} answers and nothing else")


async def test_a_gateway_behind_a_bad_network_serves_and_one_that_is_cut_off_says_so(
    platform: Platform, told: list[str]
) -> None:
    """Its way to the broker is slow, then gone, then there again; the other gateway notices nothing."""
    async with FaultProxy(platform.rabbitmq.port) as network:
        config = platform.folder / "far.yaml"
        platform.configure(config, platform.rabbitmq.url.replace(f":{platform.rabbitmq.port}", f":{network.port}"))
        network.delay_s = 0.05
        await beside(lambda: platform.cluster.wait(platform.cluster.launch(Role.GATEWAY, "far", config=config)))
        project = f"p{next(_names)}"
        key = await platform.create_key(project)
        far, near = platform.part("far"), platform.part("g0")
        for part in (far, near):
            await platform.until(lambda part=part: platform.ready(part.name) and platform.knows(part.url, key))
        loads = [platform.load([part.url], key, clients=BUSY // 2) for part in (far, near)]
        took_s = await loads[0].more(BUSY)
        told.append(f"{BUSY} answers {took_s:.2f} s over a network of 50 ms each way")
        await network.refuse()
        await loads[1].more(2 * BUSY)
        await platform.until(lambda: loads[0].counts()["error no_server_available"] > 0)
        await network.heal()
        took_s = await loads[0].more(BUSY)
        told.append(f"{BUSY} answers {took_s:.2f} s after the network was back")
        counts = await sound(platform, loads[1], project, others=loads[:1])
        assert counts.keys() == {"answered"}, counts
        assert loads[0].counts().keys() <= {"answered", "error no_server_available"}, loads[0].counts()
        await beside(platform.part("far").stop)
        del platform.cluster.parts["far"]
