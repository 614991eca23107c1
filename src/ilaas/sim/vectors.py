"""Work that only reads: embeddings, reranking, scores, tokens. Deterministic and cheap."""

from __future__ import annotations

import base64
import math
import random
import struct
import zlib
from typing import Any

from ilaas.sim.answers import BYTES_PER_TOKEN, count_tokens, digest
from ilaas.sim.api_errors import ApiError
from ilaas.sim.prompt import read_chat, read_completion


def read_inputs(body: dict[str, Any]) -> list[bytes]:
    """The `input` of an embedding: a text, texts, tokens or lists of tokens; as bytes of 4 a token."""
    given = body.get("input")
    items = [given] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise ApiError(400, "input: Field required; a text or a list that is not empty", "input")
    if all(type(item) is int for item in items):
        items = [items]
    return [read_completion({"prompt": item}).raw if item else b"" for item in items]


def embed(raw: bytes, dimensions: int) -> list[float]:
    """A unit vector drawn from the text."""
    draw = random.Random(digest(raw))  # noqa: S311 -- the same vector for the same text, no secret
    vector = [draw.gauss(0.0, 1.0) for _ in range(dimensions)]
    norm = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / norm for value in vector]


def embeddings(body: dict[str, Any], inputs: list[bytes], default_dimensions: int) -> list[dict[str, Any]]:
    """The `data` of an answer to `/v1/embeddings`."""
    dimensions = body.get("dimensions") or default_dimensions
    if type(dimensions) is not int or not 1 <= dimensions <= 8192:
        raise ApiError(400, "dimensions must be an integer from 1 to 8192", "dimensions")
    encoding = body.get("encoding_format") or "float"
    if encoding not in {"float", "base64"}:
        raise ApiError(400, "encoding_format must be float or base64", "encoding_format")
    data: list[dict[str, Any]] = []
    for index, raw in enumerate(inputs):
        vector: list[float] | str = embed(raw, dimensions)
        if encoding == "base64":
            vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        data.append({"index": index, "object": "embedding", "embedding": vector})
    return data


def relevance(query: str, document: str) -> float:
    """Between 0 and 1: the share of the query's words in the document, and a little of chance to part equals."""
    words = set(query.lower().split())
    shared = len(words & set(document.lower().split())) / (len(words) or 1)
    return 0.9 * shared + 0.1 * (digest(query, document) % 10_000) / 10_000


def read_texts(body: dict[str, Any], *names: str) -> list[str]:
    """A field that is a text or a list of texts, under the first of these names that is there."""
    for name in names:
        given = body.get(name)
        if given is None:
            continue
        items = given if isinstance(given, list) else [given]
        if not items or not all(isinstance(item, str) for item in items):
            raise ApiError(400, f"{name} must be a text or a list of texts that is not empty", name)
        return items
    raise ApiError(400, f"{names[0]}: Field required", names[0])


def tokens_of(*texts: str) -> int:
    """Tokens of all these texts."""
    return sum(count_tokens(text.encode("utf-8", "surrogatepass")) for text in texts)


def rerank(query: str, documents: list[str], top_n: int) -> list[dict[str, Any]]:
    """The `results` of an answer to `/v1/rerank`, best first."""
    results = [
        {
            "index": index,
            "document": {"text": document, "multi_modal": None},
            "relevance_score": relevance(query, document),
        }
        for index, document in enumerate(documents)
    ]
    results.sort(key=lambda result: -float(str(result["relevance_score"])))
    return results[: top_n or len(results)]


def score(first: list[str], second: list[str]) -> list[dict[str, Any]]:
    """The `data` of an answer to `/v1/score`: one against many, or pairs."""
    if len(first) not in {1, len(second)}:
        raise ApiError(400, "text_1 must be one text, or as many as text_2", "text_1")
    pairs = zip(first * (len(second) if len(first) == 1 else 1), second, strict=True)
    return [{"index": index, "object": "score", "score": relevance(one, two)} for index, (one, two) in enumerate(pairs)]


def tokenize(body: dict[str, Any]) -> list[int]:
    """Numbers that stand for the tokens of a prompt or of messages."""
    raw = (read_chat(body) if "messages" in body else read_completion(body)).raw
    return [zlib.crc32(raw[at : at + BYTES_PER_TOKEN]) % 128_000 for at in range(0, len(raw), BYTES_PER_TOKEN)]
