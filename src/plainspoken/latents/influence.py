"""What a latent does to the loss: its decoder direction measured by the loss's own metric.

A small error δ in a module's output at one token raises the model's loss by about ½ δᵀ G δ, where G is the Fisher
information E[g gᵀ] of the output vector: g is the gradient of the negative log-likelihood of all the row's tokens, with
labels drawn from the model's own prediction (Amari 1998; Martens 2014, arXiv 1412.1193, section 5; labels drawn from
the model and not from the text, or it would be the "empirical Fisher"). An error of size ε in latent l is
δ = ε W_dec[l], so its cost is ½ ε² (W_dec G W_decᵀ)[l, l]: this is how errors in different latents are compared.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from plainspoken.corpus.rows import require_part
from plainspoken.errors import ActivationError
from plainspoken.lm import LanguageModel, draw, splice
from plainspoken.types import Rows, Site

BATCH_ROWS = 16


def loss_metric(
    lm: LanguageModel,
    site: Site,
    rows: Rows,
    generator: torch.Generator,
    progress: Callable[[int], object] | None = None,
) -> Float[Tensor, "d_out d_out"]:
    """G = E[g gᵀ] over the tokens of the rows, in float64 on the CPU; nats per (unit of output)².

    One forward and one backward pass; a few dozen rows suffice for a stable diagonal. `generator` (on the CPU) draws
    the labels. `progress` is told how many more rows are done. Raises ActivationError where a gradient is not finite,
    LeakError for rows of another part than explain.
    """
    require_part(rows, "explain")
    total = torch.zeros(site.d_out, site.d_out, dtype=torch.float64)
    tokens = 0
    for first in range(0, len(rows.tokens), BATCH_ROWS):
        chunk = slice(first, first + BATCH_ROWS)
        batch = torch.from_numpy(rows.tokens[chunk]).long().to(lm.device)
        mask = torch.from_numpy(rows.mask[chunk]).to(lm.device)
        g = sampled_gradient(lm, site, batch, mask, generator)[mask].cpu().double()
        if not torch.isfinite(g).all():
            raise ActivationError(f"the loss has no finite gradient at site '{site.module}'; set lm.dtype to float32")
        total += g.T @ g
        tokens += len(g)
        if progress is not None:
            progress(len(batch))
    return total / max(1, tokens)


def sampled_gradient(
    lm: LanguageModel,
    site: Site,
    tokens: Int[Tensor, "b t"],
    mask: Bool[Tensor, "b t"],
    generator: torch.Generator,
) -> Float[Tensor, "b t d_out"]:
    """g: the gradient of Σ -log p(label) to the site's output, a label drawn from p at each token that has one.

    In nats per unit of output. The token at i + 1 of the text has its label at i; BOS and padding have none.
    """
    outputs: list[Tensor] = []

    def watch(x: Tensor, y: Tensor) -> Tensor:
        outputs.append(y.detach().requires_grad_())
        return outputs[-1]

    with torch.enable_grad(), splice(lm, {site: watch}):
        logits = lm.model(tokens, use_cache=False).logits[:, :-1].float()[mask[:, 1:]]
        # Numbers are drawn on the CPU, so that every device draws alike.
        labels = draw(logits.detach(), torch.rand(len(logits), generator=generator))
        loss = cross_entropy(logits, labels, reduction="sum")
        [g] = torch.autograd.grad(loss, outputs)
    return g


def latent_weight(
    W_dec: Float[Tensor, "latents d_out"], metric: Float[Tensor, "d_out d_out"]
) -> Float[Tensor, " latents"]:
    """diag(W_dec G W_decᵀ), never negative: twice the nats that a unit error in each latent costs at a token."""
    W = W_dec.detach().cpu().double()
    return ((W @ metric) * W).sum(1).clamp(min=0.0)
