"""A pure model of a vLLM-like engine: continuous batching, chunked prefill, KV cache, prefix cache, waiting queue.

Time is passed in (seconds, any origin, never backwards); nothing here sleeps, draws or reads a clock. The engine runs
in steps, as vLLM does. In one step each decoding sequence gives one token and the rest of the token budget computes
prompts, oldest first. Steps that only decode are alike until a sequence ends, so a whole run of them is one jump:
an answer of 1,000 tokens costs a handful of operations, unless somebody streams it.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush

from ilaas.sim.engine_events import EngineEvent, EngineRequest, Finished, FirstToken, Phase, Started, Tokens
from ilaas.sim.histogram import LATENCY_BOUNDS_S, TTFT_BOUNDS_S, Histogram
from ilaas.sim.params import EngineParams
from ilaas.sim.prefix_cache import PrefixCache
from ilaas.sim.sequence import Sequence

_ADMISSION_HEADROOM = 0.01
"""Share of the KV cache left free at admission, so that a newcomer is not preempted at once (vLLM's watermark)."""
_MIN_CHUNK_TOKENS = 64
"""Prompt tokens a step computes even when the decoding sequences fill the budget."""


class Engine:
    """One engine. Call `advance` at the times `next_event_s` tells, or at any other: results are the same."""

    def __init__(self, params: EngineParams) -> None:
        self.params = params
        self.prefix_cache = PrefixCache(params.prefix_cache_tokens)
        self.ttft = Histogram(TTFT_BOUNDS_S)
        self.latency = Histogram(LATENCY_BOUNDS_S)
        self.prompt_tokens_total = 0
        self.generation_tokens_total = 0
        self.finished_total = 0
        self.cancelled_total = 0
        self.preemptions_total = 0
        self._waiting: OrderedDict[str, Sequence] = OrderedDict()
        self._running: dict[str, Sequence] = {}
        self._prefilling: dict[str, Sequence] = {}
        self._streaming: dict[str, Sequence] = {}
        self._ends: list[tuple[int, int, Sequence]] = []
        self._end_number = 0
        self._decoding = 0
        self._kv_tokens = 0
        self._step = 0
        self._chunks: list[tuple[Sequence, int]] = []
        self._run_start_s = 0.0
        self._step_s = 0.0
        self._run_steps = 0
        """Steps of equal length left in the present run; 0 when idle."""
        self._events: list[EngineEvent] = []

    # -- gauges -------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Sequences in prefill or decode."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences in the engine's own queue."""
        return len(self._waiting)

    @property
    def kv_cache_usage(self) -> float:
        """Share of the KV cache in use, 0 to 1."""
        return self._kv_tokens / self.params.kv_tokens

    def phase(self, request_id: str) -> Phase | None:
        """Where the request stands; None when it is not here."""
        sequence = self._running.get(request_id) or self._waiting.get(request_id)
        return sequence.phase if sequence else None

    # -- input --------------------------------------------------------------------------------------------------------

    def submit(self, request: EngineRequest, now: float) -> None:
        """Queue a request. Raises ValueError when it is here already or can never fit."""
        if request.id in self._running or request.id in self._waiting:
            raise ValueError(f"request {request.id} is in the engine already")
        if request.prompt_tokens < 1 or request.output_tokens < 0:
            raise ValueError("a request has at least 1 prompt token and no negative number of output tokens")
        if request.prompt_tokens + max(request.output_tokens, 1) > self.params.context_tokens:
            raise ValueError(
                f"prompt of {request.prompt_tokens} and answer of {request.output_tokens} tokens exceed the context "
                f"of {self.params.context_tokens} tokens"
            )
        self._run_to(now)
        self._waiting[request.id] = Sequence(request, now)
        self._break_run(now)

    def cancel(self, request_id: str, now: float) -> Phase | None:
        """Drop a request and free what it holds at once; tells the phase it was in, None when it is not here."""
        self._run_to(now)
        sequence = self._waiting.pop(request_id, None)
        if sequence is not None:
            self.cancelled_total += 1
            return Phase.WAITING
        sequence = self._running.get(request_id)
        if sequence is None:
            return None
        phase = sequence.phase
        self._release(sequence)
        self.cancelled_total += 1
        self._break_run(now)
        return phase

    # -- time ---------------------------------------------------------------------------------------------------------

    def next_event_s(self) -> float | None:
        """When `advance` should be called next; None when nothing is under way. It may then have nothing to tell."""
        if self._events:
            return self._run_start_s
        if not self._run_steps:
            return None
        return self._run_start_s + self._step_s * (1 if self._streaming else self._run_steps)

    def advance(self, now: float) -> list[EngineEvent]:
        """Compute up to `now` and tell what happened, in order."""
        self._run_to(now)
        events, self._events = self._events, []
        return events

    def _run_to(self, now: float) -> None:
        while self._run_steps:
            end_s = self._run_start_s + self._step_s * self._run_steps
            if now < end_s:
                self._pass_steps(self._whole_steps(now))
                return
            self._pass_steps(self._run_steps)
            self._run_start_s = end_s
            self._end_run(end_s)
            self._begin_run(end_s)

    def _whole_steps(self, now: float) -> int:
        """Complete steps of the present run before `now`, by the same arithmetic as `next_event_s`."""
        steps = max(0, int((now - self._run_start_s) / self._step_s))
        while steps and self._run_start_s + self._step_s * steps > now:
            steps -= 1
        while self._run_start_s + self._step_s * (steps + 1) <= now:
            steps += 1
        return min(steps, self._run_steps - 1)

    def _pass_steps(self, steps: int) -> None:
        if not steps:
            return
        self._step += steps
        self._run_steps -= steps
        self._run_start_s += self._step_s * steps
        self._kv_tokens += self._decoding * steps
        self.generation_tokens_total += self._decoding * steps
        at_s = self._run_start_s
        self._events.extend(Tokens(request_id, at_s, steps) for request_id in self._streaming)

    def _break_run(self, now: float) -> None:
        """The batch changed: let the step under way end, then plan anew. Starts at once when idle."""
        if self._run_steps and self._running:
            self._run_steps = 1
        else:
            self._begin_run(now)

    # -- one run of equal steps ---------------------------------------------------------------------------------------

    def _begin_run(self, now: float) -> None:
        """Plan the next step: who decodes, which prompts are computed, how many such steps follow each other."""
        params = self.params
        while self._kv_tokens + self._decoding > params.kv_tokens:
            self._preempt()
        budget = max(params.max_batched_tokens - self._decoding, _MIN_CHUNK_TOKENS)
        chunks = self._chunks = []
        for sequence in self._prefilling.values():
            chunk = min(budget, sequence.prefill_left)
            if not chunk:
                break
            chunks.append((sequence, chunk))
            budget -= chunk
        while budget and self._waiting and len(self._running) < params.slots:
            admitted = self._admit(now)
            if admitted is None:
                break
            chunk = min(budget, admitted.prefill_left)
            chunks.append((admitted, chunk))
            budget -= chunk
        self._run_start_s = now
        self._run_steps = self._steps_alike()
        computed = sum(chunk for _, chunk in chunks)
        self._step_s = (
            params.decode_base_s + params.decode_per_sequence_s * self._decoding + computed / params.prefill_tps
        )

    def _steps_alike(self) -> int:
        if not self._running:
            return 0
        if self._chunks:
            return 1
        ends = self._ends
        while ends[0][2].phase is not Phase.DECODE or ends[0][2].end_step != ends[0][0]:
            heappop(ends)
        before_full = (self.params.kv_tokens - self._kv_tokens) // self._decoding
        return max(1, min(ends[0][0] - self._step, before_full))

    def _end_run(self, now: float) -> None:
        for sequence, chunk in self._chunks:
            if sequence.phase is not Phase.PREFILL:
                continue
            sequence.prefill_left -= chunk
            if not sequence.prefill_left:
                self._join(sequence, now)
        self._chunks = []
        ends = self._ends
        while ends and ends[0][0] <= self._step:
            end_step, _, sequence = heappop(ends)
            if sequence.phase is Phase.DECODE and sequence.end_step == end_step:
                self._finish(sequence, now)

    # -- one sequence -------------------------------------------------------------------------------------------------

    def _held_kv(self, sequence: Sequence) -> int:
        """A prefilling sequence holds room for its first token already."""
        reserved = 1 if sequence.phase is Phase.PREFILL else 0
        return sequence.request.prompt_tokens + sequence.generated_by(self._step) + reserved

    def _admit(self, now: float) -> Sequence | None:
        """Take the oldest waiting sequence in, if its prompt fits the KV cache now."""
        sequence = next(iter(self._waiting.values()))
        request = sequence.request
        tokens = request.prompt_tokens + sequence.generated
        headroom = _ADMISSION_HEADROOM * self.params.kv_tokens + self._decoding
        if self._running and self._kv_tokens + tokens + 1 + headroom > self.params.kv_tokens:
            return None
        self._waiting.popitem(last=False)
        cached = self.prefix_cache.lookup(request.prefix, tokens)
        sequence.prefill_left = tokens - cached
        sequence.phase = Phase.PREFILL
        self._running[request.id] = self._prefilling[request.id] = sequence
        self._kv_tokens += tokens + 1
        if not sequence.started:
            sequence.started = True
            self._events.append(Started(request.id, now, cached))
        return sequence

    def _join(self, sequence: Sequence, now: float) -> None:
        """The prompt is computed: the first token is there and decoding begins."""
        request = sequence.request
        self.prefix_cache.insert(request.prefix)
        if not sequence.generated:
            self.prompt_tokens_total += request.prompt_tokens
        if not request.output_tokens:
            self._finish(sequence, now)
            return
        del self._prefilling[request.id]
        if not sequence.generated:
            ttft_s = now - sequence.submitted_s
            self.ttft.observe(ttft_s)
            self._events.append(FirstToken(request.id, now, ttft_s))
        sequence.phase = Phase.DECODE
        sequence.generated += 1
        sequence.joined_step = self._step
        self.generation_tokens_total += 1
        self._decoding += 1
        self._end_number += 1
        heappush(self._ends, (sequence.end_step, self._end_number, sequence))
        if request.streamed:
            self._streaming[request.id] = sequence
            self._events.append(Tokens(request.id, now, 1))

    def _finish(self, sequence: Sequence, now: float) -> None:
        self._release(sequence)
        self.finished_total += 1
        self.latency.observe(now - sequence.submitted_s)
        self._events.append(Finished(sequence.request.id, now, sequence.request.output_tokens))

    def _preempt(self) -> None:
        """The KV cache is full: the youngest sequence goes back to the head of the queue, to be computed again."""
        sequence = next(reversed(self._running.values()))
        generated = sequence.generated_by(self._step)
        self._release(sequence)
        sequence.generated = generated
        self._waiting[sequence.request.id] = sequence
        self._waiting.move_to_end(sequence.request.id, last=False)
        self.preemptions_total += 1

    def _release(self, sequence: Sequence) -> None:
        request_id = sequence.request.id
        self._kv_tokens -= self._held_kv(sequence)
        if sequence.phase is Phase.DECODE:
            self._decoding -= 1
        del self._running[request_id]
        self._prefilling.pop(request_id, None)
        self._streaming.pop(request_id, None)
        sequence.phase = Phase.WAITING
