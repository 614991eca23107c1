"""How languages are called in prompts."""

from __future__ import annotations

from ilaas.core.enrichment.languages import english_name

_FRENCH = {"fr": "français", "en": "anglais"}


def language_name(code: str | None, prompt_language: str | None = None) -> str:
    """`français` in French prompts, `French` in all others; a prompt is in the language of its text by default."""
    if (prompt_language or code) == "fr" and code in _FRENCH:
        return _FRENCH[code]
    return english_name(code)
