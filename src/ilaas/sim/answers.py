"""Answers made of words: a pure function of seed, prompt and position, so that a broken answer can be continued."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from statistics import NormalDist

import orjson

from ilaas.sim.prefix_cache import Prefix

BYTES_PER_TOKEN = 4
_BLOCK_TOKENS = 64
_BLOCK_BYTES = _BLOCK_TOKENS * BYTES_PER_TOKEN
_SENTENCES = 512
_LENGTH_SIGMA = 0.8
_SHORTEST_TOKENS = 8
_LONGEST_TOKENS = 4_000
_WORDS = (
    "le la les un une des du de à et ou mais donc pour par avec sans sous sur dans entre vers université recherche "
    "étudiant étudiante calcul modèle réseau serveur donnée données langue langage texte phrase réponse question "
    "analyse méthode résultat exemple théorie pratique mesure énergie carbone bilan année mois jour heure temps "
    "espace forme fonction système service partage fédération centre laboratoire équipe projet étude enquête "
    "ouvert libre public simple rapide fiable juste clair précis grand petit nouveau première possible utile "
    "permet montre donne rend prend garde trouve propose compare explique décrit observe vérifie améliore "
    "the a of and with from into across between model answer prompt token stream cluster node memory cache request "
    "student teacher library archive course lecture result figure table method science history physics biology "
    "shows gives keeps finds reads writes learns scales serves shares measures explains compares"
)


@dataclass(frozen=True, slots=True)
class Words:
    """Tokens as text, and the same as JSON string contents."""

    texts: tuple[str, ...]
    escaped: tuple[bytes, ...]


def escape(text: str) -> bytes:
    """The inside of a JSON string."""
    return orjson.dumps(text)[1:-1]


def words_of(text: str) -> Words:
    """Cut a text into tokens of about four characters."""
    texts = tuple(text[at : at + BYTES_PER_TOKEN] for at in range(0, len(text), BYTES_PER_TOKEN))
    return Words(texts, tuple(escape(piece) for piece in texts))


def cut_words(words: Words, begin: int, end: int) -> Words:
    """The characters from `begin` to `end`, with the borders of tokens where they were."""
    texts: list[str] = []
    at = 0
    for text in words.texts:
        if at >= end:
            break
        piece = text[max(0, begin - at) : end - at]
        at += len(text)
        if piece:
            texts.append(piece)
    return Words(tuple(texts), tuple(escape(text) for text in texts))


def digest(*parts: str | bytes | int) -> int:
    """A 64-bit number that is the same in every process."""
    state = blake2b(digest_size=8)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        state.update(len(raw).to_bytes(8, "little"))
        state.update(raw)
    return int.from_bytes(state.digest(), "little")


def count_tokens(raw: bytes) -> int:
    """About one token for four bytes."""
    return -(-len(raw) // BYTES_PER_TOKEN)


def prefix_of(raw: bytes) -> Prefix | None:
    """The chained hashes of a prompt's whole blocks; None when it is shorter than one."""
    chain: list[int] = []
    previous = 0
    for at in range(0, len(raw) - _BLOCK_BYTES + 1, _BLOCK_BYTES):
        previous = hash((previous, raw[at : at + _BLOCK_BYTES]))
        chain.append(previous)
    return Prefix(tuple(chain), _BLOCK_TOKENS) if chain else None


class Library:
    """Sentences to make answers of; made once for a server."""

    __slots__ = ("_median_tokens", "_sentences")

    def __init__(self, median_tokens: int) -> None:
        draw = random.Random(0)  # noqa: S311 -- the same words in every process, no secret
        words = _WORDS.split()
        self._median_tokens = median_tokens
        self._sentences = tuple(words_of(_sentence(draw, words)) for _ in range(_SENTENCES))

    def natural_tokens(self, key: int) -> int:
        """How long an answer gets if nothing bounds it: log-normal, drawn from the key."""
        share = ((key >> 11) + 0.5) / (1 << 53)
        tokens = self._median_tokens * math.exp(_LENGTH_SIGMA * NormalDist().inv_cdf(share))
        return int(min(max(tokens, _SHORTEST_TOKENS), _LONGEST_TOKENS))

    def write(self, key: int, tokens: int) -> Words:
        """The first `tokens` tokens of the answer to this key."""
        texts: list[str] = []
        escaped: list[bytes] = []
        for position in count():
            if len(texts) >= tokens:
                break
            sentence = self._sentences[_mix(key, position) % _SENTENCES]
            texts += sentence.texts
            escaped += sentence.escaped
        return Words(tuple(texts[:tokens]), tuple(escaped[:tokens]))


def _mix(key: int, position: int) -> int:
    """SplitMix64's finaliser: well spread and much cheaper than a hash of bytes."""
    value = (key + (position + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 27)


def _sentence(draw: random.Random, known: list[str]) -> str:
    words = draw.choices(known, k=draw.randint(6, 18))
    ending = draw.choice((". ", ". ", ". ", ", ", "; ", ".\n\n"))
    return " ".join(words).capitalize() + ending
