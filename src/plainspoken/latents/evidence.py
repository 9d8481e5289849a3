"""What a simulator said beside what was true, summed up latent by latent and level by level.

Calibrators and scorers need no more than this: for every distinct level that a simulator gave to a latent, how many
tokens had it and the sums of the true activation there. Tokens where neither the simulator nor the coder says anything
are the great majority; they enter by counting, so nothing of size tokens x latents is ever built.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt

from plainspoken.errors import StoreError
from plainspoken.latents.paired import Paired, as_levels
from plainspoken.latents.table import FiringTable
from plainspoken.types import Simulation

# Up to so many distinct levels in all, sums are counted straight into a grid [latents, levels]; beyond, by sorting.
_GRID_LEVELS = 64


@dataclass(frozen=True, eq=False)
class Evidence:
    """Distinct levels of each latent in ascending order; entries pointer[l]:pointer[l+1] belong to latent l.

    The first entry of a latent is always level 0. `weight`: tokens with that level, `weight_square`: the sum of their
    squared weights; `total`, `square`: sums of the true activation and of its square over them; `fired`: how many of
    them truly fire, with `fired_square` as above. `true_value[true_pointer[l]:true_pointer[l+1]]` are the latent's true
    activations above zero in ascending order, with their weights. Weights are 1 unless the tokens were sampled.
    """

    pointer: Int[np.ndarray, " latents_1"]
    level: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    weight_square: Float[np.ndarray, " n"]
    total: Float[np.ndarray, " n"]
    square: Float[np.ndarray, " n"]
    fired: Float[np.ndarray, " n"]
    fired_square: Float[np.ndarray, " n"]
    true_pointer: Int[np.ndarray, " latents_1"]
    true_value: Float[np.ndarray, " m"]
    true_weight: Float[np.ndarray, " m"]
    mean_unseen: Float[np.ndarray, " latents"]
    firing_unseen: Float[np.ndarray, " latents"]

    @property
    def latents(self) -> int:
        """How many latents the evidence is about."""
        return len(self.pointer) - 1

    @property
    def latent(self) -> Int[np.ndarray, " n"]:
        """The latent of every entry."""
        return np.repeat(np.arange(self.latents), np.diff(self.pointer))

    def per_latent(self, quantity: Float[np.ndarray, " n"]) -> Float[np.ndarray, " latents"]:
        """The sum of a quantity of the entries over each latent."""
        return _sums(self.latent, quantity, self.latents)

    @property
    def tokens(self) -> Float[np.ndarray, " latents"]:
        """Weight of all tokens seen for each latent, silent ones included."""
        return self.per_latent(self.weight)

    @property
    def mean(self) -> Float[np.ndarray, " latents"]:
        """Mean true activation over the tokens seen, `mean_unseen` where there are none."""
        tokens = self.tokens
        return np.divide(self.per_latent(self.total), tokens, out=self.mean_unseen.copy(), where=tokens > 0)

    @property
    def largest(self) -> Float[np.ndarray, " latents"]:
        """The largest true activation; 0 for a latent that never fires."""
        return np.append(self.true_value, np.float32(0))[
            np.where(np.diff(self.true_pointer) > 0, self.true_pointer[1:] - 1, -1)
        ]

    def at_firings(self) -> "Evidence":
        """The same where only the tokens at which the latent truly fires are counted."""
        kept = (self.fired > 0) | (self.level == 0)
        fired, squared = self.fired[kept], self.fired_square[kept]
        return Evidence(
            pointer=_pointer(self.latent[kept], self.latents),
            level=self.level[kept],
            weight=fired,
            weight_square=squared,
            total=self.total[kept],
            square=self.square[kept],
            fired=fired,
            fired_square=squared,
            true_pointer=self.true_pointer,
            true_value=self.true_value,
            true_weight=self.true_weight,
            mean_unseen=self.firing_unseen,
            firing_unseen=self.firing_unseen,
        )

    @staticmethod
    def over(simulation: Simulation, table: FiringTable) -> "Evidence":
        """Simulated levels against the true firings of the same rows, every token of the text counting once.

        Tokens that the simulator was not asked about, and those where it gave no answer for a latent, count for
        nothing there: neither what was said nor what was true enters a sum.

        Tokens that were drawn (`Simulation.chance`) weigh 1 / the probability of that. Raises what `Paired.of` raises.
        """
        paired, latents = Paired.of(simulation, table), simulation.latents
        weight = paired.weight
        lost = weight[paired.missing_position]
        tokens = [(weight**power).sum() - _sums(paired.missing_latent, lost**power, latents) for power in (1, 2)]
        return _summarise(
            latents,
            np.stack(tokens),
            _Listed(paired.heard_latent, paired.heard_level, weight[paired.heard_position]),
            _True(paired.true_latent, paired.true_level, paired.true_value, weight[paired.true_position]),
            *_means(table),
        )

    @staticmethod
    def sampled(
        latents: int,
        latent: Int[np.ndarray, " n"],
        level: Float[np.ndarray, " n"],
        true: Float[np.ndarray, " n"],
        probability: Float[np.ndarray, " n"],
    ) -> "Evidence":
        """From a sample of (latent, token) pairs, each drawn with a known probability, which is undone.

        Rare firings can so be drawn often without being believed to be frequent: every pair weighs 1 / probability
        (Horvitz & Thompson 1952), and each sum has the full data's as its expectation. Raises StoreError for a
        probability outside (0, 1], and for a level that is negative or not finite.
        """
        if not ((probability > 0) & (probability <= 1)).all():
            raise StoreError("a sampled pair needs the probability it was drawn with, above 0 and at most 1")
        weight, level = 1.0 / probability.astype(np.float64), as_levels(level)
        heard, fires = level > 0, true > 0
        return _summarise(
            latents,
            np.stack([_sums(latent, power, latents) for power in (weight, weight**2)]),
            _Listed(latent[heard], level[heard], weight[heard]),
            _True(latent[fires], level[fires], true[fires].astype(np.float32), weight[fires]),
            *np.zeros((2, latents)),  # of a latent that was never sampled nothing is known
        )


@dataclass(frozen=True, eq=False)
class _Listed:
    """Levels above zero, entry by entry."""

    latent: Int[np.ndarray, " n"]
    level: Float[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class _True:
    """True activations above zero, entry by entry, with the level at the same token."""

    latent: Int[np.ndarray, " m"]
    level: Float[np.ndarray, " m"]
    value: Float[np.ndarray, " m"]
    weight: Float[np.ndarray, " m"]


def level_keys(latent: Int[np.ndarray, "*n"], level: Float[np.ndarray, "*n"]) -> UInt[np.ndarray, "*n"]:
    """Integers that sort as (latent, level) pairs do: the bits of a float that is not negative ascend with it."""
    bits = np.ascontiguousarray(level, np.float32).view(np.uint32)
    return (np.asarray(latent).astype(np.uint64) << np.uint64(32)) | bits


def _means(table: FiringTable) -> tuple[Float[np.ndarray, " latents"], Float[np.ndarray, " latents"]]:
    """Each latent's mean activation over all the text of the table, and over its firings (0 where it has none)."""
    latent = np.repeat(np.arange(table.latents), np.diff(table.pointer))
    total, firings = _sums(latent, np.asarray(table.value, np.float32), table.latents), np.diff(table.pointer)
    return total / max(table.rows.token_count, 1), total / np.maximum(firings, 1)


def _summarise(
    latents: int,
    tokens: Float[np.ndarray, "2 latents"],
    heard: _Listed,
    true: _True,
    mean_unseen: Float[np.ndarray, " latents"],
    firing_unseen: Float[np.ndarray, " latents"],
) -> Evidence:
    """`tokens`: the weight of all tokens of each latent, and the sum of their squared weights."""
    keys, weights, at = _levels_given(latents, heard, true)
    latent = (keys >> np.uint64(32)).astype(np.int64)
    level = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32)
    for weight, whole in zip(weights, tokens, strict=True):
        # What the simulator does not list is level 0: it is counted, never written down. Rounding may leave a hair.
        weight[level == 0] = np.maximum(whole - _sums(latent, weight, latents), 0.0)
    value = true.value.astype(np.float64)
    sums = [_sums(at, true.weight * power, len(keys)) for power in (value, value**2, value**0, true.weight)]
    order = np.argsort(level_keys(true.latent, true.value))
    return Evidence(
        pointer=_pointer(latent, latents),
        level=level,
        weight=weights[0],
        weight_square=weights[1],
        total=sums[0],
        square=sums[1],
        fired=sums[2],
        fired_square=sums[3],
        true_pointer=_pointer(true.latent, latents),
        true_value=true.value[order],
        true_weight=true.weight[order],
        mean_unseen=mean_unseen,
        firing_unseen=firing_unseen,
    )


def _levels_given(latents: int, heard: _Listed, true: _True) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """(keys of the distinct levels of each latent, the sums of their weights and of the squares, where each truth
    falls); level 0 stands among the keys, its sums left at nought."""
    powers = [heard.weight, heard.weight**2]
    distinct = np.unique(heard.level)
    if len(distinct) < _GRID_LEVELS:
        grid = np.concatenate([np.zeros(1, np.float32), distinct])
        width = len(grid)
        cell = heard.latent.astype(np.int64) * width + np.searchsorted(grid, heard.level)
        sums = [_sums(cell, power, latents * width) for power in powers]
        used = sums[0] > 0
        used[::width] = True
        keys = level_keys(np.repeat(np.arange(latents), width), np.tile(grid, latents))
        at = true.latent.astype(np.int64) * width + np.searchsorted(grid, true.level)
        return keys[used], [total[used] for total in sums], (np.cumsum(used) - 1)[at]
    keys = level_keys(heard.latent, heard.level)
    order = np.argsort(keys)
    given, start = np.unique(keys[order], return_index=True)
    silent = level_keys(np.arange(latents), np.zeros(latents, np.float32))
    merged = np.concatenate([silent, given])
    ascending = np.argsort(merged)
    sums = [np.concatenate([np.zeros(latents), np.add.reduceat(power[order], start)])[ascending] for power in powers]
    keys = merged[ascending]
    return keys, sums, np.searchsorted(keys, level_keys(true.latent, true.level))


def _sums(at: Int[np.ndarray, " n"], quantity: Float[np.ndarray, " n"], size: int) -> Float[np.ndarray, " size"]:
    # bincount of nothing gives integers, weights or no weights.
    return np.bincount(at, quantity, minlength=size).astype(np.float64, copy=False)


def _pointer(latent: Int[np.ndarray, " n"], latents: int) -> Int[np.ndarray, " latents_1"]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(latent, minlength=latents))])
