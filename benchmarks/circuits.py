"""Circuits: attribution graphs beside circuit-tracer, greedy paths and head attribution beside the floor.

    scripts/peers.sh circuits                   # once
    .venv/bin/python benchmarks/circuits.py     # some minutes; keep the machine quiet

Graphs: random models of 4 layers, d_model 64 and 4 heads, with random transcoders of 1,024 latents of which about 23
fire at a token; the ten likeliest next tokens explained, pruned to 80 % of node and 98 % of edge influence. Each
project makes its own model of this shape (one is TransformerLens's, one Hugging Face's), so that the graphs differ and
only their sizes are alike. Ours freezes, sweeps twice and prunes; circuit-tracer's seconds are `attribute` and
`prune_graph`. One thread, CPU seconds, interleaved, medians; peak memory above the start.

Paths and heads: on GPT-2's shape (circuit_shapes.py), beside the figures that the spec gives of the seed's code.
Prints the tables and puts them into benchmarks/README.md; without circuit-tracer's environment, ours alone, unwritten.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import circuit_shapes
import rounds
import torch
from meter import measured, tell
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from plainspoken.circuits.asking import Asked, root_asked
from plainspoken.circuits.attribution import attribution_graph
from plainspoken.circuits.frozen import freeze
from plainspoken.coders import Coder, CoderSpec
from plainspoken.lm import LanguageModel, load_lm, resolve_sites
from plainspoken.types import Site

LAYERS, D, LATENTS, VOCABULARY = 4, 64, 1024, 2048
SILENT = -2.0
"""Encoder bias: rows of length 1 read a normed stream, so that 2.3 % of the latents fire, about 23 at a token."""
TOKENS = (24, 96)
TRACER = rounds.HERE.parent / ".venv-tracer" / "bin" / "python"
SEED_GREEDY, SEED_HEADS = {16: 8.4, 64: 14.3}, {16: 7.7, 64: 61.8, 128: 239.5}
"""CPU seconds of greedy search, and milliseconds of one head attribution, of the seed's code: the spec's figures."""


def made() -> tuple[LanguageModel, dict[Site, Coder]]:
    """A random model with random transcoders."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        hidden_size=D, intermediate_size=4 * D, num_hidden_layers=LAYERS, num_attention_heads=4, vocab_size=VOCABULARY,
        max_position_embeddings=256, use_parallel_residual=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval().requires_grad_(False)
    lm = replace(load_lm("pocket"), model=model, name="random", d_model=D, context=256, vocabulary=VOCABULARY)
    coders = {}
    for site in resolve_sites(lm, "gpt_neox.layers.*.mlp"):
        coder = Coder(CoderSpec("transcoder", "relu", LATENTS, None, False, D, D)).requires_grad_(False)
        coder.W_enc.copy_(torch.nn.functional.normalize(torch.randn(LATENTS, D), dim=1))
        coder.W_dec.normal_(0, 0.1)
        coder.b_enc.fill_(SILENT)
        coders[site] = coder
    return lm, coders


def graph(tokens: int) -> dict[str, float]:
    """What one graph costs, and its size."""
    lm, coders = made()
    prompt = torch.randint(1, VOCABULARY, (tokens,))
    found = {}

    def work() -> None:
        frozen = freeze(lm, coders, prompt)
        made = attribution_graph(frozen, root_asked(frozen, Asked("logits")), [""] * tokens)
        active = sum(len(layer.latents) for layer in frozen.layers)
        found.update(active=active, nodes=len(made.nodes), edges=len(made.weight))

    def first() -> None:
        few = freeze(lm, coders, prompt[:4])
        attribution_graph(few, root_asked(few, Asked("logits")), [""] * 4)

    return {**measured(work, first), **found}


def graph_table(found: rounds.Rounds) -> str:
    """The table of graphs."""
    rows = []
    for tokens in TOKENS:
        both = {name: f"{name}, {tokens}" for name in ("plainspoken", "circuit-tracer")}
        here = {name: key for name, key in both.items() if key in found.told}
        ours = found.median(here["plainspoken"], "seconds")
        for name, key in here.items():
            facts = {fact: found.median(key, fact) for fact in ("seconds", "peak_mb", "active", "nodes", "edges")}
            rows.append([
                str(tokens), name, f"{facts['active']:,.0f}", f"{facts['seconds']:.3f}",
                f"{facts['seconds'] / ours:.1f}", f"{facts['peak_mb']:,.0f}", f"{facts['nodes']:,.0f}",
                f"{facts['edges']:,.0f}",
            ])  # fmt: skip
    head = ["tokens", "", "latents that fire", "CPU seconds", "times ours", "peak MB above the start", "nodes kept"]
    return rounds.table([*head, "edges kept"], rows)


def shape_table(found: rounds.Rounds) -> str:
    """The table of paths and heads."""
    rows = []
    for tokens, seconds in SEED_GREEDY.items():
        ours = found.median("shapes", f"greedy_{tokens}")
        rows.append(
            [f"greedy paths, 3 rounds × 15, {tokens} tokens", f"{ours * 1e3:.1f}", f"{seconds / ours:,.0f}", ""]
        )
    for tokens, milliseconds in SEED_HEADS.items():
        ours, floor = (found.median("shapes", f"{what}_{tokens}") for what in ("heads", "floor"))
        faster = f"{milliseconds / 1e3 / ours:,.0f}"
        rows.append([f"a layer's heads, {tokens} tokens", f"{ours * 1e3:.3f}", faster, f"{ours / floor:.2f}"])
    return rounds.table(["", "CPU milliseconds", "times the seed's speed", "times the floor"], rows)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tracer", type=Path, default=TRACER, help="Python of an environment that has circuit-tracer")
    parser.add_argument("--readme", type=Path, default=rounds.README, help="the page with the block to write")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work == "shapes":
        return tell(**circuit_shapes.measure())
    if given.work:
        return tell(**graph(int(given.work)))
    programs: dict[str, list[str | Path]] = {}
    for tokens in TOKENS:
        programs[f"plainspoken, {tokens}"] = [sys.executable, __file__, "--work", str(tokens)]
        if given.tracer.exists():
            harness = rounds.HERE / "peers" / "with_tracer.py"
            programs[f"circuit-tracer, {tokens}"] = [given.tracer, harness, str(tokens)]
    programs["shapes"] = [sys.executable, __file__, "--work", "shapes"]
    found = rounds.interleave(programs, given.rounds)
    block = f"{graph_table(found)}\n\n{shape_table(found)}\n\n{found.note}"
    print("\n" + block)
    if given.tracer.exists():
        rounds.write_block(given.readme, "circuits", block)


if __name__ == "__main__":
    main(sys.argv[1:])
