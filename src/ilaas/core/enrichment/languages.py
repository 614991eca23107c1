"""Names of languages: speech servers say `french`, `fr`, `fra` or `fr-FR`, clients read two letters."""

from __future__ import annotations

_TWO_LETTERS: dict[str, tuple[str, ...]] = {
    "ar": ("arabic", "ara"),
    "bg": ("bulgarian", "bul"),
    "br": ("breton", "bre"),
    "ca": ("catalan", "cat"),
    "cs": ("czech", "ces", "cze"),
    "da": ("danish", "dan"),
    "de": ("german", "deu", "ger"),
    "el": ("greek", "ell", "gre"),
    "en": ("english", "eng"),
    "es": ("spanish", "castilian", "spa"),
    "et": ("estonian", "est"),
    "eu": ("basque", "eus", "baq"),
    "fi": ("finnish", "fin"),
    "fr": ("french", "fra", "fre"),
    "ga": ("irish", "gle"),
    "he": ("hebrew", "heb"),
    "hr": ("croatian", "hrv"),
    "hu": ("hungarian", "hun"),
    "it": ("italian", "ita"),
    "ja": ("japanese", "jpn"),
    "ko": ("korean", "kor"),
    "lt": ("lithuanian", "lit"),
    "lv": ("latvian", "lav"),
    "mt": ("maltese", "mlt"),
    "nl": ("dutch", "flemish", "nld", "dut"),
    "no": ("norwegian", "nor", "nob"),
    "oc": ("occitan", "oci"),
    "pl": ("polish", "pol"),
    "pt": ("portuguese", "por"),
    "ro": ("romanian", "moldavian", "ron", "rum"),
    "ru": ("russian", "rus"),
    "sk": ("slovak", "slk", "slo"),
    "sl": ("slovenian", "slv"),
    "sv": ("swedish", "swe"),
    "tr": ("turkish", "tur"),
    "uk": ("ukrainian", "ukr"),
    "zh": ("chinese", "mandarin", "zho", "chi"),
}
_BY_NAME = {name: code for code, names in _TWO_LETTERS.items() for name in (code, *names)}


def two_letters(name: str) -> str | None:
    """The language's code of two letters (ISO 639-1); None when it can't be told."""
    word = name.strip().lower().replace("_", "-").partition("-")[0]
    known = _BY_NAME.get(word)
    if known is None and len(word) == 2 and word.isascii() and word.isalpha():
        return word
    return known


def english_name(code: str | None) -> str:
    """`French` of `fr`, for prompts; the code itself when it is not known."""
    names = _TWO_LETTERS.get(code or "")
    return names[0].capitalize() if names else code or "the language of the transcript"
