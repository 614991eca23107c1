"""The streams: so many clients, each with one request after the other, and what each of them saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import orjson

ANSWERED = "answered"
CUT = "cut"
"""The connection broke: neither an answer nor an error."""
PROMPTS = 12
FEWEST_TOKENS, MOST_TOKENS = 12, 32
CLIENT_S = 180.0
RETRY_S = 0.2
SPREAD_S = 10.0
"""The clients' beginnings, so that they do not go in step."""
BATCH_EVERY = 4
"""Every fourth client is a batch job: its requests never go by credit."""


@dataclass(slots=True)
class Answer:
    """One request as its client saw it; times by the monotonic clock."""

    prompt: int
    began_s: float
    batch: bool
    outcome: str = CUT
    """`answered`, `error CODE` or `cut`."""
    request_id: str = ""
    first_s: float | None = None
    ended_s: float = 0.0
    text: str = ""
    silence_s: float = 0.0
    """The longest between two pieces of its text."""
    silence_ended_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    """What is wrong with the stream itself."""


def tokens_of(prompt: int) -> int:
    """The length of the answer to a prompt."""
    return FEWEST_TOKENS + (MOST_TOKENS - FEWEST_TOKENS) * prompt // (PROMPTS - 1)


class Clients:
    """All the streams."""

    def __init__(self, url: str, keys: Sequence[str]) -> None:
        self.answers: list[Answer] = []
        self.stopping = False
        self._url = url
        self._keys = keys
        self._client = httpx.AsyncClient(
            timeout=CLIENT_S, limits=httpx.Limits(max_connections=None, max_keepalive_connections=None)
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._texts: dict[int, str] = {}
        self.learnt: set[str] = set()
        """Ids of the undisturbed requests."""

    async def learn(self) -> None:
        """The undisturbed answers, which all later ones must equal."""
        answers = await asyncio.gather(*(self._ask(prompt, self._keys[0], batch=False) for prompt in range(PROMPTS)))
        for answer in answers:
            if answer.outcome != ANSWERED or answer.faults:
                raise SystemExit(f"nothing was disturbed yet, and a client saw: {answer}")
            self._texts[answer.prompt] = answer.text
            self.learnt.add(answer.request_id)

    def start(self, count: int) -> None:
        """Begin, spread over a few seconds."""
        self._tasks = [asyncio.create_task(self._go_on(number, SPREAD_S * number / count)) for number in range(count)]

    async def end(self) -> None:
        """Let what is under way end."""
        self.stopping = True
        try:
            await asyncio.wait_for(asyncio.gather(*self._tasks), CLIENT_S)
        finally:
            await self._client.aclose()

    async def _go_on(self, number: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        key, batch, prompt = self._keys[number % len(self._keys)], number % BATCH_EVERY == 0, number
        while not self.stopping:
            prompt += 1
            answer = await self._ask(prompt % PROMPTS, key, batch=batch)
            self.answers.append(answer)
            if answer.outcome == ANSWERED:
                if answer.text != self._texts[answer.prompt]:
                    answer.faults.append("the text is not the undisturbed one")
                answer.text = ""  # half an hour of them would be much
            else:
                await asyncio.sleep(RETRY_S)

    async def _ask(self, prompt: int, key: str, *, batch: bool) -> Answer:
        answer = Answer(prompt, time.monotonic(), batch)
        body = {
            "model": "m",
            "stream": True,
            "max_tokens": tokens_of(prompt),
            "seed": prompt,
            "messages": [{"role": "user", "content": f"Question {prompt}"}],
        }
        headers = {"Authorization": f"Bearer {key}"} | ({"X-Ilaas-Class": "batch"} if batch else {})
        try:
            url = f"{self._url}/v1/chat/completions"
            async with self._client.stream("POST", url, json=body, headers=headers) as response:
                answer.request_id = response.headers.get("x-request-id", "")
                if response.status_code == 200:
                    await _read(response, answer)
                else:
                    answer.outcome = f"error {orjson.loads(await response.aread())['error']['code']}"
        except (httpx.HTTPError, OSError) as error:
            if answer.outcome == ANSWERED:
                answer.faults.append(f"after its end the connection broke: {type(error).__name__}")
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            answer.faults.append(f"an error or event that can't be read: {error!r}")
        answer.ended_s = time.monotonic()
        return answer


async def _read(response: httpx.Response, answer: Answer) -> None:
    last_s = 0.0
    ids, finished, over = set(), 0, 0
    async for line in response.aiter_lines():
        if not line.startswith("data: "):
            continue
        if over:
            answer.faults.append("something came after the end")
        if line == "data: [DONE]":
            over += 1
            continue
        event = orjson.loads(line[6:])
        if event.get("error"):
            answer.outcome = f"error {event['error']['code']}"
            continue
        ids.add(event["id"])
        for choice in event.get("choices", ()):
            finished += choice["finish_reason"] is not None
            piece = choice["delta"].get("content")
            if piece:
                now = time.monotonic()
                if answer.first_s is None:
                    answer.first_s = now
                elif now - last_s > answer.silence_s:
                    answer.silence_s, answer.silence_ended_s = now - last_s, now
                last_s = now
                answer.text += piece
    if answer.outcome == CUT and over:
        answer.outcome = ANSWERED
        if finished != 1:
            answer.faults.append(f"{finished} finish reasons")
        if len(ids) != 1:
            answer.faults.append(f"{len(ids)} ids")
