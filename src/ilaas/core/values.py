"""The closed vocabularies: each word of the domain that is an enumeration, in one place. Used as metric labels too."""

from __future__ import annotations

from enum import StrEnum


class RequestClass(StrEnum):
    """Who goes first: owner > interactive > batch. `owner` is given by the dispatcher, never asked for."""

    OWNER = "owner"
    INTERACTIVE = "interactive"
    BATCH = "batch"


class RoutingMode(StrEnum):
    """Which servers a request may use: anyone's, the own organisation's first, or only those."""

    ANY = "any"
    PRIVATE_FIRST = "private-first"
    PRIVATE_ONLY = "private-only"


class Strategy(StrEnum):
    """How servers are chosen and when requests are held back (contracts/aristote-dispatcher, A3)."""

    ROUND_ROBIN = "round-robin"
    ROUND_ROBIN_PRIORITY = "round-robin-priority"
    LEAST_BUSY = "least-busy"


class Continuation(StrEnum):
    """Whether an answer whose server died in the middle of it is continued by another one."""

    OFF = "off"
    ON = "on"
    SPOT = "spot"
    """Only when that server may be taken away at any time (`spot: true`)."""


class Engine(StrEnum):
    """The program behind a server's URL: decides quirks and where its statistics are read."""

    VLLM = "vllm"
    OLLAMA = "ollama"
    SGLANG = "sglang"
    LMDEPLOY = "lmdeploy"
    LITELLM = "litellm"
    LLAMACPP = "llamacpp"
    OPENAI = "openai"


class Category(StrEnum):
    """What a model is for."""

    GENERALIST = "generalist"
    MULTIMODAL = "multimodal"
    REASONING = "reasoning"
    AGENTIC = "agentic"
    EMBEDDING = "embedding"
    RERANKING = "reranking"
    TRANSCRIPTION = "transcription"
    """Speech to text."""
    SPEECH = "speech"
    """Text to speech."""


class Lifecycle(StrEnum):
    """The stages of a model: staging is seen only by those allowed, deprecated is announced in answers."""

    STAGING = "staging"
    PRODUCTION = "production"
    DEPRECATED = "deprecated"


class Outcome(StrEnum):
    """How a request ended. Exactly one per request; the metric label and the column of the usage record."""

    COMPLETED = "completed"
    CLIENT_LEFT_QUEUE = "client_left_queue"
    CLIENT_LEFT_PREFILL = "client_left_prefill"
    CLIENT_LEFT_DECODE = "client_left_decode"
    REJECTED_INVALID = "rejected_invalid"
    REJECTED_AUTH = "rejected_auth"
    REJECTED_QUOTA = "rejected_quota"
    REFUSED_BUSY = "refused_busy"
    REFUSED_QUEUE_FULL = "refused_queue_full"
    REFUSED_NO_SERVER = "refused_no_server"
    QUEUE_TIMEOUT = "queue_timeout"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"
    ANSWER_TIMEOUT = "answer_timeout"
    """An answer that isn't streamed did not come in time."""
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_BUSY = "upstream_busy"
    """Every server that was tried takes no more requests at present (429)."""
    UPSTREAM_ERROR = "upstream_error"
    STREAM_BROKEN = "stream_broken"
    SHUT_DOWN = "shut_down"


SERVER_FAULTS = frozenset(
    {
        Outcome.CONNECT_FAILED,
        Outcome.CONNECT_TIMEOUT,
        Outcome.FIRST_TOKEN_TIMEOUT,
        Outcome.ANSWER_TIMEOUT,
        Outcome.IDLE_TIMEOUT,
        Outcome.UPSTREAM_ERROR,
        Outcome.STREAM_BROKEN,
    }
)
"""Outcomes that count against the server's health."""
