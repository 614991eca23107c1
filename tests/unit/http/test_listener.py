"""The public listener over real sockets: framing, limits, smuggling, leaving clients, and all that isn't inference."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import orjson
import pytest
from fastapi import APIRouter

from ilaas.core.values import Outcome
from ilaas.http.limits import Limits
from tests.support.listener import Client, Listener, listening, post, until
from tests.support.twins import House, key

CHAT = orjson.dumps({"model": "public", "messages": [{"role": "user", "content": "Bonjour"}]})
STREAM = orjson.dumps({"model": "public", "messages": [{"role": "user", "content": "Bonjour"}], "stream": True})
PLAIN = {"id": "c", "model": "org/served", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
PART = b'{"model":"org/served","choices":[{"index":0,"delta":{"content":"Bon"},"finish_reason":null}]}'
LAST = b'{"model":"org/served","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


async def asked(listener: Listener, client: Client, data: bytes) -> None:
    """Send and wait until the gateway has sent it on."""
    calls = listener.house.upstream.calls
    before = len(calls)
    client.send(data)
    await until(lambda: len(calls) > before)


async def refused(data: bytes, limits: Limits | None = None) -> tuple[int, dict[str, str]]:
    """The status and error of a request that must never reach a server; the connection is closed after it."""
    house = House()
    async with listening(house, replace(limits or Limits(), linger_s=0.01)) as listener:
        client = await listener.connect()
        client.send(data)
        status, headers, body = await client.answer()
        assert headers[b"connection"] == b"close"
        assert await client.closed()
        assert not house.upstream.calls
        error = orjson.loads(body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return status, error


async def test_one_connection_serves_inference_and_other_paths_in_turn() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        for _ in range(3):
            await asked(listener, client, post(CHAT))
            house.upstream.calls[-1].plain(PLAIN)
            status, headers, body = await client.answer()
            assert (status, orjson.loads(body)["model"]) == (200, "public")
            assert b"date" in headers
            client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ilaas-test\r\n\r\n")
            status, _, body = await client.answer()
            assert [model["id"] for model in orjson.loads(body)["data"]] == ["public", "other"]
        assert house.at_rest()


async def test_a_stream_is_chunked_for_http_1_1_and_bare_for_1_0() -> None:
    house = House()
    async with listening(house) as listener:
        for version in (b"HTTP/1.1", b"HTTP/1.0"):
            client = await listener.connect()
            await asked(listener, client, post(STREAM).replace(b"HTTP/1.1", version))
            call = house.upstream.calls[-1]
            call.stream()
            call.event(PART)
            call.event(LAST)
            call.event(b"[DONE]")
            call.sink.upstream_end()
            status, headers, body = await client.answer()
            assert status == 200
            assert (b"transfer-encoding" in headers) is (version == b"HTTP/1.1")
            assert body.endswith(b"data: [DONE]\n\n")
        assert house.at_rest()


async def test_a_body_may_come_in_pieces_and_chunked() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        data = post(CHAT)
        for index in range(len(data) - 1):
            client.send(data[index : index + 1])
            if index % 40 == 0:
                await client.writer.drain()
                await asyncio.sleep(0)
        await asked(listener, client, data[-1:])
        assert orjson.loads(house.upstream.calls[-1].request.body)["model"] == "org/served"
        house.upstream.calls[-1].plain(PLAIN)
        await client.answer()
        head = post(CHAT).split(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"
        await asked(listener, client, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(CHAT), CHAT))
        house.upstream.calls[-1].plain(PLAIN)
        assert (await client.answer())[0] == 200


async def test_a_client_that_expects_continue_is_told_to_go_on() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        head, _, body = post(CHAT, extra="expect: 100-continue\r\n").partition(b"\r\n\r\n")
        client.send(head + b"\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await asked(listener, client, body)
        house.upstream.calls[-1].plain(PLAIN)
        assert (await client.answer())[0] == 200


@pytest.mark.parametrize("stage", ["queue", "prefill", "decode"])
@pytest.mark.parametrize("body", [CHAT, STREAM])
async def test_a_client_that_closes_its_connection_is_noticed(stage: str, body: bytes) -> None:
    house = House()
    house.broker.hold = stage == "queue"
    async with listening(house) as listener:
        client = await listener.connect()
        client.send(post(body))
        await until(lambda: house.inference.active)
        if stage == "decode":
            house.upstream.calls[-1].stream()
            house.upstream.calls[-1].event(PART)
        client.close()
        await until(house.at_rest)
        assert all(call.aborted for call in house.upstream.calls)
        assert house.outbox.records[0].outcome in (
            Outcome.CLIENT_LEFT_QUEUE,
            Outcome.CLIENT_LEFT_PREFILL,
            Outcome.CLIENT_LEFT_DECODE,
        )


SMUGGLING = {
    "two lengths": post(CHAT, extra="content-length: 4\r\n"),
    "two equal lengths": post(CHAT, extra=f"content-length: {len(CHAT)}\r\n"),
    "length and chunked": post(CHAT, extra="transfer-encoding: chunked\r\n"),
    "space before colon": post(CHAT).replace(b"content-length:", b"content-length :"),
    "signed length": post(CHAT).replace(b"content-length: ", b"content-length: +"),
    "hex length": post(CHAT).replace(b"content-length: ", b"content-length: 0x"),
    "folded header": post(CHAT, extra=" folded: x\r\n"),
    "bare line feeds": post(CHAT).replace(b"\r\n", b"\n"),
    "nul in a header": post(CHAT, extra="x-a: b\x00c\r\n"),
    "nul in a name": post(CHAT, extra="x\x00a: b\r\n"),
    "other coding": post(CHAT).replace(b"content-length: %d" % len(CHAT), b"transfer-encoding: gzip, chunked"),
    "misspelt coding": post(CHAT).replace(b"content-length: %d" % len(CHAT), b"transfer-encoding: xchunked"),
    "chunked with 1.0": post(CHAT)
    .replace(b"content-length: %d" % len(CHAT), b"transfer-encoding: chunked")
    .replace(b"1.1", b"1.0", 1),
    "two codings": post(CHAT).replace(
        b"content-length: %d" % len(CHAT), b"transfer-encoding: chunked\r\ntransfer-encoding: identity"
    ),
    "no host": post(CHAT).replace(b"host: x\r\n", b""),
    "two hosts": post(CHAT, extra="host: y\r\n"),
    "two keys": post(CHAT, extra="authorization: Bearer other\r\n"),
    "bad chunk size": post(CHAT)
    .replace(b"content-length: %d" % len(CHAT), b"transfer-encoding: chunked")
    .replace(CHAT, b"zz\r\n"),
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "http 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("case", SMUGGLING)
async def test_what_is_not_one_unambiguous_request_is_refused_and_the_connection_closed(case: str) -> None:
    status, error = await refused(SMUGGLING[case])
    assert status == 400
    assert error["code"] == "malformed_http"


async def test_a_second_request_inside_the_first_ones_packet_is_not_served() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        await asked(listener, client, post(CHAT) + post(CHAT, path="/v1/embeddings"))
        house.upstream.calls[-1].plain(PLAIN)
        status, headers, _ = await client.answer()
        assert (status, headers[b"connection"]) == (200, b"close")
        assert await client.closed()
        assert len(house.upstream.calls) == 1
        assert house.at_rest()


async def test_a_line_end_behind_the_body_is_no_second_request() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        for _ in range(2):
            await asked(listener, client, post(CHAT) + b"\r\n")
            house.upstream.calls[-1].plain(PLAIN)
            assert b"connection" not in (await client.answer())[1]


async def test_headers_beyond_the_limit_are_refused_also_when_they_never_end() -> None:
    limits = Limits(max_header_bytes=4096)
    for data in (
        post(CHAT, extra="x-long: " + "a" * 5000 + "\r\n"),
        b"POST /v1/chat/completions HTTP/1.1\r\nx-long: " + b"a" * 5000,
        b"GET /" + b"a" * 5000,
        post(CHAT, extra="a: b\r\n" * 200),
    ):
        status, error = await refused(data, limits)
        assert (status, error["code"]) == (431, "headers_too_large")


async def test_a_body_beyond_the_limit_is_refused_by_its_announced_and_by_its_real_size() -> None:
    limits = Limits(max_body_bytes=200_000)
    announced = post(b"x" * 10).replace(b"content-length: 10", b"content-length: 200001")
    head = post(CHAT).split(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"
    real = head + b"%x\r\n%b\r\n" % (200_001, b" " * 200_001)
    for data in (announced, real):
        status, error = await refused(data, limits)
        assert (status, error["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", (414, "target_too_long")),
        (b"GET /" + b"x" * 90_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", (414, "target_too_long")),
        (
            post(CHAT).replace(b" /v1/chat/completions ", b" /v1/chat/completions?" + b"x" * 9000 + b" "),
            (414, "target_too_long"),
        ),
        (b"CONNECT example.fr:443 HTTP/1.1\r\nhost: example.fr:443\r\n\r\n", (400, "malformed_http")),
    ],
)
async def test_a_target_that_is_too_long_or_no_path_is_refused_in_words(data: bytes, wanted: tuple[int, str]) -> None:
    status, error = await refused(data)
    assert (status, error["code"]) == wanted
    assert "Callback" not in error["message"]


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: %b\r\n" % (b"x" * 70_000) + b"\r\n",
        post(b" " * 10).replace(b"content-length: 10", b"content-length: 90000000"),
    ],
)
async def test_what_is_refused_before_it_begins_is_named_too(data: bytes) -> None:
    house = House()
    async with listening(house, Limits(linger_s=0.01)) as listener:
        client = await listener.connect()
        client.send(data)
        _, headers, _ = await client.answer()
        assert headers[b"x-request-id"].startswith(b"req-")  # as the twin names them


async def test_a_refusal_before_the_beginning_keeps_the_name_that_the_client_gave() -> None:
    house = House()
    async with listening(house, Limits(linger_s=0.01)) as listener:
        client = await listener.connect()
        client.send(post(CHAT, extra="x-request-id: mine\r\nexpect: x\r\n").replace(b"host:", b"no-host:"))
        status, headers, _ = await client.answer()
        assert (status, headers[b"x-request-id"]) == (400, b"mine")


async def test_a_large_body_is_not_even_received_from_who_has_no_valid_key() -> None:
    data = post(b" " * 10, key="nobody").replace(b"content-length: 10", b"content-length: 20000000")
    status, error = await refused(data)
    assert (status, error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("data", [b"POST /v1/chat/comp", post(CHAT)[:-5]])
async def test_a_request_that_never_comes_to_its_end_is_timed_out(data: bytes) -> None:
    house = House()
    async with listening(house, Limits(header_timeout_s=0.0)) as listener:
        client = await listener.connect()
        client.send(data)
        connections = listener.front.connections
        await until(lambda: any(getattr(getattr(each, "_reader", None), "since_s", 0) for each in connections))
        async with asyncio.timeout(10):
            while not client.reader._buffer:  # type: ignore[attr-defined]
                listener.front.sweep()
                await asyncio.sleep(0.001)
        status, _, body = await client.answer()
        assert (status, orjson.loads(body)["error"]["code"]) == (408, "request_timeout")


async def test_an_idle_connection_is_closed_and_one_that_waits_for_its_answer_is_not() -> None:
    house = House()
    async with listening(house, Limits(keep_alive_s=0.0, header_timeout_s=0.0)) as listener:
        idle, busy = await listener.connect(), await listener.connect()
        await asked(listener, busy, post(CHAT))
        await until(lambda: len(listener.front.connections) == 2)
        await asyncio.sleep(0.002)
        listener.front.sweep()
        assert await idle.closed()
        house.upstream.calls[-1].plain(PLAIN)
        assert (await busy.answer())[0] == 200


async def test_more_connections_than_allowed_are_dropped() -> None:
    async with listening(House(), Limits(max_connections=2)) as listener:
        first, second, third = [await listener.connect() for _ in range(3)]
        assert await third.closed()
        first.send(b"GET /health/liveness HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await first.answer())[2] == b"OK"
        second.close()


async def test_an_upgrade_is_not_followed() -> None:
    async with listening(House()) as listener:
        client = await listener.connect()
        client.send(b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert await client.closed()
    status, error = await refused(post(CHAT, extra="connection: upgrade\r\nupgrade: h2c\r\n"))
    assert (status, error["code"]) == (400, "malformed_http")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("PUT", "/v1/embeddings", 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/nothing", 404, "not_found"),
        ("POST", "/v1/load_lora_adapter", 404, "not_found"),
        ("POST", "/sleep", 404, "not_found"),
        ("POST", "//v1/chat/completions", 404, "not_found"),
        ("POST", "/v1/chat/completions/", 404, "not_found"),
        ("POST", "/v1/%63hat/completions", 404, "not_found"),
        ("POST", "/v1/../v1/embeddings/x", 404, "not_found"),
        ("GET", "/v1/models/no-such/model", 404, "model_not_found"),
        ("GET", "/docs", 404, "not_found"),
    ],
)
async def test_other_paths_and_methods_are_refused_in_the_apis_shape(
    method: str, path: str, status: int, code: str
) -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ilaas-test\r\ncontent-length: 0\r\n\r\n"
        client.send(head.encode())
        got, _, body = await client.answer()
        assert (got, orjson.loads(body)["error"]["code"]) == (status, code)
        assert not house.upstream.calls


@pytest.mark.parametrize("path", ["/health/liveness", "/health/readiness", "/version", "/v1/models"])
async def test_the_head_of_a_page_can_be_asked_for_alone(path: str) -> None:
    async with listening(House()) as listener:
        client = await listener.connect()
        head = f"HEAD {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ilaas-test\r\nconnection: close\r\n\r\n"
        client.send(head.encode())
        answer = await client.reader.read()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/version", "/v1/models", "/v1/nothing", "/v1/chat/completions"])
async def test_answers_that_are_no_inference_name_the_request_too(path: str) -> None:
    async with listening(House()) as listener:
        client = await listener.connect()
        client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: my-own.1\r\n\r\n".encode())
        assert (await client.answer())[1][b"x-request-id"] == b"my-own.1"
        seen = set()
        for given in ("", "x-request-id: with space\r\n"):
            client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n{given}\r\n".encode())
            seen.add((await client.answer())[1][b"x-request-id"])
        assert len(seen) == 2
        assert b"with space" not in seen


async def test_a_fault_of_ours_on_a_page_names_the_request() -> None:
    router = APIRouter()
    router.add_api_route("/v1/fault", lambda: 1 / 0)
    async with listening(House(), routers=[router]) as listener:
        client = await listener.connect()
        client.send(b"GET /v1/fault HTTP/1.1\r\nhost: x\r\nx-request-id: my-own.1\r\n\r\n")
        status, headers, body = await client.answer()
        assert (status, orjson.loads(body)["error"]["code"]) == (500, "internal_error")
        assert headers[b"x-request-id"] == b"my-own.1"


async def test_a_query_string_is_no_other_path() -> None:
    house = House()
    async with listening(house) as listener:
        client = await listener.connect()
        await asked(listener, client, post(CHAT, path="/v1/chat/completions?api-version=1"))
        assert house.upstream.calls[-1].request.path == b"/v1/chat/completions"
        house.upstream.calls[-1].plain(PLAIN)
        assert (await client.answer())[0] == 200


async def test_models_need_a_key_and_show_only_what_it_may_use() -> None:
    house = House(keys=[key(models=frozenset({"public"}))])
    async with listening(house) as listener:
        client = await listener.connect()
        client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        status, headers, _ = await client.answer()
        assert status == 401
        assert headers[b"www-authenticate"].startswith(b"bearer")
        client.send(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ilaas-test\r\n\r\n")
        _, _, body = await client.answer()
        assert [model["id"] for model in orjson.loads(body)["data"]] == ["public"]


async def test_a_fault_of_ours_ends_in_an_answer_without_a_trace_and_the_process_lives_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House()
    async with listening(house) as listener:
        submit = house.broker.submit
        monkeypatch.setattr(house.broker, "submit", lambda *_: 1 / 0)
        client = await listener.connect()
        client.send(post(CHAT))
        status, _, body = await client.answer()
        assert (status, orjson.loads(body)["error"]["code"]) == (500, "internal_error")
        assert b"ZeroDivision" not in body
        monkeypatch.setattr(house.broker, "submit", submit)
        again = await listener.connect()
        await asked(listener, again, post(CHAT))
        house.upstream.calls[-1].plain(PLAIN)
        assert (await again.answer())[0] == 200


async def test_a_shutdown_lets_the_answer_under_way_come_to_its_end_and_closes_idle_connections() -> None:
    house = House()
    async with listening(house) as listener:
        idle, busy = await listener.connect(), await listener.connect()
        await asked(listener, busy, post(CHAT))
        await until(lambda: len(listener.front.connections) == 2)
        listener.server.should_exit = True
        assert await idle.closed()
        house.upstream.calls[-1].plain(PLAIN)
        status, headers, _ = await busy.answer()
        assert (status, headers[b"connection"]) == (200, b"close")
        assert await busy.closed()


async def test_a_client_that_does_not_read_pauses_the_server() -> None:
    house = House()
    async with listening(house, Limits(client_write_buffer_bytes=65536)) as listener:
        client = await listener.connect()
        client.writer.transport.pause_reading()
        await asked(listener, client, post(STREAM))
        call = house.upstream.calls[-1]
        call.stream()
        sent = 0
        while not call.paused:
            call.event(PART.replace(b"Bon", b"x" * 60_000))
            sent += 60_000
            await asyncio.sleep(0)
            assert sent < 50_000_000
        client.writer.transport.resume_reading()

        async def read() -> None:
            while call.paused:
                await client.reader.read(1 << 20)

        async with asyncio.timeout(10):
            await read()
        client.close()
        await until(house.at_rest)
