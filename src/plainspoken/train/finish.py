"""A finishing phase: the coder spliced into the model, trained on what the model then predicts.

FVU asks for every direction of the output alike; the model does not use them alike. A short phase at the end on FVU and
KL(original || spliced), the two weighted so that they are equally large, takes a good part of the coder's loss away
(Karvonen 2025, arXiv 2503.17272).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import kl_div

from plainspoken.activations.masks import NormLimits, norms
from plainspoken.activations.order import EpochOrder
from plainspoken.activations.stream import read_rows
from plainspoken.coders import Units
from plainspoken.config import TrainConfig
from plainspoken.corpus import require_part
from plainspoken.lm import LanguageModel, splice
from plainspoken.train.batches import in_units
from plainspoken.train.checkpoint import Run
from plainspoken.train.schedule import Schedule
from plainspoken.train.step import Recipe, move, terms_of
from plainspoken.types import Rows, Site

LOGITS = 2**26
"""256 MiB in float32; KL and its gradient hold a handful of arrays of that size."""


@dataclass(frozen=True, eq=False)
class FinishText:
    """What a finishing phase runs the model on: the fit rows. Raises LeakError for others."""

    lm: LanguageModel
    sites: Mapping[str, Site]
    rows: Rows
    logits: int = LOGITS
    """So many logits are computed at a time, at most, but for those of one row: a step's rows take turns."""

    def __post_init__(self) -> None:
        require_part(self.rows, "fit")

    def rows_per_step(self, config: TrainConfig) -> int:
        """Rows with about as many tokens as a batch of the training before."""
        return max(1, round(config.batch * len(self.rows.tokens) / self.rows.token_count))

    def steps(self, config: TrainConfig) -> int:
        """Until `finish_tokens` tokens have been seen, in the mean over the rows."""
        if not config.finish_tokens:
            return 0
        per_row = self.rows.token_count / len(self.rows.tokens)
        return math.ceil(config.finish_tokens / (self.rows_per_step(config) * per_row))

    def tokens_in(self, rows: Int[Tensor, " rows"]) -> int:
        """Tokens of text in these rows."""
        return int(self.rows.mask[rows.numpy()].sum())

    def tokens_before(self, step: int, config: TrainConfig, seed: int) -> int:
        """Tokens of text in the rows of all steps before this one: they follow from the seed."""
        return sum(self.tokens_in(rows) for rows in islice(batches(self, config, seed, 0), step))


def finish_schedule(config: TrainConfig, peak: float, steps: int) -> Schedule:
    """From `finish_lr_scale` peaks linearly to zero."""
    return Schedule(max(1, steps), peak * config.finish_lr_scale, 0, 1.0)


def batches(text: FinishText, config: TrainConfig, seed: int, first: int) -> Iterator[Int[Tensor, " rows"]]:
    """The rows of step `first`, of the next, and so on without end: an order that follows from the seed alone."""
    order, n = EpochOrder(len(text.rows.tokens), seed), text.rows_per_step(config)
    while True:
        yield order.between(first * n, (first + 1) * n)
        first += 1


@dataclass(frozen=True, eq=False)
class Finishing:
    """A finishing phase of one site: what is read, where, in which units, and how steps are taken."""

    text: FinishText
    site: Site
    units: Units
    limits: NormLimits
    recipe: Recipe


def finish_step(run: Run, phase: Finishing, rows: Int[Tensor, " rows"], rate: float) -> None:
    """One step on whole rows, of which each process takes its share, which may be none.

    The loss is that of training plus KL * (FVU / KL), the quotient taken as a constant. KL is the mean over the tokens
    of the text that are predicted, in nats. Vectors above the limits are not trained on here either: the model keeps
    its own output at them.

    The coder is run on all of the share at once, the model on a few rows after one another (`divergence`); what they
    say of the coder's output goes back through the coder together. So the step is the same however few they are, of a
    coder as well whose latents compete across the batch.
    """
    units, processes = phase.units, phase.recipe.processes
    mine = rows[processes.rank :: processes.world].numpy()
    tokens = torch.from_numpy(phase.text.rows.tokens[mine]).long().to(phase.text.lm.device)
    mask = torch.from_numpy(phase.text.rows.mask[mine]).to(phase.text.lm.device)
    predicted = max(1, processes.count(int(mask[:, 1:].sum()), tokens.device))
    x, y, place = _vectors(phase, mine, mask, run.coder.W_enc.dtype)
    found, count = terms_of(run, *in_units(units, x, y, run.coder.W_enc.device), phase.recipe)
    output = found.output.detach() * units.y_scale + units.y_mean.to(found.output.device)
    distance, to_output = divergence(phase, tokens, mask, place, output)
    kl = distance / predicted
    sums = torch.stack([found.fvu, kl])
    processes.add(sums)
    # Where the model does not notice the splice, KL is rounding, and so may be its sign.
    weight = float(sums[0] / sums[1].clamp(min=LEAST_KL))
    run.optimizer.zero_grad()
    through = to_output * (weight * units.y_scale / predicted)
    torch.autograd.backward([found.total, found.output], [torch.ones_like(found.total), through])
    move(run, found, count, phase.recipe, rate, kl)


LEAST_KL = 1e-6
"""Nats a token below which KL weighs no more."""


def _vectors(
    phase: Finishing, mine: Int[np.ndarray, " b"], mask: Bool[Tensor, "b t"], dtype: torch.dtype
) -> tuple[Float[Tensor, "n d_in"], Float[Tensor, "n d_out"], Bool[Tensor, "b t"]]:
    """(x, y) at the tokens of these rows where neither is above the limits, and which tokens these are."""
    if not len(mine):
        x, y = (torch.zeros(0, d, dtype=dtype, device=mask.device) for d in (phase.site.d_in, phase.site.d_out))
        return x, x if phase.site.kind == "resid" else y, mask
    [(x, y)] = read_rows(phase.text.lm, [phase.site], phase.text.rows, mine).values()
    own_x = x[mask].to(dtype)
    own_y = own_x if y is x else y[mask].to(dtype)
    kept = phase.limits.kept(*norms(own_x, own_y))
    x_kept = own_x[kept]
    return x_kept, x_kept if own_y is own_x else own_y[kept], mask.masked_scatter(mask, kept)


def divergence(
    phase: Finishing,
    tokens: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    place: Bool[Tensor, "b t"],
    output: Float[Tensor, "n d_out"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "n d_out"]]:
    """KL(original || spliced), summed over the tokens that are predicted, and its gradient to the coder's output.

    `output`: what stands in the place of the site's own at the n tokens of `place`. The model is run on as many rows
    at a time as `text.logits` allows, but at least on one.
    """
    lm, some = phase.text.lm, max(1, phase.text.logits // (tokens.shape[1] * phase.text.lm.vocabulary))
    total, gradient, start = output.new_zeros(()), torch.zeros_like(output), 0
    for first in range(0, len(tokens), some):
        few = slice(first, first + some)
        here = slice(start, start + int(place[few].sum()))
        start = here.stop
        if here.start == here.stop:  # nothing is spliced: nothing changes
            continue
        part, where = output[here].clone().requires_grad_(), place[few][..., None]

        def spliced(
            x: Float[Tensor, "b t d_in"],
            y: Float[Tensor, "b t d_out"],
            part: Float[Tensor, "m d_out"] = part,
            where: Bool[Tensor, "b t 1"] = where,
        ) -> Float[Tensor, "b t d_out"]:
            return y.masked_scatter(where, part.to(y))

        with torch.no_grad():
            wanted = predictions(lm, tokens[few], mask[few])
        with splice(lm, {phase.site: spliced}):
            distance = kl_div(predictions(lm, tokens[few], mask[few]), wanted, reduction="sum", log_target=True)
        gradient[here] = torch.autograd.grad(distance, part)[0]
        total += distance.detach()
    return total, gradient


def predictions(
    lm: LanguageModel, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "n vocabulary"]:
    """Log-probabilities where the next token is one of the text, in float32 or better."""
    logits = lm.model(tokens, use_cache=False).logits[:, :-1][mask[:, 1:]]
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
