"""The queue, as rows: what a worker may take, and who holds what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, and_, delete, func, insert, not_, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from ilaas.adapters.sql.enrichment_codec import ENRICHMENT
from ilaas.adapters.sql.enrichment_tables import ENRICHMENT_PARTS, ENRICHMENT_TURNS, ENRICHMENTS
from ilaas.core.enrichment.changes import SpeechLimits
from ilaas.core.enrichment.steps import Part, Step
from ilaas.core.enrichment.turns import Candidate, in_turn
from ilaas.core.enrichment.values import Enrichment
from ilaas.ports.enrichment import JobAsk

_OFFERED = 32
"""Jobs of each client that are looked at: enough for as many workers to take at once."""

_E = ENRICHMENTS.c


async def offered(connection: AsyncConnection, ask: JobAsk) -> tuple[Sequence[Candidate], int]:
    """What the worker may take, the best first; and the number of the next turn."""
    columns = (_E.id, _E.client_id, _E.priority, _E.job_rank_s, _E.fence)
    nth = func.row_number().over(
        partition_by=_E.client_id, order_by=(_E.priority.desc(), _E.job_rank_s.asc(), _E.id.asc())
    )
    numbered = select(*columns, nth.label("nth")).where(*_takes(ask)).subquery()
    rows = (await connection.execute(select(numbered).where(numbered.c.nth <= _OFFERED))).all()
    if not rows:
        return (), 0
    held = select(_E.client_id, func.count()).where(_E.job_lease_until_s > ask.at_s).group_by(_E.client_id)
    turns = {row.client_id: row.turn for row in await connection.execute(select(ENRICHMENT_TURNS))}
    candidates = [
        Candidate(
            enrichment_id=row.id,
            client_id=row.client_id,
            priority=row.priority,
            rank_s=row.job_rank_s,
            fence=row.fence,
        )
        for row in rows
    ]
    in_hand = {row[0]: int(row[1]) for row in await connection.execute(held)}
    return in_turn(candidates, in_hand, turns), max(turns.values(), default=0) + 1


async def claim(connection: AsyncConnection, candidates: Iterable[Candidate]) -> Enrichment | None:
    """Lock the first that nobody else has locked or changed meanwhile."""
    for each in candidates:
        query = select(_E.body).where(_E.id == each.enrichment_id, _E.fence == each.fence)
        body = (await connection.execute(query.with_for_update(skip_locked=True))).scalar_one_or_none()
        if body is not None:
            return ENRICHMENT.validate_json(body)
    return None


async def note_turn(connection: AsyncConnection, client_id: str, turn: int) -> None:
    """It was this client's turn."""
    # Two workers may serve a client for the first time at once: an upsert, for which each database has its own words.
    upsert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    query = upsert(ENRICHMENT_TURNS).values(client_id=client_id, turn=turn)
    await connection.execute(query.on_conflict_do_update(index_elements=["client_id"], set_={"turn": turn}))


async def exhausted(connection: AsyncConnection, at_s: float, limits: SpeechLimits) -> Sequence[str]:
    """Ids of those whose last lease ran out with no attempt left."""
    spent = or_(*(_of_step(step, _E.job_attempts >= limits.of(step).max_attempts) for step in Step))
    return (await connection.execute(select(_E.id).where(*_free(at_s), spent).order_by(_E.id))).scalars().all()


async def counted(connection: AsyncConnection) -> Mapping[tuple[Step, bool], int]:
    """Jobs by step, and whether a worker has them."""
    held = _E.job_lease_until_s.is_not(None)
    query = select(_E.job_step, held.label("held"), func.count()).where(_E.job_step.is_not(None))
    return {
        (Step(step), bool(is_held)): int(count)
        for step, is_held, count in await connection.execute(query.group_by(_E.job_step, held))
    }


def _free(at_s: float) -> tuple[ColumnElement[bool], ...]:
    return (
        _E.job_step.is_not(None),
        _E.job_not_before_s <= at_s,
        or_(_E.job_lease_until_s.is_(None), _E.job_lease_until_s <= at_s),
    )


def _of_step(step: Step, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return and_(_E.job_step == step.value, condition)


def _takes(ask: JobAsk) -> tuple[ColumnElement[bool], ...]:
    where = [
        *_free(ask.at_s),
        or_(*(_of_step(step, _E.job_attempts < ask.limits.of(step).max_attempts) for step in sorted(ask.steps))),
    ]
    if ask.longest_s is not None:
        where.append(func.coalesce(_E.media_duration_s, 0) <= ask.longest_s)
    if ask.serves is not None:
        for column, served in ((_E.job_model, ask.serves.model), (_E.job_infrastructure, ask.serves.infrastructure)):
            fits = [column == served] if served is not None else [column.is_not(None)]
            where.append(or_(*fits, *([column.is_(None)] if ask.unspecified else [])))
    for step, choice in ask.leaves:
        for column, name in ((_E.job_model, choice.model), (_E.job_infrastructure, choice.infrastructure)):
            if name is not None:
                where.append(not_(_of_step(step, func.coalesce(column, "") == name)))
    return tuple(where)


async def put_parts(connection: AsyncConnection, enrichment_id: str, parts: Sequence[Part]) -> None:
    """Add, or put in place of those of the same numbers."""
    for part in parts:
        here = and_(
            ENRICHMENT_PARTS.c.enrichment_id == enrichment_id,
            ENRICHMENT_PARTS.c.step == part.step.value,
            ENRICHMENT_PARTS.c.number == part.number,
        )
        await connection.execute(delete(ENRICHMENT_PARTS).where(here))
    if parts:
        await connection.execute(
            insert(ENRICHMENT_PARTS),
            [
                {
                    "enrichment_id": enrichment_id,
                    "step": part.step.value,
                    "number": part.number,
                    "start_s": part.start_s,
                    "end_s": part.end_s,
                    "object_key": part.object_key,
                    "result": part.result,
                }
                for part in parts
            ],
        )


async def parts(connection: AsyncConnection, enrichment_id: str, step: Step) -> Sequence[Part]:
    """By number."""
    here = and_(ENRICHMENT_PARTS.c.enrichment_id == enrichment_id, ENRICHMENT_PARTS.c.step == step.value)
    query = select(ENRICHMENT_PARTS).where(here).order_by(ENRICHMENT_PARTS.c.number)
    return [
        Part(
            step=Step(row.step),
            number=row.number,
            start_s=row.start_s,
            end_s=row.end_s,
            object_key=row.object_key,
            result=row.result,
        )
        for row in await connection.execute(query)
    ]
