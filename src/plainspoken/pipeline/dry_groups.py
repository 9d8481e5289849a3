"""The random groups of latents and rows that a dry run sends through the stages' own code.

Each group is a sample of the whole, without the others' rows or explained latents where there are enough of them:
counts times `Group.scale` estimate the whole without bias, and the spread between groups tells how well.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice

import numpy as np
from jaxtyping import Int

from plainspoken.pipeline import explanations
from plainspoken.pipeline.gating import gated, site_gate
from plainspoken.pipeline.shelves import (
    SHARES,
    latents_of,
    load_rows,
    load_statistics,
    load_table,
    scoring_rows,
    simulated_rows,
)
from plainspoken.pipeline.speech import explain_these, latents_to_explain, simulate_latents, tokens_asked
from plainspoken.pipeline.stage import Unit
from plainspoken.pipeline.stages.score import opened_scorer
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers import Windows, scorer_named
from plainspoken.simulators.gates import Gate
from plainspoken.types import Rows

GROUPS = 6
EXPLAINED, SCORED = 4, 4
"""Latents of a group that are explained, or scored."""
SIMULATED, ROWS = 64, 2
"""Latents and rows of a group that are simulated: latents enough to fill prompts that hold many."""
_SENTENCE = "Words that follow a number or a name in brackets, most of all where a list of things to do goes on, and"
_SEED = 0xD41


@dataclass(frozen=True)
class Group:
    """`ask` asks about a sample; `scale`: how many times as much the whole is."""

    scale: float
    ask: Callable[[], object]


def placeholder(words: int, latent: int | None = None) -> str:
    """What stands for a sentence that is not written yet; each latent has another: equal questions are asked once."""
    found = list(islice(cycle(_SENTENCE.split()), words))
    return " ".join(found if latent is None else [str(latent), *found[1:]])


def explain_groups(workplace: Workplace, module: str) -> Iterator[Iterator[Group]]:
    """Latents, each with all of the explain part."""
    config = workplace.config
    table = load_table(workplace, module, load_rows(workplace, "explain"))
    _, weight = load_statistics(workplace, module, "explain")
    chosen = latents_to_explain(table, config.explain.latents, config.seed)

    def groups() -> Iterator[Group]:
        budget = (config.explain.words, config.explain.words_max)
        for some in _parted(chosen, EXPLAINED, config.seed):
            ask = partial(explain_these, workplace, module, table.only(some), weight, *budget)
            yield Group(len(chosen) / len(some), ask)

    yield groups()


def score_groups(workplace: Workplace, module: str) -> Iterator[Iterator[Group]]:
    """Latents, by each scorer that asks a language model; the control is so many latents more."""
    config = workplace.config.score
    texts = sentences(workplace, module)
    scored = min(config.latents or len(texts), len(texts))
    control = min(config.control_latents or scored, scored) if config.control and scored > 1 else 0
    table = load_table(workplace, module, scoring_rows(workplace))
    windows = Windows(table, config.per_decile, config.silent, config.window, workplace.config.seed)

    def groups(name: str) -> Iterator[Group]:
        score = opened_scorer(workplace, name)
        for some in _parted(np.array(sorted(texts)), SCORED, workplace.config.seed):
            told = {int(latent): texts[int(latent)] for latent in some}
            ask = partial(score, told, windows, workplace.lm.pieces.table, None)
            yield Group((scored + control) / len(some), ask)

    for name in config.scorers:
        if scorer_named(name).needs == "llm" and texts:
            yield groups(name)


def simulate_groups(workplace: Workplace, module: str) -> Iterator[Iterator[Group]]:
    """Latents and rows, of each share that is simulated; what passes the gate, once it can be told."""
    texts, latents = sentences(workplace, module), latents_of(workplace, module)
    gate = site_gate(workplace, module, texts) if are_written(workplace, module) else None
    for rows in (simulated_rows(workplace, share) for share in SHARES):
        if texts:
            yield _simulated(workplace, texts, latents, rows, gate)


def unscored_share(workplace: Workplace) -> float:
    """Of the tokens that the simulator is asked about, the share that is not there to score by."""
    tokens = dict[str, int]()
    for share in SHARES:
        rows = simulated_rows(workplace, share)
        asked = tokens_asked(workplace, rows)
        tokens[share] = int((rows.mask if asked is None else asked & rows.mask).sum())
    whole = sum(tokens.values())
    return 1.0 - tokens["scoring"] / whole if whole else 1.0


WAYS: Mapping[str, Callable[[Workplace, str], Iterator[Iterator[Group]]]] = {
    "explain": explain_groups,
    "score": score_groups,
    "simulate": simulate_groups,
}
"""By stage: what estimates it at a site, in parts that are added up."""


def are_written(workplace: Workplace, module: str) -> bool:
    """Whether the site has its explanations; a gate has nothing to go by before."""
    return workplace.folder(Unit("explain", module)).manifest() is not None


def sentences(workplace: Workplace, module: str) -> dict[int, str]:
    """The explanations by latent; before there are any, a placeholder for each latent that will be explained."""
    config = workplace.config
    if are_written(workplace, module):
        written = explanations.read_explanations(workplace.path("explain", module), latents_of(workplace, module))
        return {latent: explanation.text for latent, explanation in written.items()}
    table = load_table(workplace, module, load_rows(workplace, "explain"))
    words = min(config.explain.words, config.explain.words_max)
    chosen = latents_to_explain(table, config.explain.latents, config.seed)
    return {int(latent): placeholder(words, int(latent)) for latent in chosen}


def _simulated(
    workplace: Workplace, texts: Mapping[int, str], latents: int, rows: Rows, gate: Gate | None
) -> Iterator[Group]:
    asked = tokens_asked(workplace, rows)
    those = np.flatnonzero((rows.mask if asked is None else asked).any(axis=1))
    known = np.array(sorted(texts))
    generator = np.random.default_rng([workplace.config.seed, _SEED])
    for some in _parted(those, ROWS, workplace.config.seed):
        drawn = generator.choice(known, min(SIMULATED, len(known)), replace=False)
        told = {int(latent): texts[int(latent)] for latent in sorted(drawn)}
        scale = len(known) / len(drawn) * len(those) / len(some)
        label = f"estimating the {rows.part} part"
        these = _among(rows, some)
        only = None if gate is None else gated(workplace, gate, these)
        yield Group(scale, partial(simulate_latents, workplace, told, latents, these, label, only))


def _parted(things: Int[np.ndarray, " n"], size: int, seed: int) -> Iterator[Int[np.ndarray, " some"]]:
    """Some groups of this size, none with a thing of another's; all things as one group where there are few."""
    count = min(GROUPS, len(things) // size)
    if count < 2:
        yield from [things] if len(things) else []
        return
    order = np.random.default_rng([seed, _SEED]).permutation(things)
    yield from (np.sort(order[i * size : (i + 1) * size]) for i in range(count))


def _among(rows: Rows, some: Int[np.ndarray, " some"]) -> Rows:
    """These rows alone."""
    return Rows(rows.tokens[some], rows.mask[some], rows.document[some], rows.keys, rows.part)
