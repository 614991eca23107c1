from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from ilaas.core.errors import RateLimited
from ilaas.core.quota import Charging, Limits, QuotaBook, Reservation, Subject
from ilaas.core.usage import Usage
from ilaas.services.quota_sharing import QuotaSharing
from ilaas.services.quotas import Quotas
from tests.support.gossip import GossipRoom

KEY = Subject.of_key("k")
EPOCH = 1_800_000_000.0


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s

    def epoch(self) -> float:
        return EPOCH + self.now_s


class Gateway:
    def __init__(self, room: GossipRoom, clock: Clock, name: str, limits: Limits) -> None:
        book = QuotaBook({KEY: limits})
        self.quotas = Quotas(book, clock, clock.epoch)
        self.sharing = QuotaSharing(book, room.join(), name, clock, clock.epoch)

    def reserve(self, tokens: int = 1) -> Reservation:
        return self.quotas.reserve((KEY,), tokens)


async def test_the_limit_of_a_key_holds_over_both_gateways_and_the_client_sees_what_is_left() -> None:
    room, clock = GossipRoom(), Clock()
    one, other = (Gateway(room, clock, name, Limits(requests_per_minute=3)) for name in "ab")
    reservations = [one.reserve(), one.reserve()]
    one.sharing.tell()
    room.deliver()
    last = other.reserve()
    assert b"x-ratelimit-remaining-requests: 0\r\n" in other.quotas.headers((KEY,), last)
    with pytest.raises(RateLimited, match="3 requests per minute"):
        other.reserve()
    one.quotas.release(reservations[0], Charging.REFUND, Usage(), 0)
    one.sharing.tell()
    room.deliver()
    other.reserve()


async def test_a_gateway_that_starts_is_told_at_once_what_was_counted() -> None:
    room, clock = GossipRoom(), Clock()
    old = Gateway(room, clock, "old", Limits(requests_per_minute=2))
    old.reserve()
    new = Gateway(room, clock, "new", Limits(requests_per_minute=2))
    waiting = asyncio.create_task(new.sharing.catch_up(30))
    await asyncio.sleep(0)
    room.deliver()
    assert await waiting
    new.reserve()
    with pytest.raises(RateLimited):
        new.reserve()


async def test_a_gateway_that_was_not_heard_at_its_start_asks_again() -> None:
    room, clock = GossipRoom(), Clock()
    old = Gateway(room, clock, "old", Limits(requests_per_minute=1))
    old.reserve()
    new = Gateway(room, clock, "new", Limits(requests_per_minute=1))
    room.deaf = True
    running = asyncio.create_task(new.sharing.run())
    await asyncio.sleep(0)
    room.deaf = False
    clock.now_s = 1.0
    async with asyncio.timeout(10):
        while not room.deliver():
            await asyncio.sleep(0.01)
    with pytest.raises(RateLimited):
        new.reserve()
    running.cancel()


async def test_a_gateway_alone_starts_without_an_answer() -> None:
    alone = Gateway(GossipRoom(), Clock(), "alone", Limits(requests_per_minute=2))
    assert not await alone.sharing.catch_up(0.01)


async def test_the_last_word_of_a_gateway_that_stops_frees_what_it_held() -> None:
    room, clock = GossipRoom(), Clock()
    stopping, other = (Gateway(room, clock, name, Limits(simultaneous_requests=1)) for name in "ab")
    held = stopping.reserve()
    running = asyncio.create_task(stopping.sharing.run())
    await asyncio.sleep(0)
    room.deliver()
    with pytest.raises(RateLimited):
        other.reserve()
    stopping.quotas.release(held, Charging.COMPUTED, Usage(prompt_tokens=1, completion_tokens=1), 0)
    running.cancel()
    stopping.sharing.tell()
    room.deliver()
    other.reserve()


@pytest.mark.parametrize("away_s", [1.0, 100.0])
async def test_a_time_without_the_broker_stops_no_request_and_is_made_good_after_it(away_s: float) -> None:
    room, clock = GossipRoom(), Clock()
    one, other = (Gateway(room, clock, name, Limits(tokens_per_day=100)) for name in "ab")
    for each in (one, other):
        each.sharing.ask()
    room.deliver()
    room.deaf = True
    for each in (one, other):
        each.quotas.release(each.reserve(40), Charging.COMPUTED, Usage(prompt_tokens=20, completion_tokens=20), 0)
        each.sharing.tell()
    room.deaf = False
    clock.now_s = away_s
    for each in (one, other):
        each.quotas.release(each.reserve(5), Charging.COMPUTED, Usage(prompt_tokens=4, completion_tokens=1), 0)
        each.sharing.tell()
    room.deliver()
    for each in (one, other):
        with pytest.raises(RateLimited, match="10 left, 11 asked for"):
            each.reserve(11)
