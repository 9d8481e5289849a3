"""A finishing phase: the coder spliced into the model, trained on what the model then predicts.

FVU asks for every direction of the output alike; the model does not use them alike. A short phase at the end on FVU and
KL(original || spliced), the two weighted so that they are equally large, takes a good part of the coder's loss away
(Karvonen 2025, arXiv 2503.17272).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import kl_div

from plainspoken.activations.masks import NormLimits, norms
from plainspoken.activations.order import EpochOrder
from plainspoken.coders import Units
from plainspoken.config import TrainConfig
from plainspoken.corpus import require_part
from plainspoken.lm import LanguageModel, splice
from plainspoken.train.batches import in_units
from plainspoken.train.checkpoint import Run
from plainspoken.train.losses import Terms
from plainspoken.train.schedule import Schedule
from plainspoken.train.step import Recipe, move, terms_of
from plainspoken.types import Rows, Site


@dataclass(frozen=True, eq=False)
class FinishText:
    """What a finishing phase runs the model on: the fit rows. Raises LeakError for others."""

    lm: LanguageModel
    sites: Mapping[str, Site]
    rows: Rows

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
    """
    text, site, units, processes = phase.text, phase.site, phase.units, phase.recipe.processes
    mine = rows[processes.rank :: processes.world].numpy()
    tokens = torch.from_numpy(text.rows.tokens[mine]).long().to(text.lm.device)
    mask = torch.from_numpy(text.rows.mask[mine]).to(text.lm.device)
    predicted = processes.count(int(mask[:, 1:].sum()), tokens.device)
    found: list[tuple[Terms, int]] = []

    def coded(x: Float[Tensor, "n d_in"], y: Float[Tensor, "n d_out"]) -> Float[Tensor, "n d_out"]:
        found.append(terms_of(run, *in_units(units, x, y, run.coder.W_enc.device), phase.recipe))
        return found[0][0].output * units.y_scale + units.y_mean.to(y.device)

    def spliced(x: Float[Tensor, "b t d_in"], y: Float[Tensor, "b t d_out"]) -> Float[Tensor, "b t d_out"]:
        own_x = x[mask].float()
        own_y = own_x if y is x else y[mask].float()
        kept = phase.limits.kept(*norms(own_x, own_y))
        x_kept = own_x[kept]
        made = coded(x_kept, x_kept if y is x else own_y[kept])
        place = mask.masked_scatter(mask, kept)
        return y.masked_scatter(place[..., None], made.to(y))

    if len(mine):
        with torch.no_grad():
            wanted = predictions(text.lm, tokens, mask)
        with splice(text.lm, {site: spliced}):
            distance = kl_div(predictions(text.lm, tokens, mask), wanted, reduction="sum", log_target=True)
    else:
        x, y = (torch.zeros(0, d, device=tokens.device) for d in (site.d_in, site.d_out))
        distance = coded(x, x if site.kind == "resid" else y).sum()
    kl = distance / max(1, predicted)
    [(terms, count)] = found
    sums = torch.stack([terms.fvu, kl.detach()])
    processes.add(sums)
    # Where the model does not notice the splice, KL is rounding, and so may be its sign.
    weight = float(sums[0] / sums[1].clamp(min=LEAST_KL))
    run.optimizer.zero_grad()
    (terms.total + weight * kl).backward()
    move(run, terms, count, phase.recipe, rate, kl.detach())


LEAST_KL = 1e-6
"""Nats a token below which KL weighs no more."""


def predictions(
    lm: LanguageModel, tokens: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "n vocabulary"]:
    """Log-probabilities where the next token is one of the text."""
    logits = lm.model(tokens, use_cache=False).logits[:, :-1][mask[:, 1:]]
    return torch.log_softmax(logits.float(), dim=-1)
