"""Completions in vLLM's JSON: chunks assembled from bytes, whole answers by the JSON encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ilaas.sim.generation import Answer, Generation

_LOGPROB = -0.25


class Shapes:
    """The chunks and the whole of one answer."""

    __slots__ = ("_created_s", "_frames", "_head", "_id", "generation")

    def __init__(self, answer_id: str, created_s: int, generation: Generation) -> None:
        self.generation = generation
        self._id = answer_id
        self._created_s = created_s
        self._head = b'data: {"id":"%b","object":"%b","created":%d,"model":%b,"choices":[' % (
            answer_id.encode(),
            b"chat.completion.chunk" if generation.chat else b"text_completion",
            created_s,
            orjson.dumps(generation.model),
        )
        self._frames: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def opening(self, index: int) -> tuple[bytes, ...]:
        """What comes before the first token: the role, in a chat."""
        if not self.generation.chat:
            return ()
        delta = b'{"role":"assistant","content":""}'
        return (b'%b{"index":%d,"delta":%b,"logprobs":null,"finish_reason":null}]}\n\n' % (self._head, index, delta),)

    def tokens(self, index: int, segment: int, taken: Sequence[bytes]) -> list[bytes]:
        """A chunk for each token of one segment."""
        frame = self._frames.get((index, segment))
        if frame is None:
            frame = self._frames[index, segment] = self._frame(index, segment)
        before, after = frame
        if not self.generation.logprobs:
            return [before + token + after for token in taken]
        tail = b',"finish_reason":null}]}\n\n'
        after = after[: after.index(b',"logprobs":null')]
        return [b'%b%b%b,"logprobs":%b%b' % (before, token, after, self._logprobs([token]), tail) for token in taken]

    def finish(self, index: int, usage: dict[str, Any] | None) -> bytes:
        """The last chunk of a choice."""
        reason = self.generation.answers[index].finish_reason.encode()
        inner = b'"delta":{"content":""}' if self.generation.chat else b'"text":""'
        end = b"]}" if usage is None else b'],"usage":%b}' % orjson.dumps(usage)
        return b'%b{"index":%d,%b,"logprobs":null,"finish_reason":"%b","stop_reason":null}%b\n\n' % (
            self._head,
            index,
            inner,
            reason,
            end,
        )

    def usage(self, usage: dict[str, Any]) -> bytes:
        """The extra chunk that `include_usage` asks for."""
        return b'%b],"usage":%b}\n\n' % (self._head, orjson.dumps(usage))

    def padded(self, padding: int) -> bytes:
        """A harmless chunk of more than `padding` bytes."""
        inner = b'"delta":{"content":""}' if self.generation.chat else b'"text":""'
        return b'%b{"index":0,%b,"logprobs":null,"finish_reason":null}],"padding":"%b"}\n\n' % (
            self._head,
            inner,
            b"x" * padding,
        )

    def whole(self, usage: dict[str, Any] | None, padding: int) -> bytes:
        """The answer in one piece."""
        generation = self.generation
        tree: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion" if generation.chat else "text_completion",
            "created": self._created_s,
            "model": generation.model,
            "choices": [self._choice(index, answer) for index, answer in enumerate(generation.answers)],
        }
        if usage is not None:
            tree["usage"] = usage
        if padding:
            tree["padding"] = "x" * padding
        return orjson.dumps(tree)

    def _choice(self, index: int, answer: Answer) -> dict[str, Any]:
        content = {"message": answer.message} if self.generation.chat else dict(answer.message)
        logprobs = None
        if self.generation.logprobs:
            logprobs = orjson.Fragment(self._logprobs(answer.segments[-1].words.escaped))
        return {
            "index": index,
            **content,
            "logprobs": logprobs,
            "finish_reason": answer.finish_reason,
            "stop_reason": None,
        }

    def _frame(self, index: int, segment: int) -> tuple[bytes, bytes]:
        part = self.generation.answers[index].segments[segment]
        name = b"delta" if self.generation.chat else b"text"
        before = b'%b{"index":%d,"%b":%b' % (self._head, index, name, part.opening)
        return before, b'%b,"logprobs":null,"finish_reason":null}]}\n\n' % part.closing

    def _logprobs(self, escaped: Sequence[bytes]) -> bytes:
        tokens = [orjson.loads(b'"%b"' % token) for token in escaped]
        if self.generation.chat:
            entries = [
                {"token": token, "logprob": _LOGPROB, "bytes": list(token.encode()), "top_logprobs": []}
                for token in tokens
            ]
            return orjson.dumps({"content": entries})
        offsets = [sum(len(token) for token in tokens[:at]) for at in range(len(tokens))]
        return orjson.dumps(
            {
                "text_offset": offsets,
                "token_logprobs": [_LOGPROB] * len(tokens),
                "tokens": tokens,
                "top_logprobs": [None] * len(tokens),
            }
        )
