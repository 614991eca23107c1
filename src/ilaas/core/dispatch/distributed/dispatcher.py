"""All models at one dispatcher process. Pure: what comes from the broker in, what goes to it gathered in `outgoing`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ilaas.core.catalogue import Catalogue
from ilaas.core.dispatch.distributed.desk import ModelDesk, Role
from ilaas.core.dispatch.distributed.messages import DispatcherNews, read_letter, read_news, write_news
from ilaas.core.dispatch.distributed.outgoing import Outgoing
from ilaas.core.dispatch.distributed.owned import Ack, DeskEffect, Mail
from ilaas.core.dispatch.distributed.roster import Roster
from ilaas.core.dispatch.events import ModelView, ServerStatistics


class Dispatcher:
    """One per process. `name` is new for each start and each connection: an owner of the past is somebody else."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.faults = 0
        """Messages that made no sense."""
        self._desks: dict[str, ModelDesk] = {}
        self._roster = Roster()
        self._outgoing = Outgoing()
        self._up = False

    # -- what the process tells it -------------------------------------------------------------------------------------

    def configure(self, catalogue: Catalogue, weights: Mapping[str, float], now: float) -> None:
        """Take the catalogue: models come, change and go."""
        for name in [name for name in self._desks if name not in catalogue.models]:
            self._do(name, self._desks.pop(name).close(now))
            self._outgoing.released.append(name)
        for name, spec in catalogue.models.items():
            desk = self._desks.get(name)
            if desk is None:
                desk = self._desks[name] = ModelDesk(spec, weights)
                live = self._roster.live(now)
                if live is not None:
                    self._do(name, desk.gateways(live, now))
            else:
                self._do(name, desk.configure(spec, weights, now))

    def link(self, name: str, now: float, *, up: bool) -> None:
        """The connection is there (as `name` from now on), or gone with all that was unacknowledged."""
        self.name = name
        self._up = up
        self._roster.link(now, up=up)
        self._outgoing = Outgoing()
        for desk in self._desks.values():
            desk.reset()

    def report(self, model: str, server_id: str, statistics: ServerStatistics, now: float) -> None:
        """A reading of a server's gauges."""
        desk = self._desks.get(model)
        if desk is not None:
            self._do(model, desk.report(server_id, statistics, now))

    def check(self, model: str, server_id: str, now: float, *, ok: bool) -> None:
        """The result of an active health check."""
        desk = self._desks.get(model)
        if desk is not None:
            self._do(model, desk.check(server_id, now, ok=ok))

    def tick(self, now: float) -> None:
        """Called about four times a second."""
        live = self._roster.live(now)
        for model, desk in self._desks.items():
            if live is not None:
                self._do(model, desk.gateways(live, now))
            self._do(model, desk.tick(now))

    def release(self) -> None:
        """Before a planned end: let go of every model, so that another owns it at once."""
        for model, desk in self._desks.items():
            if desk.role is not Role.STANDBY:
                desk.reset()
                self._outgoing.released.append(model)
        self._outgoing.news = True

    # -- what the broker brings ----------------------------------------------------------------------------------------

    def delivery(self, model: str, tag: int, body: bytes, now: float) -> None:
        """A message of a model's queue."""
        desk = self._desks.get(model)
        if desk is not None and self._up:
            self._do(model, desk.delivery(tag, body, now))

    def letter(self, body: bytes, now: float) -> None:
        """A gateway wrote."""
        try:
            letter = read_letter(body)
        except ValueError:
            self.faults += 1
            return
        self._roster.heard(letter.sender, now)
        for model, entries in letter.models:
            desk = self._desks.get(model)
            if desk is not None:
                self._do(model, desk.letter(letter.sender, entries, now))

    def gateway_lives(self, gateway: str, now: float, *, left: bool = False) -> None:
        """A gateway's heartbeat, or its last."""
        if left:
            self._roster.left(gateway)
        else:
            self._roster.heard(gateway, now)

    def news_came(self, body: bytes, now: float) -> None:
        """A dispatcher's news, this one's own included."""
        try:
            news = read_news(body)
        except ValueError:
            self.faults += 1
            return
        if news.dispatcher == self.name:
            self._roster.echo(now)
            return
        for model, epoch in news.owned.items():
            desk = self._desks.get(model)
            if desk is not None and desk.superseded(epoch):
                desk.reset()
                self._outgoing.released.append(model)

    # -- what it tells -------------------------------------------------------------------------------------------------

    def drain(self) -> Outgoing:
        """What is to be sent now; the order is: tickets' acknowledgements last."""
        outgoing, self._outgoing = self._outgoing, Outgoing()
        return outgoing

    def news(self, now: float, *, left: bool = False, views: bool = True) -> bytes:
        """The heartbeat, about once a second and when `drain` says so."""
        desks = self._desks.items()
        return write_news(
            DispatcherNews(
                self.name,
                {model: desk.epoch for model, desk in desks if desk.role is Role.OWNING},
                [model for model, desk in desks if desk.role is Role.CLAIMING],
                left,
                self.views(now) if views else [],
            )
        )

    def views(self, now: float) -> list[ModelView]:
        """The models that it owns, as operators see them."""
        return [view for desk in self._desks.values() if (view := desk.view(now)) is not None]

    def owned(self) -> list[str]:
        """The models that it owns."""
        return [model for model, desk in self._desks.items() if desk.role is Role.OWNING]

    def waiting(self) -> int:
        """Tickets that wait here."""
        return sum(desk.waiting for desk in self._desks.values())

    def lent(self) -> dict[str, int]:
        """Slots that gateways may take without asking, by model."""
        return {model: desk.lent for model, desk in self._desks.items() if desk.role is Role.OWNING}

    def strange(self) -> int:
        """Messages that made no sense."""
        return self.faults + sum(desk.faults for desk in self._desks.values())

    def _do(self, model: str, effects: Iterable[DeskEffect]) -> None:
        outgoing = self._outgoing
        for effect in effects:
            if type(effect) is Mail:
                outgoing.write(effect.to, model, effect.entry)
            elif type(effect) is Ack:
                outgoing.acks.append((model, effect.tag))
            else:
                outgoing.news = True
