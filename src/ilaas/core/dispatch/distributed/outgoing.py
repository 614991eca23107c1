"""What a process has to send, gathered while a turn lasts, so that many entries make one letter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ilaas.core.dispatch.distributed.messages import Entry, Letter, write_letter


@dataclass(slots=True)
class Outgoing:
    """Letters by receiver, tickets by model, messages that are done with."""

    letters: dict[str, dict[str, list[Entry]]] = field(default_factory=dict)
    """Entries by receiver and model, in order."""
    tickets: list[tuple[str, str, bytes]] = field(default_factory=list)
    """Model, wire id and body."""
    acks: list[tuple[str, int]] = field(default_factory=list)
    """Model and tag."""
    news: bool = False
    """Tell everybody what this dispatcher owns."""
    released: list[str] = field(default_factory=list)
    """Models whose queue this dispatcher must let go of, with all that it holds unacknowledged."""
    urgent: bool = False
    """Somebody may wait for some of it."""

    def write(self, to: str, model: str, entry: Entry) -> None:
        """Add an entry to the letter for a process."""
        self.letters.setdefault(to, {}).setdefault(model, []).append(entry)

    def bodies(self, sender: str) -> Iterator[tuple[str, bytes]]:
        """Receiver and letter."""
        for to, models in self.letters.items():
            yield to, write_letter(Letter(sender, list(models.items())))

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.letters or self.tickets or self.acks or self.news or self.released)
