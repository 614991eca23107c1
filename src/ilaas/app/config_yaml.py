"""Reads YAML text into plain values that remember on which line of the file they stand.

Only what a configuration needs of YAML: no tags, no dates, no key given twice, and `010`, `1:30`, `1_000` stay text.
Everything wrong is reported, nothing is guessed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ilaas.core.errors import ConfigError

MAX_NODES = 200_000
"""Aliases may make a small file expand to anything: this is where it ends."""

_PREFIX = "tag:yaml.org,2002:"
_TEXT = frozenset({f"{_PREFIX}{kind}" for kind in ("str", "timestamp", "value")})
_PLAIN = frozenset({f"{_PREFIX}{kind}" for kind in ("int", "float", "bool", "null")})
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})\Z")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?\Z")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_CAMEL_KEY = re.compile(r"[a-z][a-zA-Z0-9]*\Z")
_WORDS_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*\Z")


@dataclass(slots=True)
class Problems:
    """What is wrong with one file, gathered so that all of it is told at once. Never give it a secret."""

    path: Path
    errors: list[tuple[int, str]] = field(default_factory=list)
    warnings: list[tuple[int, str]] = field(default_factory=list)

    def error(self, line: int, what: str) -> None:
        """Note an error; `what` says what is wrong and, after a semicolon, what to do."""
        if (line, what) not in self.errors:
            self.errors.append((line, what))

    def warn(self, line: int, what: str) -> None:
        """Note something that was put right or left out."""
        self.warnings.append((line, what))

    def check(self) -> None:
        """Raise ConfigError when there are errors: one line each, in the order of the file."""
        if self.errors:
            raise ConfigError("\n".join(self._lines(self.errors)))

    def warning_lines(self) -> tuple[str, ...]:
        """The warnings, `FILE:LINE: …` each."""
        return tuple(self._lines(self.warnings))

    def _lines(self, notes: list[tuple[int, str]]) -> list[str]:
        return [f"{self.path}:{line}: {what}" for line, what in sorted(notes, key=lambda note: note[0])]


class YamlMap(dict[str, Any]):
    """A mapping whose keys are in our spelling, with the line and the spelling of the file for each."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int] = {}
        self.written: dict[str, str] = {}

    def put(self, key: str, value: Any, line: int, written: str | None = None) -> None:
        """Set a value and where it comes from."""
        self[key] = value
        self.lines[key] = line
        self.written[key] = written or key


class YamlList(list[Any]):
    """A list with the line of each item."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int] = []

    def add(self, value: Any, line: int) -> None:
        """Append an item and where it comes from."""
        self.append(value)
        self.lines.append(line)


def spelling(key: str) -> str:
    """Our spelling of a field's name: `maxParallelRequests`, `MESSAGE_TIMEOUT`, `vllm servers`, `organization`."""
    if _CAMEL_KEY.match(key):
        key = _CAMEL.sub("_", key).lower()
    elif _WORDS_KEY.match(key):
        key = (key.lower() if key.isupper() else key).replace(" ", "_")
    else:
        return key
    return key.replace("ization", "isation")


def line_at(tree: Any, place: tuple[int | str, ...]) -> int:
    """The line of the deepest part of `place` that the file has."""
    line = getattr(tree, "line", 1)
    for part in place:
        if not has(tree, part):
            break
        line = tree.lines[part]
        tree = tree[part]
    return line


def has(tree: Any, part: int | str) -> bool:
    """Whether the mapping or list has that key or index."""
    return (isinstance(tree, YamlMap) and part in tree) or (
        isinstance(tree, YamlList) and isinstance(part, int) and part < len(tree)
    )


def read_yaml(text: str, problems: Problems) -> Any:
    """The file's value; raises ConfigError when it is not YAML."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node: yaml.Node | None = loader.get_single_node()
        finally:
            loader.dispose()
        if node is None:
            problems.error(1, "the file is empty; write at least one entry under 'models:'")
        else:
            return _Builder(problems).build(node)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.error(line, "there is a character that YAML does not allow; remove it")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.error(mark.line + 1 if mark else 1, f"not valid YAML: {_safe(error.problem)}; {_remedy(text, mark)}")
    except RecursionError:
        problems.error(1, "nested too deeply; a configuration needs no more than ten levels")
    except (ValueError, OverflowError):  # PyYAML on an escape such as "\UFFFFFFFF"
        problems.error(
            1, "not valid YAML: there is an escape in quotes that is no character; write the character itself"
        )
    problems.check()
    raise AssertionError("unreachable: every branch above notes an error")


def _safe(problem: str | None) -> str:
    """The parser's words without the words of the file, among which may be a secret."""
    return re.sub(r"'[^'<>]{2,}'|'[^']*\s[^']*'|\"[^\"]*\"", "…", problem or "it can't be read").replace("\n", " ")


def _remedy(text: str, mark: Any) -> str:
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and "\t" in lines[mark.line]:
        return "indent with spaces, not with tabs"
    return "check the indentation, the colons and the quotes on this line and the one before"


class _Builder:
    """Turns the parser's nodes into values."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._nodes = 0
        self._open: set[int] = set()

    def build(self, node: yaml.Node) -> Any:
        """The value of a node."""
        line = node.start_mark.line + 1
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._problems.error(line, f"more than {MAX_NODES} values; check the anchors and aliases (& and *)")
            self._problems.check()
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line)
        if id(node) in self._open:
            self._problems.error(line, "an alias (*) that contains itself; remove it")
            return None
        self._open.add(id(node))
        try:
            return self._mapping(node, line) if isinstance(node, yaml.MappingNode) else self._sequence(node, line)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: yaml.Node, line: int) -> YamlList:
        self._known_tag(node, "seq", line)
        result = YamlList(line)
        for item in node.value:
            result.add(self.build(item), item.start_mark.line + 1)
        return result

    def _mapping(self, node: yaml.Node, line: int) -> YamlMap:
        self._known_tag(node, "map", line)
        result = YamlMap(line)
        merged: list[YamlMap] = []
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if key_node.tag == f"{_PREFIX}merge":
                merged.extend(self._merge(value_node, key_line))
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.error(key_line, "a field's name must be a word; check for a stray '?', '[' or '{'")
                continue
            written = key_node.value
            key = spelling(written)
            if key in result:
                self._twice(result, key, written, key_line)
                continue
            result.put(key, self.build(value_node), key_line, written)
        for source in merged:
            for key, value in source.items():
                if key not in result:
                    result.put(key, value, source.lines[key], source.written[key])
        return result

    def _merge(self, node: yaml.Node, line: int) -> list[YamlMap]:
        value = self.build(node)
        sources = [value] if isinstance(value, YamlMap) else value if isinstance(value, YamlList) else [None]
        if not all(isinstance(source, YamlMap) for source in sources):
            self._problems.error(line, "'<<' takes a mapping or a list of mappings; give it an alias such as *common")
        return [source for source in sources if isinstance(source, YamlMap)]

    def _twice(self, known: YamlMap, key: str, written: str, line: int) -> None:
        first, first_line = known.written[key], known.lines[key]
        if first == written:
            what = f"the field {quoted(written)} is given twice, here and on line {first_line}; remove one"
        else:
            what = f"{quoted(written)} and {quoted(first)} on line {first_line} are the same field; remove one"
        self._problems.error(line, what)

    def _known_tag(self, node: yaml.Node, kind: str, line: int) -> None:
        if node.tag != f"{_PREFIX}{kind}":
            self._problems.error(line, "YAML tags (words with '!') are not read; remove it")

    def _scalar(self, node: yaml.ScalarNode, line: int) -> Any:
        value: str = node.value
        if node.tag not in _TEXT and node.tag not in _PLAIN and node.tag != f"{_PREFIX}merge":
            self._problems.error(line, "YAML tags (words with '!') are not read; remove it")
            return None
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            self._problems.error(line, "there is half a character (a lone surrogate) in the text; remove it")
            return None
        return _plain(value) if node.tag in _PLAIN else value


def _plain(text: str) -> Any:
    """A word without quotes: nothing, truth, a number, or text."""
    if text in _NULLS:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _INTEGER.match(text):
        return int(text)
    if _NUMBER.match(text) and not re.match(r"[-+]?0[0-9]", text) and not text.lstrip("+-").isdigit():
        number = float(text)
        return number if math.isfinite(number) else text
    return text


def quoted(name: str) -> str:
    """A field's name for a message; one that is no name may be a misplaced secret and is not shown."""
    return (
        f"'{name}'" if re.match(r"[A-Za-z_][\w .-]{0,50}\Z", name) and name.count(" ") < 2 else "whose name is no word"
    )
