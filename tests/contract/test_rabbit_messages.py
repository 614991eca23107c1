"""What the broker may bring: messages twice, late, from nobody, or without any sense. On a real RabbitMQ."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import aiormq
import pytest

from ilaas.adapters.rabbit.topology import DISPATCHERS, GATEWAYS, Topology
from ilaas.app.local import PrivateRabbitMQ
from ilaas.core.catalogue import Catalogue, DispatchPolicy, ModelSpec, ServerSpec
from ilaas.core.dispatch.distributed.messages import Kind, Letter, wire_id, write_letter, write_ticket
from ilaas.core.dispatch.events import Grant, Refusal, Settlement, Ticket
from ilaas.core.values import Outcome, RequestClass
from tests.support.brokers import RabbitBench

SERVER = ServerSpec(id="s1", url="http://s", site="x", owner="x", served_name="m", max_parallel_requests=1)
CATALOGUE = Catalogue.of([ModelSpec(name="m", servers=(SERVER,), policy=DispatchPolicy(max_wait_s=1e9))])


class Waiter:
    def __init__(self) -> None:
        self.grants: list[Grant] = []
        self.refusals: list[Refusal] = []

    def granted(self, grant: Grant) -> None:
        self.grants.append(grant)

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)


class Desk:
    """A bench with one model of one slot, and a way to publish anything."""

    def __init__(self, server: PrivateRabbitMQ, namespace: str, *, quorum: bool = False) -> None:
        self.bench = RabbitBench(server.url, namespace, quorum=quorum)
        self.bench.serve(CATALOGUE)
        self._url = server.url
        self._topology = Topology(namespace)
        self.gateway = f"{namespace}-g"
        self._count = 0

    def submit(self) -> tuple[Ticket, Waiter]:
        """Batch, so that it goes over the broker."""
        self._count += 1
        waiter = Waiter()
        ticket = self.bench.do(
            lambda _broker, now: Ticket(
                id=f"t{self._count}", model="m", organisation="a", request_class=RequestClass.BATCH, arrived_s=now
            )
        )
        self.bench.do(lambda broker, _now: broker.submit(ticket, waiter))
        return ticket, waiter

    def settle(self, ticket: Ticket) -> None:
        end = Settlement(ticket_id=ticket.id, outcome=Outcome.COMPLETED, tokens=1)
        self.bench.do(lambda broker, _now: broker.settle(ticket, end))

    def publish(self, exchange: str, key: str, *bodies: bytes) -> None:
        async def send() -> None:
            connection = await aiormq.connect(self._url)
            channel = await connection.channel()
            for body in bodies:
                await channel.basic_publish(body, exchange=exchange, routing_key=key)
            await connection.close()

        asyncio.run(send())

    @property
    def topology(self) -> Topology:
        return self._topology

    def owner(self) -> str:
        return next(each._core.name for each in self.bench._dispatchers if each.owned())


@pytest.fixture(params=["classic", "quorum"])
def desk(rabbitmq: PrivateRabbitMQ, namespace: str, request: pytest.FixtureRequest) -> Iterator[Desk]:
    """With either kind of queue for tickets."""
    desk = Desk(rabbitmq, namespace, quorum=request.param == "quorum")
    yield desk
    desk.bench.close()


def test_a_ticket_that_comes_twice_is_granted_once(desk: Desk) -> None:
    first, running = desk.submit()
    assert desk.bench.until(lambda: len(running.grants) == 1)
    second, waiting = desk.submit()
    body = write_ticket(desk.gateway, wire_id(second.id, 1), second, time.monotonic())
    desk.publish(desk.topology.tickets, "m", body, body)
    desk.settle(first)
    assert desk.bench.until(lambda: len(waiting.grants) == 1)
    desk.publish(desk.topology.tickets, "m", body)  # late: it is running already
    third, behind = desk.submit()
    desk.settle(second)
    assert desk.bench.until(lambda: len(behind.grants) == 1)
    desk.settle(third)
    assert desk.bench.until(lambda: desk.bench.running("m") == 0)
    assert len(waiting.grants) == 1
    desk.publish(desk.topology.tickets, "m", body)  # very late: it has ended
    fourth, last = desk.submit()
    assert desk.bench.until(lambda: len(last.grants) == 1), "the grant in vain was given back"
    desk.settle(fourth)
    assert desk.bench.until(lambda: desk.bench.running("m") == 0)


def test_letters_that_come_twice_or_too_late_change_nothing(desk: Desk) -> None:
    first, running = desk.submit()
    assert desk.bench.until(lambda: len(running.grants) == 1)
    _, waiting = desk.submit()
    ended = [Kind.ENDED, wire_id(first.id, 1), Outcome.COMPLETED, 1, None]
    desk.settle(first)
    assert desk.bench.until(lambda: len(waiting.grants) == 1)
    again = write_letter(Letter(desk.gateway, [("m", [ended, ended, [Kind.HELD, 10_000]])]))
    desk.publish(desk.topology.mail, desk.owner(), again, again)
    _, behind = desk.submit()
    assert desk.bench.until(lambda: desk.bench.running("m") == 1)
    assert not behind.grants, "the slot of the second was not given back by the first one's end"


def test_what_makes_no_sense_is_left_out_and_the_process_lives_on(desk: Desk) -> None:
    letters = [b'["g", [["m", [["?"], ["e"], ["n", 1]]]]]', b'["g", [["m", [7]]]]', b'["g", [7]]', b'["g", [["m", 7]]]']
    news = [b'["d", {"m": "x"}, [], false, []]', b'["d", {}, 7, 0, 7]', b'["d", {"m": 1}, [], 0, [{"model": "m"}]]']
    nonsense = [b"", b"\xff\x00", b"null", b"[]", b"{}", b'["a"]', b"[1, 2]", *letters, *news]
    desk.publish(desk.topology.tickets, "m", *nonsense, b"[" + b"1," * 13 + b"1]")
    for to in (desk.owner(), desk.gateway):
        desk.publish(desk.topology.mail, to, *nonsense)
    for topic in (DISPATCHERS, GATEWAYS):
        desk.publish(desk.topology.news, topic, *nonsense)
    for _ in range(3):
        ticket, waiter = desk.submit()
        assert desk.bench.until(lambda waiter=waiter: len(waiter.grants) == 1)
        desk.settle(ticket)
    assert desk.bench.until(lambda: desk.bench.running("m") == 0)
