"""Automatic prefix caching as vLLM does it: blocks of computed prompt tokens, found again by chained hash."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of a prompt that others may share: a chain of block hashes.

    Each hash stands for its block and all before it, so equal hashes mean equal beginnings. A workload that only knows
    "these share a system prompt of 1,200 tokens" gives one block: `Prefix((key,), 1200)`.
    """

    hashes: tuple[int, ...]
    block_tokens: int


class PrefixCache:
    """Least recently used blocks, bounded by the tokens they stand for."""

    __slots__ = ("_blocks", "_capacity_tokens", "_held_tokens", "hit_tokens", "queried_tokens")

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity_tokens = capacity_tokens
        self._blocks: OrderedDict[int, int] = OrderedDict()
        self._held_tokens = 0
        self.queried_tokens = 0
        """Prompt tokens looked up, ever (vllm:prefix_cache_queries)."""
        self.hit_tokens = 0
        """Prompt tokens found, ever (vllm:prefix_cache_hits)."""

    def lookup(self, prefix: Prefix | None, prompt_tokens: int) -> int:
        """Tokens of this prompt that need not be computed; at least one always must be."""
        self.queried_tokens += prompt_tokens
        if prefix is None:
            return 0
        found = 0
        for block in prefix.hashes:
            tokens = self._blocks.get(block)
            if tokens is None or found + tokens >= prompt_tokens:
                break
            self._blocks.move_to_end(block)
            found += tokens
        self.hit_tokens += found
        return found

    def insert(self, prefix: Prefix | None) -> None:
        """Keep the blocks of a prompt that has been computed."""
        if prefix is None or prefix.block_tokens > self._capacity_tokens:
            return
        # Last block first: when room runs out, the ends of chains go before their beginnings.
        for block in reversed(prefix.hashes):
            if block in self._blocks:
                self._blocks.move_to_end(block)
                continue
            self._blocks[block] = prefix.block_tokens
            self._held_tokens += prefix.block_tokens
        while self._held_tokens > self._capacity_tokens:
            self._held_tokens -= self._blocks.popitem(last=False)[1]
