"""`continuation` and `spot` in the configuration file."""

from __future__ import annotations

import pytest

from ilaas.core.values import Continuation
from tests.unit.config.test_settings import only_model

MODEL = """
models:
  - name: m
    policy: {continuation: %s}
    servers: [{url: "http://a:8000", organisation: o, spot: true}, {url: "http://b:8000", organisation: o}]
"""


@pytest.mark.parametrize(
    ("written", "mode"),
    [
        ("on", Continuation.ON),
        ("off", Continuation.OFF),  # YAML reads both as booleans
        ('"off"', Continuation.OFF),
        ("Spot", Continuation.SPOT),
    ],
)
def test_a_model_says_whether_its_broken_answers_go_on_elsewhere(written: str, mode: Continuation) -> None:
    model = only_model(MODEL % written)
    assert model.policy.continuation is mode
    assert [server.spot for server in model.servers] == [True, False]
