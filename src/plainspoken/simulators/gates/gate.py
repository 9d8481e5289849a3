"""The gate: which (token, latent) pairs are worth asking about, so that hardly any true firing is dropped.

Foresight gives every pair a step; a pair passes where its step reaches the latent's threshold. Thresholds are chosen on
the firings of one half of the calibrate documents, and what they drop is measured on the other half. The documents that
choose also fit the calibration. That is no leak of evaluate documents, of whose activations nothing is seen here or
there; but to have chosen by a firing makes it likelier to pass, so that what is dropped is told of the other half only.

Where that half shows less kept than was asked for, the gate is not used: the thresholds are chosen anew, for less loss,
until it shows enough, at the last by everything passing. What is then told of the gate that is used is a little
flattered, for a gate that happened to do better there was taken for one that happened to do worse; so it is told how
often that was done (`Gate.tightened`, five times at most). Where nothing fires in that half, nothing shows what a gate
loses, and everything passes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from plainspoken.corpus.rows import require_part
from plainspoken.corpus.split import hash_order
from plainspoken.language.text import Text
from plainspoken.latents.table import FiringTable
from plainspoken.simulators.gates.foresight import Foresight
from plainspoken.simulators.gates.thresholds import Tally, ladder
from plainspoken.types import Pairs, Rows

_AT_ONCE = 2**20  # pairs laid out at a time: few enough to stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Kept:
    """Of each document that measures, the true firings and their mass, and how much of both the gate keeps.

    `mass`: activation times the norm of the decoder row.
    """

    keys: tuple[str, ...]
    firings: Float[np.ndarray, " documents"]
    mass: Float[np.ndarray, " documents"]
    firings_kept: Float[np.ndarray, " documents"]
    mass_kept: Float[np.ndarray, " documents"]

    @property
    def recall(self) -> float | None:
        """The share of the firings that is kept; None where there are none."""
        return _share(self.firings_kept, self.firings)

    @property
    def mass_recall(self) -> float | None:
        """The share of their mass that is kept; None where there is none."""
        return _share(self.mass_kept, self.mass)

    def meets(self, target: float) -> bool:
        """Whether both shares are known and at least `target`."""
        return all(share is not None and share >= target for share in (self.recall, self.mass_recall))


def _share(kept: Float[np.ndarray, " documents"], whole: Float[np.ndarray, " documents"]) -> float | None:
    total = float(whole.sum())
    return float(kept.sum()) / total if total > 0 else None


@dataclass(frozen=True, eq=False)
class Gate:
    """A latent passes where its step is at least `threshold`: at 0 everywhere, as one whose firings are not foreseen.

    `spoken`: the latents that have a sentence; the others are not asked about. `chosen_by`: how many documents the
    thresholds were chosen on. `kept`: what became of the true firings in the others. `tightened`: how many gates were
    chosen before this one and not used, because those others did not show them to keep enough.
    """

    foresight: Foresight
    threshold: Int[np.ndarray, " latents"]
    spoken: Bool[np.ndarray, " latents"]
    chosen_by: int
    kept: Kept
    tightened: int = 0

    @property
    def open(self) -> int:
        """How many latents pass everywhere."""
        return int((self.spoken & (self.threshold == 0)).sum())

    def passed(self, text: Text, asked: Bool[np.ndarray, "row t"] | None) -> Pairs:
        """The pairs to ask about, of the tokens that are asked about at all (None: every token)."""
        mask = text.rows.mask if asked is None else text.rows.mask & asked
        found = list(self._passing(text, np.flatnonzero(mask)))
        empty = np.zeros(0, np.int32)
        return Pairs(
            *(np.concatenate([empty, *column]) for column in (zip(*found, strict=True) if found else ((), ())))
        )

    def _passing(self, text: Text, where: Int[np.ndarray, " p"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        judge = self.foresight.over(text)
        lines = np.concatenate([np.full((1, len(self.threshold)), -np.inf, np.float32), self.foresight.cuts])
        line = np.where(self.spoken, lines[self.threshold, np.arange(len(self.threshold))], np.inf)
        for position in _chunks(where, len(self.threshold)):
            at, latent = np.nonzero(judge(position) >= line)
            yield position[at], latent.astype(np.int32)


def fit_gate(
    foresight: Foresight,
    text: Text,
    table: FiringTable,
    norm: Float[np.ndarray, " latents"],
    spoken: Bool[np.ndarray, " latents"],
    target: float,
    seed: int,
) -> Gate:
    """Choose the thresholds so that at least `target` of the firings, and of their mass, are kept, and are seen to be.

    text, table: the calibrate rows and the true firings over all of their tokens, whichever are asked about. `norm`: of
    each decoder row. `spoken`: the latents that have a sentence; the others count for nothing here.
    Raises LeakError for rows of another part.
    """
    require_part(table.rows, "calibrate")
    share = document_shares(table.rows, seed)
    latent, document, step, value = firing_steps(foresight, text, table)
    mine = spoken[latent]
    latent, document, step, mass = latent[mine], document[mine], step[mine], (value * norm[latent])[mine]
    size = (table.latents, foresight.most + 1)
    folds = [
        Tally.of(latent[chosen], step[chosen], mass[chosen], *size) for chosen in (share[document] == i for i in (0, 1))
    ]
    measures = np.flatnonzero(share == 2)

    def sums(weight: Float[np.ndarray, " n"]) -> Float[np.ndarray, " documents"]:
        return np.bincount(document, weights=weight, minlength=len(share))[measures]

    def kept_by(threshold: Int[np.ndarray, " latents"]) -> Kept:
        keys, kept = tuple(table.rows.keys[i] for i in measures), step >= threshold[latent]
        return Kept(keys, sums(np.ones(len(latent))), sums(mass), sums(1.0 * kept), sums(mass * kept))

    rungs = list(ladder(folds[0], folds[1], foresight.readable & spoken, target))
    # The last passes everything; where nothing can be measured it is the only one that loses nothing for sure.
    used = next((i for i, rung in enumerate(rungs) if kept_by(rung).meets(target)), len(rungs) - 1)
    return Gate(foresight, rungs[used], spoken, int((share < 2).sum()), kept_by(rungs[used]), used)


def document_shares(rows: Rows, seed: int) -> Int[np.ndarray, " documents"]:
    """Half of the documents measure (2); the others choose, in two folds (0, 1). By the hash of their keys.

    Documents of which no row is here are of no share (3).
    """
    present = np.unique(rows.document)
    order = sorted(present.tolist(), key=lambda i: hash_order(f"gate {rows.keys[i]}", seed))
    share = np.full(len(rows.keys), 3)
    share[order] = np.resize([2, 0, 2, 1], len(order))
    return share


def firing_steps(
    foresight: Foresight, text: Text, table: FiringTable
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """(latent, document, step, activation) of every true firing at a token of the text."""
    judge, rows = foresight.over(text), table.rows
    latent = np.repeat(np.arange(table.latents), np.diff(table.pointer))
    position, value = np.asarray(table.position, np.int64), np.asarray(table.value, np.float64)
    order = np.argsort(position, kind="stable")
    order = order[rows.mask.ravel()[position[order]]]
    latent, position, value = latent[order], position[order], value[order]
    step = np.zeros(len(latent), np.int64)
    for where in _chunks(np.unique(position), table.latents):
        some = slice(*np.searchsorted(position, [where[0], where[-1] + 1]))
        here = judge(where)[np.searchsorted(where, position[some]), latent[some]]
        for cut in foresight.cuts:
            step[some] += here >= cut[latent[some]]
    step[~foresight.readable[latent]] = 0
    return latent, rows.document[position // rows.tokens.shape[1]].astype(np.int64), step, value


def _chunks(where: Int[np.ndarray, " p"], latents: int) -> Iterator[Int[np.ndarray, " some"]]:
    many = max(1, _AT_ONCE // max(1, latents))
    for first in range(0, len(where), many):
        yield where[first : first + many]
