"""What operators see: metrics, their documents, and logs without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ilaas.app.metric_specs import MAX_ORGANISATIONS, METRICS, SPECS, Kind
from ilaas.app.metrics import MODEL_STATES, SERVER_STATES, BrokerGauges, Observed, ProcessGauges, Snapshot, state
from ilaas.app.observe import LoopLag, configure_logging
from ilaas.core.dispatch.events import ModelView, ServerView
from ilaas.core.usage import UsageRecord
from ilaas.core.values import Outcome, RequestClass, RoutingMode
from ilaas.services.accounting import Accounting

ROOT = Path(__file__).parents[2]


class NoOutbox:
    def append(self, record: UsageRecord) -> None: ...

    async def close(self) -> None: ...


def record(**more: object) -> UsageRecord:
    fields = {
        "id": "r",
        "finished_at_ms": 0,
        "organisation": "univ-a",
        "project": "p",
        "key_id": "k",
        "endpoint": "chat",
        "model": "m",
        "server": "s",
        "site": "x",
        "owner": "univ-a",
        "request_class": RequestClass.INTERACTIVE,
        "routing_mode": RoutingMode.ANY,
        "priority": 0,
        "outcome": Outcome.COMPLETED,
        "status": 200,
        "streamed": True,
        "attempts": 1,
        "prompt_tokens": 11,
        "completion_tokens": 7,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "audio_ms": 0,
        "estimated": False,
        "queue_ms": 40,
        "ttft_ms": 300,
        "duration_ms": 2000,
    }
    return UsageRecord(**(fields | more))


def server(**more: object) -> ServerView:
    fields = {
        "id": "s1",
        "site": "reims",
        "owner": "univ-a",
        "engine": "vllm",
        "state": "up",
        "in_flight": 3,
        "limit": 8,
        "waiting": 1,
        "kv_cache_usage": 0.25,
        "ttft_s": 0.4,
        "served": 90,
        "failed": 2,
    }
    return ServerView(**(fields | more))


def view(*servers: ServerView, **more: object) -> ModelView:
    fields = {
        "model": "m",
        "strategy": "least-busy",
        "queued": {RequestClass.BATCH: 5},
        "queued_by_organisation": {"univ-a": 5},
        "running": 3,
        "predicted_wait_s": 1.5,
        "state": "busy",
        "servers": servers,
    }
    return ModelView(**(fields | more))


def observed(*views: ModelView, gauges: ProcessGauges | None = None) -> tuple[Accounting, Observed]:
    accounting = Accounting(NoOutbox(), lambda _: None)
    return accounting, Observed(
        tallies=accounting.tallies,
        rejections=accounting.rejections,
        views=lambda: list(views),
        gauges=lambda: gauges or ProcessGauges(),
    )


def samples(source: Observed) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = Snapshot.take(source).text().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(source: Observed, name: str, **labels: str) -> float | None:
    labels = {name.rstrip("_"): text for name, text in labels.items()}
    return samples(source).get((name, frozenset(labels.items())))


def test_a_part_behind_a_broker_shows_its_connection_its_models_and_its_credits():
    _, source = observed()
    assert value(source, "ilaas_broker_connected") is None
    gauges = BrokerGauges(connected=True, strange=3, owned=2, credits={"m": 7})
    source = replace(source, broker=lambda: gauges)
    assert value(source, "ilaas_broker_connected") == 1
    assert value(source, "ilaas_broker_faults_total") == 3
    assert value(source, "ilaas_models_owned") == 2
    assert value(source, "ilaas_credits", model="m") == 7
    source = replace(source, broker=lambda: replace(gauges, connected=False, owned=None))
    assert value(source, "ilaas_broker_connected") == 0
    assert value(source, "ilaas_models_owned") is None


def test_requests_are_counted_by_model_class_and_outcome():
    accounting, source = observed()
    accounting.finished(record())
    accounting.finished(record())
    accounting.finished(record(outcome=Outcome.STREAM_BROKEN))
    labels = {"model": "m", "class_": "interactive"}
    assert value(source, "ilaas_requests_total", **labels, outcome="completed") == 2
    assert value(source, "ilaas_requests_total", **labels, outcome="stream_broken") == 1
    assert value(source, "ilaas_tokens_total", **labels, direction="prompt") == 33
    assert value(source, "ilaas_tokens_total", **labels, direction="completion") == 21
    assert value(source, "ilaas_audio_seconds_total", **labels) == 0
    accounting.finished(record(audio_ms=2_500))
    assert value(source, "ilaas_audio_seconds_total", **labels) == 2.5


def test_times_are_histograms_in_seconds_that_end_in_their_count():
    accounting, source = observed()
    for queue_ms in (5, 40, 700_000):
        accounting.finished(record(queue_ms=queue_ms))
    labels = {"model": "m", "class_": "interactive"}
    assert value(source, "ilaas_queue_seconds_bucket", **labels, le="0.01") == 1
    assert value(source, "ilaas_queue_seconds_bucket", **labels, le="0.05") == 2
    assert value(source, "ilaas_queue_seconds_bucket", **labels, le="600.0") == 2
    assert value(source, "ilaas_queue_seconds_bucket", **labels, le="+Inf") == 3
    assert value(source, "ilaas_queue_seconds_count", **labels) == 3
    assert value(source, "ilaas_queue_seconds_sum", **labels) == pytest.approx(700.045)


def test_an_answer_without_a_first_token_is_not_in_its_histogram():
    accounting, source = observed()
    accounting.finished(record(ttft_ms=0))
    assert value(source, "ilaas_ttft_seconds_count", model="m", class_="interactive") == 0
    assert value(source, "ilaas_duration_seconds_count", model="m", class_="interactive") == 1


def test_rejections_are_counted_by_error_code():
    accounting, source = observed()
    accounting.rejected("invalid_api_key")
    assert value(source, "ilaas_rejected_total", code="invalid_api_key") == 1


def test_a_server_is_shown_with_its_load_and_what_it_does_not_tell_is_absent():
    silent = server(id="s2", state="down", limit=None, waiting=None, kv_cache_usage=None, ttft_s=None)
    _, source = observed(view(server(), silent))
    one = {"model": "m", "server": "s1", "site": "reims"}
    two = {"model": "m", "server": "s2", "site": "reims"}
    assert value(source, "ilaas_server_in_flight", **one) == 3
    assert value(source, "ilaas_server_kv_cache_usage", **one) == 0.25
    assert value(source, "ilaas_server_up", **one) == 1
    assert value(source, "ilaas_server_failed_total", **one) == 2
    assert value(source, "ilaas_server_up", **two) == 0
    assert value(source, "ilaas_server_state", **two, state="down") == 1
    assert value(source, "ilaas_server_state", **two, state="up") == 0
    for name in ("limit", "waiting", "kv_cache_usage", "ttft_seconds"):
        assert value(source, f"ilaas_server_{name}", **two) is None
    assert value(source, "ilaas_model_servers_up", model="m") == 1


def test_every_class_has_a_queue_also_an_empty_one():
    _, source = observed(view())
    assert value(source, "ilaas_queued", model="m", class_="batch") == 5
    assert value(source, "ilaas_queued", model="m", class_="owner") == 0


def test_the_number_of_organisations_shown_is_bounded_and_nothing_is_lost():
    queued = {f"univ-{number:03}": number for number in range(200)}
    _, source = observed(view(queued_by_organisation=queued))
    found = {
        labels: count for (name, labels), count in samples(source).items() if name == "ilaas_queued_by_organisation"
    }
    assert len(found) == MAX_ORGANISATIONS + 1
    assert sum(found.values()) == sum(queued.values())
    assert frozenset({"model": "m", "organisation": "univ-199"}.items()) in found


def test_a_page_holds_every_metric_of_the_table_with_its_labels_and_no_other():
    accounting, source = observed(view(server()))
    accounting.finished(record())
    accounting.rejected("x")
    source = replace(
        source,
        broker=lambda: BrokerGauges(connected=True, strange=0, owned=1, credits={"m": 1}),
        speech_jobs=lambda: {("transcription", True): 1, ("transcription", False): 2},
    )
    text = Snapshot.take(source).text().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
    ours = {name: shown for name, shown in found.items() if name.startswith("ilaas_")}
    assert ours == {spec.name: (spec.kind, set(spec.labels)) for spec in METRICS}
    assert "process_cpu_seconds_total" in found


def test_a_snapshot_does_not_change_while_requests_go_on():
    accounting, source = observed()
    accounting.finished(record())
    snapshot = Snapshot.take(source)
    before = snapshot.text()
    accounting.finished(record(outcome=Outcome.IDLE_TIMEOUT))
    ours = [line for line in before.splitlines() if line.startswith(b"ilaas")]
    assert [line for line in snapshot.text().splitlines() if line.startswith(b"ilaas")] == ours


def test_the_state_says_what_the_live_view_needs():
    accounting, source = observed(view(server()), gauges=ProcessGauges(active_requests=4, uptime_s=9.5))
    accounting.finished(record())
    found = state(source)
    assert (found["active"], found["uptime_s"]) == (4, 9.5)
    assert found["requests"] == [{"model": "m", "class": "interactive", "outcome": "completed", "count": 1}]
    assert found["tokens"] == [{"model": "m", "class": "interactive", "prompt": 11, "completion": 7}]


# -- documents --------------------------------------------------------------------------------------------------------


def exposed_names() -> set[str]:
    names = set(SPECS)
    for spec in METRICS:
        if spec.kind is Kind.HISTOGRAM:
            names |= {f"{spec.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def used_names(expressions: list[str]) -> set[str]:
    return {name for text in expressions for name in re.findall(r"\bilaas_[a-z_]+", text)}


def check_labels(expressions: list[str]) -> None:
    """A label or value that no metric has would match nothing, silently."""
    values = {
        "outcome": set(Outcome),
        "class": set(RequestClass),
        "direction": {"prompt", "completion"},
        "state": {*MODEL_STATES, *SERVER_STATES},
    }
    for text in expressions:
        for name, matchers in re.findall(r"\b(ilaas_[a-z_]+)\{([^}]*)\}", text):
            spec = SPECS[re.sub(r"_(bucket|sum|count)$", "", name)]
            for label, matched in re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"([^"]*)"', matchers):
                assert label in spec.labels, f"{name} has no label {label}"
                if label in values:
                    assert set(matched.split("|")) <= values[label], f"{name}: {matched}"


def test_the_documented_table_is_the_table_of_the_code():
    rows = re.findall(
        r"^\| `(ilaas_\w+)` \| (\w+) \| (.*?) \| (.*) \|$", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
    )
    documented = [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows]
    assert documented == [(spec.name, spec.kind, spec.labels, spec.help) for spec in METRICS]


def test_the_dashboard_shows_only_metrics_that_exist():
    dashboard = json.loads((ROOT / "deploy/grafana/ilaas.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [
        variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"
    ]
    assert used_names(expressions + variables) <= exposed_names()
    check_labels([text.replace('model=~"$model"', 'model="m"') for text in expressions])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_every_metric_is_on_the_dashboard_or_in_an_alert():
    dashboard = json.loads((ROOT / "deploy/grafana/ilaas.json").read_text())
    shown = used_names([json.dumps(dashboard), (ROOT / "deploy/prometheus/alerts.yaml").read_text()])
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert set(SPECS) - shown == {"ilaas_running"}


def test_the_alerts_ask_only_for_metrics_that_exist():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
    expressions = [rule["expr"] for rule in rules]
    assert used_names(expressions) <= exposed_names()
    check_labels(expressions)
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)


# -- logs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logs():
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield io.StringIO()
    root.handlers[:], level = before
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_are_json_lines_with_time_and_level(logs):
    configure_logging(json=True, level="info", stream=logs)
    structlog.get_logger().info("server_added", server="s1", count=3)
    [line] = lines(logs)
    assert (line["event"], line["server"], line["count"], line["level"]) == ("server_added", "s1", 3, "info")
    assert line["time"].endswith("Z")


def test_lines_of_libraries_come_out_the_same_way(logs):
    configure_logging(json=True, stream=logs)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received with %s", "Bearer abc.def")
    [line] = lines(logs)
    assert line["level"] == "warning"
    assert "abc.def" not in str(line)


@pytest.mark.parametrize("library", ["httpx", "uvicorn.access", "uvicorn.error", "alembic.runtime.migration"])
def test_a_library_that_logs_every_step_is_kept_quiet(logs, library):
    configure_logging(json=True, stream=logs)
    logging.getLogger(library).info("Running upgrade 0001 -> 0002")
    assert logs.getvalue() == ""


def test_lines_below_the_level_are_not_written(logs):
    configure_logging(json=True, level="warning", stream=logs)
    structlog.get_logger().info("nothing_happened")
    assert logs.getvalue() == ""


@pytest.mark.parametrize("as_json", [True, False])
def test_no_secret_and_no_content_gets_into_a_line(logs, as_json):
    configure_logging(json=as_json, stream=logs)
    key = "ilaas-0123456789ABCDEFGHJKMNPQRSTVWXYZabcdefgh"
    structlog.get_logger().warning(
        "odd", token="t0ken", prompt="my illness", detail=f"key {key} in http://joe:hunter2@host/", header="Bearer zzzz"
    )
    try:
        raise ValueError(f"refused {key}")
    except ValueError:
        structlog.get_logger().exception("failed")
    written = logs.getvalue()
    assert "odd" in written
    assert not [secret for secret in ("t0ken", "illness", key, "hunter2", "zzzz") if secret in written]


@pytest.mark.parametrize("as_json", [True, False])
def test_the_trace_of_a_fault_says_where_it_was_and_not_what_the_client_sent(logs, as_json):
    configure_logging(json=as_json, level="debug", stream=logs)
    sent = "my illness"
    for logger in (structlog.get_logger(), logging.getLogger("uvicorn.error")):
        try:
            try:
                int(sent)
            except ValueError as error:
                raise KeyError(sent) from error
        except KeyError:
            logger.exception("request_failed")
    try:
        raise ExceptionGroup(sent, [ValueError(sent), FileNotFoundError(2, "No such file", "/x")])
    except ExceptionGroup:
        structlog.get_logger().exception("request_failed")
    written = logs.getvalue()
    assert sent not in written
    assert written.count("builtins.ValueError") == 3
    assert written.count("builtins.KeyError") == 2
    assert written.count("test_observe.py") >= 5
    assert "No such file" in written


def test_values_that_json_does_not_know_are_written_all_the_same(logs):
    configure_logging(json=True, stream=logs)
    structlog.get_logger().info("odd", where=Path("/x"), which={Outcome.COMPLETED: object})
    assert "/x" in str(lines(logs)[0]["where"])


# -- the event loop's lag ---------------------------------------------------------------------------------------------


def test_the_worst_lag_of_the_last_15_seconds_is_told_and_then_forgotten():
    lag = LoopLag()
    lag.note(0.0, 0.5)
    lag.note(1.0, 0.1)
    lag.note(2.0, 0.2)
    assert lag.worst_s(14.0) == 0.5
    assert lag.worst_s(15.5) == 0.2
    assert lag.worst_s(100.0) == 0.0


async def test_a_loop_that_is_held_up_is_noticed():
    import asyncio
    import time

    lag = LoopLag()
    lag.EVERY_S = 0.01
    noted = asyncio.Event()
    plain = lag.note

    def note(now: float, late_s: float) -> None:
        plain(now, late_s)
        noted.set()

    lag.note = note
    lag.start()
    time.sleep(0.1)
    await asyncio.wait_for(noted.wait(), 10)
    lag.stop()
    assert lag.worst_s(asyncio.get_running_loop().time()) >= 0.08
