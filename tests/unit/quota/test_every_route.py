"""No way into inference passes the quotas by."""

from __future__ import annotations

from typing import Any

import pytest

from ilaas.core.quota import Limits, Subject
from ilaas.core.requests import ENDPOINTS
from tests.support.twins import House

BODY: dict[str, Any] = {
    "model": "public", "messages": [{"role": "user", "content": "Bonjour"}], "prompt": "Bonjour", "input": "Bonjour",
    "query": "Bonjour", "documents": ["Bonjour"], "text_1": "Bonjour", "text_2": "Bonjour",
}  # fmt: skip
"""Each route reads what it needs of it."""


@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("limit", ["requests_per_minute", "simultaneous_requests"])
def test_every_inference_route_stops_at_the_limit(path: str, limit: str) -> None:
    house = House()
    house.book.set_limits({Subject.of_key("k1"): Limits(**{limit: 1})})
    house.ask(BODY, path=path)
    assert house.book.held() == 1
    error = house.ask(BODY, path=path).writer.error
    assert error["param"] == limit
    assert "limit of 1" in error["message"]
    assert house.book.held() == 1
