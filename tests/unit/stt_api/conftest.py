"""The speech API, started anew for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.stt_api import SttWorld, speaking


@pytest.fixture
async def stt(tmp_path: Path) -> AsyncIterator[SttWorld]:
    async with speaking(tmp_path) as world:
        yield world
