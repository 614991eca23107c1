"""What every section of the configuration file is: a mapping with other names, ignored fields and secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One mapping of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    TARGET: ClassVar[Any] = None
    """The dataclass that this becomes."""
    SYNONYMS: ClassVar[Mapping[str, str]] = {}
    """Other names of fields; a dotted one lies in the section named before the dot."""
    IGNORED: ClassVar[Mapping[str, str]] = {}
    """Fields of today's configuration that are accepted with a warning, and the warning."""
    SECRETS: ClassVar[tuple[str, ...]] = ()
    """Fields that may be `{file: path}`, or come from `<name>_file`."""


def other_ending(section: type[Section], key: str) -> str | None:
    """The field meant by a name that carries its unit (`max_wait_s`, `max_body_bytes`)."""
    for ending in ("_s", "_bytes"):
        stem = key.removesuffix(ending)
        if stem != key and stem in section.model_fields and key in getattr(section.TARGET, "__dataclass_fields__", ()):
            return stem
    return None
