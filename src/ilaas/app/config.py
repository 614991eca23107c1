"""Reads the configuration file: variables and secrets filled in, checked whole, every problem told with its line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ilaas.app.config_convert import to_settings
from ilaas.app.config_model import FileSection
from ilaas.app.config_shape import expand, read_secrets, shape
from ilaas.app.config_yaml import Problems, YamlList, YamlMap, has, line_at, read_yaml
from ilaas.app.settings import Settings
from ilaas.core.errors import ConfigError

STATE_DIR = "ILAAS_STATE_DIR"
"""The environment variable that names the state folder; it counts more than the file."""

_MOST_ROUNDS = 50


def load_config(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings in `path`, with variables from `environ`.

    Raises ConfigError that holds every problem, one line each: `FILE:LINE: what is wrong; what to do`. Never a secret.
    """
    return parse_config(_text(path), path, environ)


def parse_config(text: str, path: Path, environ: Mapping[str, str]) -> Settings:
    """The same from text at hand; `path` is for messages and for the files named in it."""
    problems = Problems(path)
    tree = read_yaml(text, problems)
    if not isinstance(tree, YamlMap):
        problems.error(1, "the file must be a mapping; begin it with fields such as 'models:'")
        problems.check()
    shape(tree, FileSection, problems)
    expand(tree, environ, problems)
    read_secrets(tree, FileSection, problems)
    section = _checked(tree, problems)
    settings = to_settings(section, tree, problems, environ.get(STATE_DIR))
    problems.check()
    return settings


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"{path}: the configuration file can't be read ({error.strerror}); correct its name or its rights"
        ) from None


def _checked(tree: YamlMap, problems: Problems) -> FileSection:
    """The values of the tree; those that are wrong are reported and taken out, so that all else is checked too."""
    for _ in range(_MOST_ROUNDS):
        try:
            return FileSection.model_validate(tree)
        except ValidationError as error:
            wrong = error.errors(include_url=False)
        for detail in wrong:
            problems.error(line_at(tree, detail["loc"]), _what(detail))
        for detail in sorted(wrong, key=lambda detail: _order(detail["loc"]), reverse=True):
            _take_out(tree, detail)
    problems.check()
    return FileSection.model_validate({})


def _order(place: tuple[int | str, ...]) -> list[tuple[int, str]]:
    return [(part, "") if isinstance(part, int) else (-1, part) for part in place]


def _take_out(tree: Any, detail: ErrorDetails) -> None:
    place = detail["loc"][:-1] if detail["type"] == "missing" else detail["loc"]
    parent, key = None, None
    for part in place:
        if not has(tree, part):
            break
        parent, key, tree = tree, part, tree[part]
    if isinstance(parent, YamlMap):
        parent.pop(str(key))
    elif isinstance(parent, YamlList) and isinstance(key, int):
        del parent[key], parent.lines[key]


def _what(detail: ErrorDetails) -> str:
    """The problem in an operator's words; without the value, which may be a secret."""
    place, context = detail["loc"], detail.get("ctx", {})
    names = [part for part in place if isinstance(part, str)]
    field = f"'{names[-1]}'" if names else "the file"
    kind = detail["type"]
    if kind == "missing":
        return f"the field {field} is missing here; add it"
    if kind == "value_error":
        return f"{field} {context['error']}"
    if kind in ("enum", "literal_error"):
        return f"{field} must be one of {context['expected']}; choose one".replace(" or ", ", ")
    return f"{field} must be {_kind_words(kind, context, item=bool(place) and isinstance(place[-1], int))}"


def _kind_words(kind: str, context: Mapping[str, Any], *, item: bool) -> str:
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "a mapping (with indented fields below it); write 'field: value' lines" + (" in each item" * item)
    words = {
        "list_type": "a list; write one '- …' line for each",
        "string_type": "text; put it in quotes",
        "string_too_long": f"at most {context.get('max_length')} characters long; shorten it",
        "greater_than": f"greater than {context.get('gt')}; choose a larger number",
        "greater_than_equal": f"{context.get('ge')} or more; choose a larger number",
        "less_than_equal": f"{context.get('le')} or less; choose a smaller number",
        "finite_number": "a number that is not infinite; choose another",
    }
    if kind in words:
        return words[kind]
    if kind.startswith("bool"):
        return "true or false; write one of them"
    if kind.startswith("int"):
        return "a whole number; write it without unit and without decimals"
    if kind.startswith("float"):
        return "a number; write it without unit"
    return "of another kind; see docs/configuration.md"
