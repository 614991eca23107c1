"""Makes the limits of several gateways one: each tells what it counted, and takes off what the others told.

Every gateway has the whole limit and its own books. A message has totals since an account was opened, never
differences: told twice they count once, and one that was lost is made good by the next. Messages of a gateway are
numbered: one that comes late or again is dropped, a gap is a reason to ask for everything.

| what | how another gateway's word is taken |
|---|---|
| buckets of a minute | its use since its last word leaves our bucket too, which may go into debt |
| day, month, budget | the same is added to our count; `Account.learn` holds it together with the store's (see below) |
| under way, and their estimates | what it said last, until it said nothing for `SILENT_S` |

A gateway heard for the first time, or again after a silence in which messages were lost, has used our buckets at times
unknown to us, and may know of others that are no more. Until it has told everything we take its state: our buckets are
not fuller than its, our counts not less than its.

The store's count and the others' words are of the same requests. Both are below the truth or equal to it, and are taken
by the larger one: the store replaces our count only when it is ahead. A use counts twice only if it reached the store
and was read there before its message came, and the store was ahead of us by it: at most what one message tells, once.

What all admit together stays within the limit but for what has not been heard yet: each other gateway may have admitted
what it could since the last message that came from it. That excess is debt, or stands in the counts, once it is heard.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ilaas.core.quota.account import Account
from ilaas.core.quota.book import QuotaBook
from ilaas.core.quota.limits import Subject
from ilaas.core.quota.telling import Ask, Entry, Tell, read
from ilaas.core.quota.use import NOTHING_ELSEWHERE, NOTHING_USED, Elsewhere, OwnUse

SILENT_S = 5.0
"""After so long without a word a gateway holds nothing any more: it is taken for dead."""
BEAT_S = 1.0
"""What is under way is told again so often."""
FORGOTTEN_S = 600.0
"""After so long without a word nothing is known of a gateway any more."""


class _Known(NamedTuple):
    """The last that a gateway told of one subject."""

    generation: int
    use: OwnUse


@dataclass(slots=True, eq=False)
class _Peer:
    """Another gateway, as far as it was heard."""

    heard_s: float
    number: int = 0
    based: bool = False
    """What it told is all that it used, since its beginning or since it told everything."""
    recent: bool = True
    """What it tells is of just now: there was no silence in which messages were lost."""
    joined: bool = False
    """Its state was taken over once: it may know of use by gateways that are no more."""
    wants_all: bool = False
    """Something was missed: it must be asked for everything."""
    asked_s: float = float("-inf")
    silent: bool = False
    known: dict[str, _Known] = field(default_factory=dict)


class Sharing:
    """One gateway's side. `sender` names this run of the process: a restart is another gateway."""

    def __init__(self, book: QuotaBook, sender: str) -> None:
        self._book = book
        self._sender = sender
        self._number = 0
        self._looked_us = 0
        self._beat_s = float("-inf")
        self._tell_all = False
        self._peers: dict[str, _Peer] = {}
        self._under_way: dict[str, Account] = {}

    @property
    def caught_up(self) -> bool:
        """Whether all that any other gateway has was told: there is one, and none is missing."""
        return bool(self._peers) and all(peer.based for peer in self._peers.values())

    @property
    def asked(self) -> bool:
        """Whether somebody waits for everything."""
        return self._tell_all

    def ask(self) -> bytes:
        """To all, at the start: tell everything."""
        return Ask(self._sender, "").encoded()

    def due(self, now_s: float, epoch_s: float) -> list[bytes]:
        """What is to be sent now: what changed since the last time, and what is under way each second."""
        self._fall_silent(now_s)
        messages = []
        for name, peer in self._peers.items():
            if peer.wants_all and not peer.silent and now_s - peer.asked_s >= BEAT_S:
                peer.asked_s = now_s
                messages.append(Ask(self._sender, name).encoded())
        day, month = self._book.calendar(epoch_s)
        whole = self._tell_all
        entries = self._entries(now_s, day, month)
        if entries or whole:
            self._number += 1
            messages.append(Tell(self._sender, self._number, whole, day, month, entries).encoded())
        return messages

    def receive(self, message: bytes, now_s: float, epoch_s: float) -> None:
        """Take over what another gateway tells; one's own messages, old ones and foreign ones change nothing."""
        found = read(message)
        if found is None or found.sender == self._sender:
            return
        if isinstance(found, Ask):
            self._tell_all = self._tell_all or found.receiver in {"", self._sender}
            return
        peer = self._peers.get(found.sender)
        if peer is None:
            peer = self._peers[found.sender] = _Peer(heard_s=now_s, based=found.number == 1)
            peer.wants_all = not peer.based
        elif found.number <= peer.number:
            return
        elif found.number != peer.number + 1:
            peer.wants_all = True
            if now_s - peer.heard_s > SILENT_S:
                peer.recent = peer.joined = False
        self._take(found, peer, now_s, epoch_s)

    # -- telling -------------------------------------------------------------------------------------------------------

    def _entries(self, now_s: float, day: int, month: int) -> list[Entry]:
        """Nothing is counted for this on the path of a request: accounts that were touched are compared."""
        whole, self._tell_all = self._tell_all, False
        beats = now_s - self._beat_s >= BEAT_S
        if beats:
            self._beat_s = now_s
        # Those under way too: one may have ended and been forgotten by the book.
        accounts = [*self._under_way.items()]
        accounts += ((each.subject.id, each) for each in self._book.touched_since(-1 if whole else self._looked_us))
        self._looked_us = int(now_s * 1_000_000)
        entries: dict[tuple[str, int], Entry] = {}
        for subject_id, account in accounts:
            use = account.own_use()
            if whole or use != account.told or (beats and use.in_flight):
                account.told = use
                account.advance(self._looked_us, day, month)  # its levels are told too
                entries[subject_id, account.generation] = Entry.of(account, use)
                if use.in_flight:
                    self._under_way[subject_id] = account
                elif self._under_way.get(subject_id) is account:
                    del self._under_way[subject_id]
        # Of two accounts of one subject, the one that was opened later counts: it comes last.
        return sorted(entries.values(), key=lambda entry: entry.generation)

    # -- hearing -------------------------------------------------------------------------------------------------------

    def _take(self, tell: Tell, peer: _Peer, now_s: float, epoch_s: float) -> None:
        today = self._book.calendar(epoch_s)
        changed: set[str] = set()
        if peer.silent:
            peer.silent = False
            changed |= peer.known.keys()  # they count again
        peer.heard_s = now_s
        peer.number = tell.number
        if tell.whole:
            gone = peer.known.keys() - {entry.subject_id for entry in tell.entries}
            for subject_id in gone:
                del peer.known[subject_id]
            changed |= gone
        for entry in tell.entries:
            account = self._account(entry.subject_id, now_s, epoch_s)
            if account is not None:
                _take_entry(entry, account, peer, whole=tell.whole, same_day=today == (tell.day, tell.month))
            peer.known[entry.subject_id] = _Known(entry.generation, entry.use)
            changed.add(entry.subject_id)
        if tell.whole:
            peer.based = peer.recent = peer.joined = True
            peer.wants_all = False
        self._count_elsewhere(changed)
        self._book.forget_idle(2 * len(tell.entries), int(now_s * 1_000_000))

    def _account(self, subject_id: str, now_s: float, epoch_s: float) -> Account | None:
        try:
            return self._book.account(Subject.of_id(subject_id), now_s, epoch_s)
        except ValueError:
            return None  # a newer version knows more kinds

    def _fall_silent(self, now_s: float) -> None:
        for name, peer in list(self._peers.items()):
            silence_s = now_s - peer.heard_s
            if silence_s > SILENT_S and not peer.silent:
                peer.silent = True
                self._count_elsewhere(peer.known)
            if silence_s > FORGOTTEN_S:
                del self._peers[name]

    def _count_elsewhere(self, subject_ids: Iterable[str]) -> None:
        speaking = [peer.known for peer in self._peers.values() if not peer.silent]
        for subject_id in subject_ids:
            account = self._book.known(subject_id)
            if account is None:
                continue
            uses = [known[subject_id].use for known in speaking if subject_id in known]
            account.hold_elsewhere(
                Elsewhere(
                    sum(use.in_flight for use in uses),
                    sum(use.held_tokens for use in uses),
                    sum(use.held_micro_eur for use in uses),
                )
                if uses
                else NOTHING_ELSEWHERE
            )


def _take_entry(entry: Entry, account: Account, peer: _Peer, *, whole: bool, same_day: bool) -> None:
    before = peer.known.get(entry.subject_id)
    if before is not None or peer.based:
        use = before.use if before is not None and before.generation == entry.generation else NOTHING_USED
        account.count(use, entry.use)
        if peer.based and peer.recent:
            account.spend(use, entry.use)
            if peer.joined or not whole:
                return
    account.sink(entry.request_level, entry.token_level)
    if same_day:
        account.learn(entry.day_tokens, entry.month_tokens, entry.month_micro_eur)
