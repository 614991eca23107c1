"""Runs of the reference experiment that several claims look at: each is played once."""

from __future__ import annotations

import pytest

from ilaas.sim.recording import Recording
from ilaas.sim.report import Report, build_report
from ilaas.sim.run import play
from ilaas.sim.scenario import reference_experiment


@pytest.fixture(scope="session")
def reference() -> tuple[Recording, Report]:
    """50 users beside a full batch queue and owners."""
    scenario = reference_experiment()
    recording = play(scenario)
    return recording, build_report(scenario, recording)


@pytest.fixture(scope="session")
def without_batch() -> Report:
    """The same users and owners, request for request, with no batch."""
    scenario = reference_experiment().without("batch")
    return build_report(scenario, play(scenario))
