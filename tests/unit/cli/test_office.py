"""What a command does with the store, beside a gateway that runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ilaas.adapters.sql import SqlStore
from ilaas.cli import place
from ilaas.core.errors import StoreUnavailable


async def test_a_store_that_goes_away_after_the_change_fails_no_command_that_has_a_secret_to_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_store: SqlStore) -> int:
        raise StoreUnavailable("away")

    monkeypatch.setattr(place, "read_run_file", lambda _folder: {"ops_host": "127.0.0.1", "ops_port": 1})
    async with place.office(place.find_place(tmp_path, None, {})):
        monkeypatch.setattr(SqlStore, "revision", away)
