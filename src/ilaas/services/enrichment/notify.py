"""Calls of clients' webhooks: written with the change they tell of, sent by any worker, tried again within reason.

A call that was answered is never sent twice. One whose answer nobody heard is, when it tells of a success: a client
that never learns of its results is worse off than one that is told twice. Of failures only those are sent again that
can't have arrived, because some clients mail their users at each.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import orjson
import structlog

from ilaas.core.enrichment.changes import Notice
from ilaas.core.enrichment.steps import Status
from ilaas.core.errors import NotFound
from ilaas.ports.media import WebhookAnswer
from ilaas.services.enrichment.context import WorkContext

log = structlog.get_logger(__name__)

_DELAYS_S = (2.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 3 * 3_600.0, 6 * 3_600.0, 12 * 3_600.0)
_LEASE_S = 120.0
_CALL_S = 60.0
"""For one call: well below the lease, so that nobody else makes it meanwhile."""
_SETTLING_S = 2.0
"""Clients keep the id of what they asked for after they got the answer: nobody is called sooner than so."""
_NOBODY = "0"
"""What is shown as the status when there was no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyPolicy:
    """How persistent calls are."""

    delays_s: tuple[float, ...] = _DELAYS_S
    """Before each further try; after the last one it is given up."""
    settling_s: float = _SETTLING_S


def notice_body(notice: Notice) -> bytes:
    """The JSON that clients get."""
    return orjson.dumps(
        {
            "id": notice.enrichment_id,
            "status": str(notice.status),
            "initialVersionId": notice.initial_version_id,
            "failureCause": notice.failure_cause,
            "completedStep": None if notice.completed_step is None else str(notice.completed_step),
        }
    )


async def send_due_notice(context: WorkContext, policy: NotifyPolicy) -> bool:
    """Send the notice that is due longest; says whether there was one."""
    notice = await context.store.take_notice(context.epoch(), _LEASE_S)
    if notice is None:
        return False
    try:
        enrichment = await context.store.enrichment(notice.enrichment_id)
        client = await context.store.client(notice.client_id)
    except NotFound:
        await context.store.notice_done(notice, context.epoch(), status=None, delivered=False)
        return True
    settled_at_s = enrichment.created_at_s + policy.settling_s
    if context.epoch() < settled_at_s:
        await context.store.notice_later(notice, settled_at_s, status=None)
        return True
    try:
        async with asyncio.timeout(_CALL_S):
            answer = await context.webhooks.call(notice.url, notice_body(notice), secret=client.webhook_secret)
    except TimeoutError:
        answer = WebhookAnswer(status=None)
    await _settle(context, notice, answer, policy)
    return True


async def _settle(context: WorkContext, notice: Notice, answer: WebhookAnswer, policy: NotifyPolicy) -> None:
    status = _NOBODY if answer.status is None else str(answer.status)
    now_s = context.epoch()
    left = notice.attempts <= len(policy.delays_s)
    if left and may_retry(notice.status, answer):
        delay_s = policy.delays_s[max(notice.attempts - 1, 0)]
        log.info("webhook_postponed", enrichment=notice.enrichment_id, status=status, delay_s=delay_s)
        await context.store.notice_later(notice, now_s + delay_s, status=status)
        return
    delivered = answer.status is not None and 200 <= answer.status < 300
    log.info("webhook_done", enrichment=notice.enrichment_id, status=status, delivered=delivered)
    await context.store.notice_done(notice, now_s, status=status, delivered=delivered)


def may_retry(told: Status, answer: WebhookAnswer) -> bool:
    """Whether sending it again can help and does no harm."""
    if answer.status is None:
        return told is not Status.FAILURE or not answer.reached
    return told is not Status.FAILURE and (answer.status in {404, 408, 425, 429} or answer.status >= 500)
