"""Train the bundled pocket model: a small GPT-NeoX on the source of the Python standard library.

    .venv/bin/python scripts/train_pocket.py --out src/plainspoken/data/pocket

Every document outside the evaluate part of the split is trained on; the evaluate part is held out and measured against
a unigram and a bigram model fitted on the same tokens. Writes the weights, the tokenizer and the model card.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from plainspoken.corpus.split import part_of
from plainspoken.corpus.stdlib import standard_library_files

BOS = "<|endoftext|>"
CONTEXT = 256


def read_documents() -> tuple[list[str], list[str]]:
    """(trained on, held out): the standard library's files as text; a file that is not UTF-8 is left out."""
    trained, held = [], []
    for key, path in standard_library_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text.strip():
            (held if part_of(key) == "evaluate" else trained).append(text)
    return trained, held


def train_tokenizer(texts: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with one special token, which marks the start of every row."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[BOS], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, pad_token=BOS, model_max_length=CONTEXT
    )


def rows(documents: list[np.ndarray], generator: np.random.Generator | None) -> np.ndarray:
    """Rows [n, CONTEXT] of BOS + text; -1 pads. With a generator, every document's first cut is moved at random."""
    width, out = CONTEXT - 1, []
    for ids in documents:
        start = int(generator.integers(0, width)) if generator is not None and len(ids) > width else 0
        pieces = [ids[:start]] if start else []
        pieces += [ids[i : i + width] for i in range(start, len(ids), width)]
        for piece in pieces:
            row = np.full(CONTEXT, -1, np.int64)
            row[0], row[1 : len(piece) + 1] = 0, piece
            out.append(row)
    return np.stack(out)


def batches(documents: list[np.ndarray], size: int, seed: int) -> Iterator[torch.Tensor]:
    """Endless shuffled batches [size, CONTEXT], a new cut of every document each epoch."""
    generator = np.random.default_rng(seed)
    while True:
        table = rows(documents, generator)
        order = generator.permutation(len(table))
        for i in range(0, len(order) - size + 1, size):
            yield torch.from_numpy(table[order[i : i + size]])


def nll(model: GPTNeoXForCausalLM, batch: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Cross-entropy, nats: the mean over predicted tokens, or their sum."""
    logits = model(batch.clamp(min=0)).logits[:, :-1]
    target = batch[:, 1:]
    return cross_entropy(logits.flatten(0, 1).float(), target.flatten(), ignore_index=-1, reduction=reduction)


def learning_rate(step: int, steps: int, peak: float, warm_up: int) -> float:
    if step < warm_up:
        return peak * (step + 1) / warm_up
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def train(model: GPTNeoXForCausalLM, documents: list[np.ndarray], a: argparse.Namespace) -> None:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=a.lr, betas=(0.9, 0.95), fused=True)
    began = time.time()
    for step, batch in zip(range(a.steps), batches(documents, a.batch, a.seed), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, a.steps, a.lr, 100)
        with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
            loss = nll(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0 or step == a.steps - 1:
            speed = (step + 1) * a.batch * CONTEXT / (time.time() - began)
            print(f"step {step:5d}/{a.steps}  loss {loss.item():.3f}  {speed:,.0f} tokens/s", flush=True)


@torch.no_grad()
def held_out_nll(model: GPTNeoXForCausalLM, documents: list[np.ndarray]) -> float:
    table = torch.from_numpy(rows(documents, None))
    total = sum(nll(model, table[i : i + 32], "sum").item() for i in range(0, len(table), 32))
    return total / int((table[:, 1:] >= 0).sum())


def n_gram_nll(train_rows: np.ndarray, held_rows: np.ndarray, vocabulary: int) -> tuple[float, float]:
    """(unigram, bigram) held-out nats/token; the bigram backs off to the unigram with the best of several weights."""
    unigram = np.bincount(train_rows[:, 1:][train_rows[:, 1:] >= 0], minlength=vocabulary) + 1.0
    unigram /= unigram.sum()
    counts = np.zeros((vocabulary, vocabulary))
    keep = train_rows[:, 1:] >= 0
    np.add.at(counts, (train_rows[:, :-1][keep], train_rows[:, 1:][keep]), 1.0)
    keep = held_rows[:, 1:] >= 0
    before, after = held_rows[:, :-1][keep], held_rows[:, 1:][keep]
    total = counts.sum(1)
    # The weight is chosen on the held-out text itself: that can only flatter the baseline.
    bigram = min(
        float(-np.log((counts[before, after] + w * unigram[after]) / (total[before] + w)).mean())
        for w in (1, 3, 10, 30, 100, 300)
    )
    return float(-np.log(unigram[after]).mean()), bigram


CARD = """# The pocket model

A GPT-NeoX language model of {parameters:,} parameters ({layers} layers, d_model {width}, {heads} heads, context
{context}, byte-level BPE of {vocabulary:,} tokens), trained on the source of the Python standard library so that
plainspoken has a model to rewrite on every machine. Made by `scripts/train_pocket.py`; MIT licence (its text: PSF).

| held out: {held_files} files, {held_tokens:,} tokens | nats/token | bits/byte |
|---|---|---|
| this model | {model:.3f} | {model_bpb:.3f} |
| bigram | {bigram:.3f} | {bigram_bpb:.3f} |
| unigram | {unigram:.3f} | {unigram_bpb:.3f} |

Recipe: {files} files ({tokens:,} tokens), every document outside the evaluate part of the split
(`plainspoken.corpus.split`); {steps:,} steps of {batch} x {context} tokens ({seen:,} positions, padding included),
AdamW (0.9, 0.95), peak learning rate {lr}, 100 warm-up steps, cosine to zero, weight decay 0.1, gradient clip 1.0,
seed {seed}, {precision}.
Python {python}, torch {torch}, transformers {transformers}; {minutes:.0f} minutes on {cores} cores.
Every row starts with `<|endoftext|>`; documents are never glued together. Under another Python version some of the
held-out files differ slightly from those named here.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=2048)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    a = parser.parse_args()
    torch.manual_seed(a.seed)
    began = time.time()
    trained, held = read_documents()
    tokenizer = train_tokenizer(trained, a.vocabulary)
    encode = tokenizer.backend_tokenizer.encode_batch
    trained_ids = [np.array(e.ids) for e in encode(trained)]
    held_ids = [np.array(e.ids) for e in encode(held)]
    config = GPTNeoXConfig(
        vocab_size=a.vocabulary, hidden_size=a.width, num_hidden_layers=a.layers, num_attention_heads=4,
        intermediate_size=4 * a.width, max_position_embeddings=CONTEXT, tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=0, use_cache=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters; {sum(map(len, trained_ids)):,} tokens in {len(trained)} files", flush=True)
    train(model, trained_ids, a)
    loss = held_out_nll(model, held_ids)
    unigram, bigram = n_gram_nll(rows(trained_ids, None), rows(held_ids, None), a.vocabulary)
    held_tokens = sum(map(len, held_ids))
    per_byte = held_tokens / sum(len(t.encode()) for t in held) / math.log(2)
    a.out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(a.out)
    tokenizer.save_pretrained(a.out)
    facts = {
        "parameters": parameters,
        "layers": a.layers,
        "width": a.width,
        "heads": 4,
        "context": CONTEXT,
        "vocabulary": a.vocabulary,
        "held_files": len(held),
        "held_tokens": held_tokens,
        "model": loss,
        "bigram": bigram,
        "unigram": unigram,
        "model_bpb": loss * per_byte,
        "bigram_bpb": bigram * per_byte,
        "unigram_bpb": unigram * per_byte,
        "files": len(trained),
        "tokens": sum(map(len, trained_ids)),
        "steps": a.steps,
        "batch": a.batch,
        "seen": a.steps * a.batch * CONTEXT,
        "lr": a.lr,
        "seed": a.seed,
        "precision": "bfloat16 autocast" if a.bf16 else "float32",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "minutes": (time.time() - began) / 60,
        "cores": torch.get_num_threads(),
    }
    (a.out / "README.md").write_text(CARD.format(**facts))
    (a.out / "card.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
