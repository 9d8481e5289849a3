"""What a simulator said beside what was true, pair by pair, wherever either of them is not silent."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from plainspoken.errors import RunError, StoreError
from plainspoken.latents.table import FiringTable
from plainspoken.types import Simulation


@dataclass(frozen=True, eq=False)
class Paired:
    """(latent, token) pairs of a simulation and of the firings of the same rows.

    `weight[position]`: what a token of the rows (row * t + column) counts for: 0 outside the text and where the
    simulator was not asked, 1 / the probability of being drawn where tokens were drawn (Horvitz & Thompson 1952: every
    sum then has that over all tokens as its expectation), else 1. `heard_*`: the levels above 0; `true_*`: the true
    activations above 0, with the level at the same token. Pairs without an answer (`missing_*`) stand in neither, and
    the token counts for nothing there; at all other pairs both are silent.
    """

    latents: int
    weight: Float[np.ndarray, " positions"]
    heard_position: Int[np.ndarray, " n"]
    heard_latent: Int[np.ndarray, " n"]
    heard_level: Float[np.ndarray, " n"]
    true_position: Int[np.ndarray, " m"]
    true_latent: Int[np.ndarray, " m"]
    true_value: Float[np.ndarray, " m"]
    true_level: Float[np.ndarray, " m"]
    missing_position: Int[np.ndarray, " k"]
    missing_latent: Int[np.ndarray, " k"]

    @staticmethod
    def of(simulation: Simulation, table: FiringTable) -> "Paired":
        """Raises RunError where the two are over different rows or numbers of latents, StoreError for a level that is
        negative or not finite."""
        _require_same_rows(simulation, table)
        latents, weight = simulation.latents, _weights(simulation, table)
        level = as_levels(simulation.level)
        keep = (level > 0) & (weight[simulation.position] > 0)
        position, latent, level = simulation.position[keep], simulation.latent[keep], level[keep]
        true_latent = np.repeat(np.arange(latents), np.diff(table.pointer))
        true_position, value = np.asarray(table.position, np.int64), np.asarray(table.value, np.float32)
        missing = simulation.missing_position.astype(np.int64) * latents + simulation.missing_latent
        seen = (weight[true_position] > 0) & ~np.isin(true_position * latents + true_latent, missing)
        true_position, true_latent, value = true_position[seen], true_latent[seen], value[seen]
        # The simulation's own order ascends, so the level at a firing is found by bisection; bisecting for the firings
        # in the same order keeps to the cache, and is several times faster.
        keys = np.append(position.astype(np.int64) * latents + latent, -1)
        wanted = true_position * latents + true_latent
        order = np.argsort(wanted)
        found = np.empty_like(wanted)
        found[order] = np.searchsorted(keys[:-1], wanted[order])
        at_firing = np.where(keys[found] == wanted, np.append(level, np.float32(0))[found], np.float32(0))
        return Paired(
            latents, weight, position, latent, level, true_position, true_latent, value, at_firing,
            simulation.missing_position, simulation.missing_latent,
        )  # fmt: skip


def as_levels(level: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Levels as float32. Raises StoreError for one that is negative or not finite."""
    level = np.asarray(level, np.float32)
    if len(level) and not (np.isfinite(level).all() and level.min() >= 0):
        raise StoreError(
            "a simulation holds a level that is negative or not a number, where levels are 0 to 9; redo it with "
            "--force simulate"
        )
    return level


def _require_same_rows(simulation: Simulation, table: FiringTable) -> None:
    if simulation.rows_fingerprint != table.rows.fingerprint:
        raise RunError("the simulation is over other rows than the firing table; redo it with --force simulate")
    if simulation.latents != table.latents:
        raise RunError(
            f"the simulation has {simulation.latents} latents, the firing table {table.latents}: they are of different "
            "coders; redo both with --force encode"
        )


def _weights(simulation: Simulation, table: FiringTable) -> Float[np.ndarray, " positions"]:
    mask = table.rows.mask
    weight = (mask if simulation.asked is None else mask & simulation.asked).astype(np.float64)
    return (weight if simulation.chance is None else weight / simulation.chance[:, None]).ravel()
