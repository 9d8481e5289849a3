"""Encoding a text into a firing table, beside delphi's cache of latents: CPU seconds and memory.

    scripts/peers.sh delphi                    # once
    .venv/bin/python benchmarks/encode.py      # about eight minutes; keep the machine quiet

The same random GPT-NeoX (2 layers, d_model 128), encoder (32,768 latents, k = 32), tokens (8,192 in rows of 256) and
batches (8 rows) for both, read from the same files. Ours writes the sorted table to disk; delphi's `LatentCache.run`
keeps what fires in memory, and its time does not include saving. Prints a table and puts it into benchmarks/README.md;
without delphi's environment it prints ours and the floor alone.

The floor: the model's forward pass up to the site, and the encoder's matrix product into memory that is there already,
in the best of three sizes. In bfloat16 that product could at most choose candidates.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rounds
import torch
from meter import measured, tell
from tokenizers import Tokenizer, models
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from plainspoken.activations import stream
from plainspoken.coders import Coder, CoderSpec
from plainspoken.latents import encode_rows
from plainspoken.lm import LanguageModel, load_lm, resolve_sites
from plainspoken.types import Rows, Site

D, CONTEXT, VOCABULARY, BATCH_ROWS = 128, 256, 5000, 8
MODULE = "layers.1.mlp"
"""The site, under the model without its head."""
LARGER = "{}, four times the tokens"


@dataclass(frozen=True, eq=False)
class Material:
    """What both encode."""

    lm: LanguageModel
    site: Site
    coder: Coder
    rows: Rows


def make(folder: Path, tokens: int, latents: int, seed: int = 0) -> None:
    """Writes the model, the encoder's weights and four times `tokens` tokens."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        hidden_size=D, intermediate_size=4 * D, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPTNeoXForCausalLM(config).save_pretrained(folder / "lm")
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(folder / "lm")
    np.save(folder / "W_enc.npy", (torch.randn(latents, D) * D**-0.5).numpy())
    shape = (4 * tokens // CONTEXT, CONTEXT)
    np.save(folder / "tokens.npy", np.random.default_rng(seed).integers(0, VOCABULARY, shape).astype(np.int32))


def load(folder: Path, tokens: int, k: int) -> Material:
    """The model, a coder and the first `tokens` tokens."""
    torch.set_num_threads(1)
    lm = load_lm(str(folder / "lm"), device="cpu", dtype="float32")
    [site] = resolve_sites(lm, f"gpt_neox.{MODULE}")
    W_enc = torch.from_numpy(np.load(folder / "W_enc.npy"))
    coder = Coder(CoderSpec("transcoder", "topk", len(W_enc), k, False, D, D)).requires_grad_(False)
    coder.W_enc.copy_(W_enc)
    text = np.load(folder / "tokens.npy")[: tokens // CONTEXT]
    # Every row a document of its own, none with BOS or padding.
    owner = np.arange(len(text), dtype=np.int32)
    return Material(lm, site, coder, Rows(text, np.ones_like(text, bool), owner, tuple(map(str, owner)), "explain"))


def ours(folder: Path, tokens: int, k: int) -> dict[str, float]:
    """CPU seconds, peak memory and firings of `encode_rows`."""
    material = load(folder, tokens, k)
    with tempfile.TemporaryDirectory(dir=folder) as written:

        def encode(rows: Rows) -> None:
            encode_rows(
                material.lm, {material.site: material.coder}, rows, {material.site: Path(written)}, None, BATCH_ROWS
            )

        cost = measured(lambda: encode(material.rows), first=lambda: encode(few(material.rows)))
        return {**cost, "firings": len(np.load(Path(written) / "value.npy", mmap_mode="r"))}


def few(rows: Rows) -> Rows:
    """The first batch."""
    n = BATCH_ROWS
    return Rows(rows.tokens[:n], rows.mask[:n], rows.document[:n], rows.keys[:n], rows.part)


def floor(folder: Path, tokens: int, k: int) -> dict[str, float]:
    """CPU seconds of the forward pass and of the matrix product in float32 and, where the CPU has it, bfloat16."""
    material = load(folder, tokens, k)
    x = torch.randn(tokens, D)

    def forward(rows: Rows) -> None:
        for _ in stream(material.lm, [material.site], rows, BATCH_ROWS):
            pass

    seconds = measured(lambda: forward(material.rows), first=lambda: forward(few(material.rows)))["seconds"]
    found = {"forward": seconds, "float32": product(x, material.coder.W_enc)}
    if torch.cpu._is_avx512_bf16_supported():
        found["bfloat16"] = product(x.bfloat16(), material.coder.W_enc.bfloat16())
    return found


@torch.inference_mode()
def product(x: torch.Tensor, W_enc: torch.Tensor) -> float:
    """CPU seconds of x W_encᵀ, so many rows at a time as is fastest."""
    best = np.inf
    for n in (128, 240, 1024):
        out = torch.empty(n, len(W_enc), dtype=x.dtype)
        for _ in range(2):  # the first touches the memory
            began = time.process_time()
            for part in x.split(n):
                torch.mm(part, W_enc.T, out=out[: len(part)])
            seconds = time.process_time() - began
        best = min(best, seconds)
    return best


def report(found: rounds.Rounds, tokens: int) -> str:
    """The table."""
    at = {name: found.median("floor", name) for name in found.told["floor"][0]}
    floors = {f"floor, {kind}": at["forward"] + at[kind] for kind in ("bfloat16", "float32") if kind in at}
    seconds = {name: found.median(name, "seconds") for name in ("plainspoken", "delphi") if name in found.told}
    rows = []
    for name, cost in (floors | seconds).items():
        cells = [name, f"{cost:.2f}", f"{tokens / cost:,.0f}"]
        cells += [f"{cost / floor:.2f}" for floor in floors.values()]
        cells.append(f"{seconds['delphi'] / cost:.2f}" if "delphi" in seconds else "")
        memory = [found.median(who, "peak_mb") for who in (name, LARGER.format(name)) if name in seconds]
        rows.append(cells + ([f"{m:,.0f}" for m in memory] or ["", ""]))
    head = ["", f"CPU seconds for {tokens:,} tokens", "tokens per CPU-second", *(f"times the {f}" for f in floors)]
    head += ["times delphi's speed", "peak MB above the start", f"the same for {4 * tokens:,} tokens"]
    return rounds.table(head, rows) + "\n\n" + found.note


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--latents", type=int, default=32768)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--delphi", type=Path, default=rounds.DELPHI, help="Python of an environment that has delphi")
    parser.add_argument("--readme", type=Path, default=rounds.README, help="the page with the block to write")
    parser.add_argument("--work", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        what, folder = given.work
        return tell(**{"ours": ours, "floor": floor}[what](Path(folder), given.tokens, given.k))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder, given.tokens, given.latents)

        def command(what: str, tokens: int) -> list[str | Path]:
            sizes = ["--tokens", str(tokens), "--k", str(given.k)]
            if what == "delphi":
                return [given.delphi, rounds.HERE / "peers" / "with_delphi.py", "encode", folder, *sizes]
            return [sys.executable, __file__, "--work", what, str(folder), *sizes]

        who = {"plainspoken": "ours"} | ({"delphi": "delphi"} if given.delphi.exists() else {})
        programs = {name: command(what, given.tokens) for name, what in {**who, "floor": "floor"}.items()}
        # Where the allocator finds room differs from run to run by tens of megabytes: memory wants a median too.
        larger = {LARGER.format(name): command(what, 4 * given.tokens) for name, what in who.items()}
        found = rounds.interleave(programs | larger, given.rounds)
    block = report(found, given.tokens)
    print("\n" + block)
    if "delphi" in who:
        rounds.write_block(given.readme, "encode", block)


if __name__ == "__main__":
    main(sys.argv[1:])
