"""Who is refused, for which reason, and what it is told about coming back."""

from __future__ import annotations

from typing import Any

import pytest

from ilaas.core.dispatch.events import RefusalReason
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from tests.unit.dispatch.desk import Desk, server


def reason(desk: Desk, name: str) -> RefusalReason | None:
    refusal = desk.refused.get(name)
    return refusal.reason if refusal is not None else None


def test_without_a_server_a_request_is_refused_at_once() -> None:
    desk = Desk()
    desk.ask("one")
    assert reason(desk, "one") is RefusalReason.NO_SERVER
    assert desk.refused["one"].retry_after_s == 30


def test_while_all_are_down_the_client_is_told_when_the_first_is_tried_again() -> None:
    desk = Desk(server("s1"), server("s2"), down_s=5.0)
    desk.down("s1")
    desk.now += 3
    desk.down("s2")
    desk.ask("one")
    assert reason(desk, "one") is RefusalReason.NO_SERVER
    assert desk.refused["one"].retry_after_s == pytest.approx(2)


WINDOWS = [server("narrow", 1, context_window=4_000), server("wide", 1, context_window=32_000, owner="lyon")]


@pytest.mark.parametrize(
    ("tokens", "changes", "expected"),
    [
        (4_000, {}, None),
        (32_000, {}, None),
        (32_001, {}, RefusalReason.CONTEXT_TOO_LONG),
        (0, {}, None),
        (5_000, {"organisation": "lyon", "routing_mode": RoutingMode.PRIVATE_ONLY}, None),
        (40_000, {"organisation": "lyon", "routing_mode": RoutingMode.PRIVATE_ONLY}, RefusalReason.CONTEXT_TOO_LONG),
        (5_000, {"organisation": "brest", "routing_mode": RoutingMode.PRIVATE_ONLY}, RefusalReason.NO_SERVER),
    ],
)
def test_a_prompt_that_no_server_has_a_window_for_is_refused(
    tokens: int, changes: dict[str, Any], expected: RefusalReason | None
) -> None:
    desk = Desk(*WINDOWS)
    desk.ask("one", context_tokens=tokens, **changes)
    assert reason(desk, "one") is expected


def test_a_prompt_whose_only_wide_server_is_down_may_come_back_later() -> None:
    desk = Desk(*WINDOWS)
    desk.down("wide")
    desk.ask("one", context_tokens=20_000)
    assert reason(desk, "one") is RefusalReason.NO_SERVER


def test_a_long_prompt_waits_for_the_wide_server_and_keeps_nobody_from_the_narrow_one() -> None:
    desk = Desk(*WINDOWS)
    assert desk.ask("long", context_tokens=20_000) == "wide"
    assert desk.ask("long2", context_tokens=20_000) is None
    assert desk.ask("short", context_tokens=100) == "narrow"
    assert desk.end("long") == ["long2"]


def test_an_owner_with_many_long_prompts_is_not_kept_from_its_own_narrow_server() -> None:
    desk = Desk(server("narrow", 1, "lyon", context_window=4_000), server("wide", 1, context_window=32_000))
    desk.ask("x", "z", context_tokens=20_000)
    desk.ask("y", "z")
    for number in range(30):
        desk.ask(f"long{number}", "lyon", context_tokens=20_000)
    desk.ask("other", "z")
    desk.ask("short", "lyon", context_tokens=100)
    assert desk.end("y") == ["short"]


def test_a_server_of_unknown_window_takes_every_prompt() -> None:
    desk = Desk(server("s1", 1, context_window=None))
    assert desk.ask("one", context_tokens=10**9) == "s1"


# -- full queues -------------------------------------------------------------------------------------------------------


def test_the_models_queue_is_bounded() -> None:
    desk = Desk(server("s1"), max_queued=3)
    for number in range(6):
        desk.ask(f"t{number}", f"o{number}")
    assert desk.waiting() == 3
    assert [reason(desk, name) for name in ["t3", "t4", "t5"]] == [None, *[RefusalReason.QUEUE_FULL] * 2]


def test_each_organisations_part_of_the_queue_is_bounded() -> None:
    desk = Desk(server("s1"), max_queued_per_organisation=2)
    desk.ask("held", "z")
    for number in range(4):
        desk.ask(f"t{number}", "a")
    desk.ask("other", "b")
    assert [reason(desk, f"t{number}") for number in range(4)] == [None, None, *[RefusalReason.QUEUE_FULL] * 2]
    assert reason(desk, "other") is None


def test_a_caller_is_refused_when_more_than_its_own_threshold_wait_already() -> None:
    desk = Desk(server("s1"))
    desk.ask("held")
    desk.ask("first", max_queued=0)
    assert reason(desk, "first") is None
    desk.ask("second", max_queued=0)
    assert reason(desk, "second") is RefusalReason.QUEUE_FULL
    desk.ask("third", max_queued=1)
    assert reason(desk, "third") is None


def test_who_was_refused_leaves_no_trace_in_the_queue() -> None:
    desk = Desk(server("s1"), max_queued=1)
    desk.ask("held")
    desk.ask("one")
    for number in range(10):
        desk.ask(f"t{number}")
    assert desk.end("held") == ["one"]
    assert desk.end("one") == []


def test_a_full_queue_does_not_stop_who_finds_a_free_slot() -> None:
    desk = Desk(server("s1"), server("own", owner="lyon"), max_queued=1)
    for name in ["x", "y", "waits"]:
        desk.ask(name, "z", routing_mode=RoutingMode.ANY)
    assert desk.waiting() == 1
    assert desk.end(next(name for name in ["x", "y"] if desk.server_of(name) == "own")) == ["waits"]
    assert desk.waiting() == 0


# -- predicted waits ---------------------------------------------------------------------------------------------------


def warmed(**policy: Any) -> Desk:
    """One server of two slots whose leases last 10 s: a slot every 5 s."""
    desk = Desk(server("s1", 2), **policy)
    for number in range(2):
        desk.ask(f"warm{number}")
    desk.now += 10
    for number in range(2):
        desk.end(f"warm{number}")
    desk.ask("held0", "z")
    desk.ask("held1", "z")
    return desk


def test_a_request_whose_predicted_wait_passes_the_limit_is_told_when_to_come_back() -> None:
    desk = warmed(max_wait_s=16.0)
    for number in range(4):
        desk.ask(f"t{number}")
    assert list(desk.refused) == ["t3"]
    assert desk.refused["t3"].reason is RefusalReason.BUSY
    assert desk.refused["t3"].retry_after_s == pytest.approx(20 - 16)


def test_a_caller_may_have_a_tighter_limit_and_never_a_wider_one() -> None:
    desk = warmed(max_wait_s=16.0)
    desk.ask("hasty", max_wait_s=4.0)
    assert reason(desk, "hasty") is RefusalReason.BUSY
    for number in range(4):
        desk.ask(f"t{number}", max_wait_s=1_000.0)
    assert reason(desk, "t3") is RefusalReason.BUSY


def test_batch_has_a_limit_of_its_own() -> None:
    desk = warmed(max_wait_s=1.0, batch_max_wait_s=1_000.0)
    desk.batch("batch")
    desk.ask("person")
    assert reason(desk, "batch") is None
    assert reason(desk, "person") is RefusalReason.BUSY


def test_a_retry_after_is_at_least_a_second() -> None:
    desk = warmed(max_wait_s=4.9)
    desk.ask("one")
    assert desk.refused["one"].retry_after_s == 1.0


def test_the_view_tells_the_wait_and_the_state() -> None:
    desk = warmed()
    view = desk.scheduler.view(desk.now)
    assert (view.state, view.running) == ("busy", 2)
    assert view.predicted_wait_s == pytest.approx(5)
    desk.ask("one", "a")
    desk.batch("two", "b")
    view = desk.scheduler.view(desk.now)
    assert view.queued == {RequestClass.INTERACTIVE.value: 1, RequestClass.BATCH.value: 1}
    assert view.queued_by_organisation == {"a": 1, "b": 1}
    desk.cancel("one")
    desk.cancel("two")
    desk.end("held0")
    assert desk.scheduler.view(desk.now).state == "available"
    assert desk.scheduler.view(desk.now).predicted_wait_s == 0.0
    desk.down("s1")
    assert desk.scheduler.view(desk.now).state == "unavailable"


# -- stranded ----------------------------------------------------------------------------------------------------------


def test_who_waits_is_given_time_for_a_server_to_come_back_and_then_refused() -> None:
    desk = Desk(server("s1"), down_s=30.0)
    desk.ask("held")
    desk.ask("waits")
    desk.down("s1")
    desk.wait(9)
    assert desk.refused == {}
    desk.wait(2)
    assert reason(desk, "waits") is RefusalReason.NO_SERVER
    assert desk.refused["waits"].retry_after_s == pytest.approx(20, abs=1)


def test_who_waits_is_served_by_a_server_that_comes_back_in_time() -> None:
    desk = Desk(server("s1", 2), down_s=5.0)
    desk.ask("x")
    desk.ask("y")
    desk.ask("waits")
    desk.down("s1")
    desk.end("x", Outcome.STREAM_BROKEN)
    assert desk.wait(6) == ["waits"]  # as a probe
    assert desk.refused == {}


def test_only_those_whose_servers_are_all_down_are_refused() -> None:
    desk = Desk(*WINDOWS, down_s=30.0)
    desk.ask("x", context_tokens=20_000)
    desk.ask("y")
    desk.ask("long", context_tokens=20_000)
    desk.ask("short")
    desk.down("wide")
    desk.wait(11)
    assert list(desk.refused) == ["long"]
