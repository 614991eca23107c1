"""The electricity of a country, as packaged with ecologits: its file is read without importing the library (60 ms)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from ilaas.core.errors import ConfigError

DISTRIBUTION = "ecologits"
_FOLDER = "ecologits/data"
_FILE = "electricity_mixes.json"

MIXES_DATE = "2026-05"
"""Of the library's file of electricity mixes, which doesn't state the year of its data. Check at each upgrade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Electricity:
    """What a kilowatt-hour emits, and where that is from."""

    grid_g_per_kwh: float
    source: str
    date: str


def electricity_of(zone: str) -> Electricity:
    """By ISO 3166-1 alpha-3 code. Raises ConfigError for a zone that is not known."""
    library = distribution(DISTRIBUTION)
    mixes = json.loads(Path(str(library.locate_file(f"{_FOLDER}/{_FILE}"))).read_text("utf-8"))["electricity_mixes"]
    for mix in mixes:
        if mix["name"] == zone:
            return Electricity(
                grid_g_per_kwh=round(float(mix["gwp"]) * 1000.0, 6),
                source=f"Our World in Data, as packaged in {DISTRIBUTION} {library.version} ({_FILE}, {zone})",
                date=MIXES_DATE,
            )
    raise ConfigError(f"no electricity mix for zone {zone!r}; use an ISO 3166-1 alpha-3 code as FRA")
