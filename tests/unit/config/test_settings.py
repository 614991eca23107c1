"""What operators write becomes the settings they mean."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ilaas.app import config_section
from ilaas.app.config import load_config, parse_config
from ilaas.app.config_reference import SECTIONS, filled
from ilaas.app.settings import Settings
from ilaas.core.catalogue import Catalogue, DispatchPolicy, ModelSpec
from ilaas.core.impact import FRANCE
from ilaas.core.values import Engine, Strategy

ROOT = Path(__file__).parents[3]
HEAD = "models:\n- name: a\n  servers:\n  - url: http://x\n    organisation: o\n"


def settings(text: str, **environ: str) -> Settings:
    return parse_config(text, Path("f.yaml"), environ)


def only_model(text: str, **environ: str) -> ModelSpec:
    (model,) = settings(text, **environ).models
    return model


# -- the examples and the reference ---------------------------------------------------------------------------------


def test_the_complete_example_loads_without_a_warning() -> None:
    loaded = load_config(ROOT / "examples/ilaas.yaml", {"SACLAY_TOKEN": "s"})
    assert loaded.warnings == ()
    assert [model.name for model in loaded.models] == ["mistral-small", "qwen-coder", "bge-m3", "llama-70b"]
    assert {server.site for model in loaded.models for server in model.servers} == {"saclay", "univ-lille", "reims"}
    assert loaded.models[0].servers[0].token == "s"
    assert loaded.models[0].servers[1].token == "change-me"
    assert loaded.models[2].servers[0].engine is Engine.OLLAMA
    assert loaded.models[2].servers[0].served_name == "bge-m3:latest"
    assert loaded.models[1].policy.deadlines.first_token_s == 300
    assert loaded.models[1].policy.deadlines.idle_s == 60
    assert loaded.organisations[3].limits.budget_micro_eur_per_month == 500_000_000


def test_the_minimal_example_is_short_and_loads() -> None:
    path = ROOT / "examples/minimal.yaml"
    assert len(path.read_text("utf-8").splitlines()) <= 15
    assert load_config(path, {}).warnings == ()


def test_a_values_file_of_today_loads_unchanged_and_its_clients_keep_their_names() -> None:
    loaded = load_config(ROOT / "examples/from-today.yaml", {})
    catalogue = Catalogue.of(loaded.models)
    for public, short in (
        ("casperhansen/llama-3.3-70b-instruct-awq", "llama-70b"),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", "mistral-small"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen-coder"),
        ("Qwen/Qwen2-0.5B-Instruct", "qwen-small"),
        ("Qwen/Qwen2-0.5B-Instruct", "qwen2-small"),
    ):
        assert catalogue.by_name[public].name == public
        assert catalogue.by_name[short].name == public
    llama = catalogue.models["casperhansen/llama-3.3-70b-instruct-awq"]
    assert [server.url for server in llama.servers] == [
        "https://vllm1.centralesupelec.example.fr",
        "https://vllm.univ-lille.example.fr",
    ]
    assert llama.servers[0].token == "first-server-token"
    assert llama.servers[0].owner == "CentraleSupelec"
    assert llama.servers[0].max_parallel_requests == 60
    assert llama.servers[0].served_name == "casperhansen/llama-3.3-70b-instruct-awq"
    assert llama.policy.strategy is Strategy.LEAST_BUSY
    coder = catalogue.models["Qwen/Qwen3-Coder-30B-A3B-Instruct"]
    assert [server.max_parallel_requests for server in coder.servers] == [30, None]
    assert coder.policy.strategy is Strategy.ROUND_ROBIN_PRIORITY
    assert any(":36: 'gpuMemoryUtilization' has no effect" in warning for warning in loaded.warnings)


def test_the_reference_page_has_every_field_of_the_code() -> None:
    page = (ROOT / "docs/configuration.md").read_text("utf-8")
    assert all(f"<!-- table: {name} -->" in page for name in SECTIONS)
    assert page == filled(page), "run: python -m ilaas.app.config_reference docs/configuration.md"


NOT_OF_THE_FILE = {
    "ServerSpec": {"owner", "from_file"},  # `organisation`; what this file is
    "ModelSpec": {"total_parameters_b", "active_parameters_b"},  # `parameters_b`
    "Settings": {"ops_host", "ops_port", "default_policy", "config_path", "warnings", "role"},  # `metrics`, `defaults`
    "Organisation": {"kind", "agreement", "model_limits"},  # set at run time, kept in the store
    "Limits": {"budget_micro_eur_per_month", "max_media_bytes"},  # `budget_eur_per_month`; `speech.max_upload`
}


@pytest.mark.parametrize("section", [kind for kind in SECTIONS.values() if kind.TARGET], ids=lambda kind: kind.__name__)
def test_every_setting_can_be_written_in_the_file(section: type[config_section.Section]) -> None:
    names = {field.name for field in dataclasses.fields(section.TARGET) if field.init}
    written = {name + ending for name in section.model_fields for ending in ("", "_s", "_bytes", "_url")}
    assert names - written == NOT_OF_THE_FILE.get(section.TARGET.__name__, set()) & names


# -- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "name", "aliases", "served"),
    [
        ("{name: a}", "a", (), "a"),
        ("{model: org/m}", "org/m", (), "org/m"),
        ("{name: a, model: org/m}", "a", ("org/m",), "org/m"),
        ("{name: a, model: a}", "a", (), "a"),
        ("{name: a, model: org/m, served_name: s}", "a", ("org/m",), "s"),
        ("{name: a, model: org/m, aliases: [b, b, a]}", "a", ("b", "org/m"), "org/m"),
        ("{name: a, model: org/m, vllm_servers: []}", "org/m", ("a",), "org/m"),
        ("{name: a, model: org/m, servedModelName: s}", "org/m", ("a", "s"), "s"),
    ],
)
def test_clients_call_a_model_by_its_name_and_by_the_name_on_its_servers(
    entry: str, name: str, aliases: tuple[str, ...], served: str
) -> None:
    servers = "" if "vllm_servers" in entry else ", servers: [{url: http://x, organisation: o}]"
    model = only_model(f"models:\n- {entry[:-1]}{servers}}}")
    assert (model.name, model.aliases) == (name, aliases)
    assert all(server.served_name == served for server in model.servers)


def test_two_entries_with_the_same_model_share_it_and_the_first_gets_its_name() -> None:
    loaded = settings("models:\n- {name: fast, model: org/m}\n- {name: long, model: org/m}\n")
    assert [model.aliases for model in loaded.models] == [("org/m",), ()]
    assert loaded.warnings == (
        (
            "f.yaml:3: clients who ask for 'org/m' get 'fast' (line 2), not 'long'; "
            "make it a name or an alias of the one that is meant"
        ),
    )


# -- servers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["servers", "vllm_servers", "vllmServers", '"vllm servers"', "VLLM_SERVERS"])
@pytest.mark.parametrize(
    "servers",
    [
        "[{url: http://X:8000/v1/, token: t, organization: o, maxParallelRequests: 7}]",
        "{http://X:8000/v1/: {token: t, organisation: o, max_parallel_requests: 7}}",
    ],
)
def test_servers_are_read_in_every_shape_that_is_in_use(field: str, servers: str) -> None:
    (server,) = only_model(f"models:\n- name: a\n  {field}: {servers}\n").servers
    assert (server.url, server.token, server.owner) == ("http://x:8000", "t", "o")
    assert (server.max_parallel_requests, server.id, server.site) == (7, "o/x:8000", "o")


def test_what_is_put_right_in_a_url_is_a_warning() -> None:
    loaded = settings(HEAD.replace("http://x", "http://x/v1/"))
    assert loaded.models[0].servers[0].url == "http://x"
    assert [warning.split(";")[0] for warning in loaded.warnings] == [
        "f.yaml:4: the '/' at the end of the URL is left out",
        "f.yaml:4: the URL is taken without '/v1', which requests add themselves",
    ]


def test_ids_are_unique_over_models_whatever_their_order() -> None:
    entries = [f"- {{name: {name}, servers: [{{url: http://x, organisation: o}}]}}\n" for name in "ab"]
    ids = [
        {server.id for model in settings("models:\n" + "".join(order)).models for server in model.servers}
        for order in (entries, entries[::-1])
    ]
    assert ids[0] == ids[1] == {"o/x:80#a", "o/x:80#b"}


def test_a_server_without_organisation_belongs_to_the_only_one_or_to_nobody() -> None:
    text = "models:\n- {name: a, servers: [{url: http://x}]}\n"
    assert only_model("organisations: [{name: only}]\n" + text).servers[0].owner == "only"
    loaded = settings(text)
    assert loaded.models[0].servers[0].owner == "federation"
    assert "nobody goes first on it" in loaded.warnings[0]


# -- policy ---------------------------------------------------------------------------------------------------------


def test_a_model_overrides_the_defaults_and_the_defaults_the_code() -> None:
    loaded = settings(
        "defaults: {max_wait: 30s, max_queued: 7, deadlines: {queue: 1m, idle: 2m}}\n"
        "models:\n- {name: a, policy: {max_wait_s: 5}, deadlines: {queue: 10s}}\n- {name: b}\n"
    )
    first, second = (model.policy for model in loaded.models)
    assert (first.max_wait_s, first.max_queued, first.deadlines.queue_s, first.deadlines.idle_s) == (5, 7, 10, 120)
    assert second == loaded.default_policy
    assert (second.max_wait_s, second.deadlines.queue_s) == (30, 60)
    assert second.ageing_s == DispatchPolicy().ageing_s


def test_the_settings_of_todays_consumer_mean_the_same_here() -> None:
    model = only_model(
        "models:\n- MODEL: org/m\n  ROUTING_STRATEGY: round-robin\n  TIME_TO_FIRST_TOKEN_THRESHOLD: 0.1\n"
        "  DEFAULT_MAX_PARALLEL_REQUESTS: 50\n  QUALITY_OF_SERVICE_POLICY: parallel-requests-threshold-requeue\n"
        "  MESSAGE_TIMEOUT: 570\n  PROXY_CLIENT_REQUEST_TIMEOUT: 600\n  BEST_PRIORITY: 5\n"
    )
    assert (model.name, model.policy.strategy) == ("org/m", Strategy.ROUND_ROBIN_PRIORITY)
    assert (model.policy.ttft_guard_s, model.policy.default_max_parallel) == (0.1, 50)
    assert (model.policy.deadlines.queue_s, model.policy.deadlines.answer_s) == (570, 600)


@pytest.mark.parametrize(
    ("written", "seconds"), [("15", 15), ("'15'", 15), ("0.5", 0.5), ("500ms", 0.5), ("15s", 15), ("1h30m", 5400)]
)
def test_durations_are_numbers_or_text_with_units(written: str, seconds: float) -> None:
    assert settings(f"health_interval: {written}\n").health_interval_s == seconds


@pytest.mark.parametrize(
    ("written", "size"), [("100", 100), ("32MB", 32 * 10**6), ("32MiB", 32 * 2**20), ("64 KiB", 65536), ("1.5k", 1500)]
)
def test_sizes_are_bytes_or_text_with_units(written: str, size: int) -> None:
    assert settings(f"limits: {{maxBody: {written}}}\n").limits.max_body_bytes == size


@pytest.mark.parametrize("written", ["010", "1:30", "no", "2026-12-31", "1_000"])
def test_words_that_yaml_takes_for_something_else_stay_names(written: str) -> None:
    assert only_model(f"models:\n- name: {written}\n").name == written


def test_anchors_and_merges_work() -> None:
    loaded = settings(
        "models:\n- name: a\n  policy: &p {max_wait: 9, max_queued: 3}\n"
        "- name: b\n  policy:\n    <<: *p\n    max_wait: 5\n"
    )
    assert [(model.policy.max_wait_s, model.policy.max_queued) for model in loaded.models] == [(9, 3), (5, 3)]


# -- environmental impact -------------------------------------------------------------------------------------------


def test_a_site_has_the_electricity_of_its_zone_or_its_own() -> None:
    loaded = settings(
        "sites:\n- {name: saclay, pue: 1.3, pue_low: 1.2, pue_high: 1.4}\n- {name: leuven, zone: BEL}\n"
        "- {name: annecy, pue: 1.1, grid_g_per_kwh: 12.5, grid_source: own dam, grid_date: 2025}\n"
    )
    saclay, leuven, annecy = loaded.sites
    assert saclay.pue_range == (1.2, 1.3, 1.4)
    assert (saclay.grid_g_per_kwh, saclay.grid_source, saclay.grid_date) == (
        FRANCE.grid_g_per_kwh,
        FRANCE.grid_source,
        FRANCE.grid_date,
    )
    assert (leuven.pue, leuven.zone) == (FRANCE.pue, "BEL")
    assert leuven.grid_g_per_kwh > FRANCE.grid_g_per_kwh
    assert (annecy.grid_g_per_kwh, annecy.grid_source, annecy.grid_date) == (12.5, "own dam", "2025")


def test_a_site_that_no_server_is_at_is_a_warning() -> None:
    loaded = settings(f"{HEAD}    site: saclay\nsites:\n- name: saclay\n- name: sacley\n")
    (warning,) = loaded.warnings
    assert warning.startswith("f.yaml:9: no server of this file is at the site 'sacley'")


@pytest.mark.parametrize(
    ("written", "total", "active"),
    [
        ("24", (24.0, 24.0), (24.0, 24.0)),
        ("0.5", (0.5, 0.5), (0.5, 0.5)),
        ("[20, 30]", (20.0, 30.0), (20.0, 30.0)),
        ("{total: 235, active: 22}", (235.0, 235.0), (22.0, 22.0)),
        ("{total: [100, 200], active: [10, 20]}", (100.0, 200.0), (10.0, 20.0)),
    ],
)
def test_a_models_parameters_are_a_number_or_total_and_active(
    written: str, total: tuple[float, float], active: tuple[float, float]
) -> None:
    model = only_model(f"models:\n- name: a\n  impact_reference: org/m\n  parameters_b: {written}\n")
    assert (model.total_parameters_b, model.active_parameters_b, model.impact_reference) == (total, active, "org/m")


@pytest.mark.parametrize(
    ("url", "page"),
    [("http://n1:9400", "http://n1:9400/metrics"), ("http://n1:9400/own/page", "http://n1:9400/own/page")],
)
def test_a_servers_power_is_read_at_a_page_for_the_gpus_named(url: str, page: str) -> None:
    (server,) = only_model(
        f"{HEAD}    power_url: {url}\n    power_gpus: [0, GPU-aaaa]\n    gpu_memory_gb: 141\n"
    ).servers
    assert (server.power_url, server.power_gpus, server.gpu_memory_gb) == (page, ("0", "GPU-aaaa"), 141.0)
    (plain,) = only_model(HEAD).servers
    assert (plain.power_url, plain.power_gpus, plain.gpu_memory_gb) == (None, (), 80.0)


# -- variables, secrets, state folder -------------------------------------------------------------------------------


def test_variables_are_filled_in_and_dollars_kept() -> None:
    model = only_model(
        "models:\n- {name: '${A}-${B:-b}-${C:-c}-$${A}-$', context_window: '${N}'}\n", A="a", C="", N="8"
    )
    assert (model.name, model.context_window) == ("a-b-c-${A}-$", 8)


def test_variables_of_parts_that_are_not_used_are_not_asked_for() -> None:
    assert settings("models: [{name: a}]\nrabbitmq: {auth: {password: '${NOT_SET}'}}\n").models


@pytest.mark.parametrize("field", ["token: {file: secrets/t}", "token_file: secrets/t", "tokenFile: '${D}/t'"])
def test_secrets_come_from_files_beside_the_configuration(tmp_path: Path, field: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/t").write_text("from-file\r\n", "utf-8")
    (tmp_path / "c.yaml").write_text(f"{HEAD}    {field}\n", "utf-8")
    loaded = load_config(tmp_path / "c.yaml", {"D": "secrets"})
    assert loaded.models[0].servers[0].token == "from-file"
    assert "from-file" not in repr(loaded)


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "is empty"), (b"\xff", "is not text"), (b"a b\n", "must be print")]
)
def test_a_file_that_holds_no_secret_is_an_error_of_its_line(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "t").write_bytes(content)
    (tmp_path / "c.yaml").write_text(f"{HEAD}    token_file: t\n", "utf-8")
    with pytest.raises(Exception, match=rf"c\.yaml:6: .*{what}"):
        load_config(tmp_path / "c.yaml", {})


def test_the_state_folder_of_the_environment_counts_more_than_the_files(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("state_dir: kept\n", "utf-8")
    assert load_config(path, {}).state_dir == tmp_path / "kept"
    assert load_config(path, {"ILAAS_STATE_DIR": "/elsewhere"}).state_dir == Path("/elsewhere")
    assert load_config(path, {}).config_path == path
