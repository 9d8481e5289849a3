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
from plainspoken.circuits.frozen import Frozen, Latents, freeze
from plainspoken.circuits.neurons import activations, neuron_rows
from plainspoken.circuits.targets import Targets, logit_targets
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

    def read(prompt: tuple[int, ...], wanted: int, other: int) -> dict[int, _Read]:
        text = torch.ones(len(prompt), dtype=torch.bool)
        text[0] = not behaviour.begun
        frozen = freeze(lm, coders, prompt, dtype, text=text)
        row, where = rows(frozen, _target(frozen, wanted, other))[:, 0], columns(frozen)
        return {
            layer: _of_latents(frozen.layers[layer].latents, row[where.layers[layer].latents], n, int(behaviour.begun))
            for layer, n in known.items()
        }

    known = {layer: n for layer, n in sizes.items() if layer is not None}
    return _gathered(behaviour, known, read, progress)


def neuron_contributions(
    lm: LanguageModel,
    layers: Sequence[int],
    behaviour: Behaviour,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int], object] | None = None,
) -> Contributions:
    """Of the neurons of these layers' FFNs: the same measure, with neurons the sources at every layer."""
    of = anatomy(lm)

    def read(prompt: tuple[int, ...], wanted: int, other: int) -> dict[int, _Read]:
        frozen = freeze(lm, {}, prompt, dtype)
        active = activations(frozen)
        found, text = (
            neuron_rows(frozen, _target(frozen, wanted, other), layers, active),
            slice(int(behaviour.begun), None),
        )
        return {
            layer: _Read(
                found[layer][text].double().sum(0), active[layer][text].any(0), active[layer][text].double().sum(0)
            )
            for layer in layers
        }

    return _gathered(behaviour, {layer: len(of.layers[layer].W_out) for layer in layers}, read, progress)


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


@dataclass(frozen=True, eq=False)
class _Read:
    """Of each unit of a layer at one prompt, over its text: what it contributes, whether it fires, its sum."""

    contributes: Float[Tensor, " units"]
    fires: Bool[Tensor, " units"]
    total: Float[Tensor, " units"]


def _of_latents(units: Latents, row: Float[Tensor, " n"], latents: int, first: int) -> _Read:
    text = units.position >= first
    number, zero = units.latent[text], row.new_zeros(latents, dtype=torch.float64)
    return _Read(
        zero.index_add(0, number, row[text].double()),
        zero.bool().index_fill(0, number, True),
        zero.index_add(0, number, units.value[text].double()),
    )


def _gathered(
    behaviour: Behaviour,
    sizes: Mapping[int, int],
    read: Callable[[tuple[int, ...], int, int], Mapping[int, _Read]],
    progress: Callable[[int], object] | None,
) -> Contributions:
    value = {layer: np.zeros((len(behaviour), n)) for layer, n in sizes.items()}
    fires = {layer: np.zeros((len(behaviour), n), bool) for layer, n in sizes.items()}
    total = {layer: np.zeros(n) for layer, n in sizes.items()}
    tokens = sum(len(prompt) - behaviour.begun for prompt in behaviour.prompts)
    for i, prompt in enumerate(behaviour.prompts):
        for layer, found in read(prompt, behaviour.wanted[i], behaviour.other[i]).items():
            value[layer][i] = found.contributes.cpu().numpy()
            fires[layer][i] = found.fires.cpu().numpy()
            total[layer] += found.total.cpu().numpy()
        if progress is not None:
            progress(1)
    return Contributions(value, fires, {layer: torch.from_numpy(each / tokens) for layer, each in total.items()})


def _target(frozen: Frozen, wanted: int, other: int) -> Targets:
    direction = torch.zeros(1, len(frozen.anatomy.W_U), device=frozen.tokens.device)
    direction[0, wanted] += 1
    direction[0, other] -= 1
    return logit_targets(frozen, frozen.t - 1, direction)
