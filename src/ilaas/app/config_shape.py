"""Brings what operators write into one shape: other names of fields, fields of today's chart, variables, secrets.

What comes out has our field names only, on the lines of the file; values are not checked yet.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from ilaas.app.config_model import ModelSection
from ilaas.app.config_section import Section, other_ending
from ilaas.app.config_yaml import Problems, YamlList, YamlMap, quoted

MAX_SECRET_BYTES = 64 * 1024

_VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")


def shape(tree: YamlMap, section: type[Section], problems: Problems) -> None:
    """Rename, take out what is ignored or unknown, and go down into the sections below."""
    if section is ModelSection:
        _raise_today(tree)
    for key in list(tree):
        if key in section.model_fields or any(key == f"{secret}_file" for secret in section.SECRETS):
            continue
        line, written = tree.lines[key], tree.written[key]
        value = tree.pop(key)
        if target := section.SYNONYMS.get(key) or other_ending(section, key):
            _move(tree, target, (value, line, written), problems)
        elif remark := section.IGNORED.get(key):
            problems.warn(line, f"{quoted(written)} has no effect: {remark}")
        else:
            problems.error(line, f"unknown field {quoted(written)}; {_near(key, section)}")
    if section is ModelSection:
        _servers_as_list(tree, problems)
    for key in [key for key, value in tree.items() if value is None]:
        del tree[key]
    for below, kind in _below(tree, section):
        shape(below, kind, problems)


def _below(tree: YamlMap, section: type[Section]) -> Iterator[tuple[YamlMap, type[Section]]]:
    for name, field in section.model_fields.items():
        kind, value = _section_in(field.annotation), tree.get(name)
        if kind is None:
            continue
        if isinstance(value, YamlMap):
            yield value, kind
        elif isinstance(value, YamlList):
            yield from ((item, kind) for item in value if isinstance(item, YamlMap))


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation if issubclass(annotation, Section) else None
    return next(filter(None, map(_section_in, get_args(annotation))), None)


def _near(key: str, section: type[Section]) -> str:
    names = sorted({*section.model_fields, *section.SYNONYMS})
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else f"the fields here are {', '.join(section.model_fields)}"


def _move(tree: YamlMap, target: str, found: tuple[Any, int, str], problems: Problems) -> None:
    """Put a value where our own name of the field is."""
    value, line, written = found
    *parents, name = target.split(".")
    for parent in parents:
        if tree.get(parent) is None:
            tree.put(parent, YamlMap(line), line)
        below = tree[parent]
        if not isinstance(below, YamlMap):
            return  # told when the values are checked
        tree = below
    if name in tree and isinstance(tree[name], YamlMap) and isinstance(value, YamlMap):
        for key, item in value.items():
            _move(tree[name], key, (item, value.lines[key], value.written[key]), problems)
    elif name in tree:
        problems.error(
            line,
            f"{quoted(written)} and {quoted(tree.written[name])} on line {tree.lines[name]} are the same field; "
            "remove one",
        )
    else:
        tree.put(name, value, line, written)


# -- models as today's charts have them -------------------------------------------------------------------------------

_TODAY = frozenset(
    {"vllm_servers", "served_model_name", "replica_count", "pvc", "gpu_memory_utilisation", "rope_scaling"}
)


def _raise_today(tree: YamlMap) -> None:
    """In today's charts `name` is a short name for Kubernetes, and clients call the model by `model`: swap the roles.

    Every name goes on being accepted (the others are aliases); what counts is the one shown in the list of models.
    """
    model = tree.get("model")
    if not (_TODAY & tree.keys()) or not isinstance(model, str):
        return
    if tree.get("aliases") is None:
        tree.put("aliases", YamlList(tree.line), tree.line)
    aliases = tree["aliases"]
    for key in ("name", "served_model_name"):
        other = tree.get(key)
        if isinstance(aliases, YamlList) and isinstance(other, str) and other != model and other not in aliases:
            aliases.add(other, tree.lines[key])
    tree.put("name", model, tree.lines["model"])


def _servers_as_list(tree: YamlMap, problems: Problems) -> None:
    """`servers` may be a mapping from URL to the rest, as in VLLM_SERVERS."""
    servers = tree.get("servers")
    if not isinstance(servers, YamlMap):
        return
    result = YamlList(servers.line)
    for url, fields in servers.items():
        line, written = servers.lines[url], servers.written[url]
        if fields is None:
            fields = YamlMap(line)  # noqa: PLW2901
        if not isinstance(fields, YamlMap):
            problems.error(line, "a server must be a mapping; write 'url: {organisation: …, token: …}'")
            continue
        entry = YamlMap(line)
        entry.put("url", written, line)
        for key, value in fields.items():
            if key == "url":
                problems.error(fields.lines[key], "the URL is the key of this mapping already; remove 'url'")
            else:
                entry.put(key, value, fields.lines[key], fields.written[key])
        result.add(entry, line)
    tree["servers"] = result


# -- variables and secrets --------------------------------------------------------------------------------------------


def expand(tree: YamlMap | YamlList, environ: Mapping[str, str], problems: Problems) -> None:
    """Fill `${VAR}` and `${VAR:-default}` into every text; `$$` is a dollar sign. Replaces values in place."""
    places: Any = list(tree.items()) if isinstance(tree, YamlMap) else list(enumerate(tree))
    for place, value in places:
        if isinstance(value, YamlMap | YamlList):
            expand(value, environ, problems)
        elif isinstance(value, str) and "$" in value:
            tree[place] = _filled(value, environ, (tree.lines[place], problems))


def _filled(text: str, environ: Mapping[str, str], where: tuple[int, Problems]) -> str:
    line, problems = where

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        name, default = found[1], found[2]
        if name is None:
            problems.error(line, "'${' begins no variable; write ${NAME} or ${NAME:-default}, or '$${' for the text")
        elif default is not None:
            return environ.get(name) or default
        elif name in environ:
            return environ[name]
        else:
            problems.error(line, f"the variable {name} is not set; set it, or write ${{{name}:-default}}")
        return "-"

    return _VARIABLE.sub(value, text)


def read_secrets(tree: YamlMap, section: type[Section], problems: Problems) -> None:
    """Replace `{file: path}` and `<name>_file: path` by what the file holds."""
    for secret in section.SECRETS:
        _read_secret(tree, secret, problems)
    for below, kind in _below(tree, section):
        read_secrets(below, kind, problems)


def _read_secret(tree: YamlMap, secret: str, problems: Problems) -> None:
    value, key = tree.get(secret), f"{secret}_file"
    line = tree.lines.get(secret, tree.line)
    if isinstance(value, YamlMap):
        if set(value) != {"file"} or not isinstance(value["file"], str):
            problems.error(line, f"'{secret}' must be text or {{file: path}}; write the one or the other")
            del tree[secret]
            return
        path = value["file"]
    elif key in tree and secret in tree:
        problems.error(tree.lines[key], f"'{key}' and '{secret}' on line {line} say the same; remove one")
        del tree[key]
        return
    elif isinstance(tree.get(key), str):
        path, line = tree[key], tree.lines[key]
    else:
        return
    tree.pop(key, None)
    tree.pop(secret, None)
    content = _content(path, line, problems)
    if content is not None:
        tree.put(secret, content, line)


def _content(path: str, line: int, problems: Problems) -> str | None:
    """A secret's file, relative to the configuration file, without the line break at its end."""
    if not path.isprintable() or not path:
        problems.error(line, "the name of a secret's file must be printable; correct it")
        return None
    full = problems.path.parent / path
    try:
        if not full.is_file():
            problems.error(line, f"the file '{path}' does not exist in {problems.path.parent}; create it or correct it")
            return None
        if full.stat().st_size > MAX_SECRET_BYTES:
            problems.error(line, f"the file '{path}' is too large for a secret; name the file of the secret alone")
            return None
        content = full.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        problems.error(line, f"the file '{path}' can't be read ({error.strerror}); correct its rights or its name")
        return None
    except UnicodeDecodeError:
        problems.error(line, f"the file '{path}' is not text (UTF-8); name a text file")
        return None
    if not content:
        problems.error(line, f"the file '{path}' is empty; write the secret into it")
        return None
    return content
