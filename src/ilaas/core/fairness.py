"""Fair shares from contribution: who serves others more than others serve it goes further when a model is saturated.

weight = clamp(1 + log2((contributed + S) / (consumed + S)), 0.5, 4)

over the tokens of the last 90 days that were served to other organisations and that other organisations' servers served
to it; own use counts on neither side. S is ten million tokens: it keeps newcomers and small numbers near 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WINDOW_DAYS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRule:
    """The bounds of the formula."""

    smoothing_tokens: int = 10_000_000
    lowest: float = 0.5
    highest: float = 4.0

    def __post_init__(self) -> None:
        if self.smoothing_tokens < 1 or not 0 < self.lowest <= 1 <= self.highest:
            raise ValueError("smoothing is 1 token or more, and 0 < lowest <= 1 <= highest")

    def weight(self, contributed_tokens: int, consumed_tokens: int) -> float:
        """The share of an organisation, to two decimals. It grows with what is contributed, falls with consumption."""
        given = max(0, contributed_tokens) + self.smoothing_tokens
        taken = max(0, consumed_tokens) + self.smoothing_tokens
        return round(min(self.highest, max(self.lowest, 1 + math.log2(given / taken))), 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class FairWeight:
    """The weight of one organisation: by the formula, or set by hand and then left alone."""

    organisation: str
    weight: float
    by_hand: bool = False
    contributed_tokens: int = 0
    consumed_tokens: int = 0
    at_s: float = 0.0
    """When it was set, epoch seconds."""

    def __post_init__(self) -> None:
        if not (0 < self.weight <= 1000 and math.isfinite(self.weight)):
            raise ValueError(f"a weight is above 0 and at most 1000; got {self.weight}")


def derived(
    served: Iterable[tuple[str, str, int]], organisations: Iterable[str], rule: WeightRule, at_s: float
) -> Mapping[str, FairWeight]:
    """Weights by the formula, of rows of (consumer, owner, tokens)."""
    contributed: dict[str, int] = {}
    consumed: dict[str, int] = {}
    for consumer, owner, tokens in served:
        if consumer != owner:
            consumed[consumer] = consumed.get(consumer, 0) + tokens
            contributed[owner] = contributed.get(owner, 0) + tokens
    return {
        name: FairWeight(
            organisation=name,
            weight=rule.weight(contributed.get(name, 0), consumed.get(name, 0)),
            contributed_tokens=contributed.get(name, 0),
            consumed_tokens=consumed.get(name, 0),
            at_s=at_s,
        )
        for name in organisations
    }


def in_force(configured: Mapping[str, float], stored: Iterable[FairWeight]) -> dict[str, float]:
    """What the dispatcher is given: by hand in the books, else another than 1 in the configuration, else the formula's.

    A weight of 1 in the configuration is 'not set': it is the default.
    """
    weights = dict(configured)
    for each in stored:
        if each.by_hand or configured.get(each.organisation, 1.0) == 1.0:
            weights[each.organisation] = each.weight
    return weights
