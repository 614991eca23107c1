"""How long a lease lasts, as the predicted wait reckons it."""

from __future__ import annotations

import pytest

from ilaas.core.dispatch.predict import Flow


def test_when_requests_get_longer_the_age_of_those_under_way_counts_before_one_has_ended() -> None:
    flow = Flow()
    flow.granted(0.0)
    flow.settled(0.0, 0.1)
    assert flow.duration_s(1.0) == pytest.approx(0.1)
    flow.granted(10.0)
    flow.granted(14.0)
    assert flow.duration_s(20.0) == pytest.approx(8.0)
    flow.settled(10.0, None)
    assert flow.duration_s(20.0) == pytest.approx(6.0)
    flow.settled(14.0, None)
    assert flow.duration_s(20.0) == pytest.approx(0.1)
