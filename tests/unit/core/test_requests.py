"""What the gateway reads of a request, and the body each server gets."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ilaas.core.catalogue import ServerSpec
from ilaas.core.errors import IlaasError, InvalidRequest, Unprocessable
from ilaas.core.request_body import body_for, uuid_only
from ilaas.core.request_extras import priority, request_class, routing_mode
from ilaas.core.requests import ENDPOINTS, context_tokens, parse, prefix_hash
from ilaas.core.values import Engine, RequestClass, RoutingMode

CHAT = ENDPOINTS["/v1/chat/completions"]
EMBED = ENDPOINTS["/v1/embeddings"]
MESSAGES = [{"role": "user", "content": "Bonjour"}]


def server(engine: Engine = Engine.VLLM, served_name: str = "org/served-7b") -> ServerSpec:
    return ServerSpec(id="s", url="http://h", site="x", owner="o", served_name=served_name, engine=engine)


def chat(**fields: Any) -> bytes:
    return orjson.dumps({"model": "public", "messages": MESSAGES, **fields})


def sent(raw: bytes, engine: Engine = Engine.VLLM, **options: Any) -> dict[str, Any]:
    body = body_for(parse(CHAT, raw), server(engine), **options)
    tree: dict[str, Any] = json.loads(body)
    return tree


@pytest.mark.parametrize(
    ("raw", "error", "param", "words"),
    [
        (b"", InvalidRequest, None, "not valid JSON"),
        (b"{", InvalidRequest, None, "not valid JSON"),
        (b"\xff\xfe", InvalidRequest, None, "not valid JSON"),
        (b"[1]", InvalidRequest, None, "not a list"),
        (b'"x"', InvalidRequest, None, "not a string"),
        (b"null", InvalidRequest, None, "not null"),
        (b"{}", InvalidRequest, "model", "missing"),
        (b'{"model":""}', InvalidRequest, "model", "missing"),
        (b'{"model":null}', InvalidRequest, "model", "missing"),
        (b'{"model":3}', InvalidRequest, "model", "not a number"),
        (chat(stream="yes"), InvalidRequest, "stream", "true or false"),
        (chat(stream=1), InvalidRequest, "stream", "true or false"),
        (chat(stream_options=[]), InvalidRequest, "stream_options", "object"),
        (chat(messages=[]), InvalidRequest, "messages", "at least one"),
        (chat(messages="hi"), InvalidRequest, "messages", "at least one"),
        (chat(messages=["hi"]), InvalidRequest, "messages[0]", "role"),
        (chat(temperature=9), Unprocessable, "temperature", "between 0 and 2"),
        (chat(temperature="hot"), Unprocessable, "temperature", "a number"),
        (chat(max_tokens=-1), Unprocessable, "max_tokens", "between"),
        (chat(max_tokens=1.5), Unprocessable, "max_tokens", "an integer"),
        (chat(max_tokens=True), Unprocessable, "max_tokens", "an integer"),
        (chat(n=0), Unprocessable, "n", "between"),
    ],
)
def test_bad_input_is_refused_with_the_field_and_the_remedy(
    raw: bytes, error: type[IlaasError], param: str | None, words: str
) -> None:
    with pytest.raises(error) as caught:
        parse(CHAT, raw)
    assert caught.value.param == param
    assert words in caught.value.message


@given(st.binary(max_size=300))
def test_any_bytes_give_a_request_or_an_error_that_can_be_told(raw: bytes) -> None:
    with suppress(InvalidRequest, Unprocessable):
        parse(CHAT, raw)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.text(max_size=12).filter(lambda key: key not in ("messages", "model", "stream")), json_values, max_size=6
    ),
    st.booleans(),
    st.text(min_size=1, max_size=30),
)
def test_a_server_gets_the_clients_fields_untouched_but_for_what_the_gateway_changes(
    extra: dict[str, Any], stream: bool, name: str
) -> None:
    tree = {**extra, "model": name, "messages": [{"role": "user", "content": 'say "model": "x"'}], "stream": stream}
    try:
        request = parse(CHAT, json.dumps(tree).encode())
    except IlaasError:
        return
    got = json.loads(body_for(request, server()))
    wanted = {key: value for key, value in tree.items() if key not in ("routing-mode", "priority")} | {
        "model": "org/served-7b"
    }
    if stream:
        wanted["stream_options"] = {**(tree.get("stream_options") or {}), "include_usage": True}
    assert got == wanted


def test_the_served_name_is_spliced_into_the_clients_own_bytes() -> None:
    raw = b'{ "messages" : [{"role":"user","content":"\\u00e9t\\u00e9"}],  "model":"public", "x":1e2 }'
    body = body_for(parse(CHAT, raw), server())
    assert body == raw.replace(b'"model":"public"', b'"model":"org/served-7b"')


def test_a_nested_model_key_is_never_taken_for_the_requests_own() -> None:
    got = sent(chat(metadata={"model": "mine"}))
    assert got["model"] == "org/served-7b"
    assert got["metadata"] == {"model": "mine"}


def test_a_duplicate_model_key_reaches_the_server_as_the_one_that_was_checked() -> None:
    raw = b'{"model":"secret-model","messages":[{"role":"user","content":"x"}],"model":"public"}'
    request = parse(CHAT, raw)
    body = body_for(request, server())
    assert body.count(b"model") == 1
    assert json.loads(body)["model"] == "org/served-7b"


def test_an_escaped_model_key_reaches_the_server_as_the_one_that_was_checked() -> None:
    raw = b'{"mod\\u0065l":"public","messages":[{"role":"user","content":"x"}]}'
    assert json.loads(body_for(parse(CHAT, raw), server())) == {
        "model": "org/served-7b",
        "messages": [{"role": "user", "content": "x"}],
    }


def test_a_duplicate_model_key_is_not_passed_on_when_public_and_served_names_are_equal() -> None:
    raw = b'{"model":"secret-model","messages":[{"role":"user","content":"x"}],"model":"public"}'
    body = body_for(parse(CHAT, raw), server(served_name="public"))
    assert b"secret-model" not in body


def test_extras_of_todays_clients_are_taken_out() -> None:
    got = sent(chat(**{"routing-mode": "any", "priority": 1, "seed": 4}))
    assert "routing-mode" not in got
    assert "priority" not in got
    assert got["seed"] == 4


@pytest.mark.parametrize("stream", [True, False])
def test_who_the_person_behind_the_client_is_reaches_no_server(stream: bool) -> None:
    got = sent(chat(user="jeanne@univ.fr", safety_identifier="jeanne", stream=stream, seed=4))
    assert b"jeanne" not in orjson.dumps(got)
    assert got["seed"] == 4
    embedding = parse(EMBED, orjson.dumps({"model": "public", "input": "x", "user": "jeanne"}))
    assert json.loads(body_for(embedding, server())) == {"model": "org/served-7b", "input": "x"}


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings", "/v1/rerank", "/tokenize"])
@pytest.mark.parametrize("odd", [5, "text", ["text"], [[1]], {"a": 1}, None, 1.5, True, [{"content": {"a": 1}}]])
def test_the_window_is_estimated_whatever_stands_in_fields_that_the_path_does_not_know(path: str, odd: Any) -> None:
    fields = {"model": "public", "messages": odd, "prompt": "abcdefgh"}
    if path != "/v1/completions":
        fields["max_tokens"] = odd
    assert context_tokens(parse(ENDPOINTS[path], orjson.dumps(fields)), 1000) <= 1000


def test_usage_is_asked_for_in_streams_of_chat_only() -> None:
    assert sent(chat(stream=True))["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent(chat(stream=False))
    assert sent(chat(stream=True, stream_options={"include_usage": False, "x": 1}))["stream_options"] == {
        "include_usage": True,
        "x": 1,
    }
    embedding = orjson.dumps({"model": "public", "input": "x", "stream": True})
    assert "stream_options" not in json.loads(body_for(parse(EMBED, embedding), server()))


@pytest.mark.parametrize("engine", [Engine.LLAMACPP, Engine.OLLAMA, Engine.LMDEPLOY])
def test_max_completion_tokens_is_renamed_for_engines_that_know_the_old_name_only(engine: Engine) -> None:
    got = sent(chat(max_completion_tokens=5), engine)
    assert got["max_tokens"] == 5
    assert "max_completion_tokens" not in got


def test_max_tokens_is_renamed_for_openai_and_kept_for_vllm() -> None:
    assert sent(chat(max_tokens=5), Engine.OPENAI)["max_completion_tokens"] == 5
    assert sent(chat(max_tokens=5))["max_tokens"] == 5
    assert sent(chat(max_completion_tokens=5))["max_completion_tokens"] == 5


def test_a_client_may_only_lower_its_priority() -> None:
    assert priority({}, 3) == 3
    assert priority({"priority": 1}, 3) == 1
    assert priority({"priority": 9}, 3) == 3
    for bad in ("high", True, 1.5, [1]):
        with pytest.raises(InvalidRequest) as caught:
            priority({"priority": bad}, 3)
        assert caught.value.param == "priority"


def test_the_routing_mode_of_header_body_and_key_count_in_that_order() -> None:
    assert routing_mode({}, None, RoutingMode.PRIVATE_FIRST) is RoutingMode.PRIVATE_FIRST
    assert routing_mode({"routing-mode": "any"}, None, RoutingMode.PRIVATE_FIRST) is RoutingMode.ANY
    assert routing_mode({"routing-mode": "any"}, b"private-only", RoutingMode.ANY) is RoutingMode.PRIVATE_ONLY
    for bad in ("near", 3, ["any"]):
        with pytest.raises(InvalidRequest) as caught:
            routing_mode({"routing-mode": bad}, None, RoutingMode.ANY)
        assert caught.value.param == "routing-mode"


def test_the_class_is_interactive_unless_the_header_says_batch() -> None:
    assert request_class(None) is RequestClass.INTERACTIVE
    assert request_class(b"Batch ") is RequestClass.BATCH
    with pytest.raises(InvalidRequest):
        request_class(b"owner")


def test_turns_of_one_conversation_share_a_prefix_hash_and_others_do_not() -> None:
    first = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    later = [*first, {"role": "assistant", "content": "a"}, {"role": "user", "content": "r"}]
    other = [{"role": "system", "content": "s"}, {"role": "user", "content": "z"}]
    assert prefix_hash({"messages": first}) == prefix_hash({"messages": later}) != 0
    assert prefix_hash({"messages": first}) != prefix_hash({"messages": other})
    assert prefix_hash({"input": "x"}) == 0
    assert prefix_hash({"prompt": "abc"}) == prefix_hash({"prompt": "abc"}) != 0
    assert prefix_hash({"messages": [{"role": "user", "content": [{"type": "text", "text": "t"}]}, 3]}) != 0


def test_an_engine_that_takes_uuids_only_gets_our_own_id_in_the_place_of_another() -> None:
    own = "0b0f7d5e-6d2c-4a53-9d3e-000000000001"
    assert uuid_only(b"x-request-id: trace-me\r\na: b\r\n", own) == f"x-request-id: {own}\r\na: b\r\n".encode()
    kept = b"x-request-id: 7b9c2c2e-11aa-4b6e-8e5d-2f1d4c5b6a79\r\n"
    assert uuid_only(kept, own) == kept
