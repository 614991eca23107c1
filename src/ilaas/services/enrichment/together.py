"""Pieces of one step done side by side, each kept as soon as it is done, so that a resumed step does the rest only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ilaas.core.enrichment.steps import Part
from ilaas.services.enrichment.context import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece of work. Its number and place name it: what was kept for another place is not taken for it."""

    number: int
    span_s: tuple[float, float]
    do: Callable[[], Awaitable[Any]]
    """Gives something that JSON can hold."""


async def all_of(work: Work, pieces: Sequence[Piece]) -> list[Any]:
    """The results in the order of the pieces; the first failure stops the others."""
    room = asyncio.Semaphore(work.context.policy.parallel_calls)

    async def one(piece: Piece) -> Any:
        async with room:
            return await once(work, piece)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(piece)) for piece in pieces]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def once(work: Work, piece: Piece) -> Any:
    """Its result: the kept one, else of doing it now."""
    known = (await work.parts()).get(piece.number)
    if known is not None and known.result is not None and (known.start_s, known.end_s) == piece.span_s:
        return json.loads(known.result)
    result = await piece.do()
    start_s, end_s = piece.span_s
    text = json.dumps(result, ensure_ascii=False)
    await work.keep(Part(step=work.step, number=piece.number, start_s=start_s, end_s=end_s, result=text))
    return result
