"""Statements as CSV: one row a line and three of totals, decimal points, UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from ilaas.core.statements import Statement

COLUMNS = (
    "organisation",
    "month",
    "kind",
    "usage_month",
    "model",
    "counterparty",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "audio_ms",
    "exact_micro_eur",
    "amount_eur",
)


def statements_csv(statements: Iterable[Statement]) -> str:
    """Rows with a header; `total consumed`, `total contributed` and `net` end each statement."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in statements:
        head = (_text(each.organisation), str(each.month))
        for line in each.lines:
            used = line.used
            writer.writerow(
                (
                    *head,
                    str(line.kind),
                    str(line.usage_month),
                    _text(line.model),
                    _text(line.counterparty),
                    *(used.requests, used.prompt_tokens, used.completion_tokens, used.cached_tokens, used.audio_ms),
                    line.micro_eur,
                    euros(line.cents),
                )
            )
        for kind, cents in (
            ("total consumed", each.consumed_cents),
            ("total contributed", each.contributed_cents),
            ("net", each.net_cents),
        ):
            writer.writerow((*head, kind, *[""] * 9, euros(cents)))
    return out.getvalue()


def euros(cents: int) -> str:
    """`-1234.05`."""
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' if cents < 0 else ''}{whole}.{rest:02d}"


def _text(value: str) -> str:
    """A name that a spreadsheet does not take for a formula."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
