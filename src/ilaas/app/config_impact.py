"""The sections that the environmental impact needs: sites, and a model's parameters."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ilaas.adapters.electricity import electricity_of
from ilaas.app.config_section import Section
from ilaas.app.config_types import Billions, Intensity, Name, NumberOrName, Ratio
from ilaas.core.errors import ConfigError
from ilaas.core.impact import FRANCE, SiteFactors


class SiteSection(Section):
    """A data centre."""

    TARGET = SiteFactors

    name: Name = Field(description="As servers give it in `site`")
    pue: Ratio | None = Field(
        None, description=f"Energy of the whole site / energy of its computers; else {FRANCE.pue}"
    )
    pue_low: Ratio | None = Field(None, description="Lowest in the year; else `pue`")
    pue_high: Ratio | None = Field(None, description="Highest in the year; else `pue`")
    zone: Name | None = Field(None, description="Country whose electricity it has, ISO 3166-1 alpha-3")
    grid_g_per_kwh: Intensity | None = Field(
        None, description="Its own electricity, in gCO2e per kWh; else that of its zone"
    )
    grid_source: Name | None = Field(None, description="Where that figure comes from; needed with it")
    grid_date: NumberOrName | None = Field(None, description="Of which year or day it is; needed with it")


class ParametersSection(Section):
    """How large a model is; a mixture of experts has fewer active parameters."""

    total: Billions | None = Field(None, description="All parameters, in billions")
    active: Billions | None = Field(None, description="Those that compute each token; else all")


def total_alone(value: Any) -> Any:
    """A number is the total."""
    return {"total": value} if isinstance(value, int | float | list) and not isinstance(value, bool) else value


def site_of(section: SiteSection) -> SiteFactors:
    """The factors of a site. Raises ConfigError, whose message says what is wrong and the remedy."""
    grid, source, date = section.grid_g_per_kwh, section.grid_source, section.grid_date
    zone = section.zone or FRANCE.zone
    if grid is None and source is None and date is None:
        mix = electricity_of(zone)
        grid, source, date = mix.grid_g_per_kwh, mix.source, mix.date
    if grid is None or source is None or date is None:
        raise ConfigError(
            "'grid_g_per_kwh', 'grid_source' and 'grid_date' go together; write all three, or none for the zone's"
        )
    return SiteFactors(
        name=section.name,
        pue=section.pue or FRANCE.pue,
        pue_low=section.pue_low,
        pue_high=section.pue_high,
        zone=zone,
        grid_g_per_kwh=grid,
        grid_source=source,
        grid_date=date,
    )
