"""The canary: marked prompts, answers, identities and keys go through every way a request can end, and are found
nowhere but with the one who sent them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import signal
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from ilaas.adapters.secret import load_secret
from ilaas.app.config import load_config
from ilaas.app.wiring import open_store
from ilaas.core import keys
from ilaas.services.administration import Administration, NewKey, NewServer
from ilaas.sim.params import EngineParams
from ilaas.sim.server import SimServer, SimServerOptions
from tests.support.process import GatewayProcess, files, gateway_process, tables

MARK = "qcanaryq"
"""In every text that must not be kept; the words around it tell which one was."""
ANSWER = f"{MARK}-answer il fait beau " * 20
SERVER_TOKEN = f"{MARK}-server-token"
ADDED_TOKEN = f"{MARK}-added-token"
IMPORTED_KEY = f"xx-{MARK}-imported-key-0123456789"
WRONG_KEY = f"{MARK}-wrong-key"

PICTURE = "data:image/png;base64," + base64.b64encode(f"{MARK}-picture".encode()).decode()

IDENTITY = {
    "x-openwebui-user-name": f"{MARK}-name",
    "x-openwebui-user-id": f"{MARK}-id",
    "x-openwebui-user-email": f"{MARK}@univ.fr",
    "x-openwebui-chat-id": f"{MARK}-chat",
    "user-agent": f"{MARK}-agent",
    "cookie": f"session={MARK}-cookie",
    "referer": f"http://portal/{MARK}-referer",
    "x-forwarded-for": f"{MARK}-address",
}

QUICK = EngineParams(slots=8, prefill_tps=1e6, decode_base_s=0.001)


def forms(mark: str) -> list[bytes]:
    """The mark as it may stand in a file: plain, in other encodings, in base64 at each of its three offsets."""
    raw = mark.encode()
    shifted = [base64.b64encode(b"x" * pad + raw)[4 if pad else 0 : -4] for pad in range(3)]
    return [raw, mark.upper().encode(), mark.encode("utf-16-le"), raw.hex().encode(), *shifted]


def find(evidence: Mapping[str, bytes], marks: list[str]) -> list[str]:
    """Where which mark is found."""
    return [
        f"{mark} in {name}" for mark in marks for name, text in evidence.items() if any(f in text for f in forms(mark))
    ]


def marks_of(*secret_keys: str) -> list[str]:
    """The mark, and of each key one character more than the hint that may be shown."""
    return [MARK, *(key[: len(keys.hint(key))] for key in secret_keys)]


def marked(**fields: Any) -> dict[str, Any]:
    """A request full of marks."""
    return {
        "model": "mistral",
        "messages": [
            {"role": "system", "content": f"{MARK}-system"},
            {
                "role": "user",
                "name": f"{MARK}-speaker",
                "content": [
                    {"type": "text", "text": f"{MARK}-prompt"},
                    {"type": "image_url", "image_url": {"url": PICTURE}},
                    {"type": "file", "file": {"filename": f"{MARK}.pdf", "file_data": PICTURE}},
                ],
            },
        ],
        "tools": [{"type": "function", "function": {"name": f"{MARK}_tool", "description": f"{MARK}-tool"}}],
        "tool_choice": "none",
        "user": f"{MARK}-user",
        "safety_identifier": f"{MARK}-user",
        "metadata": {f"{MARK}-field": f"{MARK}-value"},
        "max_tokens": 40,
        **fields,
    }


class Canary:
    """Plays a marked client against a gateway process, and keeps what others were told meanwhile."""

    def __init__(self, gateway: GatewayProcess, sim: SimServer, key: str, other: str) -> None:
        self.gateway = gateway
        self.sim = sim
        self.key = key
        self.other = other
        self.told: dict[str, bytes] = {}

    def headers(self, key: str | None = None) -> dict[str, str]:
        return {"authorization": f"Bearer {key or self.key}", **IDENTITY}

    async def post(self, body: Any, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with httpx.AsyncClient(base_url=self.gateway.url, timeout=20) as http:
            sent = {"content-type": "application/json", **self.headers(), **headers}
            return await http.post(path, content=content, headers=sent)

    async def look(self, when: str) -> None:
        """What operators and another client see at this moment."""
        async with httpx.AsyncClient(timeout=20) as http:
            for page in ("/metrics", "/state", "/health"):
                self.told[f"{when} {page}"] = (await http.get(self.gateway.ops + page)).content
            own = {"authorization": f"Bearer {self.other}"}
            for name, body in (
                ("models", None),
                ("answer", {"model": "mistral", "messages": [{"role": "user", "content": "Bonjour"}], "max_tokens": 3}),
                ("error", {"model": "mistral", "messages": []}),
                ("missing", {"model": "mistra"}),
            ):
                url = f"{self.gateway.url}/v1/{'models' if body is None else 'chat/completions'}"
                call = http.get(url, headers=own) if body is None else http.post(url, json=body, headers=own)
                answer = await call
                self.told[f"{when} {name}"] = answer.content + repr(answer.headers).encode()

    async def success(self) -> None:
        for stream in (True, False):
            answer = await self.post(marked(stream=stream))
            assert answer.status_code == 200
            assert MARK in answer.text.replace('"}}', "") or stream
        for path, fields in (
            ("/v1/completions", {"prompt": f"{MARK}-prompt", "user": f"{MARK}-user"}),
            ("/v1/embeddings", {"input": f"{MARK}-input", "user": f"{MARK}-user"}),
            ("/v1/rerank", {"query": f"{MARK}-query", "documents": [f"{MARK}-document"]}),
            ("/v1/score", {"text_1": f"{MARK}-one", "text_2": f"{MARK}-two"}),
            ("/tokenize", {"prompt": f"{MARK}-prompt"}),
            ("/v1/audio/speech", {"input": f"{MARK}-input", "voice": f"{MARK}-voice", "response_format": "wav"}),
        ):
            assert (await self.post({"model": "mistral", **fields}, path)).status_code == 200, path
        for content in (b"", bytes(600_000)):  # in memory, and in a file
            recording = (f"{MARK}-name.mp3", f"ILAAS-SCRIPT: {MARK}-said".encode() + b"\0" + content)
            fields = {"model": "mistral", "prompt": f"{MARK}-prompt", "user": f"{MARK}-user"}
            async with httpx.AsyncClient(base_url=self.gateway.url, timeout=20) as http:
                answer = await http.post(
                    "/v1/audio/transcriptions", data=fields, files={"file": recording}, headers=self.headers()
                )
            assert f"{MARK}-said" in answer.text

    async def our_refusals(self) -> None:
        for wanted, body, headers in (
            (404, marked(model=f"{MARK}-model"), {}),
            (400, marked(stream=f"{MARK}-stream"), {}),
            (400, marked(**{"routing-mode": f"{MARK}-mode"}), {}),
            (400, marked(priority=f"{MARK}-priority"), {}),
            (422, marked(temperature=f"{MARK}-temperature"), {}),
            (400, marked(messages=[f"{MARK}-message"]), {}),
            (400, f'{{"model": "mistral", "{MARK}-broken'.encode(), {}),
            (400, marked(), {"x-ilaas-class": f"{MARK}-class"}),
            (415, marked(), {"content-type": f"text/{MARK}-type"}),
            (401, marked(), {"authorization": f"Bearer {WRONG_KEY}"}),
            (401, marked(), {"authorization": f"{MARK}-scheme {self.key}"}),
        ):
            answer = await self.post(body, **headers)
            assert answer.status_code == wanted, answer.text
        assert (await self.post(marked(), f"/v1/{MARK}-path?{MARK}=query")).status_code == 404
        assert (
            await self.post(marked(max_tokens=f"{MARK}-length"), "/v1/embeddings")
        ).status_code == 400  # the server's: no input
        assert (await self.post(marked(messages=f"{MARK}-list", prompt="a"), "/v1/completions")).status_code == 200
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{MARK}-header no colon\r\n\r\n"
        reader, writer = await self.connect()
        writer.write(head.encode())
        assert b" 400 " in await reader.read()
        writer.close()

    async def servers_refusal(self) -> None:
        """vLLM's messages repeat what they refuse: the client may see it, nobody else."""
        answer = await self.post(marked(min_tokens=f"{MARK}-echo"))
        assert answer.status_code == 400
        assert f"{MARK}-echo" in answer.text

    async def servers_faults(self) -> None:
        self.sim.set_failures("connect_refuse=0")  # closes the connections that the gateway would use again
        self.sim.set_failures("")
        await self.sim.listening()
        for fault, wanted in (("500", 502), ("refuse", 502), ("html", 502), ("hang_before_head", 504)):
            self.sim.set_failures(fault)
            assert (await self.post(marked())).status_code == wanted
        for fault in ("die_after=5", "error_event=5", "hang_after=5", "wrong_json"):
            self.sim.set_failures(fault)
            assert (await self.post(marked(stream=True))).status_code == 200
        self.sim.set_failures("")

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.gateway.address["port"])

    async def open(self, **fields: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A request whose client does as the test likes."""
        body = json.dumps(marked(**fields)).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers().items())
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(body)}\r\n\r\n"
        reader, writer = await self.connect()
        writer.write(head.encode() + body)
        return reader, writer

    async def answering(self, **fields: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A request of which the server has sent the first token."""
        journal = self.sim.journal
        before = len(journal.notes)
        opened = await self.open(stream=True, **fields)
        await journal.until(lambda: len(journal.notes) > before and journal.notes[-1].tokens > 0)
        return opened

    async def breaking_off(self) -> None:
        self.sim.set_failures("slow_tokens=0.01")
        journal = self.sim.journal
        for reads in (True, False):
            reader, writer = await self.answering()
            if reads:
                await reader.readuntil(MARK[:4].encode())
            writer.close()
            await journal.until(lambda: journal.notes[-1].result == "client_left")
        self.sim.set_failures("")

    async def crash(self) -> None:
        """Killed with one answer half given and one request in the queue."""
        self.sim.set_failures("slow_tokens=0.05")
        opened = [await self.answering(), await self.open(stream=True)]
        async with httpx.AsyncClient() as http:
            page = await http.get(f"{self.gateway.ops}/state")
            while not page.json()["models"][0]["queued"]["interactive"]:
                page = await http.get(f"{self.gateway.ops}/state")
            self.told["waiting /state"] = page.content
            self.told["waiting /metrics"] = (await http.get(f"{self.gateway.ops}/metrics")).content
        await self.gateway.end(signal.SIGKILL)
        for _, writer in opened:
            writer.close()
        self.sim.set_failures("")


async def administer(config: Path, added: SimServer) -> tuple[str, str]:
    """Keys of two clients and a server added at run time; returns the second client's key."""
    settings = load_config(config, {})
    store = open_store(settings)
    await store.open()
    try:
        pepper = load_secret(settings.state_dir).pepper
        admin = Administration(store, pepper, time.time, secrets.token_bytes, lambda _: None)
        new = NewKey(organisation="uni-a", project="tests", name="canary")
        key, _ = await admin.create_key(new)
        await admin.import_token(NewKey(organisation="uni-a", project="tests", name="imported"), IMPORTED_KEY)
        other, _ = await admin.create_key(NewKey(organisation="uni-b", project="tests", name="other"))
        await admin.add_server(
            NewServer(model="autre", url=added.url, site="x", owner="uni-a", token=ADDED_TOKEN, served_name="served")
        )
        return key, other
    finally:
        await store.close()


def configuration(folder: Path, sim: SimServer) -> Path:
    server = {"url": sim.url, "token": SERVER_TOKEN, "organisation": "uni-a", "max_parallel_requests": 1}
    quick = {"first_token": "300ms", "answer": "400ms", "idle": "300ms", "connect": "1s"}
    idle = {
        "url": "http://127.0.0.1:9",
        "organisation": "uni-b",
        "context_window": 64,
        "id": "narrow",
        "draining": True,
    }
    text = {
        "state_dir": str(folder / "state"),
        "defaults": {"deadlines": quick, "failures_before_down": 1000, "max_wait": "1h"},
        "models": [
            # windows that differ make the gateway look into the prompt for its length
            {"name": "mistral", "model": "served", "servers": [{**server, "context_window": 65536}, idle]},
            {"name": "autre", "model": "served", "servers": []},
        ],
    }
    path = folder / "ilaas.yaml"
    path.write_text(json.dumps(text))
    return path


async def test_no_prompt_answer_identity_or_key_is_found_anywhere(tmp_path: Path) -> None:
    options = SimServerOptions(
        models=("served",), engine=QUICK, api_key=SERVER_TOKEN, script={MARK: ANSWER}, record=True
    )
    added = SimServerOptions(models=("served",), engine=QUICK, api_key=ADDED_TOKEN)
    async with asyncio.timeout(60), SimServer(options) as sim, SimServer(added) as second:
        config = configuration(tmp_path, sim)
        key, other = await administer(config, second)
        state, output = tmp_path / "state", tmp_path / "output"
        async with gateway_process(config, state, output) as process:
            canary = Canary(process, sim, key, other)
            await canary.success()
            received = {str(number): repr(each).encode() for number, each in enumerate(sim.recorded)}
            await canary.our_refusals()
            await canary.servers_refusal()
            await canary.servers_faults()
            await canary.breaking_off()
            canary.key = IMPORTED_KEY
            await canary.success()
            canary.key = key
            await canary.look("after all")
            await canary.crash()
            evidence = {f"killed {name}": text for name, text in files(state).items()}
            await process.start()
            canary.key = key
            await canary.success()
            await canary.look("after the crash")
            evidence.update({f"running {name}": text for name, text in files(state).items()})
            await process.end(signal.SIGTERM)
    evidence.update(files(tmp_path / "state"))
    evidence.update(files(output))
    evidence.update(tables(state / "ilaas.db"))
    evidence.update(canary.told)

    assert find(evidence, marks_of(key, other)) == []
    # and the search has seen what there is: files, rows, logs and pages
    assert b"completed" in evidence["table usage_records"]
    assert any("outbox" in name for name in evidence)
    assert b"gateway_started" in evidence["stderr-1"] + evidence["stderr-2"]
    assert b"upstream_rejected" in evidence["after all /metrics"]
    assert "killed run.json" in evidence
    # identities, keys and organisations reach no server either; the prompt does
    seen = "\n".join(text.decode() for text in received.values())
    assert f"{MARK}-prompt" in seen
    for name in ("user", "name", "id", "chat", "agent", "cookie", "referer", "address"):
        assert f"{MARK}-{name}" not in seen, name
    assert f"{MARK}@" not in seen
    assert find(received, marks_of(key)[1:]) == []
    assert "uni-a" not in seen


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(tmp_path / "some.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (v)")
        yield connection


@pytest.mark.parametrize(
    "planted",
    [
        f"a {MARK} in a text".encode(),
        f"{MARK}".encode("utf-16-le"),
        base64.b64encode(f"{MARK} encoded".encode()),
        base64.b64encode(f"y{MARK} encoded".encode()),
        base64.b64encode(f"yy{MARK} encoded".encode()),
        MARK.encode().hex().encode(),
        b"ilaas-abcde",
    ],
)
def test_the_search_finds_a_mark_that_is_planted(tmp_path: Path, planted: bytes) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.seg").write_bytes(b"\x00\x01" + planted + b"\xff")
    assert find(files(tmp_path), marks_of("ilaas-abcdefghijkl")) != []


def test_the_search_looks_into_a_database_and_its_write_ahead_log(tmp_path: Path, database: sqlite3.Connection) -> None:
    with database:
        database.execute("INSERT INTO t VALUES (?)", (f"some {MARK}",))
    found = find({**files(tmp_path), **tables(tmp_path / "some.db")}, [MARK])
    assert f"{MARK} in some.db-wal" in found
    assert f"{MARK} in table t" in found


def test_the_hint_of_a_key_is_no_finding_and_one_character_more_is() -> None:
    key = keys.make_key(bytes(range(32)))
    assert find({"shown": keys.hint(key).encode()}, marks_of(key)) == []
    assert find({"shown": key[: len("ilaas-") + 5].encode()}, marks_of(key)) != []
