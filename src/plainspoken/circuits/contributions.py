"""What latents, or neurons, contribute to a behaviour: by prompt, through the model frozen there.

A unit's contribution is the sum over the tokens at which it fires. It includes what passes through heads and skips, and
ends at the next unit: contributions of units in different layers are not shares of one another. A BOS token is left
out, since no coder is read there; neurons are left out there too, so that the two can be compared.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from plainspoken.circuits.adjoint import columns, rows
from plainspoken.circuits.behaviour import Behaviour
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.neurons import with_neurons
from plainspoken.circuits.targets import logit_targets
from plainspoken.coders import Coder
from plainspoken.lm import LanguageModel
from plainspoken.lm.anatomy import anatomy
from plainspoken.types import Site

Unit = tuple[int, int]
"""(layer, number of a latent or a neuron)."""


@dataclass(frozen=True, eq=False)
class Contributions:
    """By layer: what each unit contributes at each prompt, at which it fires, and its mean over all tokens of text."""

    value: Mapping[int, Float[np.ndarray, "prompts units"]]
    fires: Mapping[int, Bool[np.ndarray, "prompts units"]]
    mean: Mapping[int, Float[Tensor, " units"]]

    def of(self, unit: Unit) -> Float[np.ndarray, " prompts"]:
        """What one unit contributes at each prompt."""
        layer, number = unit
        return self.value[layer][:, number]

    def strongest(self) -> list[Unit]:
        """All units that fire in any prompt, by the mean over prompts of the size of their contribution.

        By size, whatever the sign: what speaks against the behaviour is part of its circuit.
        """
        found = []
        for layer, value in self.value.items():
            size = np.abs(value).mean(axis=0)
            found += [(-float(size[i]), layer, int(i)) for i in np.flatnonzero(self.fires[layer].any(axis=0))]
        return [(layer, number) for _, layer, number in sorted(found)]

    def everything(self) -> list[Unit]:
        """All units, those that fire in no prompt last."""
        firing = self.strongest()
        known = set(firing)
        units = ((layer, i) for layer, value in sorted(self.value.items()) for i in range(value.shape[1]))
        return firing + [unit for unit in units if unit not in known]


def latent_contributions(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    behaviour: Behaviour,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> Contributions:
    """Of the latents of all coders. `progress` is told of prompts done. Raises as `freeze` does."""
    of = anatomy(lm)
    sizes = {of.layer_of(site.module): coder.spec.latents for site, coder in coders.items()}

    def frozen_at(prompt: tuple[int, ...]) -> Frozen:
        text = torch.ones(len(prompt), dtype=torch.bool)
        text[0] = not behaviour.begun
        return freeze(lm, coders, prompt, dtype, text=text)

    return _gathered(behaviour, {k: n for k, n in sizes.items() if k is not None}, frozen_at, progress)


def neuron_contributions(
    lm: LanguageModel,
    layers: Sequence[int],
    behaviour: Behaviour,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> Contributions:
    """Of the neurons of these layers' FFNs: the same measure, with neurons the sources at every layer."""
    of = anatomy(lm)
    sizes = {layer: len(of.layers[layer].W_out) for layer in layers}
    return _gathered(behaviour, sizes, lambda prompt: with_neurons(freeze(lm, {}, prompt, dtype)), progress)


@dataclass(frozen=True, eq=False)
class Found:
    """What latents and neurons contribute, at the prompts on which the circuit is found."""

    latents: Contributions
    neurons: Contributions


def find(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    behaviour: Behaviour,
    progress: Callable[[int], object] | None = None,
) -> Found:
    """`progress` is told of prompts done, of twice their number. Raises as `freeze` does."""
    of = anatomy(lm)
    layers = sorted(layer for site in coders if (layer := of.layer_of(site.module)) is not None)
    return Found(
        latent_contributions(lm, coders, behaviour, progress=progress),
        neuron_contributions(lm, layers, behaviour, progress=progress),
    )


def _gathered(
    behaviour: Behaviour,
    sizes: Mapping[int, int],
    frozen_at: Callable[[tuple[int, ...]], Frozen],
    progress: Callable[[int], object] | None,
) -> Contributions:
    value = {layer: np.zeros((len(behaviour), n)) for layer, n in sizes.items()}
    fires = {layer: np.zeros((len(behaviour), n), bool) for layer, n in sizes.items()}
    total = {layer: np.zeros(n) for layer, n in sizes.items()}
    tokens = sum(len(prompt) - behaviour.begun for prompt in behaviour.prompts)
    for i, prompt in enumerate(behaviour.prompts):
        frozen = frozen_at(prompt)
        row, where = _row(frozen, behaviour.wanted[i], behaviour.other[i]), columns(frozen)
        for layer in sizes:
            units = frozen.layers[layer].latents
            text = units.position >= int(behaviour.begun)
            number = units.latent[text].cpu().numpy()
            np.add.at(value[layer][i], number, row[where.layers[layer].latents][text].double().cpu().numpy())
            np.add.at(total[layer], number, units.value[text].double().cpu().numpy())
            fires[layer][i, number] = True
        if progress is not None:
            progress(1)
    return Contributions(value, fires, {layer: torch.from_numpy(each / tokens) for layer, each in total.items()})


def _row(frozen: Frozen, wanted: int, other: int) -> Float[Tensor, " columns"]:
    direction = torch.zeros(1, len(frozen.anatomy.W_U), device=frozen.tokens.device)
    direction[0, wanted] += 1
    direction[0, other] -= 1
    return rows(frozen, logit_targets(frozen, frozen.t - 1, direction))[:, 0]
