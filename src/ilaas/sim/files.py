"""Reading a YAML file that people wrote: what is wrong with it is told with its line and its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ilaas.core.errors import ConfigError


def read_mapping(path: Path, what: str) -> tuple[dict[str, Any], yaml.Node | None]:
    """The file as a mapping, and as nodes that know their lines. `what` says what it should be. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the scenario can't be read ({error}); give the path of a YAML file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: this is not YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: a scenario is a mapping with {what}")
    return raw, node


def invalid(
    path: Path, node: yaml.Node | None, error: ValidationError, tags: frozenset[str] = frozenset()
) -> ConfigError:
    """The first thing that is wrong, with line and field; `tags` are parts of its path that are not in the file."""
    first = error.errors()[0]
    loc = tuple(part for part in first["loc"] if part not in tags)
    field = ".".join(str(part) for part in loc)
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{path}:{line_of(node, loc)}: {field + ': ' if field else ''}{message}")


def line_of(node: yaml.Node | None, loc: tuple[Any, ...]) -> int:
    """The line of the deepest part of a field's path that is in the file."""
    line = node.start_mark.line + 1 if node is not None else 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            node = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            node = None
        if node is None:
            break
        line = node.start_mark.line + 1
    return line
