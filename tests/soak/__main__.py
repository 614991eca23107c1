"""`python -m tests.soak`: run it all, print a summary, write JSON; exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import orjson

from ilaas.app.local import PrivatePostgres, PrivateRabbitMQ
from ilaas.core.errors import ConfigError
from tests.soak.clients import Clients
from tests.soak.faults import KINDS, Faults, Kind
from tests.soak.memory import Memory
from tests.soak.verdict import Verdict, as_text, judge_answers, judge_records, recovery, undisturbed
from tests.support.platform import Platform, beside

ROOT = Path(__file__).parents[2]
PROJECTS = ("red", "green", "blue", "white")
SERVERS = ("s1", "s2", "s3", "s4")
SLOTS_SHARE = 1.2
"""Slots for each stream: with all servers there nobody waits, without one of the four some do."""
GAP_S = 0.4
"""Between two tokens, so that the machine is not what is tested."""
REST_S = 30.0
"""Without faults, at the end."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="(%(default)s)")
    parser.add_argument("--streams", type=int, default=200, help="simultaneous (%(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="of the faults; else any, and printed")
    parser.add_argument("--every", type=float, nargs=2, default=(10.0, 30.0), help="seconds between two faults")
    parser.add_argument("--only", default="", help="kinds of faults that hold this text")
    parser.add_argument("--json", type=Path, default=ROOT / ".cache/soak/soak.json", help="(%(default)s)")
    parser.add_argument("--folder", type=Path, default=None, help="for logs and state; kept")
    return parser.parse_args()


@contextlib.asynccontextmanager
async def running(folder: Path, streams: int) -> AsyncIterator[tuple[Platform, PrivatePostgres]]:
    """Everything: 3 gateways behind HAProxy, 2 dispatchers, 4 servers, RabbitMQ, PostgreSQL."""
    rabbitmq, postgres = PrivateRabbitMQ(folder / "rabbitmq"), PrivatePostgres(folder / "postgresql")
    platform: Platform | None = None
    try:
        await beside(rabbitmq.start)
        await beside(postgres.start)
        platform = Platform(folder / "platform", rabbitmq, postgres.create_database("soak"), "soak")
        platform.server_names = SERVERS
        platform.server_options = ("--slots", "1000", "--fail", f"slow_tokens={GAP_S}")
        platform.grace = "35s"
        slots = max(1, round(streams * SLOTS_SHARE / len(SERVERS)))
        await platform.start(gateways=3, dispatchers=2, slots=slots)
        await platform.balance()
        yield platform, postgres
    finally:
        if platform is not None:
            await platform.stop()
        rabbitmq.stop()
        postgres.stop()


async def soak(chosen: argparse.Namespace, folder: Path, kinds: tuple[Kind, ...]) -> Verdict:
    """All of it."""
    verdict = Verdict()
    load_average = [f"{os.getloadavg()[0]:.1f}"]
    async with running(folder, chosen.streams) as (platform, postgres):
        keys = [await platform.create_key(project) for project in PROJECTS]
        for part in platform.cluster.gateways:
            for key in keys:
                await platform.until(lambda url=part.url, key=key: platform.knows(url, key))
        await platform.until(lambda: all(platform.haproxy.states().values()))
        clients = Clients(platform.haproxy.url, keys)
        await clients.learn()
        memory, faults = Memory(platform), Faults(platform, postgres, chosen.seed, kinds)
        began_s = time.monotonic()
        clients.start(chosen.streams)
        watching = asyncio.create_task(memory.go_on())
        telling = asyncio.create_task(tell(clients))
        await asyncio.sleep(min(20.0, chosen.minutes * 6))
        await faults.go_on(began_s + 60 * chosen.minutes - REST_S, tuple(chosen.every))
        await asyncio.sleep(max(0.0, began_s + 60 * chosen.minutes - time.monotonic()))
        load_average.append(f"{os.getloadavg()[0]:.1f}")
        await clients.end()
        for task in (telling, watching):
            task.cancel()
        minutes = (time.monotonic() - began_s) / 60
        await ended(verdict, platform, clients, faults)
    rows, not_flat = memory.summary()
    verdict.broken += [*faults.unhealed, *not_flat]
    verdict.facts |= {
        "minutes": round(minutes, 1),
        "streams": chosen.streams,
        "seed": chosen.seed,
        "cores": os.cpu_count(),
        "load_average": " to ".join(load_average),
        "undisturbed": undisturbed(clients.answers, faults.struck),
        "recovery": recovery(clients.answers, faults.struck),
        "memory": rows,
    }
    return verdict


async def ended(verdict: Verdict, platform: Platform, clients: Clients, faults: Faults) -> None:
    """After the last answer: nothing runs, nothing waits, and every record is in the store."""
    try:
        await platform.until(platform.at_rest, within_s=60.0)
    except AssertionError:
        states = {part.name: platform.state(part.name) for part in platform.cluster.parts.values()}
        (platform.folder / "not-at-rest.json").write_bytes(orjson.dumps(states))
        verdict.broken.append(f"gauges are not 0 a minute after the last answer: {platform.folder}/not-at-rest.json")
    wanted = {answer.request_id for answer in clients.answers if answer.outcome != "cut"} - {""}
    records: Counter[str] = Counter()
    for _ in range(60):
        records = Counter()
        for project in PROJECTS:
            records.update(await platform.records(project))
        if len(wanted - records.keys()) == 0:
            break
        await asyncio.sleep(0.5)
    for each in clients.learnt:
        del records[each]  # a Counter does not mind one that is not there
    judge_answers(verdict, clients.answers, faults.struck)
    judge_records(verdict, clients.answers, faults.struck, records)


async def tell(clients: Clients) -> None:
    """A line each minute, and each kind of wrong stream at once."""
    told = 0
    while True:
        for _ in range(12):
            await asyncio.sleep(5.0)
            for answer in clients.answers[told:]:
                for fault in answer.faults:
                    print(f"{time.strftime('%H:%M:%S')}  WRONG: {fault}: {answer}", flush=True)
            told = len(clients.answers)
        counts = Counter(answer.outcome for answer in clients.answers)
        print(f"{time.strftime('%H:%M:%S')}  {dict(counts.most_common())}", flush=True)


def main() -> int:
    """Exit code."""
    chosen = arguments()
    if chosen.seed is None:
        chosen.seed = random.randrange(1_000_000)
    kinds = tuple(kind for kind in KINDS if chosen.only in kind.name)
    if not kinds:
        raise SystemExit(f"no kind of fault holds '{chosen.only}'; there are: {', '.join(kind.name for kind in KINDS)}")
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="ilaas-soak-"))
    print(f"seed {chosen.seed}, {chosen.streams} streams, {chosen.minutes:g} minutes, logs in {folder}", flush=True)
    try:
        verdict = asyncio.run(soak(chosen, folder, kinds))
    except ConfigError as error:
        raise SystemExit(error.message) from None
    text = as_text(verdict)
    print(f"\n{text}")
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_bytes(orjson.dumps(verdict.facts | {"broken": verdict.broken}, option=orjson.OPT_INDENT_2))
    chosen.json.with_suffix(".txt").write_text(f"{text}\n")
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    sys.exit(main())
