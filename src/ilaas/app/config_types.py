"""The kinds of value a configuration has beside plain ones: durations, sizes, names, secrets."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,6})?(?:ms|s|m|h|d))+\Z", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([kKMG]i?)?B?\Z", re.ASCII)
_UNITS_BYTES = {"k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,6})?\Z", re.ASCII)
MAX_DURATION_S = 366 * 86400.0
MAX_BILLIONS = 1e5


def duration_s(value: Any) -> float:
    """Seconds of a number or of text such as `15s`, `500ms`, `1h30m`. Raises ValueError."""
    if isinstance(value, str):
        text = value.replace(" ", "")
        if _NUMBER.match(text):
            value = float(text)
        elif _DURATION.match(text):
            value = sum(float(number) * _UNITS_S[unit] for number, unit in _DURATION_PART.findall(text))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a duration; write seconds as a number, or text such as '500ms', '15s', '10m', '6h'")
    if not 0 <= value <= MAX_DURATION_S:
        raise ValueError("must be a duration between 0 and 366 days; write it in seconds or with a unit: '15s', '6h'")
    return float(value)


def _positive(value: float) -> float:
    if value <= 0:
        raise ValueError("must be longer than 0; write for example '1s'")
    return value


def size_bytes(value: Any) -> int:
    """Bytes of a whole number or of text such as `32MB` (10^6) or `32MiB` (2^20). Raises ValueError."""
    if isinstance(value, str) and (found := _SIZE.match(value.strip())):
        return int(float(found[1]) * _UNITS_BYTES.get(found[2] or "", 1))
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**50:
        raise ValueError("must be a size; write bytes as a whole number, or text such as '64KiB', '32MB', '1GiB'")
    return value


def _name(value: str) -> str:
    if not value.strip() or value != value.strip():
        raise ValueError("must not be empty and must not begin or end with a space; write a name")
    if not value.isprintable():
        raise ValueError("must be printable, on one line; remove line breaks and control characters")
    return value


def _prose(value: str) -> str:
    if not value.replace("\n", "").replace("\t", "").isprintable():
        raise ValueError("must be printable text; remove control characters")
    return value.strip()


def _header_safe(value: str) -> str:
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(
            "must be printable ASCII without spaces, and not empty; check for a missing or stray character"
        )
    return value


def _word(value: Any) -> Any:
    return value.strip().lower().replace("_", "-") if isinstance(value, str) else value


def _engine_word(value: Any) -> Any:
    return re.sub(r"[^a-z0-9]", "", value.lower()) if isinstance(value, str) else value


def _switch(value: Any) -> Any:
    """YAML reads a bare `on` or `off` as true or false."""
    return ("on" if value else "off") if isinstance(value, bool) else _word(value)


def _not_bool(value: Any) -> Any:
    """YAML's true is 1 to pydantic; to an operator it is a mistake."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false; write a number")  # noqa: TRY004 - pydantic's protocol
    return value


def _number_as_text(value: Any) -> Any:
    """`2024` and `0` are names here: a year, the index of a GPU."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def billions(value: Any) -> tuple[float, float]:
    """Lowest and highest of a number or of a list of two. Raises ValueError."""
    ends = value if isinstance(value, list) else [value, value]
    if (
        len(ends) != 2
        or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends)
        or not 0 < ends[0] <= ends[1] < MAX_BILLIONS
    ):
        raise ValueError("must be billions of parameters; write a number above 0 such as 24, or [lowest, highest]")
    return float(ends[0]), float(ends[1])


Duration = Annotated[float, BeforeValidator(duration_s)]
Interval = Annotated[float, BeforeValidator(duration_s), AfterValidator(_positive)]
Size = Annotated[int, BeforeValidator(size_bytes), Field(ge=1)]
Name = Annotated[str, AfterValidator(_name), Field(max_length=256)]
Namespace = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
NumberOrName = Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_name), Field(max_length=256)]
Billions = Annotated[tuple[float, float], BeforeValidator(billions)]
Memory = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, le=1e6, allow_inf_nan=False)]
Ratio = Annotated[float, BeforeValidator(_not_bool), Field(ge=1, le=100, allow_inf_nan=False)]
Intensity = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, lt=10_000, allow_inf_nan=False)]
Prose = Annotated[str, AfterValidator(_prose), Field(max_length=10_000)]
Token = Annotated[str, AfterValidator(_header_safe), Field(max_length=8192)]
Count = Annotated[int, BeforeValidator(_not_bool), Field(ge=0, le=2**53)]
Positive = Annotated[int, BeforeValidator(_not_bool), Field(ge=1, le=2**53)]
Port = Annotated[int, BeforeValidator(_not_bool), Field(ge=0, le=65535)]
Share = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, BeforeValidator(_not_bool), Field(gt=0, le=1e6, allow_inf_nan=False)]
Euros = Annotated[float, BeforeValidator(_not_bool), Field(ge=0, le=1e9, allow_inf_nan=False)]
Word = BeforeValidator(_word)
"""`Least_Busy` is `least-busy`."""
Switch = BeforeValidator(_switch)
"""A word, where `on` and `off` are among them."""
EngineWord = BeforeValidator(_engine_word)
"""`llama.cpp` is `llamacpp`."""
