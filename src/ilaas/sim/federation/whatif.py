"""What if: machines added, a site lost for some hours, batch or all demand multiplied."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ilaas.core.errors import InvalidRequest
from ilaas.core.values import RequestClass
from ilaas.sim.federation.plan import Action, Box, Change, ModelPlan, make_box, plan_day, with_boxes
from ilaas.sim.federation.scenario import Day

_ADD = re.compile(r"(?P<kind>[^:@=]+):(?P<number>\d+)@(?P<site>[^:@=]+)(?:=(?P<model>[^:@=]+))?")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})")
_FACTOR = re.compile(r"x?(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Addition:
    """So many more machines of a kind at a site; without a model, for the one that is waited for most."""

    kind: str
    number: int
    site: str
    model: str | None = None

    @classmethod
    def parse(cls, text: str) -> Addition:
        """`h200:2@lyon-dc`, or `h200:2@lyon-dc=assistant-1`."""
        match = _ADD.fullmatch(text.strip())
        if match is None or not int(match["number"]):
            raise InvalidRequest(
                f"--add: '{text}' is not KIND:NUMBER@SITE or KIND:NUMBER@SITE=MODEL; try 'h200:2@lyon'."
            )
        return cls(match["kind"], int(match["number"]), match["site"], match["model"])


@dataclass(frozen=True, slots=True)
class Loss:
    """All machines of a site stop answering, without a word; times are seconds since midnight."""

    site: str
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What is different from the scenario."""

    additions: tuple[Addition, ...] = ()
    losses: tuple[Loss, ...] = ()
    batch: float = 1.0
    """Factor of batch requests."""
    demand: float = 1.0
    """Factor of all requests."""

    def __bool__(self) -> bool:
        return self != WhatIf()

    def title(self) -> str:
        """In a line."""
        parts = [
            f"{item.number} {item.kind} more at {item.site}" + (f" for {item.model}" if item.model else "")
            for item in self.additions
        ]
        parts += [
            f"{loss.site} lost from {shown_clock(loss.from_s)} to {shown_clock(loss.to_s)}" for loss in self.losses
        ]
        parts += [f"batch x{self.batch:g}"] if self.batch != 1 else []
        parts += [f"all demand x{self.demand:g}"] if self.demand != 1 else []
        return ", ".join(parts)

    def check(self, day: Day, models: Sequence[str]) -> None:
        """Raises InvalidRequest naming the option and what there is, for names that are not in the scenario."""
        sites = [site.name for site in day.sites]
        for item in self.additions:
            _known("--add", "kind", item.kind, list(day.kinds))
            _known("--add", "site", item.site, sites)
            if item.model is not None:
                _known("--add", "model", item.model, models)
        for loss in self.losses:
            _known("--lose-site", "site", loss.site, sites)

    def plans(self, day: Day, neediest: str) -> tuple[ModelPlan, ...]:
        """The plans of all models with these changes; additions that name no model go to `neediest`."""
        return tuple(self._changed(plan, day, neediest) for plan in plan_day(self._asked(day)))

    def _asked(self, day: Day) -> Day:
        factors = {RequestClass.BATCH: self.demand * self.batch, RequestClass.INTERACTIVE: self.demand}
        uses = tuple(
            use.model_copy(update={"per_person": use.per_person * factors[use.request_class]}) for use in day.uses
        )
        return day.model_copy(update={"uses": uses})

    def _changed(self, plan: ModelPlan, day: Day, neediest: str) -> ModelPlan:
        boxes = list(plan.boxes)
        group = next(item for item in day.models if item.name == plan.group)
        for item in self.additions:
            if (item.model or neediest) == plan.name:
                for _ in range(item.number):
                    server_id = f"{plan.name}/{item.kind}@{item.site}/{len(boxes) + 1}"
                    boxes.append(make_box(day, group, item.kind, item.site, server_id))
        boxes = [self._lost(box) for box in boxes]
        return with_boxes(plan, tuple(boxes)) if tuple(boxes) != plan.boxes else plan

    def _lost(self, box: Box) -> Box:
        changes = [
            change
            for loss in self.losses
            if loss.site == box.spec.site
            for change in (Change(loss.from_s, Action.DIE), Change(loss.to_s, Action.REVIVE))
        ]
        if not changes:
            return box
        return replace(box, changes=tuple(sorted((*box.changes, *changes), key=lambda change: change.at_s)))


def parse_factor(text: str, option: str) -> float:
    """`x2`, or `2`."""
    match = _FACTOR.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"{option}: '{text}' is not a factor; write x2 for twice as much, x0 for none.")
    return float(match[1])


def parse_clock(text: str, option: str) -> float:
    """Seconds since midnight of `10:00`."""
    match = _CLOCK.fullmatch(text.strip())
    if match is None or int(match[1]) * 60 + int(match[2]) > 24 * 60 or int(match[2]) > 59:
        raise InvalidRequest(f"{option}: '{text}' is not a time of the day; write 09:30, or 24:00 for its end.")
    return int(match[1]) * 3600.0 + int(match[2]) * 60.0


def shown_clock(at_s: float) -> str:
    """`10:00`."""
    return f"{int(at_s // 3600):02d}:{int(at_s % 3600 // 60):02d}"


def _known(option: str, what: str, name: str, among: Sequence[str]) -> None:
    if name not in among:
        shown = ", ".join(among[:30]) + (" ..." if len(among) > 30 else "")
        raise InvalidRequest(f"{option}: the scenario has no {what} '{name}'; use one of {shown}.")
