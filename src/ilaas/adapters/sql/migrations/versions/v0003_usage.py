"""Roll-ups of usage, and today's dispatcher's `metrics` as a view for the operators' SQL dashboards."""

from __future__ import annotations

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MEASURES = (
    "requests",
    "completed",
    "estimated",
    "impact_known",
    "energy_measured",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "audio_ms",
    "queue_ms",
    "ttft_ms",
    "duration_ms",
    "price_micro_eur",
    "energy_mj",
    "energy_low_mj",
    "energy_high_mj",
    "co2e_ug",
    "embodied_co2e_ug",
)
_ROLL_UPS = {
    "usage_daily_models": ("day", "organisation", "model", "site", "owner", "request_class"),
    "usage_daily_keys": ("day", "organisation", "project", "key_id"),
    "usage_daily": (
        "day",
        "organisation",
        "project",
        "key_id",
        "model",
        "server",
        "site",
        "owner",
        "request_class",
        "outcome",
    ),
    "usage_hourly": ("hour", "organisation", "model", "site", "owner", "request_class", "outcome"),
}

_VIEW = """
CREATE VIEW metrics AS SELECT
    usage_records.id AS id,
    coalesce(keys.name, usage_records.key_id) AS user_name,
    usage_records.organisation AS user_organization,
    {asked} AS request_date,
    {sent} AS sent_to_llm_date,
    {answered} AS response_date,
    usage_records.model AS model,
    coalesce(servers.url, usage_records.server) AS server,
    usage_records.owner AS server_organization,
    CASE WHEN usage_records.estimated THEN NULL ELSE usage_records.prompt_tokens END AS prompt_tokens,
    CASE WHEN usage_records.estimated THEN NULL ELSE usage_records.completion_tokens END AS completion_tokens,
    CAST(NULL AS {text}) AS strategy,
    usage_records.attempts - 1 AS requeue_count,
    CAST(NULL AS INTEGER) AS max_parallel_requests,
    CAST(NULL AS INTEGER) AS current_parallel_requests,
    usage_records.priority AS priority,
    CAST(NULL AS {float}) AS performance_score,
    usage_records.routing_mode AS routing_mode
FROM usage_records
LEFT JOIN keys ON keys.id = usage_records.key_id
LEFT JOIN servers ON servers.id = usage_records.server
WHERE usage_records.server <> ''
"""
_TIMES = {
    "asked": "usage_records.finished_at_ms - usage_records.duration_ms",
    "sent": "usage_records.finished_at_ms - usage_records.duration_ms + usage_records.queue_ms",
    "answered": "usage_records.finished_at_ms",
}


def upgrade(op: Operations) -> None:
    """Make the roll-ups, from the records that are there, and the view."""
    postgresql = op.get_context().dialect.name == "postgresql"
    for table, dimensions in _ROLL_UPS.items():
        op.create_table(
            table,
            *(
                sa.Column(name, sa.Integer if name in {"day", "hour"} else sa.Text, nullable=False)
                for name in dimensions
            ),
            *(sa.Column(name, sa.BigInteger, nullable=False) for name in _MEASURES),
            sa.PrimaryKeyConstraint(*dimensions, name=f"pk_{table}"),
            sqlite_with_rowid=False,
        )
        op.execute(_fill(table, dimensions))
    if postgresql:
        # Rows of the current hour and day are changed at each batch: room beside them keeps them on their page.
        for table in _ROLL_UPS:
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 70)")
    _view(op, postgresql=postgresql)


def _fill(table: str, dimensions: tuple[str, ...]) -> str:
    first, *others = dimensions
    divisor = 3_600_000 if first == "hour" else 86_400_000
    counts = {
        "requests": "1",
        "completed": "CASE WHEN outcome = 'completed' THEN 1 ELSE 0 END",
        "estimated": "CASE WHEN estimated THEN 1 ELSE 0 END",
        "impact_known": "CASE WHEN impact_method NOT IN ('', 'unknown') THEN 1 ELSE 0 END",
        "energy_measured": "CASE WHEN energy_measured THEN 1 ELSE 0 END",
    }
    sums = ", ".join(f"CAST(sum({counts.get(name, name)}) AS BIGINT)" for name in _MEASURES)
    return (
        f"INSERT INTO {table} ({', '.join((*dimensions, *_MEASURES))}) "  # noqa: S608  # names of our own columns
        f"SELECT CAST(finished_at_ms / {divisor} AS INTEGER) AS {first}, {', '.join(others)}, {sums} "
        f"FROM usage_records GROUP BY {', '.join(str(number + 1) for number in range(len(dimensions)))}"
    )


def _view(op: Operations, *, postgresql: bool) -> None:
    """Leave out the view where a table of that name is there: today's dispatcher may share the database."""
    if sa.inspect(op.get_bind()).has_table("metrics"):
        return
    if postgresql:  # without time zone, in that of the session, as the dispatcher wrote them
        times = {name: f"CAST(to_timestamp(({value}) / 1000.0) AS TIMESTAMP)" for name, value in _TIMES.items()}
        op.execute(_VIEW.format(**times, text="VARCHAR", float="DOUBLE PRECISION"))
        return
    times = {
        name: f"strftime('%Y-%m-%d %H:%M:%f', ({value}) / 1000.0, 'unixepoch', 'localtime')"
        for name, value in _TIMES.items()
    }
    # A colon would be taken for a parameter.
    op.execute(_VIEW.format(**times, text="TEXT", float="REAL").replace(":", "\\:"))
