"""The simulated engine behaves like one with continuous batching, whatever comes in and whenever it is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ilaas.sim.engine import Engine
from ilaas.sim.engine_events import EngineEvent, EngineRequest, Finished, FirstToken, Phase, Started, Tokens
from ilaas.sim.params import PRESETS, EngineParams
from ilaas.sim.prefix_cache import Prefix, PrefixCache

PARAMS = EngineParams(
    slots=4,
    prefill_tps=1_000.0,
    decode_base_s=0.02,
    decode_per_sequence_s=0.001,
    max_batched_tokens=256,
    kv_tokens=2_000,
    prefix_cache_tokens=1_000,
    max_model_len=1_500,
)


def request(request_id: str, prompt_tokens: int = 100, output_tokens: int = 10, **extra: object) -> EngineRequest:
    return EngineRequest(id=request_id, prompt_tokens=prompt_tokens, output_tokens=output_tokens, **extra)  # type: ignore[arg-type]


def run_to_end(engine: Engine) -> list[EngineEvent]:
    events: list[EngineEvent] = []
    while (at_s := engine.next_event_s()) is not None:
        events += engine.advance(at_s)
    return events


def ttft_s(engine: Engine, request_id: str) -> float:
    return next(e.ttft_s for e in run_to_end(engine) if isinstance(e, FirstToken) and e.request_id == request_id)


arrivals = st.lists(
    st.tuples(
        st.floats(0, 3, allow_nan=False),  # gap before it
        st.integers(1, 700),  # prompt
        st.integers(0, 300),  # output
        st.one_of(st.none(), st.floats(0, 20, allow_nan=False)),  # cancelled so long after
        st.booleans(),  # streamed
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(arrivals, st.sampled_from([PARAMS, replace(PARAMS, kv_tokens=1_000, max_model_len=1_000)]))
def test_limits_hold_and_every_request_ends_exactly_once(work, params) -> None:
    engine, now = Engine(params), 0.0
    actions: list[tuple[float, int, str, EngineRequest]] = []
    for number, (gap_s, prompt, output, cancel_s, streamed) in enumerate(work):
        now += gap_s
        item = request(f"r{number}", prompt, output, streamed=streamed)
        actions.append((now, number, "submit", item))
        if cancel_s is not None:
            actions.append((now + cancel_s, number, "cancel", item))
    actions.sort(key=lambda action: action[:2])
    events: list[EngineEvent] = []
    cancelled: set[str] = set()

    def advance(at_s: float) -> None:
        events.extend(engine.advance(at_s))
        assert engine.running <= params.slots
        assert 0 <= engine.kv_cache_usage <= 1

    for at_s, _, verb, item in actions:
        while (next_s := engine.next_event_s()) is not None and next_s <= at_s:
            advance(next_s)
        if verb == "submit":
            engine.submit(item, at_s)
        elif engine.cancel(item.id, at_s) is not None:
            cancelled.add(item.id)
        advance(at_s)
    while (next_s := engine.next_event_s()) is not None:
        advance(next_s)

    finished = [event.request_id for event in events if isinstance(event, Finished)]
    assert sorted(finished + list(cancelled)) == sorted(f"r{number}" for number in range(len(work)))
    assert (engine.running, engine.waiting, engine.kv_cache_usage) == (0, 0, 0)
    for number, (_, _, output, _, streamed) in enumerate(work):
        mine = [event for event in events if event.request_id == f"r{number}"]
        assert sum(isinstance(event, Started) for event in mine) <= 1
        assert sum(isinstance(event, FirstToken) for event in mine) <= 1
        tokens = sum(event.count for event in mine if isinstance(event, Tokens))
        if f"r{number}" not in cancelled:
            assert tokens == (output if streamed else 0)
        else:
            assert tokens <= output
    times = [event.at_s for event in events]
    assert times == sorted(times)


BINARY_PARAMS = replace(PARAMS, prefill_tps=1_024.0, decode_base_s=1 / 64, decode_per_sequence_s=1 / 1_024)
"""Every time is a multiple of 2^-10, so that sums are exact and ties are ties."""


@settings(max_examples=60, deadline=None)
@given(arrivals, st.lists(st.integers(1, 1_000), min_size=1, max_size=20))
def test_how_often_one_looks_changes_nothing(work, looks) -> None:
    def ends(look: bool) -> dict[str, float]:
        engine, now, found = Engine(BINARY_PARAMS), 0.0, []
        for number, (gap_s, prompt, output, _, streamed) in enumerate(work):
            then = now + round(gap_s * 1_024) / 1_024
            for milliseconds in looks if look else ():
                found += engine.advance(min(now + milliseconds / 1_000, then))
                found += engine.advance(now)  # a clock that seems to stand still harms nothing
            now = then
            engine.submit(request(f"r{number}", prompt, output, streamed=streamed and look), now)
        found += run_to_end(engine)
        return {event.request_id: event.at_s for event in found if isinstance(event, Finished)}

    assert ends(True) == ends(False)


def test_time_to_first_token_grows_with_the_prompt() -> None:
    seen = []
    for prompt_tokens in (10, 200, 500, 1_400):
        engine = Engine(PARAMS)
        engine.submit(request("a", prompt_tokens), 0.0)
        seen.append(ttft_s(engine, "a"))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1_400 / 1_000 + 6 * 0.02)  # six chunks of at most 256


def test_time_to_first_token_grows_with_the_load() -> None:
    seen = []
    for others in (0, 2, 4, 12):
        engine = Engine(PARAMS)
        for number in range(others):
            engine.submit(request(f"o{number}", 200, 100), 0.0)
        engine.submit(request("a", 200), 0.0)
        seen.append(ttft_s(engine, "a"))
    assert seen == sorted(set(seen))


def test_decode_slows_with_the_batch_and_total_throughput_grows() -> None:
    def seconds(batch: int) -> float:
        engine = Engine(PARAMS)
        for number in range(batch):
            engine.submit(request(f"r{number}", 1, 200), 0.0)
        return run_to_end(engine)[-1].at_s

    assert seconds(1) < seconds(4) < 4 * seconds(1)


def test_a_long_prompt_slows_those_that_decode_but_does_not_stop_them() -> None:
    engine = Engine(PARAMS)
    engine.submit(request("d", 1, 100, streamed=True), 0.0)
    engine.advance(0.2)
    before = sum(e.count for e in engine.advance(0.7) if isinstance(e, Tokens))
    engine.submit(request("long", 1_400, 1), 0.7)
    during = sum(e.count for e in engine.advance(1.2) if isinstance(e, Tokens))
    assert 0 < during < before


def test_nothing_is_told_for_each_token_when_nobody_streams() -> None:
    engine, calls = Engine(PARAMS), 0
    engine.submit(request("a", 100, 1_000), 0.0)
    while (at_s := engine.next_event_s()) is not None:
        assert not any(isinstance(event, Tokens) for event in engine.advance(at_s))
        calls += 1
    assert calls <= 5


def test_requests_beyond_the_slots_wait_in_order_of_arrival() -> None:
    engine = Engine(PARAMS)
    for number in range(6):
        engine.submit(request(f"r{number}", 10, 50), 0.0)
    engine.advance(0.1)
    assert (engine.running, engine.waiting) == (4, 2)
    started = [event.request_id for event in run_to_end(engine) if isinstance(event, Started)]
    assert started == ["r4", "r5"]


def test_a_cancelled_request_frees_its_slot_at_once_in_every_phase() -> None:
    engine = Engine(PARAMS)
    for number in range(5):
        engine.submit(request(f"r{number}", 10, 1_000), 0.0)
    engine.advance(1.0)
    engine.submit(request("long", 1_000, 5), 1.0)
    assert engine.cancel("r4", 1.0) is Phase.WAITING
    assert engine.cancel("r0", 1.0) is Phase.DECODE
    engine.advance(1.1)
    assert engine.phase("long") is Phase.PREFILL
    assert engine.cancel("long", 1.1) is Phase.PREFILL
    assert engine.running == 3
    assert engine.cancel("long", 1.1) is None
    for number in (1, 2, 3):
        engine.cancel(f"r{number}", 1.2)
    assert engine.next_event_s() is None or not engine.advance(9.0)
    assert (engine.running, engine.waiting, engine.kv_cache_usage, engine.cancelled_total) == (0, 0, 0, 6)


def test_when_the_kv_cache_is_full_the_youngest_is_preempted_and_still_gives_all_its_tokens() -> None:
    engine = Engine(PARAMS)
    for number in range(3):
        engine.submit(request(f"r{number}", 500, 700, streamed=True), 0.0)
    events = run_to_end(engine)
    assert engine.preemptions_total > 0
    for number in range(3):
        assert sum(e.count for e in events if isinstance(e, Tokens) and e.request_id == f"r{number}") == 700
    assert engine.generation_tokens_total == 2_100


def test_a_known_prefix_is_not_computed_again() -> None:
    engine, prefix = Engine(PARAMS), Prefix((7, 8), 400)
    engine.submit(request("first", 900, 1, prefix=prefix), 0.0)
    cold = ttft_s(engine, "first")
    engine.submit(request("second", 900, 1, prefix=Prefix((7, 8, 9), 400)), 10.0)
    assert next(e for e in engine.advance(10.0) if isinstance(e, Started)).cached_tokens == 800
    assert ttft_s(engine, "second") < cold / 3
    assert (engine.prefix_cache.hit_tokens, engine.prefix_cache.queried_tokens) == (800, 1_800)


def test_the_prefix_cache_forgets_the_least_recently_used_blocks() -> None:
    cache = PrefixCache(300)
    cache.insert(Prefix((1, 2), 100))
    cache.insert(Prefix((3,), 100))
    assert cache.lookup(Prefix((1, 2), 100), 250) == 200
    cache.insert(Prefix((4,), 100))
    assert cache.lookup(Prefix((3,), 100), 250) == 0
    assert cache.lookup(Prefix((1, 2), 100), 250) == 200
    assert cache.lookup(Prefix((1, 2), 100), 200) == 100, "one token at least is always computed"


def test_work_that_only_reads_ends_with_its_prompt() -> None:
    engine = Engine(PARAMS)
    engine.submit(request("e", 300, 0), 0.0)
    kinds = [type(event) for event in run_to_end(engine)]
    assert kinds == [Started, Finished]
    assert (engine.prompt_tokens_total, engine.generation_tokens_total) == (300, 0)


@pytest.mark.parametrize(("prompt", "output"), [(1_500, 1), (0, 5), (5, -1)])
def test_what_can_never_fit_is_refused_at_the_door(prompt, output) -> None:
    with pytest.raises(ValueError, match="token"):
        Engine(PARAMS).submit(request("a", prompt, output), 0.0)


def test_a_nonsensical_speed_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="prefill_tps"):
        EngineParams(prefill_tps=0)


def test_presets_are_ordered_from_fast_to_slow() -> None:
    def seconds(params: EngineParams) -> float:
        engine = Engine(params)
        for number in range(64):
            engine.submit(request(str(number), 1_000, 200), 0.0)
        return run_to_end(engine)[-1].at_s

    times = [seconds(PRESETS[name]) for name in ("h200", "a100", "l40s", "slow-spot", "workstation-ollama")]
    assert times == sorted(times)
