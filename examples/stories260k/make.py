"""Make a Hugging Face model folder of the stories260K model from the two files that llama2.c publishes.

    python examples/stories260k/make.py stories260K.bin tok512.bin models/stories260K

The first file (llama2.c's version 0): seven int32 (dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len;
a negative vocab_size says that the classifier has weights of its own), then float32 tensors, each of all layers at
once. The second: int32 (longest token), then of each token float32 score, int32 length, bytes.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

UNKNOWN, BEGIN, END = SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = 256


def read_model(path: Path) -> LlamaForCausalLM:
    """The model in a llama2.c file, float32. Raises ValueError for a file of another length than its header says."""
    data = path.read_bytes()
    dim, hidden, layers, heads, kv_heads, vocabulary, context = struct.unpack_from("<7i", data)
    config = LlamaConfig(
        vocab_size=abs(vocabulary), hidden_size=dim, intermediate_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=context, rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, tie_word_embeddings=vocabulary > 0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    tensors = _read_tensors(np.frombuffer(data, "<f4", offset=28), config)
    model = LlamaForCausalLM(config)
    lacking, unknown = model.load_state_dict({name: torch.from_numpy(t.copy()) for name, t in tensors.items()}, False)
    if unknown or set(lacking) - ({"lm_head.weight"} if config.tie_word_embeddings else set()):
        raise ValueError(f"{path} gives {unknown} and does not give {lacking}")
    return model.eval()


def _read_tensors(numbers: np.ndarray, config: LlamaConfig) -> dict[str, np.ndarray]:
    """The file's tensors, in its order, under the names that Hugging Face gives them."""
    layers, dim, hidden = config.num_hidden_layers, config.hidden_size, config.intermediate_size
    width = dim // config.num_attention_heads
    kv_dim = config.num_key_value_heads * width
    at = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        size = int(np.prod(shape))
        if at + size > len(numbers):
            raise ValueError(f"the file ends after {len(numbers):,} numbers: it is truncated, or no version 0 file")
        at += size
        return numbers[at - size : at].reshape(shape)

    stacked: dict[str, np.ndarray] = {}
    out = {"model.embed_tokens.weight": take(config.vocab_size, dim)}
    stacked["input_layernorm"] = take(layers, dim)
    stacked["self_attn.q_proj"] = _halves(take(layers, dim, dim), config.num_attention_heads)
    stacked["self_attn.k_proj"] = _halves(take(layers, kv_dim, dim), config.num_key_value_heads)
    stacked["self_attn.v_proj"] = take(layers, kv_dim, dim)
    stacked["self_attn.o_proj"] = take(layers, dim, dim)
    stacked["post_attention_layernorm"] = take(layers, dim)
    stacked["mlp.gate_proj"] = take(layers, hidden, dim)
    stacked["mlp.down_proj"] = take(layers, dim, hidden)
    stacked["mlp.up_proj"] = take(layers, hidden, dim)
    out["model.norm.weight"] = take(dim)
    take(2, config.max_position_embeddings, width // 2)  # cosines and sines of the rotation, which are computed
    if not config.tie_word_embeddings:
        out["lm_head.weight"] = take(config.vocab_size, dim)
    if at != len(numbers):
        raise ValueError(f"the file holds {len(numbers):,} numbers, its header speaks of {at:,}")
    for name, layered in stacked.items():
        out |= {f"model.layers.{i}.{name}.weight": tensor for i, tensor in enumerate(layered)}
    return out


def _halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys [layer, head * width, dim] in the order in which Hugging Face rotates them.

    llama2.c rotates row 2i of a head with row 2i+1, Hugging Face row i with row i + width/2.
    """
    layers, rows, dim = weight.shape
    pairs = weight.reshape(layers, heads, rows // heads // 2, 2, dim)
    return pairs.swapaxes(2, 3).reshape(layers, rows, dim)


def read_tokenizer(path: Path, context: int = 512) -> PreTrainedTokenizerFast:
    """The SentencePiece-like tokenizer in a llama2.c file: merges by score, bytes for what no token spells."""
    data = path.read_bytes()
    names: list[str] = list(SPECIAL)
    scores: list[float] = []
    at = 4
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        scores.append(score)
        if len(scores) > len(SPECIAL):
            names.append(data[at + 8 : at + 8 + length].decode().replace(" ", "▁"))
        at += 8 + length
    vocabulary = {name: i for i, name in enumerate(names)}
    merged = sorted(range(len(SPECIAL) + BYTES, len(names)), key=lambda i: -scores[i])
    merges = [
        (left, right)
        for name in (names[i] for i in merged)
        for cut in range(1, len(name))
        if (left := name[:cut]) in vocabulary and (right := name[cut:]) in vocabulary
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A {BEGIN}:1 $B:1", special_tokens=[(BEGIN, vocabulary[BEGIN])]
    )
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, bos_token=BEGIN, eos_token=END, model_max_length=context
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="stories260K.bin")
    parser.add_argument("tokenizer", type=Path, help="tok512.bin")
    parser.add_argument("out", type=Path, help="the folder to make")
    a = parser.parse_args()
    model = read_model(a.model)
    model.save_pretrained(a.out)
    read_tokenizer(a.tokenizer, model.config.max_position_embeddings).save_pretrained(a.out)
    print(f"{a.out}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
