"""Who is served next: the order in which jobs of many clients are offered to a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ilaas.core.enrichment.values import Enrichment


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A job that a worker may take."""

    enrichment_id: str
    client_id: str
    priority: int
    rank_s: float
    fence: int


def rank_s(enrichment: Enrichment) -> float:
    """Orders the jobs of one client: when it was put in line, and as much later as the media lasts.

    So a short one overtakes a long one, until the long one has waited as long as it lasts: none waits for ever.
    """
    if enrichment.job is None:
        return 0.0
    return enrichment.job.queued_at_s + (enrichment.media_duration_s or 0.0)


def in_turn(
    candidates: Sequence[Candidate], in_hand: Mapping[str, int], turns: Mapping[str, int]
) -> Sequence[Candidate]:
    """Higher priorities first; then the client with the least work in hand, then the one served longest ago.

    `in_hand` is how many jobs workers have of each client, `turns` the number of its last turn. The first job of each
    client comes before the second of any.
    """
    own = sorted(candidates, key=lambda each: (-each.priority, each.rank_s, each.enrichment_id))
    seen: dict[tuple[int, str], int] = {}
    keyed: list[tuple[tuple[int, int, int, str], Candidate]] = []
    for each in own:
        nth = seen.get((each.priority, each.client_id), 0)
        seen[each.priority, each.client_id] = nth + 1
        load = in_hand.get(each.client_id, 0) + nth
        keyed.append(((-each.priority, load, turns.get(each.client_id, 0), each.client_id), each))
    return [each for _, each in sorted(keyed, key=lambda pair: pair[0])]
