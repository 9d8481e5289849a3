"""Examples of one latent out of a large text, beside delphi's constructor and sampler: milliseconds by firing rate.

    scripts/peers.sh delphi                    # once
    .venv/bin/python benchmarks/examples.py    # about two minutes

One latent that fires at random tokens of a random text of rows of 256 (its two last cases: at every token of some
rows). Ours draws 9 windows of 32 tokens from each decile, from firings mapped from files, in the page cache from the
run before (warm). delphi, with its own settings, chooses 40 + 50 windows of 32 from the deciles, and 50 where the
latent is silent, from tensors in memory. Prints a table and puts it into benchmarks/README.md; without delphi's
environment it prints ours alone.

The floor: cutting the same 90 windows out of the text and the firings, by one who knows which.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import rounds
from meter import tell

from plainspoken.latents import FiringTable
from plainspoken.latents.examples import Example, _example, examples
from plainspoken.types import Rows

CONTEXT, PER_QUANTILE, QUANTILES, WINDOW = 256, 9, 10, 32


@dataclass(frozen=True)
class Case:
    """One latent's firings in one text."""

    tokens: int
    rate: float
    bursts: bool = False
    peer: bool = False
    """Whether delphi is asked too; beyond these rates it takes seconds."""

    @property
    def name(self) -> str:
        """Of its files; the text's name first."""
        return f"{self.tokens} {self.rate:g}{' bursts' if self.bursts else ''}"


def cases(tokens: Sequence[int]) -> list[Case]:
    """Every rate in each text, and two in bursts in the longest."""
    rates = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5)
    found = [Case(n, rate, peer=1e-4 <= rate <= 1e-2) for n in tokens for rate in rates]
    return [*found, *(Case(max(tokens), rate, bursts=True) for rate in (0.01, 0.5))]


def make(folder: Path, wanted: Sequence[Case], seed: int = 0) -> None:
    """Writes the texts and the firings, each the same whatever else is written."""
    for n in {case.tokens for case in wanted}:
        text = np.random.default_rng([seed, n]).integers(0, 5000, (n // CONTEXT, CONTEXT)).astype(np.int32)
        np.save(folder / f"{n}.tokens.npy", text)
    for case in wanted:
        generator = np.random.default_rng([seed, case.tokens, round(1e6 * case.rate), case.bursts])
        shape = (case.tokens // CONTEXT, 1 if case.bursts else CONTEXT)
        fires = np.broadcast_to(generator.random(shape) < case.rate, (shape[0], CONTEXT))
        position = np.flatnonzero(fires)
        np.save(folder / f"{case.name}.position.npy", position)
        np.save(folder / f"{case.name}.value.npy", (generator.random(len(position)) + 0.01).astype(np.float32))


def ours(folder: Path, repeats: int) -> dict[str, list[float]]:
    """By case: milliseconds of `examples`, of the floor, and the firings."""
    names = [path.name.removesuffix(".position.npy") for path in sorted(folder.glob("*.position.npy"))]
    return {name: cost(open_table(folder, name), repeats) for name in names}


def cost(table: FiringTable, repeats: int) -> list[float]:
    """[milliseconds of `examples` by seeds of their own, milliseconds of the floor, firings]."""
    chosen = [timed(lambda seed=seed: draw(table, seed)) for seed in range(repeats)]
    position, value = map(np.asarray, table.latent(0))
    first = np.searchsorted(position, [e.row * CONTEXT + e.start for e in draw(table, 0)]).tolist()
    cut = [timed(lambda: [_example(table, position, value, i, WINDOW, 0) for i in first]) for _ in range(repeats)]
    return [median(chosen), median(cut), len(position)]


def open_table(folder: Path, name: str) -> FiringTable:
    """The one latent's firings, mapped."""
    text = np.load(folder / f"{name.split()[0]}.tokens.npy")
    rows = Rows(text, np.ones_like(text, bool), np.zeros(len(text), np.int32), ("random",), "explain")
    position, value = (np.load(folder / f"{name}.{part}.npy", mmap_mode="r") for part in ("position", "value"))
    return FiringTable(np.array([0, len(position)]), position, value, rows)


def draw(table: FiringTable, seed: int) -> list[Example]:
    """90 windows of the latent."""
    return examples(table, 0, PER_QUANTILE, QUANTILES, WINDOW, np.random.default_rng(seed))


def timed(work: Callable[[], object]) -> float:
    """CPU milliseconds."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


def report(found: rounds.Rounds, wanted: Sequence[Case]) -> str:
    """A row of the table a case."""
    rows = []
    for case in wanted:
        took, floor, firings = (median(told[case.name][i] for told in found.told["plainspoken"]) for i in range(3))
        theirs = found.median("delphi", case.name) if case.peer and "delphi" in found.told else None
        beside = ["–", "–"] if theirs is None else [f"{theirs:.1f}", f"{theirs / took:.1f}"]
        rate = f"{case.rate:g}" + (", whole rows" if case.bursts else "")
        cells = [f"{case.tokens:,}", rate, f"{firings:,.0f}", f"{took:.2f}", f"{floor:.2f}", f"{took / floor:.1f}"]
        rows.append([*cells, *beside])
    head = ["tokens", "firing rate", "firings", "plainspoken, ms", "floor, ms", "times the floor", "delphi, ms"]
    return rounds.table([*head, "times delphi's speed"], rows) + "\n\n" + found.note


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=21, help="drawings of each case in a round (delphi: a seventh)")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--delphi", type=Path, default=rounds.DELPHI, help="Python of an environment that has delphi")
    parser.add_argument("--readme", type=Path, default=rounds.README, help="the page with the block to write")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        return tell(**ours(given.work, given.repeats))
    wanted = cases(given.tokens)
    with tempfile.TemporaryDirectory() as temporary:
        everything, shared = Path(temporary) / "all", Path(temporary) / "shared"
        for folder, some in ((everything, wanted), (shared, [case for case in wanted if case.peer])):
            folder.mkdir()
            make(folder, some)
        programs = {"plainspoken": [sys.executable, __file__, "--work", everything, "--repeats", str(given.repeats)]}
        if given.delphi.exists():
            peer = [given.delphi, rounds.HERE / "peers" / "with_delphi.py", "examples", shared]
            programs["delphi"] = [*peer, "--repeats", str(max(1, given.repeats // 7))]
        found = rounds.interleave(programs, given.rounds)
    block = report(found, wanted)
    print("\n" + block)
    if "delphi" in programs:
        rounds.write_block(given.readme, "examples", block)


if __name__ == "__main__":
    main(sys.argv[1:])
