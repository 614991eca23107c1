"""The messages of `sharing`: small JSON arrays. The form's number stands first: other versions are passed over."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from ilaas.core.quota.account import PARTS, Account
from ilaas.core.quota.use import OwnUse

_ASK = "ask1"
_TELL = "tell1"


class Entry(NamedTuple):
    """One subject's account."""

    subject_id: str
    generation: int
    """A larger number is an account of the same subject that was opened later."""
    use: OwnUse
    request_level: int | None
    """Whole requests in the bucket, below zero in debt; None without such a limit."""
    token_level: int | None
    day_tokens: int
    month_tokens: int
    month_micro_eur: int

    @classmethod
    def of(cls, account: Account, use: OwnUse) -> Entry:
        """All that another gateway needs to know of it."""
        return cls(
            account.subject.id,
            account.generation,
            use,
            None if account.requests_pm is None else account.request_level // PARTS,
            None if account.tokens_pm is None else account.token_level // PARTS,
            account.day_tokens,
            account.month_tokens,
            account.month_micro_eur,
        )


class Ask(NamedTuple):
    """Tell me everything."""

    sender: str
    receiver: str
    """Empty for all."""

    def encoded(self) -> bytes:
        """For the wire."""
        return orjson.dumps([_ASK, self.sender, self.receiver])


class Tell(NamedTuple):
    """What one gateway counted."""

    sender: str
    number: int
    whole: bool
    """These are all accounts of the sender."""
    day: int
    month: int
    entries: list[Entry]

    def encoded(self) -> bytes:
        """For the wire."""
        entries = [[entry.subject_id, entry.generation, *entry.use, *entry[3:]] for entry in self.entries]
        return orjson.dumps([_TELL, self.sender, self.number, self.whole, self.day, self.month, entries])


def read(message: bytes) -> Ask | Tell | None:
    """One of the two; None for what is not of this version."""
    try:
        fields: Any = orjson.loads(message)
    except orjson.JSONDecodeError:
        return None
    match fields:
        case [kind, str(sender), str(receiver)] if kind == _ASK:
            return Ask(sender, receiver)
        case [kind, str(sender), int(number), bool(whole), int(day), int(month), list(entries)] if kind == _TELL:
            return Tell(sender, number, whole, day, month, [_entry(entry) for entry in entries])
    return None


def _entry(fields: list[Any]) -> Entry:
    subject_id, generation, *rest = fields
    return Entry(subject_id, generation, OwnUse(*rest[:6]), *rest[6:])
