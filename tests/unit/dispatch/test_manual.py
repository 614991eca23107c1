"""docs/dispatcher.md names every setting of a policy with the default that it has."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from ilaas.core.catalogue import Deadlines, DispatchPolicy
from ilaas.core.dispatch.events import RefusalReason
from ilaas.core.dispatch.placement import SCORERS
from ilaas.core.values import Strategy

MANUAL = (Path(__file__).parents[3] / "docs/dispatcher.md").read_text(encoding="utf-8")
NUMBERS = [field.name for field in fields(DispatchPolicy) if isinstance(field.default, int | float)]


@pytest.mark.parametrize("name", [field.name for field in fields(DispatchPolicy)])
def test_every_setting_has_a_line(name: str) -> None:
    assert f"\n| `{name}` |" in MANUAL


@pytest.mark.parametrize("name", NUMBERS)
def test_the_default_told_is_the_default(name: str) -> None:
    line = next(line for line in MANUAL.splitlines() if line.startswith(f"| `{name}` |"))
    assert line.split("|")[3].strip() == f"{getattr(DispatchPolicy(), name):g}"


@pytest.mark.parametrize("field", fields(Deadlines), ids=lambda field: field.name)
def test_every_deadline_is_told_with_its_default(field: object) -> None:
    name = getattr(field, "name", "")
    assert f"`{name}` {getattr(Deadlines(), name):g}" in MANUAL


@pytest.mark.parametrize("word", [*Strategy, *RefusalReason, *SCORERS])
def test_every_word_of_a_policy_and_every_reason_is_explained(word: str) -> None:
    assert f"| `{word}` |" in MANUAL
