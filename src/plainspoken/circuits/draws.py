"""Random units to hold a circuit against: of the same layers, and firing as those of the circuit do."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool

from plainspoken.circuits.contributions import Unit

NEAREST = 10
"""Of how many units, nearest in how many prompts they fire, one is drawn."""


def random_units(
    fires: Mapping[int, Bool[np.ndarray, "prompts units"]], like: Sequence[Unit], generator: np.random.Generator
) -> list[Unit]:
    """For each of these another of its layer, none of them among these, that fires in about as many of the prompts.

    One of the `NEAREST` by the number of prompts, equally near ones in random order, drawn without replacement; units
    that never fire are none to draw from. There are fewer than asked for where a layer has no more that fire.
    """
    taken, found = set(like), []
    for layer, number in like:
        often = fires[layer].sum(axis=0)
        order = np.lexsort((generator.random(len(often)), np.abs(often - often[number])))
        near = [(layer, int(i)) for i in order if often[i] and (layer, int(i)) not in taken][:NEAREST]
        if near:
            found.append(near[int(generator.integers(len(near)))])
            taken.add(found[-1])
    return found


def random_order(order: Sequence[Unit], generator: np.random.Generator) -> list[Unit]:
    """The same units in an order in which every beginning has as many of each layer as the given order has there."""
    by_layer: dict[int, list[int]] = {}
    for layer, number in order:
        by_layer.setdefault(layer, []).append(number)
    drawn = {layer: iter(generator.permutation(numbers).tolist()) for layer, numbers in sorted(by_layer.items())}
    return [(layer, next(drawn[layer])) for layer, _ in order]
