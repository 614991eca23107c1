"""One request from its bytes to its record, on twins: what the client gets, what the server gets, what is kept."""

from __future__ import annotations

import orjson
import pytest

from ilaas.core.catalogue import Deadlines, DispatchPolicy
from ilaas.core.dispatch.events import RefusalReason, Ticket
from ilaas.core.quota import Limits, Subject
from ilaas.core.values import Continuation, Lifecycle, Outcome, RequestClass
from ilaas.ports.broker import Waiter
from ilaas.services.context import InferencePolicy
from tests.support.twins import House, TwinBroker, key, server

USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
PLAIN = {"id": "c", "object": "chat.completion", "model": "org/served", "choices": [], "usage": USAGE}


def part(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return orjson.dumps({"id": "c", "model": "org/served", "choices": [choice]})


USAGE_PART = orjson.dumps({"id": "c", "model": "org/served", "choices": [], "usage": USAGE})


def test_a_plain_answer_comes_back_with_the_public_name_and_says_where_it_was_made() -> None:
    house = House()
    asked = house.ask()
    assert orjson.loads(asked.call.request.body)["model"] == "org/served"
    asked.call.plain(PLAIN)
    writer = asked.writer
    assert writer.status == 200
    assert orjson.loads(writer.body)["model"] == "public"
    assert writer.headers["x-ilaas-server-site"] == "site-one"
    assert writer.headers["x-ilaas-queue-ms"] == "250"
    assert writer.headers["x-request-id"].startswith("req-0000")
    record = asked.record
    assert (record.outcome, record.prompt_tokens, record.completion_tokens) == (Outcome.COMPLETED, 5, 2)
    assert (record.server, record.owner, record.organisation, record.estimated) == ("one", "uni-a", "uni-a", False)
    assert house.at_rest()


def test_a_stream_is_passed_on_part_by_part_and_the_usage_chunk_that_nobody_asked_for_is_taken_out() -> None:
    house = House()
    asked = house.ask(stream=True)
    assert orjson.loads(asked.call.request.body)["stream_options"] == {"include_usage": True}
    asked.call.stream()
    assert not asked.writer.status
    house.clock.now += 0.5
    asked.call.event(part("Bon"))
    assert b"Bon" in asked.writer.body
    asked.call.event(part("jour", "stop"))
    asked.call.event(USAGE_PART)
    asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()
    assert asked.writer.finished
    assert b"usage" not in asked.writer.body
    assert asked.writer.body.endswith(b"data: [DONE]\n\n")
    assert asked.writer.headers["content-type"].startswith("text/event-stream")
    assert house.broker.first_tokens == [0.5]
    assert asked.record.ttft_ms == 500
    assert asked.record.completion_tokens == 2
    assert house.at_rest()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"authorization": ""}, 401, "invalid_api_key"),
        ({"authorization": "Basic x"}, 401, "invalid_api_key"),
        ({"authorization": "Bearer nobody"}, 401, "invalid_api_key"),
        ({"authorization": "Bearer ilaas-mistyped"}, 401, "invalid_api_key"),
        ({"content-type": "text/plain"}, 415, "unsupported_media_type"),
        ({"content-encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"x-ilaas-class": "vip"}, 400, "invalid_request"),
        ({"x-ilaas-routing-mode": "near"}, 400, "invalid_request"),
    ],
)
def test_a_refusal_before_the_queue_has_its_status_and_its_code(
    headers: dict[str, str], status: int, code: str
) -> None:
    house = House()
    asked = house.ask(headers=headers)
    assert (asked.writer.status, asked.writer.error["code"]) == (status, code)
    assert set(asked.writer.error) == {"message", "type", "param", "code"}
    assert not house.upstream.calls
    assert house.at_rest()


def test_an_unknown_model_is_answered_with_near_names() -> None:
    asked = House().ask({"model": "publik", "messages": [{"role": "user", "content": "x"}]})
    assert asked.writer.status == 404
    assert asked.writer.error["code"] == "model_not_found"
    assert asked.writer.error["param"] == "model"
    assert "'public'" in asked.writer.error["message"]


@pytest.mark.parametrize("asked_for", ["Mistral-24B", "mistralai/mistral-24b", "mistral/Mistral-24B-Instruct"])
def test_near_names_are_found_by_the_long_names_too(asked_for: str) -> None:
    house = House(model_fields={"aliases": ("mistralai/Mistral-24B",)})
    asked = house.ask({"model": asked_for, "messages": [{"role": "user", "content": "x"}]})
    assert asked.writer.error["message"].endswith("Did you mean 'public'?")


def test_a_model_of_other_organisations_is_not_there_for_this_key() -> None:
    house = House(model_fields={"organisations": frozenset({"uni-b"})})
    assert house.ask().writer.status == 404


def test_a_staged_model_is_hidden_from_all_but_those_it_names() -> None:
    assert House(model_fields={"lifecycle": Lifecycle.STAGING}).ask().writer.status == 404
    open_to_us = {"lifecycle": Lifecycle.STAGING, "organisations": frozenset({"uni-a"})}
    assert House(model_fields=open_to_us).ask().writer.status == 0


def test_a_deprecated_model_announces_its_end_in_each_answer() -> None:
    asked = House(model_fields={"lifecycle": Lifecycle.DEPRECATED, "retires_on": "2027-01-01"}).ask()
    asked.call.plain(PLAIN)
    assert asked.writer.headers["deprecation"] == "true"
    assert asked.writer.headers["sunset"] == "Fri, 01 Jan 2027 00:00:00 GMT"


def test_private_modes_are_refused_to_who_provides_no_server_of_the_model() -> None:
    asked = House(keys=[key(organisation="uni-z")]).ask(**{"routing-mode": "private-only"})
    assert asked.writer.status == 400
    assert asked.writer.error["param"] == "routing-mode"


def test_a_key_for_batch_only_sends_batch_without_saying_so_and_may_not_ask_for_more() -> None:
    house = House(keys=[key(classes=frozenset({RequestClass.BATCH}))])
    asked = house.ask()
    asked.call.plain(PLAIN)
    assert asked.record.request_class is RequestClass.BATCH
    refused = house.ask(headers={"x-ilaas-class": "interactive"})
    assert refused.writer.status == 403


@pytest.mark.parametrize("field", [{"expires_at_s": 999.0}, {"revoked_at_s": 999.0}])
def test_a_dead_key_is_refused(field: dict[str, float]) -> None:
    assert House(keys=[key(**field)]).ask().writer.status == 401


def test_only_the_id_and_a_valid_trace_pass_to_the_server_and_never_the_key() -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    house = House()
    asked = house.ask(
        headers={"x-request-id": "mine-1", "traceparent": trace, "x-openwebui-user-email": "a@b.fr", "cookie": "c=1"}
    )
    sent = asked.call.request.headers
    assert sent == f"x-request-id: mine-1\r\ntraceparent: {trace}\r\n".encode()
    asked.call.plain(PLAIN)
    assert asked.writer.headers["x-request-id"] == "mine-1"
    bad = house.ask(headers={"x-request-id": "a b\r\nx: y", "traceparent": "nonsense\r\nevil: 1"})
    assert b"evil" not in bad.call.request.headers
    assert b"x: y" not in bad.call.request.headers


@pytest.mark.parametrize("status", [500, 502, 503, 429, 401, 403, 302])
def test_a_servers_fault_before_the_first_token_is_tried_again_elsewhere(status: int) -> None:
    house = House()
    asked = house.ask(stream=True)
    first = asked.call
    first.head(status)
    assert first.aborted
    second = asked.call
    assert second.server.id == "two"
    second.stream()
    second.event(part("ok", "stop"))
    second.event(b"[DONE]")
    second.sink.upstream_end()
    assert asked.writer.status == 200
    assert asked.record.attempts == 2
    assert [each.retry for each in house.broker.settled] == [True, False]
    assert house.at_rest()


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (Outcome.CONNECT_FAILED, 502, "upstream_failed"),
        (Outcome.CONNECT_TIMEOUT, 504, "connect_timeout"),
        (Outcome.STREAM_BROKEN, 502, "upstream_stream_broken"),
    ],
)
def test_when_every_server_fails_the_last_fault_is_named(outcome: Outcome, status: int, code: str) -> None:
    house = House()
    asked = house.ask()
    asked.call.sink.upstream_failed(outcome, "reason")
    asked.call.sink.upstream_failed(outcome, "reason")
    assert (asked.writer.status, asked.writer.error["code"]) == (status, code)
    assert asked.record.outcome is outcome
    assert house.at_rest()


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_servers_refusal_is_passed_on_with_its_words_and_not_tried_again(status: int) -> None:
    house = House()
    asked = house.ask()
    asked.call.plain(
        {"error": {"message": "org/served says no", "type": "BadRequestError", "param": "x", "code": status}}, status
    )
    assert asked.writer.status == status
    assert asked.writer.error["message"] == "public says no"
    assert asked.writer.error["param"] == "x"
    assert len(house.upstream.calls) == 1
    assert asked.record.outcome is Outcome.UPSTREAM_REJECTED
    assert (asked.record.prompt_tokens, asked.record.completion_tokens) == (0, 0)
    assert house.at_rest()


@pytest.mark.parametrize(
    "words", ["The model `org/served` does not exist.", 'model "org/served" not found, try pulling it first']
)
def test_a_server_that_lacks_the_model_is_passed_over_and_the_client_is_not_told_that_it_does_not_exist(
    words: str,
) -> None:
    house = House()
    asked = house.ask()
    asked.call.plain({"message": words, "type": "NotFoundError", "code": 404}, 404)
    assert asked.call.server.id == "two"
    asked.call.plain(PLAIN)
    assert asked.writer.status == 200
    lost = house.ask()
    while not lost.writer.status:
        lost.call.plain({"error": {"message": words}}, 404)
    assert lost.writer.status == 502
    assert "does not have the model" in lost.writer.error["message"]
    assert house.at_rest()


def test_an_answer_that_is_not_json_is_tried_again() -> None:
    house = House()
    asked = house.ask()
    asked.call.head(200, b"text/html")
    asked.call.sink.upstream_body(b"<html>maintenance</html>")
    asked.call.sink.upstream_end()
    assert asked.call.server.id == "two"
    asked.call.plain(PLAIN)
    assert asked.writer.status == 200


def test_a_stream_that_opens_with_an_error_event_is_tried_again() -> None:
    house = House()
    asked = house.ask(stream=True)
    asked.call.stream()
    asked.call.event(b'{"error":{"message":"engine dead"}}')
    assert not asked.writer.status
    assert asked.call.server.id == "two"


NOT_CONTINUED = DispatchPolicy(continuation=Continuation.OFF)


@pytest.mark.parametrize("how", ["closed", "ended"])
def test_a_break_in_mid_stream_is_an_event_in_the_stream_and_then_its_end(how: str) -> None:
    house = House(dispatch=NOT_CONTINUED)
    asked = house.ask(stream=True)
    asked.call.stream()
    asked.call.event(part("Bon"))
    if how == "closed":
        asked.call.sink.upstream_failed(Outcome.STREAM_BROKEN, "closed")
    else:
        asked.call.sink.upstream_end()
    tail = asked.writer.body.split(b"\n\n")
    assert orjson.loads(tail[-3].removeprefix(b"data: "))["error"]["code"] == "upstream_stream_broken"
    assert tail[-2] == b"data: [DONE]"
    assert asked.writer.finished
    assert len(house.upstream.calls) == 1
    record = asked.record
    assert (record.outcome, record.estimated) == (Outcome.STREAM_BROKEN, True)
    assert record.prompt_tokens > 0
    assert house.at_rest()


@pytest.mark.parametrize("wants_usage", [True, False])
def test_an_error_event_in_mid_stream_is_the_servers_fault_though_it_ends_the_stream_properly(
    wants_usage: bool,
) -> None:
    house = House(dispatch=NOT_CONTINUED)
    asked = house.ask(stream=True, stream_options={"include_usage": wants_usage})
    asked.call.stream()
    asked.call.event(part("Bon"))
    asked.call.event(b'{"error":{"message":"engine died","code":500}}')
    asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()
    assert asked.record.outcome is Outcome.UPSTREAM_ERROR
    assert house.broker.settled[-1].outcome is Outcome.UPSTREAM_ERROR
    assert asked.writer.body.endswith(b'"code":500}}\n\ndata: [DONE]\n\n')
    assert asked.writer.body.count(b"[DONE]") == 1
    assert asked.writer.finished


def test_a_stream_of_nothing_but_its_end_is_tried_again() -> None:
    house = House()
    asked = house.ask(stream=True, stream_options={"include_usage": True})
    asked.call.stream()
    asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()
    assert asked.call.server.id == "two"
    assert [each.outcome for each in house.broker.settled] == [Outcome.STREAM_BROKEN]


def test_an_empty_stream_is_tried_again() -> None:
    house = House()
    asked = house.ask(stream=True)
    asked.call.stream()
    asked.call.sink.upstream_end()
    assert asked.call.server.id == "two"


def test_a_server_that_answers_a_stream_request_whole_is_passed_on_whole() -> None:
    house = House()
    asked = house.ask(stream=True)
    asked.call.plain(PLAIN)
    assert orjson.loads(asked.writer.body)["model"] == "public"


@pytest.mark.parametrize("stage", ["queue", "connect", "prefill", "decode"])
def test_a_client_that_leaves_frees_its_slot_and_stops_the_server_at_every_stage(stage: str) -> None:
    house = House()
    house.broker.hold = stage == "queue"
    house.upstream.connects = stage in ("prefill", "decode")
    asked = house.ask(stream=True)
    if stage == "decode":
        asked.call.stream()
        asked.call.event(part("Bon"))
    asked.exchange.client_left()  # type: ignore[attr-defined]
    expected = {
        "queue": Outcome.CLIENT_LEFT_QUEUE,
        "connect": Outcome.CLIENT_LEFT_PREFILL,
        "prefill": Outcome.CLIENT_LEFT_PREFILL,
        "decode": Outcome.CLIENT_LEFT_DECODE,
    }
    assert asked.record.outcome is expected[stage]
    assert all(call.aborted for call in house.upstream.calls)
    assert house.at_rest()
    asked.exchange.client_left()  # type: ignore[attr-defined]
    assert len(house.outbox.records) == 1


def test_a_waiting_stream_hears_its_queue_position_every_interval_and_then_its_answer() -> None:
    house = House(policy=InferencePolicy(keepalive_comment_s=15))
    house.broker.hold = True
    asked = house.ask(stream=True)
    for _ in range(124):
        house.clock.now += 0.25
        house.inference.sweep()
    assert asked.writer.body == b": queued, position 3, about 4 s\n\n" * 2
    house.broker.serve(next(iter(house.broker.waiting)))
    asked.call.stream()
    asked.call.event(part("ok", "stop"))
    asked.call.event(b"[DONE]")
    asked.call.sink.upstream_end()
    assert asked.writer.status == 200
    assert asked.writer.body.endswith(b"data: [DONE]\n\n")


def test_an_error_after_a_comment_is_an_event_in_the_stream() -> None:
    house = House(policy=InferencePolicy(keepalive_comment_s=1))
    house.broker.hold = True
    asked = house.ask(stream=True)
    house.clock.now += 2
    house.inference.sweep()
    house.broker.refuse(RefusalReason.QUEUE_TIMEOUT)
    assert asked.writer.status == 200
    assert b'"queue_timeout"' in asked.writer.body
    assert asked.writer.body.endswith(b"data: [DONE]\n\n")
    assert asked.record.outcome is Outcome.QUEUE_TIMEOUT


def test_a_plain_request_hears_nothing_while_it_waits() -> None:
    house = House(policy=InferencePolicy(keepalive_comment_s=1))
    house.broker.hold = True
    asked = house.ask()
    house.clock.now += 30
    house.inference.sweep()
    assert asked.writer.status == 0


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        (RefusalReason.BUSY, 429, "too_busy"),
        (RefusalReason.QUEUE_FULL, 429, "too_busy"),
        (RefusalReason.NO_SERVER, 503, "no_server_available"),
        (RefusalReason.QUEUE_TIMEOUT, 503, "queue_timeout"),
        (RefusalReason.CONTEXT_TOO_LONG, 400, "context_length_exceeded"),
    ],
)
def test_each_refusal_of_the_dispatcher_has_its_status_and_says_when_to_come_back(
    reason: RefusalReason, status: int, code: str
) -> None:
    house = House()
    house.broker.hold = True
    asked = house.ask()
    house.broker.refuse(reason, 7.0)
    assert (asked.writer.status, asked.writer.error["code"]) == (status, code)
    assert asked.writer.headers.get("retry-after") == (None if status == 400 else "7")
    assert house.at_rest()


def test_todays_overload_text_is_there_for_who_asks_for_it_with_200_for_chat_clients() -> None:
    for chat_client, status in ((False, 503), (True, 200)):
        house = House(policy=InferencePolicy(historic_overload_text=True), keys=[key(chat_client=chat_client)])
        house.broker.hold = True
        asked = house.ask()
        house.broker.refuse(RefusalReason.BUSY)
        assert asked.writer.status == status
        assert orjson.loads(asked.writer.body) == {"error": "Too many people using the service"}


def house_with(**deadlines: float) -> House:
    return House(dispatch=DispatchPolicy(deadlines=Deadlines(**deadlines)))


def test_a_server_without_a_first_token_in_time_is_left_for_another() -> None:
    house = house_with(first_token_s=10, answer_s=100)
    asked = house.ask(stream=True)
    first = asked.call
    house.clock.now += 11
    house.inference.sweep()
    assert first.aborted
    assert asked.call.server.id == "two"
    house.clock.now += 11
    house.inference.sweep()
    assert (asked.writer.status, asked.writer.error["code"]) == (504, "first_token_timeout")
    assert house.at_rest()


def test_a_plain_answer_that_no_server_gives_in_time_has_an_error_and_an_outcome_of_its_own() -> None:
    house = house_with(first_token_s=10, answer_s=100)
    asked = house.ask()
    for name in ("one", "two"):
        assert asked.call.server.id == name
        house.clock.now += 101
        house.inference.sweep()
    assert (asked.writer.status, asked.writer.error["code"]) == (504, "answer_timeout")
    assert asked.record.outcome is Outcome.ANSWER_TIMEOUT
    assert house.at_rest()


def test_when_every_server_refuses_more_requests_the_client_is_told_to_wait() -> None:
    house = House()
    asked = house.ask()
    for _ in range(2):
        asked.call.sink.upstream_head(429, [(b"retry-after", b"1")])
    assert (asked.writer.status, asked.writer.error["code"]) == (429, "too_busy")
    assert asked.writer.headers["retry-after"] == "5"
    assert asked.record.outcome is Outcome.UPSTREAM_BUSY
    assert house.at_rest()


def test_an_exchange_that_the_dispatcher_does_not_take_is_forgotten() -> None:
    class Broken(TwinBroker):
        def submit(self, ticket: Ticket, waiter: Waiter) -> None:
            raise RuntimeError("a fault of ours")

    house = House()
    house.inference.context.broker = Broken(house.servers)
    with pytest.raises(RuntimeError):
        house.ask()
    assert not house.inference.active


def test_a_plain_answer_may_take_longer_than_a_first_token() -> None:
    house = house_with(first_token_s=10, answer_s=100)
    asked = house.ask()
    house.clock.now += 50
    house.inference.sweep()
    assert not asked.call.aborted
    asked.call.plain(PLAIN)
    assert asked.writer.status == 200


def test_a_process_that_was_paused_takes_its_own_silence_for_no_servers() -> None:
    house = House(dispatch=DispatchPolicy(deadlines=Deadlines(idle_s=5, first_token_s=5)))
    streaming, waiting = house.ask(stream=True), house.ask(stream=True)
    streaming.call.stream()
    streaming.call.event(part("a"))
    house.inference.sweep()
    house.clock.now += 60
    house.inference.slept(59.75)
    house.inference.sweep()
    calls = [streaming.call, waiting.call]
    assert [call.aborted for call in calls] == [False, False]
    house.clock.now += 6
    house.inference.sweep()
    assert [call.aborted for call in calls] == [True, True], "from then on, silence counts"


def test_a_server_that_falls_silent_in_mid_answer_is_cut_and_the_client_told() -> None:
    house = House(dispatch=DispatchPolicy(deadlines=Deadlines(idle_s=5), continuation=Continuation.OFF))
    asked = house.ask(stream=True)
    asked.call.stream()
    asked.call.event(part("a"))
    for _ in range(4):
        house.clock.now += 3
        asked.call.event(part("b"))
        house.inference.sweep()
    assert not asked.writer.finished
    house.clock.now += 6
    house.inference.sweep()
    assert b"idle_timeout" in asked.writer.body
    assert asked.call.aborted
    assert asked.record.outcome is Outcome.IDLE_TIMEOUT
    assert house.at_rest()


def test_an_answer_may_not_take_longer_than_a_request_may() -> None:
    house = house_with(total_s=20)
    asked = house.ask(stream=True)
    asked.call.stream()
    for _ in range(21):
        house.clock.now += 1
        if not asked.writer.finished:
            asked.call.event(part("b"))
        house.inference.sweep()
    assert b"total_timeout" in asked.writer.body
    assert house.at_rest()


def test_a_slow_client_pauses_the_server_and_is_left_when_it_never_reads() -> None:
    house = House(policy=InferencePolicy(client_stall_s=60))
    asked = house.ask(stream=True)
    asked.call.stream()
    asked.call.event(part("a"))
    asked.exchange.pause()  # type: ignore[attr-defined]
    assert asked.call.paused
    house.clock.now += 59
    house.inference.sweep()
    asked.exchange.resume()  # type: ignore[attr-defined]
    assert not asked.call.paused
    asked.exchange.pause()  # type: ignore[attr-defined]
    house.clock.now += 61
    house.inference.sweep()
    assert asked.writer.aborted
    assert asked.record.outcome is Outcome.CLIENT_LEFT_DECODE
    assert house.at_rest()


def test_a_shutdown_tells_waiting_clients_and_ends_running_streams() -> None:
    house = House()
    running = house.ask(stream=True)
    running.call.stream()
    running.call.event(part("a"))
    house.broker.hold = True
    waiting = house.ask()
    house.inference.draining = True
    house.inference.abort_all()
    assert (waiting.writer.status, waiting.writer.error["code"]) == (503, "shutting_down")
    assert running.writer.finished
    assert {record.outcome for record in house.outbox.records} == {Outcome.SHUT_DOWN}
    assert house.at_rest()
    late = house.ask()
    assert late.writer.status == 503
    assert late.writer.headers["retry-after"] == "1"


def test_a_limit_is_told_with_its_headers_and_what_failed_is_given_back() -> None:
    house = House()
    house.book.set_limits({Subject.of_key("k1"): Limits(requests_per_minute=2, tokens_per_minute=100_000)})
    first = house.ask()
    first.call.plain(PLAIN)
    assert first.writer.headers["x-ratelimit-limit-requests"] == "2"
    assert first.writer.headers["x-ratelimit-remaining-requests"] == "1"
    failing = house.ask()
    failing.call.sink.upstream_failed(Outcome.CONNECT_FAILED, "r")
    failing.call.sink.upstream_failed(Outcome.CONNECT_FAILED, "r")
    assert failing.writer.status == 502
    house.ask().call.plain(PLAIN)
    refused = house.ask()
    assert (refused.writer.status, refused.writer.error["code"]) == (429, "rate_limit_exceeded")
    assert int(refused.writer.headers["retry-after"]) >= 1
    assert refused.writer.headers["x-ratelimit-remaining-requests"] == "0"
    assert house.at_rest()


def test_every_inference_path_passes_the_quota() -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/v1/score", "/tokenize"):
        house = House()
        house.book.set_limits({Subject.of_key("k1"): Limits(requests_per_minute=0)})
        assert house.ask(path=path).writer.status == 429


def test_a_broken_deterministic_usage_never_reaches_the_record_as_nonsense() -> None:
    house = House()
    asked = house.ask()
    asked.call.plain({**PLAIN, "usage": {"prompt_tokens": -5, "completion_tokens": "x"}})
    assert asked.record.estimated
    assert asked.record.prompt_tokens >= 0


def test_two_servers_with_other_names_for_the_model_each_get_their_own() -> None:
    house = House(servers=[server("one", served_name="a"), server("two", served_name="b")])
    asked = house.ask()
    asked.call.head(500)
    assert [orjson.loads(call.request.body)["model"] for call in house.upstream.calls] == ["a", "b"]


def test_a_long_prompt_asks_for_a_wide_window_only_where_servers_differ_and_images_do_not_count() -> None:
    narrow, wide = server("one", context_window=8_000), server("two", context_window=100_000)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 900_000}}
    content = [{"type": "text", "text": "x" * 40_000}, picture]
    body = {"model": "public", "messages": [{"role": "user", "content": content}], "max_tokens": 500}
    asked = House(servers=[narrow, wide]).ask(body)
    assert asked.exchange.ticket.context_tokens == 10_500  # type: ignore[attr-defined]
    assert House(servers=[wide, wide]).ask(body).exchange.ticket.context_tokens == 0  # type: ignore[attr-defined]
    body["messages"][0]["content"] = "x" * 4_000_000  # type: ignore[index]
    assert House(servers=[narrow, wide]).ask(body).exchange.ticket.context_tokens == 100_000  # type: ignore[attr-defined]
