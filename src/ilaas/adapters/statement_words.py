"""The words, dates and numbers of a printed statement, in French and in English."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from ilaas.core.periods import Month
from ilaas.core.statements import LineKind

_THIN = "\u202f"
"""Narrow no-break space: between thousands in French."""
_WIDE = "\u00a0"
"""No-break space, before the sign of the euro in French."""


class Language(StrEnum):
    """What a statement is printed in."""

    FRENCH = "fr"
    ENGLISH = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Every text of a statement in one language."""

    months: tuple[str, ...]
    title: str
    period: str
    closed: str
    provisional: str
    kinds: Mapping[LineKind, str]
    consumed: str
    contributed: str
    to_receive: str
    to_pay: str
    balanced: str
    columns: tuple[str, ...]
    """Month, model, institution, requests, prompt and completion tokens, hours of audio, amount."""
    total: str
    nothing: str
    notes: str
    correction_note: str
    page: str
    thousands: str
    decimal: str
    euro: str

    def month(self, month: Month) -> str:
        """`octobre 2026`."""
        return f"{self.months[month.month - 1]} {month.year}"

    def days(self, month: Month) -> str:
        """From the first to the last day of the month."""
        last = datetime.fromtimestamp(month.end_s - 1, UTC).day
        return self.period.format(last=last, month=self.month(month))

    def instant(self, epoch_s: float) -> str:
        """A day, in UTC."""
        moment = datetime.fromtimestamp(epoch_s, UTC)
        return f"{moment.day} {self.months[moment.month - 1]} {moment.year}"

    def number(self, value: int) -> str:
        """With separated thousands."""
        return f"{value:,}".replace(",", self.thousands).replace("-", "\u2212")

    def hours(self, milliseconds: int) -> str:
        """Hours, to two decimals."""
        hundredths = (milliseconds + 18_000) // 36_000
        return self._decimals(hundredths)

    def money(self, cents: int) -> str:
        """An amount in euros."""
        return self.euro.format(sign="\u2212" if cents < 0 else "", amount=self._decimals(abs(cents)))

    def _decimals(self, hundredths: int) -> str:
        whole, rest = divmod(hundredths, 100)
        return f"{self.number(whole)}{self.decimal}{rest:02d}"


WORDS: Mapping[Language, Words] = {
    Language.FRENCH: Words(
        months=(
            *("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août"),
            *("septembre", "octobre", "novembre", "décembre"),
        ),
        title="Relevé de compte",
        period="Période : du 1er au {last} {month} (UTC)",
        closed="Comptes clos le {day}",
        provisional="PROVISOIRE : comptes non clos",
        kinds={
            LineKind.CONSUMED: "Consommé auprès des autres établissements",
            LineKind.CONTRIBUTED: "Fourni aux autres établissements",
            LineKind.OWN: "Usage de ses propres serveurs (gratuit)",
        },
        consumed="Consommé",
        contributed="Fourni",
        to_receive="Solde à recevoir",
        to_pay="Solde à payer",
        balanced="Solde",
        columns=(
            "Mois",
            "Modèle",
            "Établissement",
            "Requêtes",
            "Tokens entrée",
            "Tokens sortie",
            "Audio (h)",
            "Montant",
        ),
        total="Total",
        nothing="Aucun usage.",
        notes=(
            "Chaque requête est facturée au tarif en vigueur au moment où elle a été faite. Le total consommé est "
            "arrondi au centime le plus proche et réparti sur les lignes par la méthode des plus forts restes ; la "
            "même ligne figure, au même centime, sur le relevé de l'autre établissement (sauf tarif "
            "de crédit distinct). Les comptes clos ne changent plus."
        ),
        correction_note="Les lignes en italique corrigent un mois déjà clos.",
        page="Page",
        thousands=_THIN,
        decimal=",",
        euro="{sign}{amount}" + _WIDE + "€",
    ),
    Language.ENGLISH: Words(
        months=(
            *("January", "February", "March", "April", "May", "June", "July", "August"),
            *("September", "October", "November", "December"),
        ),
        title="Statement of account",
        period="Period: 1 to {last} {month} (UTC)",
        closed="Books closed on {day}",
        provisional="PROVISIONAL: books not closed",
        kinds={
            LineKind.CONSUMED: "Consumed from other institutions",
            LineKind.CONTRIBUTED: "Contributed to other institutions",
            LineKind.OWN: "Use of own servers (free)",
        },
        consumed="Consumed",
        contributed="Contributed",
        to_receive="Net to receive",
        to_pay="Net to pay",
        balanced="Net",
        columns=("Month", "Model", "Institution", "Requests", "Tokens in", "Tokens out", "Audio h", "Amount"),
        total="Total",
        nothing="No usage.",
        notes=(
            "Each request is charged by the tariff in force when it was made. The total consumed is rounded to the "
            "nearest cent and shared out over the lines by the method of largest remainders; the same line stands, "
            "with the same cents, on the other institution's statement (unless the tariff credits otherwise). "
            "Closed books never change."
        ),
        correction_note="Lines in italics correct a month that was closed already.",
        page="Page",
        thousands=",",
        decimal=".",
        euro="{sign}€{amount}",
    ),
}
