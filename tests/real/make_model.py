"""Writes a tiny llama model with random weights, the same bytes at each run: `make_model.py FILE.gguf`.

It speaks nonsense, but through the whole of a real inference server: tokenizer, KV cache, sampling, streaming. It runs
in the environment of that server (it needs `gguf` and `numpy`), not in the project's own.
"""

import sys

import gguf
import numpy as np

LAYERS = 2
WIDTH = 128
HEADS = 4
FEED_FORWARD = 384
CONTEXT = 65_536
SEED = 20_240_917

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}assistant:"
)


def vocabulary() -> tuple[list[bytes], list[float], list[int]]:
    """Three control tokens, a token per byte (so that any text can be said), and the printable characters of ASCII."""
    kinds = gguf.TokenType
    tokens = [(b"<unk>", 0.0, kinds.UNKNOWN), (b"<s>", 0.0, kinds.CONTROL), (b"</s>", 0.0, kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>".encode(), 0.0, kinds.BYTE) for byte in range(256)]
    letters = "\u2581" + "".join(map(chr, range(33, 127)))
    tokens += [(letter.encode(), -1.0 - rank, kinds.NORMAL) for rank, letter in enumerate(letters)]
    return [text for text, _, _ in tokens], [score for _, score, _ in tokens], [int(kind) for _, _, kind in tokens]


def logits_of(count: int, random: np.random.Generator) -> np.ndarray:
    """The output matrix: rows of bytes and control tokens are zero, so that letters win and no answer ends early."""
    matrix = random.standard_normal((count, WIDTH), dtype=np.float32)
    matrix[: 3 + 256] = 0.0
    return matrix


def write(path: str) -> None:
    """Write the model file."""
    random = np.random.default_rng(SEED)
    texts, scores, kinds = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny random llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(texts))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, random.standard_normal(shape, dtype=np.float32) / np.float32(shape[-1] ** 0.5))

    add("token_embd.weight", len(texts), WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{block}{name}.weight", WIDTH, WIDTH)
        add(f"{block}ffn_gate.weight", FEED_FORWARD, WIDTH)
        add(f"{block}ffn_up.weight", FEED_FORWARD, WIDTH)
        add(f"{block}ffn_down.weight", WIDTH, FEED_FORWARD)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{block}{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, dtype=np.float32))
    writer.add_tensor("output.weight", logits_of(len(texts), random))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(sys.argv[1])
