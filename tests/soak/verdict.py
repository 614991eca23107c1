"""What was promised and what was seen."""

from __future__ import annotations

import bisect
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.soak.clients import ANSWERED, CUT, Answer
from tests.soak.faults import Struck

SLOW_S = 3.0
"""Until the first token; undisturbed it takes half a second."""
LOST_S = 0.25
"""Before a gateway's kill: records that were not on its disk yet (20 ms), and the way of the answer to the client."""


@dataclass(slots=True)
class Verdict:
    """The end of it."""

    broken: list[str] = field(default_factory=list)
    """Promises that were not kept."""
    facts: dict[str, Any] = field(default_factory=dict)

    def hold(self, kept: bool, otherwise: str) -> None:
        """A promise."""
        if not kept:
            self.broken.append(otherwise)


def judge_answers(verdict: Verdict, answers: Sequence[Answer], struck: Sequence[Struck]) -> None:
    """Every request ended once, with the right text or an error that the fault of its time allows."""
    counts = Counter(answer.outcome for answer in answers)
    verdict.facts["requests"] = len(answers)
    verdict.facts["outcomes"] = dict(counts.most_common())
    verdict.facts["batch_requests"] = sum(answer.batch for answer in answers)
    faults = Counter(fault for answer in answers for fault in answer.faults)
    verdict.hold(not faults, f"streams that were wrong: {dict(faults)}")
    strange: Counter[str] = Counter()
    for answer in answers:
        if answer.outcome == ANSWERED:
            continue
        fault = _at(struck, answer.ended_s)
        if fault is None or answer.outcome not in fault.kind.errors:
            strange[f"{answer.outcome} after {fault.kind.name if fault else 'nothing'}"] += 1
    verdict.hold(not strange, f"clients saw what they should not: {dict(strange)}")
    verdict.hold(counts[ANSWERED] > 0, "nothing was answered")


def judge_records(
    verdict: Verdict, answers: Sequence[Answer], struck: Sequence[Struck], records: Mapping[str, int]
) -> None:
    """Each request of a gateway has its record once; only those of a killed gateway's last moment may miss."""
    twice = [each for each, count in records.items() if count > 1]
    verdict.hold(not twice, f"{len(twice)} records are there more than once")
    kills = [each.began_s for each in struck if each.kind.name == "gateway killed"]
    lost = 0
    missing = []
    cut = 0
    for answer in answers:
        if answer.request_id in records:
            continue
        if answer.outcome == CUT or not answer.request_id:
            cut += 1  # it ended with its gateway, or no gateway had it
        elif any(-LOST_S <= kill_s - answer.ended_s <= LOST_S for kill_s in kills):
            lost += 1
        else:
            missing.append(answer)
    verdict.hold(not missing, f"{len(missing)} records miss, such as of {missing[:2]}")
    seen = {answer.request_id for answer in answers}
    unknown = [each for each in records if each not in seen]
    verdict.hold(
        len(unknown) <= sum(answer.outcome == CUT for answer in answers), f"{len(unknown)} records of no known request"
    )
    verdict.facts["records"] = {
        "in_the_store": len(records),
        "lost_with_killed_gateways": lost,
        "none_since_the_gateway_died_first": cut,
        "of_requests_whose_client_was_cut": len(unknown),
    }


def recovery(answers: Sequence[Answer], struck: Sequence[Struck]) -> list[dict[str, Any]]:
    """By kind of fault: how long interactive clients felt it, in first tokens that came late and in errors."""
    disturbed: defaultdict[int, list[float]] = defaultdict(list)
    silences: defaultdict[int, float] = defaultdict(float)
    errors: defaultdict[int, Counter[str]] = defaultdict(Counter)
    begins = [each.began_s for each in struck]
    for answer in answers:
        started_s = answer.first_s if answer.first_s is not None else answer.ended_s
        index = bisect.bisect_right(begins, started_s) - 1
        late = started_s - answer.began_s > SLOW_S or (answer.outcome != ANSWERED and not answer.first_s)
        if index >= 0 and late and not answer.batch:  # what is batch waits by design while others want the slots
            disturbed[index].append(started_s - begins[index])
        index = bisect.bisect_right(begins, answer.silence_ended_s) - 1
        if index >= 0:
            silences[index] = max(silences[index], answer.silence_s)
        index = bisect.bisect_right(begins, answer.ended_s) - 1
        if index >= 0 and answer.outcome != ANSWERED:
            errors[index][answer.outcome] += 1
    rows = []
    for kind in dict.fromkeys(each.kind.name for each in struck):
        those = [index for index, each in enumerate(struck) if each.kind.name == kind]
        away = [struck[index].healed_s - struck[index].began_s for index in those]
        until = [max(disturbed[index], default=0.0) for index in those]
        after = [max(0.0, whole - gone) for whole, gone in zip(until, away, strict=True)]
        total: Counter[str] = Counter()
        for index in those:
            total.update(errors[index])
        rows.append(
            {
                "fault": kind,
                "times": len(those),
                "away_s": _two(away),
                "felt_s": _two(until),
                "felt_after_its_return_s": _two(after),
                "longest_silence_s": _two(silences[index] for index in those),
                "not_answered": dict(total),
            }
        )
    return rows


def undisturbed(answers: Sequence[Answer], struck: Sequence[Struck]) -> dict[str, float]:
    """Before the first fault: what the machine itself does to them."""
    until = struck[0].began_s if struck else float("inf")
    firsts = [answer.first_s - answer.began_s for answer in answers if answer.first_s and answer.ended_s < until]
    silences = [answer.silence_s for answer in answers if answer.ended_s < until]
    if len(firsts) < 2:
        return {}
    return {
        "first_token_p50_s": round(statistics.median(firsts), 2),
        "first_token_max_s": round(max(firsts), 2),
        "longest_silence_s": round(max(silences), 2),
    }


def _at(struck: Sequence[Struck], moment_s: float) -> Struck | None:
    """The last fault that began before."""
    index = bisect.bisect_right([each.began_s for each in struck], moment_s) - 1
    return struck[index] if index >= 0 else None


def _two(values: Iterable[float]) -> list[float]:
    """Median and greatest."""
    ordered = sorted(values)
    return [round(statistics.median(ordered), 2), round(ordered[-1], 2)]


def as_text(verdict: Verdict) -> str:
    """For people."""
    facts = verdict.facts
    lines = [
        f"{facts['streams']} streams for {facts['minutes']:g} minutes, seed {facts['seed']}",
        f"{facts['cores']} cores, load average {facts['load_average']}",
        f"{facts['requests']} requests ({facts['batch_requests']} of class batch): {facts['outcomes']}",
        f"before the first fault: {facts['undisturbed']}",
        f"records: {facts['records']}",
        "",
        f"{'p50/max in s':<22}{'times':>6}{'away':>13}{'felt':>13}{'after return':>14}{'silence':>13}  seen instead",
    ]
    for row in facts["recovery"]:
        cells = [row["away_s"], row["felt_s"], row["felt_after_its_return_s"], row["longest_silence_s"]]
        shown = [f"{p50:.1f}/{most:.1f}" for p50, most in cells]
        lines.append(
            f"{row['fault']:<22}{row['times']:>6}{shown[0]:>13}{shown[1]:>13}{shown[2]:>14}{shown[3]:>13}"
            f"  {row['not_answered'] or ''}"
        )
    lines += ["", f"{'process (longest life)':<24}{'lived s':>8}{'settled MB':>12}{'end MB':>8}{'MB/hour':>9}"]
    lines += [
        f"{row['process']:<24}{row['lived_s']:>8}{row['settled_mb']:>12}{row['end_mb']:>8}{row['mb_per_hour']:>9}"
        for row in facts["memory"]
    ]
    lines.append("")
    lines += [f"BROKEN: {each}" for each in verdict.broken] or ["every promise was kept"]
    return "\n".join(lines)
