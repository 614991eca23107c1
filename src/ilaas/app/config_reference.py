"""Writes the tables of docs/configuration.md from the sections themselves, so that the page can't go stale.

`python -m ilaas.app.config_reference docs/configuration.md` fills the tables in place.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ilaas.app.config_impact import ParametersSection, SiteSection
from ilaas.app.config_model import (
    FileSection,
    LimitsSection,
    MetricsSection,
    ModelSection,
    OrganisationSection,
    QuotaSection,
    ServerSection,
)
from ilaas.app.config_policy import DeadlinesSection, PolicySection
from ilaas.app.config_section import Section
from ilaas.app.config_speech import SpeechSection
from ilaas.app.config_types import Billions, Duration, Interval, Size
from ilaas.app.settings import Settings

_MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}

SECTIONS: dict[str, type[Section]] = {
    "file": FileSection,
    "metrics": MetricsSection,
    "limits": LimitsSection,
    "organisations": OrganisationSection,
    "quota": QuotaSection,
    "sites": SiteSection,
    "models": ModelSection,
    "parameters": ParametersSection,
    "servers": ServerSection,
    "policy": PolicySection,
    "deadlines": DeadlinesSection,
    "speech": SpeechSection,
}


def filled(page: str) -> str:
    """The page with every table made anew."""
    return _MARK.sub(lambda found: f"{found[1]}{table(SECTIONS[found[2]])}{found[3]}", page)


def table(section: type[Section]) -> str:
    """One section's fields: name, kind, default, meaning, other names."""
    rows = ["| field | value | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        kind = _kind(field.annotation)
        if field.metadata:  # pydantic takes the annotations of a required field apart
            kind = _kind(Annotated[(field.annotation, *field.metadata)])
        default = "**required**" if field.is_required() else _default(section, name)
        others = [f"`{other}`" for other, target in section.SYNONYMS.items() if target == name]
        also = f" (also {', '.join(others)})" if others else ""
        rows.append(f"| `{name}` | {kind} | {default} | {field.description}{also} |")
    for name, target in section.SYNONYMS.items():
        if "." in target:
            rows.append(f"| `{name}` | | | short for `{target}` |")
    return "\n".join(rows) + "\n"


def _kind(annotation: Any) -> str:
    if annotation in (Duration, Interval):
        return "duration"
    if annotation == Size:
        return "size"
    if annotation == Billions:
        return "number or `[lowest, highest]`"
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _kind(next(part for part in parts if part is not type(None)))
    if origin is Annotated:
        return _kind(parts[0])
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is list:
        return f"list of {_kind(parts[0])}"
    if issubclass(annotation, Section):
        return "mapping"
    if issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return _KINDS[annotation]


def _default(section: type[Section], name: str) -> str:
    value = _default_value(section, name)
    attribute, raw = value if value is not None else ("", None)
    if raw is None or dataclasses.is_dataclass(raw):
        return ""
    if attribute.endswith("_s"):
        return _duration(raw)
    if attribute.endswith("_bytes"):
        return f"{raw // 2**20} MiB" if raw % 2**20 == 0 else f"{raw // 2**10} KiB"
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, tuple | frozenset):
        return ", ".join(map(str, raw))
    return str(raw)


def _default_value(section: type[Section], name: str) -> tuple[str, Any] | None:
    if section is MetricsSection:
        return name, getattr(Settings(), f"ops_{name}")
    if section.TARGET is None:
        return None
    specs = {spec.name: spec for spec in dataclasses.fields(section.TARGET)}
    attribute = next((name + end for end in ("", "_s", "_bytes") if name + end in specs), None)
    if attribute is None:
        return None
    spec = specs[attribute]
    if spec.default is not dataclasses.MISSING:
        return attribute, spec.default
    return (attribute, spec.default_factory()) if spec.default_factory is not dataclasses.MISSING else None


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"


def main() -> None:
    """Fill the page named on the command line."""
    page = Path(sys.argv[1])
    page.write_text(filled(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
