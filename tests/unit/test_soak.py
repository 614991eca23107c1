"""What the soak would call a broken promise."""

from __future__ import annotations

import pytest

from tests.soak.clients import ANSWERED, CUT, Answer
from tests.soak.faults import KINDS, Struck
from tests.soak.memory import Life
from tests.soak.verdict import Verdict, judge_answers, judge_records, recovery


def struck(name: str, began_s: float) -> Struck:
    return Struck(next(kind for kind in KINDS if kind.name == name), "part", began_s, began_s + 5.0)


def answer(outcome: str = ANSWERED, began_s: float = 0.0, ended_s: float = 10.0, **fields: object) -> Answer:
    first_s = began_s + 0.5 if outcome == ANSWERED else None
    found = Answer(0, began_s, batch=False, outcome=outcome, request_id="r", first_s=first_s, ended_s=ended_s)
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def broken(answers: list[Answer], faults: list[Struck], records: dict[str, int]) -> list[str]:
    verdict = Verdict()
    judge_answers(verdict, answers, faults)
    judge_records(verdict, answers, faults, records)
    return verdict.broken


def test_answers_with_their_records_break_nothing() -> None:
    assert broken([answer()], [], {"r": 1}) == []


def test_an_error_is_taken_only_where_the_last_fault_explains_it() -> None:
    refused = answer("error no_server_available")
    assert broken([answer(request_id="a"), refused], [struck("broker killed", 5.0)], {"a": 1, "r": 1}) == []
    for faults in ([], [struck("server killed", 5.0)], [struck("broker killed", 5.0), struck("server killed", 8.0)]):
        assert any("should not" in each for each in broken([answer(), refused], faults, {"r": 1}))


@pytest.mark.parametrize(("killed_s", "taken"), [(10.1, True), (12.0, False)])
def test_a_record_may_miss_only_when_its_gateway_died_at_that_moment(killed_s: float, taken: bool) -> None:
    found = broken([answer()], [struck("gateway killed", killed_s)], {})
    assert any("miss" in each for each in found) is not taken


def test_a_record_that_is_there_twice_or_of_nobody_is_seen() -> None:
    assert any("more than once" in each for each in broken([answer()], [], {"r": 2}))
    assert any("no known" in each for each in broken([answer()], [], {"r": 1, "x": 1}))
    cut = answer(CUT, request_id="")
    assert broken([answer(), cut], [struck("gateway killed", 5.0)], {"r": 1, "x": 1}) == []


def test_a_stream_that_was_wrong_is_seen() -> None:
    assert any("wrong" in each for each in broken([answer(faults=["2 ids"])], [], {"r": 1}))


def test_what_clients_felt_of_a_fault_ends_with_the_last_late_first_token() -> None:
    faults = [struck("broker killed", 100.0), struck("server killed", 130.0)]
    answers = [answer(began_s=99.0, first_s=108.0, ended_s=112.0), answer(began_s=131.0, ended_s=140.0)]
    broker, server = recovery(answers, faults)
    assert (broker["felt_s"], broker["felt_after_its_return_s"]) == ([8.0, 8.0], [3.0, 3.0])
    assert server["felt_s"] == [0.0, 0.0]


def test_memory_that_grows_after_it_has_settled_is_not_flat() -> None:
    flat, growing = Life("g0", 0.0), Life("g1", 0.0)
    for age in range(0, 600, 5):
        flat.samples.append((age, 100.0))
        growing.samples.append((age, 100.0 + age / 10))
    settled, end, slope = flat.growth() or (0, 0, 1)
    assert (settled, end, slope) == (100.0, 100.0, 0.0)
    settled, end, slope = growing.growth() or (0, 0, 0)
    assert end - settled > 40
    assert slope == pytest.approx(360.0)
