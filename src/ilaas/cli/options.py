"""Options that several commands share, and how the times and lists that people type are read."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

StateDir = Annotated[
    Path | None,
    typer.Option("--state-dir", help="State folder of the gateway. Else ILAAS_STATE_DIR, else ./.ilaas."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The gateway's configuration file, which names its state folder.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SECRET_OPTION_HELP = "It is not taken from the command line itself, which other users of the machine can read."


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "Examples:\n\n" + "\n\n".join(f"$ {line}" for line in lines)


def expiry_s(text: str | None) -> float | None:
    """Epoch seconds of `30d`, `12h`, an ISO date (to its end, UTC) or an ISO time (UTC when it names no zone)."""
    from ilaas.app.config_types import duration_s

    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return time.time() + duration_s(text)
        except ValueError:
            raise typer.BadParameter(
                f"'{text}' is neither a time from now (30d, 12h) nor a date (2027-06-30, 2027-06-30T12:00)",
                param_hint="'--expires'",
            ) from None
    if len(text) == len("2027-06-30"):
        moment += timedelta(days=1)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def seconds(text: str, option: str) -> float:
    """Seconds of `24h`, `90s` or a bare number."""
    from ilaas.app.config_types import duration_s

    try:
        return duration_s(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"'{option}'") from None


def split(values: list[str] | None) -> frozenset[str] | None:
    """An option that may be repeated or hold several values with commas between; None when it was not given."""
    if not values:
        return None
    return frozenset(part.strip() for value in values for part in value.split(",") if part.strip())
