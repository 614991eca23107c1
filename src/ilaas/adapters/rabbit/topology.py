"""Names, arguments and bindings of what is declared at the broker. docs/distributed.md has the table.

| name | kind | what |
|---|---|---|
| `NS.tickets.MODEL` | queue, durable, single active consumer | tickets of one model; its consumer owns the model |
| `NS.mail` | direct exchange, durable | letters to one process, by its name |
| `NS.mail.PROCESS` | queue, exclusive, no acknowledgements | a process's letters; goes with its connection |
| `NS.news` | topic exchange, durable | heartbeats and gossip, to all who listen |
| `NS.news.PROCESS` | queue, exclusive, short, no acknowledgements | what a process listens to |
| `NS.tickets` | direct exchange, durable | tickets, by model |
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiormq.abc import AbstractChannel

MAX_TICKETS = 200_000
"""In one model's queue. A ticket more is refused, and the client told that the queue is full."""
MAX_NEWS = 1_000
"""In a process's queue: who is paused needs only the newest."""
MAX_NEWS_AGE_MS = 10_000
MAX_MAIL = 500_000
UNUSED_MS = 7 * 24 * 3600 * 1000
"""A model's queue without consumers for so long is gone with what it holds."""

_PLAIN = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Topology:
    """The names within one namespace: federations share a broker, or a virtual host, without meeting."""

    namespace: str = "ilaas"
    quorum: bool = False
    """Tickets are kept by a majority of a cluster's nodes."""

    @property
    def tickets(self) -> str:
        """The exchange of tickets."""
        return f"{self.namespace}.tickets"

    @property
    def mail(self) -> str:
        """The exchange of letters."""
        return f"{self.namespace}.mail"

    @property
    def news(self) -> str:
        """The exchange of news."""
        return f"{self.namespace}.news"

    def queue_of(self, model: str) -> str:
        """A model's queue. Models are told apart by their whole name, which is the routing key too."""
        return f"{self.namespace}.tickets.{model}"[:255]

    def mailbox(self, process: str) -> str:
        """A process's letters."""
        return f"{self.namespace}.mail.{_PLAIN.sub('-', process)}"

    def newsstand(self, process: str) -> str:
        """What a process listens to."""
        return f"{self.namespace}.news.{_PLAIN.sub('-', process)}"

    async def declare_exchanges(self, channel: AbstractChannel) -> None:
        """Those that all share; the same whoever is first."""
        await channel.exchange_declare(exchange=self.tickets, exchange_type="direct", durable=True)
        await channel.exchange_declare(exchange=self.mail, exchange_type="direct", durable=True)
        await channel.exchange_declare(exchange=self.news, exchange_type="topic", durable=True)

    async def declare_model(self, channel: AbstractChannel, model: str) -> None:
        """The queue of one model. Gateways declare it too, so that tickets wait for a dispatcher that is late."""
        queue = self.queue_of(model)
        # What waits is on disk, not in the broker's memory; newer brokers, and quorum queues, always do so.
        kind = {"x-queue-type": "quorum"} if self.quorum else {"x-queue-mode": "lazy"}
        await channel.queue_declare(
            queue=queue,
            durable=True,
            arguments={
                "x-single-active-consumer": True,
                **kind,
                "x-max-length": MAX_TICKETS,
                "x-overflow": "reject-publish",
                "x-expires": UNUSED_MS,
            },
        )
        await channel.queue_bind(queue=queue, exchange=self.tickets, routing_key=model[:255])

    async def declare_process(self, channel: AbstractChannel, process: str, topics: list[str]) -> None:
        """A process's two queues."""
        mailbox, newsstand = self.mailbox(process), self.newsstand(process)
        await channel.queue_declare(queue=mailbox, exclusive=True, arguments={"x-max-length": MAX_MAIL})
        await channel.queue_bind(queue=mailbox, exchange=self.mail, routing_key=process)
        await channel.queue_declare(
            queue=newsstand,
            exclusive=True,
            arguments={"x-max-length": MAX_NEWS, "x-message-ttl": MAX_NEWS_AGE_MS},
        )
        for topic in topics:
            await channel.queue_bind(queue=newsstand, exchange=self.news, routing_key=topic)


DISPATCHERS = "dispatchers"
"""The topic of dispatchers' heartbeats."""
GATEWAYS = "gateways"
"""The topic of gateways' heartbeats."""
GOSSIP = "gossip"
"""Before the topic of what gateways tell each other."""
