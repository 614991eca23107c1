"""`python -m tests.soak.outage [--minutes 10]`: PostgreSQL is away for long, while requests go on over two gateways.

Every request must be answered meanwhile, and after it every usage record must be in the store exactly once. Exit code 1
when that does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

from ilaas.app.local import PrivatePostgres, PrivateRabbitMQ
from tests.support.platform import Platform, beside

CLIENTS = 4
PAUSE_S = 0.1
"""Between two requests of a client: 30 requests a second in all or fewer."""
CAUGHT_UP_S = 120.0


async def play(platform: Platform, postgres: PrivatePostgres, minutes: float) -> bool:
    """Run it, tell what happened; whether all held."""
    key = await platform.create_key("outage")
    urls = [part.url for part in platform.cluster.gateways]
    for url in urls:
        await platform.until(lambda url=url: platform.knows(url, key))
    outcomes: Counter[str] = Counter()
    stopping = asyncio.Event()

    async def client(number: int) -> None:
        async with httpx.AsyncClient(timeout=60.0) as http:
            while not stopping.is_set():
                answer = await platform.ask(http, urls[number % len(urls)], key)
                outcomes[answer.outcome] += 1
                await asyncio.sleep(PAUSE_S)

    clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
    await asyncio.sleep(5.0)
    await beside(postgres.crash)
    before = outcomes.total()
    await asyncio.sleep(60.0 * minutes)
    meanwhile = outcomes.total() - before
    ready = [await asyncio.to_thread(platform.ready, part.name) for part in platform.cluster.gateways]
    await beside(postgres.start)
    back_s = time.monotonic()
    await asyncio.sleep(5.0)
    stopping.set()
    await asyncio.gather(*clients)
    records: Counter[str] = Counter()
    while time.monotonic() - back_s < CAUGHT_UP_S and len(records) < outcomes.total():
        await asyncio.sleep(0.2)
        records = await platform.records("outage")
    caught_up_s = time.monotonic() - back_s
    print(f"PostgreSQL was away for {minutes:g} minutes; gateways ready meanwhile: {ready}")
    print(f"requests: {dict(outcomes)}, {meanwhile} of them while it was away")
    print(f"usage records: {len(records)}, twice: {sum(1 for n in records.values() if n > 1)}")
    print(f"all were in the store {caught_up_s:.1f} s after it was back")
    return (
        all(ready)
        and set(outcomes) == {"answered"}
        and len(records) == outcomes.total()
        and set(records.values()) == {1}
    )


async def main(minutes: float) -> bool:
    """Start everything, and end it."""
    with tempfile.TemporaryDirectory(prefix="ilaas-outage-") as place:
        folder = Path(place)
        broker, postgres = PrivateRabbitMQ(folder / "rabbitmq"), PrivatePostgres(folder / "postgresql")
        await beside(broker.start)
        await beside(postgres.start)
        platform = Platform(folder / "platform", broker, postgres.create_database("outage"), "outage")
        try:
            await platform.start()
            return await play(platform, postgres, minutes)
        finally:
            await platform.stop()
            await beside(postgres.stop)
            await beside(broker.stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.soak.outage", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    sys.exit(0 if asyncio.run(main(parser.parse_args().minutes)) else 1)
