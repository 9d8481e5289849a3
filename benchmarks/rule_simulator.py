"""Time the rule simulator: 1,024 sentences of 60 words over 100,000 tokens of made text, one thread.

    .venv/bin/python benchmarks/rule_simulator.py

Prints JSON: seconds of CPU (reading, parsing and simulating), peak memory above the start, levels given. The text's
words are as frequent as words are (rank 1: 4% of the text), and a sentence names 44 of 2,304 words.
"""

import json
import resource
import time

import numpy as np

from plainspoken.language.quote import quote
from plainspoken.simulators.rules import simulate_rules
from plainspoken.types import Rows

LATENTS, ROWS, T = 1024, 400, 250


def made(seed: int) -> tuple[Rows, list[bytes], dict[int, str]]:
    """(rows, what each token adds, sentences)."""
    generator = np.random.default_rng(seed)
    syllables = ("a", "e", "i", "o", "u", "ay", "en", "or", "ing", "ed", "at", "us")
    words = [f"{a}{b}{c}" for a in "bcdfghjklmnprstw" for b in syllables for c in syllables]
    tokens = np.floor(len(words) ** generator.random((ROWS, T)) - 1).astype(np.int32)
    rows = Rows(tokens, np.ones_like(tokens, bool), np.arange(ROWS), tuple(map(str, range(ROWS))), "evaluate")

    def sentence() -> str:
        picked = [words[i] for i in generator.integers(0, len(words), 44).tolist()]
        listed = [", ".join(quote((w,)) for w in picked[i : i + 8]) for i in range(0, 24, 8)]
        pairs = ", ".join(quote((a, b)) for a, b in zip(picked[24:34], picked[34:44], strict=True))
        return f"Fires at 9 on {listed[0]}; 6 on {listed[1]}; 3 on {listed[2]}, and on {pairs}."

    return rows, [b" " + w.encode() for w in words], {i: sentence() for i in range(LATENTS)}


def main() -> None:
    rows, table, texts = made(seed=0)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    simulation, failures = simulate_rules(texts, LATENTS, rows, table)
    seconds, after = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    facts = {"latents": LATENTS, "tokens": rows.token_count, "failures": len(failures), "levels": len(simulation.level)}
    print(json.dumps({**facts, "cpu_seconds": round(seconds, 2), "peak_mb_above_start": (after - before) // 1024}))


if __name__ == "__main__":
    main()
