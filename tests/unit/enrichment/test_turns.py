"""Who is served next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.enrichment.turns import Candidate, in_turn


def job(name: str, client: str, rank_s: float = 0.0, priority: int = 1) -> Candidate:
    return Candidate(enrichment_id=name, client_id=client, priority=priority, rank_s=rank_s, fence=0)


def names(candidates: list[Candidate], in_hand: dict[str, int], turns: dict[str, int]) -> list[str]:
    return [each.enrichment_id for each in in_turn(candidates, in_hand, turns)]


def test_the_client_with_the_least_in_hand_goes_first() -> None:
    assert names([job("1", "a"), job("2", "b")], {"a": 2, "b": 1}, {"a": 1, "b": 9}) == ["2", "1"]


def test_among_equals_the_one_served_longest_ago_goes_first() -> None:
    assert names([job("1", "a"), job("2", "b"), job("3", "new")], {}, {"a": 7, "b": 6}) == ["3", "2", "1"]


def test_the_first_job_of_each_goes_before_the_second_of_any() -> None:
    jobs = [job("a1", "a", 1), job("a2", "a", 2), job("a3", "a", 3), job("b1", "b", 9)]
    assert names(jobs, {}, {}) == ["a1", "b1", "a2", "a3"]


def test_priorities_go_before_turns() -> None:
    assert names([job("1", "a"), job("2", "b", priority=2)], {"b": 5}, {"b": 5}) == ["2", "1"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.integers(1, 2)), max_size=20),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 4)),
)
def test_nobody_is_left_out_and_nobody_gets_ahead_by_more_than_one(
    jobs: list[tuple[str, int, int]], in_hand: dict[str, int]
) -> None:
    candidates = [job(f"{n:02}", client, rank, priority) for n, (client, rank, priority) in enumerate(jobs)]
    served = in_turn(candidates, in_hand, {})
    assert sorted(served, key=lambda each: each.enrichment_id) == candidates
    for lane in (1, 2):
        load = dict.fromkeys("abc", 0) | in_hand
        waiting = [each for each in served if each.priority == lane]
        while waiting:
            first = waiting.pop(0)
            others = {each.client_id for each in waiting}
            assert load[first.client_id] <= min((load[each] for each in others), default=10**9)
            load[first.client_id] += 1
