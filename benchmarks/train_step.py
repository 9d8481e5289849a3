"""One training step of a coder, beside others' trainers: wall time on two threads, tokens a second, memory.

    scripts/peers.sh coders                       # once
    .venv/bin/python benchmarks/train_step.py     # about fifteen minutes; keep the machine quiet

d = 768, k = 32, 2,048 random vectors a step, float32 weights, Adam; one process each, in interleaved rounds, each the
median of its steps after two that make it ready. Ours and sparsify train a skip transcoder, SAELens and
dictionary_learning, which train none, an SAE without a skip. Prints a table and puts it into benchmarks/README.md.

The floor: the encoder's product in bfloat16 (in float32 where the CPU does not multiply bfloat16 fast), in the best of
three sizes and into memory that is there already, the skip's two products, and Adam's pass over the weights.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import plainspoken  # noqa: F401  before torch: it asks OpenMP's threads to sleep while they wait

# isort: split
import rounds
import torch
from meter import measured, tell

from plainspoken.coders import CoderSpec, initialise
from plainspoken.coders.bfloat16 import pays
from plainspoken.config import TrainConfig
from plainspoken.train.allocation import freed_memory_kept
from plainspoken.train.checkpoint import Run
from plainspoken.train.loop import objective_of
from plainspoken.train.step import Recipe, step

PEERS = ("sparsify", "sparsify-signum", "saelens-sparse", "saelens-dense", "dictionary_learning")
WIDE = ("sparsify", "saelens-sparse")
"""Who is timed at more than 16,384 latents as well."""
CPU = torch.device("cpu")


def ours(given: argparse.Namespace) -> None:
    """Median wall seconds of `train.step`, CPU seconds, and the peak of memory."""
    width, latents = given.width, given.latents[0]
    torch.manual_seed(0)
    batches = [torch.randn(2, given.batch, width) for _ in range(4)]
    config, spec = TrainConfig(batch=given.batch), CoderSpec("transcoder", "topk", latents, given.k, True, width, width)
    taken: list[float] = []
    run: Run | None = None

    def go(steps: int) -> None:
        nonlocal run
        if run is None:
            run = Run(initialise(spec, torch.zeros(width), torch.zeros(width), torch.Generator()), {})
        recipe = Recipe(config, objective_of(config, spec, float(width), CPU))
        for i in range(steps):
            began = time.perf_counter()
            step(run, *batches[i % 4], recipe, 1e-4)
            taken.append(time.perf_counter() - began)

    with freed_memory_kept():
        cost = measured(lambda: go(given.steps), first=lambda: go(2))
    tell(seconds=statistics.median(taken[2:]), cpu_seconds=cost["seconds"] / given.steps, peak_mb=cost["peak_mb"])


def floor(given: argparse.Namespace) -> None:
    """Wall seconds of what no step can do without."""
    width, latents = given.width, given.latents[0]
    kind = torch.bfloat16 if pays(CPU, latents, width) else torch.float32
    x, W = torch.randn(given.batch, width).to(kind), torch.randn(latents, width).to(kind)
    parameters = [torch.nn.Parameter(torch.randn(latents, width)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.randn(latents, width)
    adam = torch.optim.Adam(parameters, fused=True)
    product = min(best(lambda n=n: encode(x, W, n)) for n in (128, 256, 1024))
    skip = best(lambda: (x @ W[:width].T, x.T @ x))
    tell(seconds=product + skip + best(adam.step), product=product, kind=str(kind).removeprefix("torch."))


@torch.no_grad()
def encode(x: torch.Tensor, W: torch.Tensor, n: int) -> None:
    """x Wᵀ, n rows at a time."""
    room = torch.empty(n, len(W), dtype=x.dtype)
    for part in x.split(n):
        torch.mm(part, W.T, out=room[: len(part)])


def best(work: Callable[[], object], repeats: int = 7) -> float:
    """Median wall seconds, the first time not counted."""
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def report(found: rounds.Rounds, given: argparse.Namespace, latents: int) -> str:
    """The table of one width."""
    at_floor = found.median("floor", "seconds")
    mine = found.median("plainspoken", "seconds")
    rows = []
    for name in ("floor", "plainspoken", *(n for n in found.told if n not in ("floor", "plainspoken"))):
        seconds = found.median(name, "seconds")
        memory = "" if name == "floor" else f"{found.median(name, 'peak_mb'):,.0f}"
        cells = [
            f"{seconds:.3f}",
            f"{given.batch / seconds:,.0f}",
            f"{seconds / at_floor:.2f}",
            f"{seconds / mine:.2f}",
        ]
        rows.append([name, *cells, memory])
    kind = found.told["floor"][0]["kind"]
    head = [f"{latents:,} latents", "seconds a step", "tokens a second", f"times the floor ({kind})"]
    head += ["plainspoken is faster by", "peak MB above the start"]
    return rounds.table(head, rows)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latents", type=int, nargs="+", default=[12288, 32768])
    for name, value in (("rounds", 5), ("steps", 10), ("width", 768), ("batch", 2048), ("k", 32), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peers", type=Path, default=rounds.TRAINERS, help="Python of an environment that has them")
    parser.add_argument("--readme", type=Path, default=rounds.README, help="the page with the block to write")
    parser.add_argument("--work", choices=("ours", "floor"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        return {"ours": ours, "floor": floor}[given.work](given)
    blocks, found = [], None
    for latents in given.latents:
        sizes = ["--latents", latents, "--steps", given.steps, "--width", given.width, "--batch", given.batch]
        options = [str(size) for size in (*sizes, "--k", given.k)]
        programs = {
            "plainspoken": [sys.executable, __file__, "--work", "ours", *options],
            "floor": [sys.executable, __file__, "--work", "floor", *options],
        }
        for name in (WIDE if latents > 2**14 else PEERS) if given.peers.exists() else ():
            programs[name] = [given.peers, rounds.HERE / "peers" / "with_trainers.py", "step", name, *options]
        found = rounds.interleave(programs, given.rounds, given.threads)
        blocks += [report(found, given, latents), found.note]
    block = "\n\n".join(blocks)
    print("\n" + block)
    if given.peers.exists():
        rounds.write_block(given.readme, "train-step", block)


if __name__ == "__main__":
    main(sys.argv[1:])
