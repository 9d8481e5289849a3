"""Dashboards of all latents of a site: seconds and memory for 1,024 latents over a million tokens.

    .venv/bin/python benchmarks/dashboards.py    # about a minute

A firing table is made up: about 32 latents fire at a token, some far more often than others (their rates fall as
1/rank, from one token in two), with exponential activations; it lies in files, mapped, as encode leaves it. The model
is a random one with GPT-2's vocabulary and width, 3 layers with a coder of 1,024 latents at each FFN; the middle one's
dashboards are made: one pass over the table, the weights' part, the file and the page. Prints a table and puts it into
benchmarks/README.md. Wall seconds with two threads; memory above the start, of which mapped pages are a part.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import rounds
import torch
from meter import measured, tell
from transformers import GPT2Config, GPT2LMHeadModel

from plainspoken.circuits.dashboard import wiring
from plainspoken.circuits.dashboard_file import About, Dashboards, write_dashboards
from plainspoken.coders import Coder, CoderSpec
from plainspoken.latents import FiringTable
from plainspoken.latents.dashboard import Shown, activity
from plainspoken.lm import load_lm
from plainspoken.lm.anatomy import anatomy
from plainspoken.report.dashboards import write_dashboards_page
from plainspoken.types import Rows, Site

CONTEXT, VOCABULARY, WIDTH = 256, 50_257, 768
STEPS = ("table", "weights", "file", "page")


def make(folder: Path, tokens: int, latents: int, k: int, vocabulary: int = VOCABULARY) -> None:
    """Writes the text and the table, latent by latent: the gaps between firings are geometric."""
    generator = np.random.default_rng(0)
    text = generator.integers(0, vocabulary, (tokens // CONTEXT, CONTEXT)).astype(np.int32)
    np.save(folder / "tokens.npy", text)
    share = 1 / np.arange(1, latents + 1)
    rates = np.minimum(0.5, k * share / share.sum())
    fires = [np.cumsum(generator.geometric(rate, int(1.5 * rate * text.size) + 100)) - 1 for rate in rates.tolist()]
    position = [each[each < text.size] for each in fires]
    pointer = np.concatenate([[0], np.cumsum([len(each) for each in position])])
    np.save(folder / "pointer.npy", pointer)
    np.save(folder / "position.npy", np.concatenate(position))
    np.save(folder / "value.npy", generator.exponential(size=pointer[-1]).astype(np.float32))


def table_of(folder: Path) -> FiringTable:
    """The table, mapped."""
    text = np.load(folder / "tokens.npy")
    rows = Rows(text, np.ones_like(text, bool), np.zeros(len(text), np.int32), ("random",), "explain")
    pointer, position, value = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("pointer", "position", "value"))
    return FiringTable(pointer, position, value, rows)


def ours(folder: Path, vocabulary: int = VOCABULARY, width: int = WIDTH) -> dict[str, float]:
    """Wall seconds of each step, all of them together in CPU seconds, peak MB, firings, MB of the file and the page."""
    table = table_of(folder)
    config = GPT2Config(vocab_size=vocabulary, n_embd=width, n_layer=3, n_head=4, n_positions=CONTEXT)
    pocket = load_lm("pocket")
    of = anatomy(replace(pocket, model=GPT2LMHeadModel(config).eval().requires_grad_(False)))
    sites = [Site(layer.ffn, "mlp", width, width) for layer in of.layers]
    coders = {site: coder_of(table.latents, width) for site in sites}
    pieces = {token: f" t{token}".encode() for token in range(vocabulary)}
    took: dict[str, float] = {}
    spent = measured(lambda: work(table, of, coders, sites[1], pieces, folder, took), lambda: None)
    sizes = {f"{name}_mb": (folder / f"out.{name}").stat().st_size / 1e6 for name in ("file", "page")}
    return {**took, "cpu": spent["seconds"], "peak_mb": spent["peak_mb"], "firings": len(table.position), **sizes}


def coder_of(latents: int, width: int) -> Coder:
    """A random coder."""
    coder = Coder(CoderSpec("transcoder", "topk", latents, 32, False, width, width))
    for weight in (coder.W_enc, coder.W_dec):
        torch.nn.init.normal_(weight)
    return coder.requires_grad_(False)


def work(table, of, coders, site, pieces, folder: Path, took: dict[str, float]) -> None:
    """All four steps, each timed."""

    def timed(name: str, step: Callable[[], object]):
        began = time.perf_counter()
        found = step()
        took[name] = time.perf_counter() - began
        return found

    shown = Shown()
    firings = timed("table", lambda: activity(table, coders[site].W_dec, shown, 0))
    wires = timed("weights", lambda: wiring(of, coders, site))
    about = About(
        site.module, "mlp", "random", "", "", "explain", table.rows.fingerprint, table.rows.token_count, 0, shown,
        table.rows.keys,
    )  # fmt: skip
    document = np.zeros(len(firings.examples.row), np.int32)
    made = Dashboards(about, firings, document, wires, pieces, {}, {}, np.zeros(len(firings.strongest.row), np.int32))
    timed("file", lambda: write_dashboards(folder / "out.file", made))
    timed("page", lambda: write_dashboards_page(made, folder / "out.page"))


def report(found: rounds.Rounds, tokens: int, latents: int) -> str:
    """One row."""
    took = {name: found.median("plainspoken", name) for name in found.told["plainspoken"][0]}
    head = ["latents", "tokens", "firings", "seconds in all", *STEPS, "CPU seconds", "peak MB", "MB file", "MB page"]
    seconds = [sum(took[name] for name in STEPS), *(took[name] for name in STEPS), took["cpu"]]
    cells = [f"{latents:,}", f"{tokens:,}", f"{took['firings']:,.0f}", *(f"{each:.1f}" for each in seconds)]
    cells += [f"{took['peak_mb']:.0f}", f"{took['file_mb']:.1f}", f"{took['page_mb']:.1f}"]
    return rounds.table(head, [cells]) + "\n\n" + found.note


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--k", type=int, default=32, help="latents that fire at a token, if none were above 0.5")
    parser.add_argument("--readme", type=Path, default=rounds.README, help="the page with the block to write")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        return tell(**ours(given.work))
    with tempfile.TemporaryDirectory() as temporary:
        make(Path(temporary), given.tokens, given.latents, given.k)
        found = rounds.interleave({"plainspoken": [sys.executable, __file__, "--work", temporary]}, given.rounds, 2)
    block = report(found, given.tokens // CONTEXT * CONTEXT, given.latents)
    print("\n" + block)
    rounds.write_block(given.readme, "dashboards", block)


if __name__ == "__main__":
    main(sys.argv[1:])
