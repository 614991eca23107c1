"""The prompts, as files in French and in English, and how they are filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

_VERSION = re.compile(r"<!-- version (\d+) -->\n")
_FIELD = re.compile(r"\{\{(\w+)\}\}")
_LANGUAGES = frozenset({"fr", "en"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt with its version, which grows with each change of its text."""

    version: int
    text: str

    def filled(self, **values: object) -> str:
        """With `{{name}}` replaced. Raises KeyError when a value is missing."""
        given: Mapping[str, object] = values
        return _FIELD.sub(lambda found: str(given[found[1]]), self.text)


def prompt(name: str, language: str | None) -> Prompt:
    """The prompt of that name in that language, else in English (its answers are asked for in the right one)."""
    folder = language if language in _LANGUAGES else "en"
    raw = (files(__package__) / str(folder) / f"{name}.md").read_text("utf-8")
    found = _VERSION.match(raw)
    if found is None:
        raise ValueError(f"the prompt {folder}/{name}.md does not begin with its version")
    return Prompt(int(found[1]), raw[found.end() :].strip())
