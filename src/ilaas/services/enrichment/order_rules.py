"""What a client asks for, checked by the rules of the speech API and told in its words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from ilaas.core.enrichment.languages import english_name, two_letters
from ilaas.core.enrichment.values import EnrichmentParameters, NotificationLevel
from ilaas.services.enrichment.refusals import Violation

JUDGE = "ChatGPT"
"""The only name of a judge that clients know; the federation's own model judges."""
BAD_URL = "The given url is not a valid"
_LONGEST_URL = 4_000
_TLD = re.compile(r"[A-Za-z0-9_.-]+\.(?:[A-Za-z]{2,63}|xn--[A-Za-z0-9-]{2,59})\.?")
_LEVELS = {"default": NotificationLevel.DEFAULT, "task": NotificationLevel.TASK}
NO_CALLS = "none"
"""A level of our own: for clients that ask how far it is, and so need no webhook."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a client asks for, as it came."""

    parameters: EnrichmentParameters | None
    """None when it was left out."""
    webhook_url: str | None = None
    level: str | None = None
    end_user_identifier: str | None = None
    blank: frozenset[str] = frozenset()
    """Names of parameters that were given as an empty text, where that is a mistake."""

    @property
    def notification_level(self) -> NotificationLevel:
        """When the client is called."""
        return _LEVELS.get(self.level or "default", NotificationLevel.DEFAULT)


def checked(order: Order, *, require_tld: bool) -> tuple[Order, Sequence[Violation]]:
    """The order with languages as two letters, and everything that is wrong with it."""
    if order.level == NO_CALLS:
        order = replace(order, webhook_url=None, level=None)
        found: list[Violation] = []
    else:
        found = list(_of_webhook(order.webhook_url, require_tld=require_tld))
    if order.level is not None and order.level not in _LEVELS:
        found.append(Violation("notificationLevel", "The notification level is either default or task"))
    asked = order.parameters
    if asked is None:
        return order, [*found, Violation("enrichmentParameters", "The parameter enrichmentParameters cannot be empty")]
    asked = replace(asked, language=_code(asked.language), translate_to=_code(asked.translate_to))
    found += [Violation(f"enrichmentParameters.{each.path}", each.message) for each in _of_parameters(asked, order)]
    return replace(order, parameters=asked, end_user_identifier=order.end_user_identifier or None), found


def is_url(text: str, *, require_tld: bool) -> bool:
    """Whether it is an absolute http(s) URL; with a top-level domain, unless that need not be."""
    if len(text) > _LONGEST_URL or not text.isprintable() or any(char.isspace() for char in text):
        return False
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        return False
    return not require_tld or _TLD.fullmatch(_ascii(host)) is not None


def _ascii(host: str) -> str:
    """An international name in its xn-- form, as far as it has one."""
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return ""


def _of_webhook(url: str | None, *, require_tld: bool) -> Sequence[Violation]:
    if url is None or not url.strip():
        return [Violation("notificationWebhookUrl", "The parameter notificationWebhookUrl cannot be empty")]
    return [] if is_url(url, require_tld=require_tld) else [Violation("notificationWebhookUrl", BAD_URL)]


def _of_parameters(asked: EnrichmentParameters, order: Order) -> Sequence[Violation]:
    found: list[Violation] = []
    if asked.generate_metadata:
        if not asked.media_types:
            found.append(Violation("mediaTypes", "At least one media type is expected"))
        if not asked.disciplines:
            found.append(Violation("disciplines", "At least one discipline is expected"))
    if asked.ai_evaluation not in {None, JUDGE} or "aiEvaluation" in order.blank:
        found.append(Violation("aiEvaluation", "Invalid aiEvaluation value"))
    for name, value in (("language", asked.language), ("translateTo", asked.translate_to)):
        if name in order.blank or (value is not None and (not value or english_name(value) == value)):
            found.append(Violation(name, f"Invalid {name} value"))
    if asked.language is not None and asked.language == asked.translate_to:
        found.append(Violation("translateTo", "The language and the translation language must be different"))
    return found


def _code(language: str | None) -> str | None:
    return None if language is None else two_letters(language) or language
