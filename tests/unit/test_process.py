"""What every process of the platform is made of."""

from __future__ import annotations

import pytest

from ilaas.app.process import Punctual


def test_a_turn_that_comes_seconds_late_says_by_how_much_and_a_common_one_says_nothing() -> None:
    punctual = Punctual(0.25)
    assert punctual.late_s(100.0) == 0.0
    assert punctual.late_s(100.25) == 0.0
    assert punctual.late_s(101.0) == 0.0
    assert punctual.late_s(113.25) == pytest.approx(12.0)
    assert punctual.late_s(113.5) == 0.0
