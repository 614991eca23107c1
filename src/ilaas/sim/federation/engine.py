"""A coarse model of an inference server: two events for an answer, its first token and its end, and none for a token.

`ilaas.sim.engine` computes step by step; here the same laws are used in the mean. All decoding sequences move on
together, one token in each step, and a step lasts `decode_base_s + decode_per_sequence_s · n`. The prompts that are
computed meanwhile hold the steps up by `tokens / prefill_tps`: a *debt* of time that is paid before steps go on. The
end of each answer is then a number of steps, known when it is admitted; all that moves is how long those take.

Left out: pre-emption when the KV cache is full (admission alone looks at it), and the blocks of the prefix cache, which
here holds whole conversations. docs/scale.md says how far the two models are apart.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from ilaas.sim.params import EngineParams

_ADMISSION_HEADROOM = 0.01
_MIN_CHUNK_TOKENS = 64
_MEAN_REST_OF_STEP = 0.5
"""A prompt waits for the end of the step under way, half of one in the mean."""
_DUE = 1e-6
"""Steps by which the arithmetic of floats may miss an end."""


class Job(NamedTuple):
    """What a request asks of a server."""

    request: int
    prompt_tokens: int
    output_tokens: int
    conversation: int
    """0 is none."""
    shared: tuple[int, int]
    """A prompt's beginning that many share: its number (below 0) and its tokens."""


class CoarseEngine:
    """One server at work. Times are seconds, given by the caller and never going back."""

    __slots__ = (
        "_at_s",
        "_cache",
        "_cached_tokens",
        "_debt_s",
        "_ends",
        "_joined_steps",
        "_params",
        "_prompt_tokens",
        "_running",
        "_step_s",
        "_steps",
        "_waiting",
        "active_s",
        "computed_tokens",
        "generated_tokens",
    )

    def __init__(self, params: EngineParams) -> None:
        self._params = params
        self._running: dict[int, tuple[float, float, int]] = {}
        """By request: the steps at its end and at its first token, and its prompt."""
        self._ends: list[tuple[float, int]] = []
        self._waiting: deque[Job] = deque()
        self._cache: OrderedDict[int, int] = OrderedDict()
        self._cached_tokens = 0
        self._at_s = 0.0
        self._steps = 0.0
        self._step_s = params.decode_base_s
        self._debt_s = 0.0
        self._prompt_tokens = 0
        self._joined_steps = 0.0
        self.active_s = 0.0
        """Time with something to compute."""
        self.computed_tokens = 0
        """Prompt tokens that were not found in the prefix cache."""
        self.generated_tokens = 0.0

    @property
    def running(self) -> int:
        """Sequences in prefill or decode."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Jobs in its own queue."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache in use; more than 1 where a real one would pre-empt."""
        generated = len(self._running) * self._steps - self._joined_steps
        return (self._prompt_tokens + generated) / self._params.kv_tokens

    def waiting_requests(self) -> list[int]:
        """Those in its own queue, oldest first."""
        return [job.request for job in self._waiting]

    def submit(self, job: Job, now: float) -> float | None:
        """Take a job in; when its first token comes, or None when it waits."""
        self.advance(now)
        if self._waiting or not self._fits(job):
            self._waiting.append(job)
            return None
        return self._admit(job, now)

    def next_end_s(self) -> float:
        """When the next answer is complete if nothing else comes before; infinity when none is under way."""
        ends, running = self._ends, self._running
        while ends:
            end, request = ends[0]
            held = running.get(request)
            if held is not None and held[0] == end:
                return self._at_s + self._debt_s + (end - self._steps) * self._step_s
            heappop(ends)
        return inf

    def finished(self, now: float) -> list[int]:
        """Those that are complete by now, which leave."""
        self.advance(now)
        done: list[int] = []
        ends, running = self._ends, self._running
        due = self._steps + _DUE
        while ends and ends[0][0] <= due:
            end, request = heappop(ends)
            held = running.get(request)
            if held is not None and held[0] == end:
                self._release(request)
                done.append(request)
        return done

    def admitted(self, now: float) -> list[tuple[int, float]]:
        """Those of its queue that there is room for now, with the time of their first tokens."""
        admitted: list[tuple[int, float]] = []
        while self._waiting and self._fits(self._waiting[0]):
            job = self._waiting.popleft()
            admitted.append((job.request, self._admit(job, now)))
        return admitted

    def drop(self, request: int, now: float) -> int:
        """Take a job out; how many tokens of its answer there are (0 before the first)."""
        self.advance(now)
        if request in self._running:
            return int(self._release(request))
        self._waiting = deque(job for job in self._waiting if job.request != request)
        return 0

    def advance(self, now: float) -> None:
        """Compute up to now."""
        passed_s = now - self._at_s
        self._at_s = now
        if not self._running:
            return
        self.active_s += passed_s
        if self._debt_s:
            if passed_s <= self._debt_s:
                self._debt_s -= passed_s
                return
            passed_s -= self._debt_s
            self._debt_s = 0.0
        self._steps += passed_s / self._step_s

    def _fits(self, job: Job) -> bool:
        params, running = self._params, len(self._running)
        if running >= params.slots:
            return False
        if not running:
            return True
        generated = running * self._steps - self._joined_steps
        tokens = self._prompt_tokens + generated + job.prompt_tokens + 1 + running
        return tokens <= params.kv_tokens * (1.0 - _ADMISSION_HEADROOM)

    def _admit(self, job: Job, now: float) -> float:
        params, running = self._params, len(self._running)
        new = job.prompt_tokens - self._found(job)
        self.computed_tokens += new
        budget = max(params.max_batched_tokens - running, _MIN_CHUNK_TOKENS)
        ahead = float(-(-new // budget)) + (_MEAN_REST_OF_STEP if running else 0.0)
        joined = self._steps + ahead
        end = joined + job.output_tokens - 1
        self._debt_s += new / params.prefill_tps
        self._step_s = params.decode_base_s + params.decode_per_sequence_s * (running + 1)
        self._running[job.request] = (end, joined, job.prompt_tokens)
        self._prompt_tokens += job.prompt_tokens + 1
        self._joined_steps += joined
        heappush(self._ends, (end, job.request))
        return now + self._debt_s + ahead * self._step_s

    def _release(self, request: int) -> float:
        """Tokens of its answer that there are."""
        end, joined, prompt_tokens = self._running.pop(request)
        self._prompt_tokens -= prompt_tokens + 1
        self._joined_steps -= joined
        params = self._params
        self._step_s = params.decode_base_s + params.decode_per_sequence_s * len(self._running)
        if not self._running:
            self._debt_s = 0.0
        generated = max(0.0, min(self._steps, end) - joined + 1.0)
        self.generated_tokens += generated
        return generated

    def _found(self, job: Job) -> int:
        """Tokens of the prompt in the prefix cache; the prompt is there from now on."""
        number, shared_tokens = job.shared
        found = 0
        if shared_tokens:
            found = self._seen(number, shared_tokens)
        if job.conversation:
            found = max(found, self._seen(job.conversation, job.prompt_tokens))
        return min(found, job.prompt_tokens - 1)

    def _seen(self, key: int, tokens: int) -> int:
        cache = self._cache
        known = cache.get(key, 0)
        cache[key] = tokens
        cache.move_to_end(key)
        self._cached_tokens += tokens - known
        while self._cached_tokens > self._params.prefix_cache_tokens and cache:
            self._cached_tokens -= cache.popitem(last=False)[1]
        return known
