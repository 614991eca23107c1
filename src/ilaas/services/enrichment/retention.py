"""Removes what is to be removed: media after their transcription, results by date, and what nothing refers to."""

from __future__ import annotations

from functools import partial

import structlog

from ilaas.core.enrichment.orders import removed_by_date
from ilaas.core.errors import NotFound
from ilaas.services.enrichment.context import WorkContext

log = structlog.get_logger(__name__)

_BATCH = 100
_STRAY_S = 24 * 3_600.0
"""Objects that nothing refers to are removed when they are so old: a younger one may be on its way in."""
_LISTED = 100_000


async def remove_due(context: WorkContext) -> int:
    """Apply the dates of retention, then delete what is in the trash; returns how many objects are gone."""
    for enrichment in await context.store.due_for_removal(context.epoch(), _BATCH):
        try:
            await context.store.change(enrichment.id, partial(removed_by_date, at_s=context.epoch()))
        except NotFound:
            continue
        log.info("retention_applied", enrichment=enrichment.id)
    return await empty_trash(context)


async def empty_trash(context: WorkContext) -> int:
    """Delete the objects in the trash; returns how many."""
    removed = 0
    while keys := await context.store.trash(_BATCH):
        for key in keys:
            await context.objects.delete(key)
        await context.store.trash_done(keys)
        removed += len(keys)
    return removed


async def remove_strays(context: WorkContext) -> int:
    """Delete objects, whole or not, that have been there for long and that nothing refers to; returns how many."""
    oldest_s = context.epoch() - _STRAY_S
    unfinished = await context.objects.list(unfinished=True, limit=_LISTED)
    whole = await context.objects.list(limit=_LISTED)
    strays = {each.key for each in unfinished if each.changed_at_s < oldest_s}
    old = [each.key for each in whole if each.changed_at_s < oldest_s]
    for begin in range(0, len(old), _BATCH):
        keys = old[begin : begin + _BATCH]
        strays |= set(keys) - await context.store.known_objects(keys)
    for key in strays:
        await context.objects.delete(key)
    if strays:
        log.info("strays_removed", count=len(strays))
    return len(strays)
