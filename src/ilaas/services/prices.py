"""What requests cost, by the tariffs in force; a snapshot that is swapped in whole when they change."""

from __future__ import annotations

from collections.abc import Iterable

from ilaas.core.billing import PriceBook, Tariff
from ilaas.core.usage import Usage
from ilaas.core.values import RoutingMode


class Prices:
    """Holds the current price book. One instance per gateway."""

    def __init__(self, tariffs: Iterable[Tariff] = ()) -> None:
        self.book = PriceBook(tariffs)

    def set_tariffs(self, tariffs: Iterable[Tariff]) -> None:
        """Swap in a book of these."""
        self.book = PriceBook(tariffs)

    def estimate(
        self, model: str, tokens: tuple[int, int], mode: RoutingMode, epoch_s: float, audio_ms: int = 0
    ) -> int:
        """Micro-euros that a request may cost, of its prompt's and its answer's estimated tokens, or its recording.

        Whose server will do it is not known yet: it counts as another's, unless only own servers may.
        """
        return self.book.price(model, Usage(*tokens), mode is RoutingMode.PRIVATE_ONLY, epoch_s, audio_ms)
