"""The end of a request: its slot goes back, it is charged, and its record is written."""

from __future__ import annotations

from ilaas.core.dispatch.events import Grant, Settlement, Ticket
from ilaas.core.quota import Charging, charging
from ilaas.core.usage import AUDIO_MS_PER_TOKEN
from ilaas.services.context import Context
from ilaas.services.records import End, make_record
from ilaas.services.stages import CLIENT_LEFT, LEFT, Stage
from ilaas.services.wishes import Wishes


def give_back(context: Context, ticket: Ticket, grant: Grant | None, end: End, stage: Stage) -> None:
    """Leave the queue, or free the slot."""
    if grant is None or stage is Stage.QUEUED:
        context.broker.cancel(ticket)
        return
    outcome = CLIENT_LEFT[stage] if end.outcome in LEFT else end.outcome
    usage, ttft_s = end.usage, end.ttft_s or None
    tokens = usage.prompt_tokens + usage.completion_tokens + usage.audio_ms // AUDIO_MS_PER_TOKEN
    context.broker.settle(ticket, Settlement(ticket_id=ticket.id, outcome=outcome, tokens=tokens, ttft_s=ttft_s))


def close(context: Context, wishes: Wishes, ticket: Ticket, grant: Grant | None, end: End, *, begun: bool) -> None:
    """Settle the quota, price the answer and write the one record. `begun`: the client was given a part of it."""
    epoch_s = context.epoch()
    rule = charging(end.outcome, first_token=begun)
    if grant is not None and rule is Charging.COMPUTED:
        own = grant.server.owner == wishes.key.organisation
        end.price_micro_eur = context.prices.book.price(ticket.model, end.usage, own, epoch_s, end.usage.audio_ms)
    context.quotas.release(wishes.reservation, rule, end.usage, end.price_micro_eur)
    context.accounting.finished(make_record(end, wishes, ticket, grant, int(epoch_s * 1000)))
