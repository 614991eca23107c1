"""Every mistake of an operator is told with its line and a remedy, all of them at once, and never with a secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.app.config import load_config, parse_config
from ilaas.app.settings import Settings
from ilaas.core.errors import ConfigError

SECRET = "sk-Very-Secret-4711"


def outcome(text: str) -> Settings | str:
    try:
        return parse_config(text, Path("f.yaml"), {})
    except ConfigError as error:
        return error.message


def messages(text: str, path: Path = Path("f.yaml"), **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, path, environ)
    return caught.value.message.split("\n")


MISTAKES = {
    "unknown field": (
        "models:\n- name: a\n  servers:\n  - url: http://x\n    organisation: o\n    max_paralel_requests: 3\n",
        "f.yaml:6: unknown field 'max_paralel_requests'; did you mean 'max_parallel_requests'?",
    ),
    "unknown field in camel case": (
        "limits:\n  maxBodi: 1\n",
        "f.yaml:2: unknown field 'maxBodi'; did you mean 'max_body'?",
    ),
    "unknown field far from all": (
        "metrics:\n  zzz: 1\n",
        "f.yaml:2: unknown field 'zzz'; the fields here are host, port",
    ),
    "duplicate key": (
        "host: 127.0.0.1\nport: 1\nhost: 127.0.0.2\n",
        "f.yaml:3: the field 'host' is given twice, here and on line 1; remove one",
    ),
    "camel twin": (
        "state_dir: a\nstateDir: b\n",
        "f.yaml:2: 'stateDir' and 'state_dir' on line 1 are the same field; remove one",
    ),
    "synonym twin": (
        "models:\n- name: a\n  routing_strategy: round-robin\n  policy:\n    strategy: least-busy\n",
        "f.yaml:3: 'routing_strategy' and 'strategy' on line 5 are the same field; remove one",
    ),
    "not a number": ("port: high\n", "f.yaml:1: 'port' must be a whole number; write it without unit and without"),
    "true is no number": ("port: true\n", "f.yaml:1: 'port' must be a number, not true or false; write a number"),
    "too large": ("host: h\nport: 70000\n", "f.yaml:2: 'port' must be 65535 or less; choose a smaller number"),
    "number for text": ("models:\n- name: 7\n", "f.yaml:2: 'name' must be text; put it in quotes"),
    "bad duration": (
        "defaults:\n  max_wait: 5 parsecs\n",
        "f.yaml:2: 'max_wait' must be a duration; write seconds as a number, or text such as '500ms'",
    ),
    "endless duration": ("health_interval: .inf\n", "f.yaml:1: 'health_interval' must be a duration"),
    "zero interval": ("health_interval: 0\n", "f.yaml:1: 'health_interval' must be longer than 0"),
    "bad size": ("limits: {max_body: 32 MX}\n", "f.yaml:1: 'max_body' must be a size; write bytes as a whole number"),
    "bad enumeration": (
        "models:\n- name: a\n  routing_strategy: fastest\n",
        "f.yaml:3: 'strategy' must be one of 'round-robin', 'round-robin-priority', 'least-busy'; choose one",
    ),
    "mapping for a list": (
        "organisations:\n  a: 1\n",
        "f.yaml:1: 'organisations' must be a list; write one '- …' line",
    ),
    "text for a mapping": ("host: h\nlimits: none\n", "f.yaml:2: 'limits' must be a mapping"),
    "text for a server": ("models:\n- name: a\n  servers:\n  - http://x\n", "f.yaml:4: 'servers' must be a mapping"),
    "no url": (
        "models:\n- name: a\n  servers:\n  - site: s\n    organisation: o\n",
        "f.yaml:4: the field 'url' is missing here; add it",
    ),
    "no name": ("models:\n- category: speech\n", "f.yaml:2: a model needs a name; add 'name', 'model' or both"),
    "ftp": (
        "models:\n- name: a\n  servers:\n  - url: ftp://x\n    organisation: o\n",
        "f.yaml:4: 'url' must begin with http:// or https://; write it like https://gpu.example.fr:8000",
    ),
    "credentials in URL": (
        f"models:\n- name: a\n  servers:\n  - url: https://me:{SECRET}@x\n    organisation: o\n",
        "f.yaml:4: 'url' holds a user name or a password; write the server's key as 'token' instead",
    ),
    "bad port in URL": (
        "models:\n- name: a\n  servers:\n  - url: https://x:99999\n    organisation: o\n",
        "f.yaml:4: 'url' is not a URL; write it like https://gpu.example.fr:8000",
    ),
    "equal URLs": (
        "models:\n- name: a\n  servers:\n  - url: http://X:80/v1\n  - url: http://x\n",
        "f.yaml:5: this URL is a server of 'a' on line 4 already; remove one",
    ),
    "equal names": (
        "models:\n- name: a\n- model: a\n",
        "f.yaml:3: a model named 'a' is on line 2 already; put their servers together or rename one",
    ),
    "alias clash": (
        "models:\n- name: a\n  aliases: [x]\n- name: b\n  aliases:\n  - x\n",
        "f.yaml:6: the alias 'x' belongs to 'a' on line 3 already; choose another",
    ),
    "equal ids": (
        "models:\n- name: a\n  servers:\n  - {url: http://x, id: s}\n  - {url: http://y, id: s}\n",
        "f.yaml:5: the server on line 4 has the id 's' too; give each its own 'id'",
    ),
    "unknown owner": (
        "organisations: [{name: univ-lille}]\nmodels:\n- name: a\n  servers:\n  - {url: http://x, owner: univ-lile}\n",
        "f.yaml:5: 'univ-lile' is not one of the organisations of this file; did you mean 'univ-lille'?",
    ),
    "unknown user": (
        "organisations: [{name: urca}]\nmodels:\n- name: a\n  organisations:\n  - nobody-at-all\n",
        "f.yaml:5: 'nobody-at-all' is not one of the organisations of this file; add it under 'organisations:'",
    ),
    "organisation twice": (
        "organisations:\n- name: a\n- name: a\n",
        "f.yaml:3: the organisation 'a' is on line 2 already; remove one",
    ),
    "weight": ("organisations:\n- name: a\n  weight: 0\n", "f.yaml:3: 'weight' must be greater than 0"),
    "deprecated without date": (
        "models:\n- name: a\n  lifecycle: deprecated\n",
        "f.yaml:3: a deprecated model needs the date on which it goes; add 'retires_on: YYYY-MM-DD'",
    ),
    "no date": (
        "models:\n- name: a\n  lifecycle: deprecated\n  retires_on: 31/12/2026\n",
        "f.yaml:4: 'retires_on' must be a date; write it like 2026-12-31",
    ),
    "reserved slots": (
        "models:\n- name: a\n  servers:\n  - url: http://x\n    max_parallel_requests: 4\n    owner_reserved: 5\n",
        "f.yaml:6: 'owner_reserved' is more than the 4 simultaneous requests of the server; lower it",
    ),
    "line break in a name": ('models:\n- name: "a\\nb: c"\n', "f.yaml:2: 'name' must be printable, on one line"),
    "missing variable": (
        "host: h\nstate_dir: ${NOT_SET}/x\n",
        "f.yaml:2: the variable NOT_SET is not set; set it, or write ${NOT_SET:-default}",
    ),
    "malformed variable": ("state_dir: ${a-b}\n", "f.yaml:1: '${' begins no variable; write ${NAME}"),
    "missing file": (
        "store_file: nowhere/url\n",
        "f.yaml:1: the file 'nowhere/url' does not exist in .; create it or correct it",
    ),
    "token of two kinds": (
        "models:\n- name: a\n  servers:\n  - {url: http://x, token: t, token_file: t}\n",
        "f.yaml:4: 'token_file' and 'token' on line 4 say the same; remove one",
    ),
    "store": ("store: mongodb://x\n", "f.yaml:1: 'store' must be a database URL; write sqlite:///FILE or"),
    "ports": ("port: 9464\n", "f.yaml:1: metrics must have a port of their own; choose another than 'port'"),
    "tab": (
        "limits:\n\tmax_body: 1\n",
        "f.yaml:2: not valid YAML: found character … that cannot start any token; indent",
    ),
    "tag": ("host: !!python/name:os.system x\n", "f.yaml:1: YAML tags (words with '!') are not read; remove it"),
    "self": ("models: &a [*a]\n", "f.yaml:1: an alias (*) that contains itself; remove it"),
    "empty": ("# nothing\n", "f.yaml:1: the file is empty; write at least one entry under 'models:'"),
    "list": ("- a\n", "f.yaml:1: the file must be a mapping; begin it with fields such as 'models:'"),
    "two documents": ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: but found another document; check"),
    "nested": ("[" * 3000, "f.yaml:1: nested too deeply; a configuration needs no more than ten levels"),
    "grid without source": (
        "sites:\n- name: a\n  grid_g_per_kwh: 30\n",
        "f.yaml:2: 'grid_g_per_kwh', 'grid_source' and 'grid_date' go together; write all three, or none",
    ),
    "unknown zone": (
        "sites:\n- {name: a, zone: France}\n",
        "f.yaml:2: no electricity mix for zone 'France'; use an ISO",
    ),
    "pue below one": ("sites:\n- name: a\n  pue: 0.9\n", "f.yaml:3: 'pue' must be 1 or more; choose a larger number"),
    "pue outside its range": ("sites:\n- {name: a, pue: 1.2, pue_low: 1.3}\n", "f.yaml:2: site 'a': pue must be 1 or"),
    "site twice": ("sites:\n- name: a\n- name: a\n", "f.yaml:3: the site 'a' is there already; remove one"),
    "bad parameters": (
        "models:\n- name: a\n  parameters_b: {total: lots}\n",
        "f.yaml:3: 'total' must be billions of parameters; write a number above 0 such as 24, or [lowest, highest]",
    ),
    "parameters without total": (
        "models:\n- name: a\n  parameters_b: {active: 3}\n",
        "f.yaml:3: 'parameters_b' needs 'total'; add all parameters of the model, in billions",
    ),
    "more active parameters": (
        "models:\n- name: a\n  parameters_b: {total: 3, active: 30}\n",
        "f.yaml:3: 'active' is more than 'total'; exchange them",
    ),
    "power without page": (
        "models:\n- name: a\n  servers:\n  - {url: http://x, organisation: o, power_gpus: [0]}\n",
        "f.yaml:4: 'power_gpus' is nothing without 'power_url'; add the exporter's page",
    ),
    "power of another scheme": (
        "models:\n- name: a\n  servers:\n  - {url: http://x, organisation: o, power_url: 'ftp://x'}\n",
        "f.yaml:4: 'power_url' must begin with http:// or https://",
    ),
    "control character": (
        "host: a\nport: \x00\n",
        "f.yaml:2: there is a character that YAML does not allow; remove it",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_remedy(name: str) -> None:
    text, expected = MISTAKES[name]
    found = messages(text)
    assert any(line.startswith(expected) for line in found), found
    assert SECRET not in "\n".join(found)


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        "prot: 1\nport: x\nmodels:\n- name: a\n  servers:\n  - url: ftp://x\n    organisation: o\n    engine: vlm\n"
        "- name: a\n- category: odd\n  name: ${GONE}\n  lifecycle: deprecated\n"
    )
    found = messages(text)
    assert [line.split(": ", 1)[0] for line in found] == [f"f.yaml:{line}" for line in (1, 2, 6, 8, 9, 10, 11, 12)]


def test_an_alias_bomb_ends_early() -> None:
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))
    found = messages(f"a0: &a0 [x]\n{levels}\n")
    assert "more than 200000 values" in found[-1]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: the configuration file can't be read \(No such file"):
        load_config(tmp_path / "gone.yaml", {})


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"host: a\nstate_dir: \xe9t\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.yaml:2: not UTF-8; save the file as UTF-8"):
        load_config(path, {})


SECRET_PLACES = [
    f"models:\n- name: a\n  servers:\n  - url: http://x\n    token: [{SECRET}]\n",
    f"models:\n- name: a\n  servers:\n  - url: http://x\n    token: {{fil: {SECRET}}}\n",
    f"models:\n- name: a\n  servers:\n  - url: http://x\n    token: {SECRET} and more\n",
    f"models:\n- name: a\n  servers:\n  - url: http://x\n    token: *{SECRET}\n",
    f"models:\n- name: a\n  servers:\n  - url: http://x\n    token: !{SECRET}\n",
    f"models:\n- name: a\n  servers:\n  - url: http://x\n    token {SECRET}\n    engine: vllm\n",
    f'models:\n- name: a\n  servers:\n  - url: http://x\n    token: "{SECRET}\n',
    f"models:\n- name: a\n  servers:\n  - url: http://x\n    max_parallel_requests: {SECRET}\n",
    f"models:\n- name: a\n  servers:\n  - {{url: http://x, engine: {SECRET}}}\n",
    f"models:\n- name: a\n  servers:\n  - {{url: 'http://x/#{SECRET}'}}\n",
    f"store: nothing://me:{SECRET}@db/x\n",
    f"store: postgresql://me:{SECRET}@db:port/x\n",
    "models:\n- name: a\n  servers:\n  - {url: '${S}', engine: '${S}'}\n",
    "models:\n- name: a\n  servers:\n  - {url: http://x, token: 'a ${S}'}\n",
]


@pytest.mark.parametrize("text", SECRET_PLACES)
def test_no_message_shows_a_secret(text: str) -> None:
    assert SECRET not in "\n".join(messages(text, S=SECRET))


_NAMES = "models servers name model url token organisation policy deadlines queue limits max_body vllm_servers"
_MARKS = "15s 1 -3 true ~ http://x/v1 ${A} ${ $$ *a &a << !!int [ ] { } , file \" ' | > %YAML # ? \t"
_WORDS = st.one_of(st.sampled_from(_NAMES.split(" ")), st.sampled_from(_MARKS.split(" ")))
_LINES = st.lists(
    st.builds(
        lambda indent, dash, words: "  " * indent + dash + words,
        st.integers(0, 4),
        st.sampled_from(["", "- "]),
        st.lists(_WORDS, max_size=4).map(": ".join),
    ),
    max_size=8,
).map("\n".join)


@given(st.one_of(st.text(), _LINES))
def test_any_text_gives_settings_or_a_configuration_error(text: str) -> None:
    found = outcome(text)
    assert isinstance(found, Settings) or all(line.startswith("f.yaml:") for line in found.split("\n"))


_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(_WORDS, below, max_size=4)),
    max_leaves=20,
)


@given(_VALUES)
def test_any_values_under_known_names_give_settings_or_a_configuration_error(value: object) -> None:
    found = outcome(json.dumps({"models": value}))
    assert isinstance(found, Settings) or found.startswith("f.yaml:")
