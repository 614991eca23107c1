"""All models at one gateway whose dispatchers are other processes. Pure, as `remote` is."""

from __future__ import annotations

from collections.abc import Iterable

from ilaas.core.catalogue import Catalogue
from ilaas.core.dispatch.distributed.messages import DispatcherNews, read_letter, read_news
from ilaas.core.dispatch.distributed.outgoing import Outgoing
from ilaas.core.dispatch.distributed.remote import RemoteModel
from ilaas.core.dispatch.distributed.request import Publish, RemoteEffect, Write
from ilaas.core.dispatch.events import Effect, ModelView, QueuePosition, Refusal, RefusalReason, Settlement, Ticket

GONE_RETRY_S = 30.0


class RemoteDispatch:
    """What a gateway knows of its requests at dispatchers. Grants and refusals are returned, the rest is gathered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults = 0
        """Messages that made no sense."""
        self.views: dict[str, ModelView] = {}
        """By model, as its dispatcher last told."""
        self._models: dict[str, RemoteModel] = {}
        self._leaving: dict[str, RemoteModel] = {}
        """Taken out of the catalogue, with requests still under way."""
        self._outgoing = Outgoing()
        self._up = False

    # -- what the gateway asks -----------------------------------------------------------------------------------------

    def submit(self, ticket: Ticket, now: float) -> list[Effect]:
        """See ports.broker."""
        model = self._models.get(ticket.model)
        if model is None:
            return [Refusal(ticket, RefusalReason.NO_SERVER, GONE_RETRY_S)]
        return self._do(ticket.model, model.submit(ticket, now))

    def cancel(self, ticket: Ticket) -> None:
        """See ports.broker."""
        model = self._of(ticket)
        if model is not None:
            self._do(ticket.model, model.cancel(ticket.id))

    def settle(self, ticket: Ticket, settlement: Settlement, now: float) -> list[Effect]:
        """See ports.broker."""
        model = self._of(ticket)
        if model is None:
            return [Refusal(ticket, RefusalReason.NO_SERVER, GONE_RETRY_S)] if settlement.retry else []
        return self._do(ticket.model, model.settle(settlement, now))

    def abandon(self, ticket: Ticket, now: float) -> None:
        """A grant whose waiter had left already."""
        model = self._of(ticket)
        if model is not None:
            self._do(ticket.model, model.abandon(ticket.id, now))

    def first_token(self, ticket: Ticket, ttft_s: float) -> None:
        """See ports.broker."""
        model = self._of(ticket)
        if model is not None:
            self._do(ticket.model, model.first_token(ticket.id, ttft_s))

    def position(self, ticket: Ticket) -> QueuePosition | None:
        """See ports.broker."""
        model = self._of(ticket)
        return model.position(ticket.id) if model is not None else None

    # -- what the process tells it -------------------------------------------------------------------------------------

    def configure(self, catalogue: Catalogue, now: float) -> list[Effect]:
        """Take the catalogue: models come, change and go."""
        effects: list[Effect] = []
        for name in [name for name in self._models if name not in catalogue.models]:
            model = self._models.pop(name)
            effects.extend(self._do(name, model.close()))
            self._leaving[name] = model
            self.views.pop(name, None)
        for name, spec in catalogue.models.items():
            known = self._models.get(name) or self._leaving.pop(name, None)
            if known is None:
                known = RemoteModel(self.name, spec, now)
                effects.extend(self._do(name, known.link(now, up=self._up)))
            else:
                known.configure(spec)
            self._models[name] = known
        return effects

    def link(self, now: float, *, up: bool) -> list[Effect]:
        """The connection to the broker is there again, or gone."""
        self._up = up
        self._outgoing = Outgoing()
        return [effect for name, model in self._every() for effect in self._do(name, model.link(now, up=up))]

    def tick(self, now: float) -> list[Effect]:
        """Called about four times a second."""
        effects = [effect for name, model in self._every() for effect in self._do(name, model.tick(now))]
        self._leaving = {name: model for name, model in self._leaving.items() if any(model.counts())}
        return effects

    # -- what the broker brings ----------------------------------------------------------------------------------------

    def letter(self, body: bytes, now: float) -> list[Effect]:
        """A dispatcher wrote."""
        effects: list[Effect] = []
        try:
            letter = read_letter(body)
        except ValueError:
            self.faults += 1
            return effects
        for name, entries in letter.models:
            model = self._models.get(name) or self._leaving.get(name)
            if model is None:
                continue
            for entry in entries:
                try:
                    effects.extend(self._do(name, model.read(letter.sender, entry, now)))
                except (ValueError, TypeError, IndexError, KeyError):
                    self.faults += 1
        return effects

    def news_came(self, body: bytes, now: float) -> DispatcherNews | None:
        """A dispatcher's heartbeat: who owns what."""
        try:
            news = read_news(body)
        except ValueError:
            self.faults += 1
            return None
        for name in news.claimed:
            model = self._models.get(name)
            if model is not None:
                self._do(name, model.claimed(news.dispatcher, now))
        for name, epoch in news.owned.items():
            model = self._models.get(name)
            if model is not None:
                self._do(name, model.owned(news.dispatcher, epoch, now))
        self.views.update((view.model, view) for view in news.views if view.model in self._models)
        return news

    def confirmed(self, name: str, wire: str) -> None:
        """The broker has a ticket."""
        model = self._models.get(name)
        if model is not None:
            model.confirmed(wire)

    def turned_away(self, name: str, wire: str, reason: RefusalReason) -> list[Effect]:
        """The broker did not take a ticket."""
        model = self._models.get(name)
        return self._do(name, model.turned_away(wire, reason)) if model is not None else []

    # -- what it tells -------------------------------------------------------------------------------------------------

    @property
    def urgent(self) -> bool:
        """Whether what is gathered should go at once."""
        return self._outgoing.urgent

    @property
    def pending(self) -> bool:
        """Whether anything is gathered."""
        return bool(self._outgoing)

    def drain(self) -> Outgoing:
        """What is to be sent now."""
        outgoing, self._outgoing = self._outgoing, Outgoing()
        return outgoing

    def counts(self) -> tuple[int, int]:
        """Requests that wait, and that have a slot."""
        pairs = [model.counts() for _, model in self._every()]
        return sum(waiting for waiting, _ in pairs), sum(leased for _, leased in pairs)

    def credits(self) -> dict[str, int]:
        """Requests that may begin without asking, by model."""
        return {name: model.credits() for name, model in self._models.items()}

    def strange(self) -> int:
        """Messages that made no sense, or came from an owner of the past."""
        return self.faults + sum(model.faults for _, model in self._every())

    def _every(self) -> list[tuple[str, RemoteModel]]:
        return [*self._models.items(), *self._leaving.items()]

    def _of(self, ticket: Ticket) -> RemoteModel | None:
        model = self._models.get(ticket.model)
        if model is None or not model.holds(ticket.id):
            model = self._leaving.get(ticket.model, model)
        return model

    def _do(self, name: str, effects: Iterable[RemoteEffect]) -> list[Effect]:
        outgoing = self._outgoing
        told: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Write):
                outgoing.write(effect.to, name, effect.entry)
                outgoing.urgent = outgoing.urgent or effect.urgent
            elif isinstance(effect, Publish):
                outgoing.tickets.append((name, effect.wire, effect.body))
                outgoing.urgent = True
            else:
                told.append(effect)
        return told
