"""What the readers make of the engines' pages, whole, old, damaged and absurd."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ilaas.adapters.statistics.engines import (
    NOTHING,
    READERS,
    parse_llamacpp,
    parse_lmdeploy,
    parse_ollama,
    parse_sglang,
    parse_vllm,
)
from ilaas.adapters.statistics.ttft import TtftWindow
from ilaas.core.dispatch.events import ServerStatistics
from ilaas.core.values import Engine

PAGES = Path(__file__).parent / "pages"
QWEN = "Qwen/Qwen3-32B"


def page(name: str) -> str:
    return (PAGES / name).read_text()


def gauges(**values: object) -> str:
    return "".join(f'vllm:{name}{{engine="0",model_name="m"}} {value}\n' for name, value in values.items())


def test_a_current_vllm_page_gives_running_waiting_and_cache():
    assert parse_vllm(page("vllm.txt"), QWEN) == ServerStatistics(running=17, waiting=3, kv_cache_usage=0.4215)


def test_an_older_vllm_page_calls_its_cache_otherwise():
    found = parse_vllm(page("vllm_old.txt"), "meta-llama/Llama-3.1-8B-Instruct")
    assert found == ServerStatistics(running=8, waiting=2, kv_cache_usage=0.26403)


def test_the_present_name_of_the_cache_gauge_wins_over_the_old_one():
    text = gauges(gpu_cache_usage_perc=0.2, kv_cache_usage_perc=0.9)
    assert parse_vllm(text, "m").kv_cache_usage == 0.9


def test_a_page_with_one_model_is_read_whatever_the_model_is_called_there():
    assert parse_vllm(page("vllm.txt"), "qwen-under-another-name").running == 17


def test_of_several_models_only_the_asked_one_is_read():
    text = 'vllm:num_requests_running{model_name="a"} 1\nvllm:num_requests_running{model_name="b"} 5\n'
    assert parse_vllm(text, "b").running == 5
    assert parse_vllm(text, "c").running is None


def test_engines_behind_one_url_are_added_up_and_the_fullest_cache_counts():
    text = page("vllm.txt") + page("vllm.txt").replace('engine="0"', 'engine="1"').replace("0.4215", "0.75")
    assert parse_vllm(text, QWEN) == ServerStatistics(running=34, waiting=6, kv_cache_usage=0.75)


def test_labels_may_hold_quotes_braces_and_line_breaks():
    text = 'vllm:num_requests_running{model_name="a\\"}b\\\\\\nc"} 4\n'
    other = 'vllm:num_requests_running{model_name="other"} 1\n'
    assert parse_vllm(text + other, 'a"}b\\\nc').running == 4


def test_a_longer_name_that_begins_alike_is_another_metric():
    assert parse_vllm('vllm:num_requests_waiting_by_reason{model_name="m"} 9\n', "m").waiting is None


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e300", "many", "", "5000000"])
def test_absurd_counts_are_not_told(value):
    assert parse_vllm(gauges(num_requests_running=value), "m").running is None


@pytest.mark.parametrize(
    ("value", "told"), [("1.0004", 1.0), ("0", 0.0), ("42.15", None), ("-0.5", None), ("NaN", None)]
)
def test_a_cache_share_is_between_0_and_1_or_not_told(value, told):
    assert parse_vllm(gauges(kv_cache_usage_perc=value), "m").kv_cache_usage == told


def test_missing_lines_leave_only_their_own_value_out():
    assert parse_vllm(gauges(num_requests_waiting=2), "m") == ServerStatistics(waiting=2)


def test_windows_line_ends_and_timestamps_are_read():
    assert parse_vllm('vllm:num_requests_running{model_name="m"} 3 1700000000000\r\n', "m").running == 3


def test_sglang_is_read_under_its_own_names():
    window = TtftWindow()
    text = page("sglang.txt")
    assert parse_sglang(text, "x", window) == ServerStatistics(running=162, waiting=28, kv_cache_usage=0.28)
    later = text.replace('le="1.0",model_name="mistralai/Mistral-Small-3.2-24B"} 200', 'le="1.0"} 300')
    later = later.replace("} 240.0", "} 340.0").replace("} 241.0", "} 341.0")
    found = parse_sglang(
        later.replace('le="1.0"}', 'le="1.0",model_name="mistralai/Mistral-Small-3.2-24B"}'), "x", window
    )
    assert found.ttft_p95_s == pytest.approx(0.975)


def test_lmdeploy_is_read_under_its_own_names():
    assert parse_lmdeploy(page("lmdeploy.txt"), "x") == ServerStatistics(running=9, waiting=1, kv_cache_usage=0.55)


def test_llamacpp_gives_gauges_and_slots():
    found = parse_llamacpp(page("llamacpp_metrics.txt"), page("llamacpp_slots.json"))
    assert found == ServerStatistics(running=3, waiting=6, kv_cache_usage=0.125, slots=4)


def test_llamacpp_without_metrics_is_known_by_its_slots():
    assert parse_llamacpp("", page("llamacpp_slots.json")) == ServerStatistics(running=2, slots=4)
    assert parse_llamacpp("", '[{"id":0,"state":1},{"id":1,"state":0}]') == ServerStatistics(running=1, slots=2)


def test_ollama_tells_the_models_it_has_loaded():
    assert parse_ollama(page("ollama_ps.json")).models == ("mistral-small3.2:latest", "nomic-embed-text:latest")
    assert parse_ollama('{"models":[]}').models == ()


def test_engines_that_tell_nothing_have_no_reader():
    assert set(Engine) - set(READERS) == {Engine.LITELLM, Engine.OPENAI}


# -- whatever a server sends ------------------------------------------------------------------------------------------

LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            "{}{}{} {}".format,
            st.sampled_from(
                [
                    "vllm:num_requests_running",
                    "vllm:num_requests_waiting",
                    "vllm:kv_cache_usage_perc",
                    "vllm:gpu_cache_usage_perc",
                    "vllm:time_to_first_token_seconds_bucket",
                    "llamacpp:requests_processing",
                    "llamacpp:kv_cache_usage_ratio",
                ]
            ),
            st.sampled_from(
                ["", "{}", '{model_name="m"', '{le="', '{le="'] + [f'{{le="{x}"' for x in (0.1, 1, "+Inf", "x")]
            ),
            st.sampled_from(["", "}", '"}', ',model_name="m"}', ',model_name="n"}']),
            st.one_of(st.floats().map(str), st.text(max_size=8), st.integers().map(str)),
        ),
    ),
    max_size=12,
).map("\n".join)


def sane(found: ServerStatistics) -> bool:
    counts = [found.running, found.waiting, found.slots]
    return (
        all(count is None or 0 <= count <= 1_000_000 for count in counts)
        and (found.kv_cache_usage is None or 0 <= found.kv_cache_usage <= 1)
        and (found.ttft_p95_s is None or (math.isfinite(found.ttft_p95_s) and 0 < found.ttft_p95_s <= 86_400))
    )


@given(st.lists(LINES, min_size=1, max_size=4))
def test_any_text_gives_values_or_none_and_never_an_exception(texts):
    window = TtftWindow()
    for text in texts:
        assert sane(parse_vllm(text, "m", window))
        assert sane(parse_llamacpp(text, text))
        assert sane(parse_ollama(text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["models", "model", "name", "is_processing", "state", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(JSON)
@example([])
@example({"models": [{"model": 3}]})
def test_any_json_gives_values_or_none_and_never_an_exception(value):
    import json

    text = json.dumps(value)
    assert sane(parse_llamacpp("", text))
    models = parse_ollama(text).models
    assert models is None or all(isinstance(name, str) for name in models)


def test_a_hostile_page_is_not_read_to_its_end():
    text = "".join(f'vllm:num_requests_running{{engine="{i}"}} 1\n' for i in range(5000))
    assert parse_vllm(text, "m").running == 2000


def test_an_empty_page_tells_nothing():
    assert parse_vllm("", "m") == NOTHING
