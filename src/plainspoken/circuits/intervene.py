"""Interventions: a latent is ablated, scaled or set at some tokens, and the model runs on with it.

The change is spliced at the FFN of the latent's coder: y' = y + (z' - z) W_dec[l], z being what the coder makes of the
FFN's input in that very run. The FFN's own output stays, its error with it: only what the latent writes is exchanged.
Later layers are the model's own and answer as they do; attention does too, or mixes by the patterns it had before. (For
a model that is held linear, see `circuits/respond.py`.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.frozen import Frozen
from plainspoken.coders import Coder
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel
from plainspoken.lm.hooks import splice
from plainspoken.lm.patterns import eager_attention, hold_patterns
from plainspoken.types import Site


@dataclass(frozen=True)
class Span:
    """All tokens from `start` on, those that are generated included, but not `stop` (None: no end) and those after it.

    As everywhere here, a negative position counts from the prompt's end.
    """

    start: int = 0
    stop: int | None = None


Positions = tuple[int, ...] | Span
"""These tokens, or all of a span."""

MOST = 1e9
"""The largest amount: far above it, norms in 32 bits overflow and what comes out means nothing."""
KINDS = ("ablate", "scale", "set")


@dataclass(frozen=True)
class Intervention:
    """A latent of a layer's coder at some tokens: z' = 0 ("ablate"), amount · z ("scale") or amount ("set").

    `amount`: a factor, or an activation in the coder's own units. Raises UsageError for a kind that there is not and
    for an amount that means nothing.
    """

    layer: int
    latent: int
    positions: Positions = Span()
    kind: Literal["ablate", "scale", "set"] = "ablate"
    amount: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"no intervention is called '{self.kind}': use {', '.join(KINDS)}")
        if not abs(self.amount) <= MOST:
            raise UsageError(f"a latent cannot be given the amount {self.amount}: name a number up to ±{MOST:.0e}")
        if self.kind == "ablate" and self.amount != 0:
            raise UsageError(f"what is ablated becomes 0, not {self.amount}: use kind 'set' for another activation")

    def of(self, z: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """z' of z."""
        return z * self.amount if self.kind == "scale" else torch.full_like(z, self.amount)

    def at(self, prompt: int, done: int, t: int) -> Bool[Tensor, " fresh"]:
        """At which of the tokens done .. t - 1 it applies, its positions being those of a prompt of that length."""
        mask = torch.zeros(t, dtype=torch.bool)
        if isinstance(self.positions, Span):
            start, stop = self.positions.start, self.positions.stop
            mask[_from_start(start, prompt) : t if stop is None else _from_start(stop, prompt)] = True
        else:
            mask[[at for each in self.positions if (at := _from_start(each, prompt)) < t]] = True
        return mask[done:]


def _from_start(position: int, prompt: int) -> int:
    return position if position >= 0 else max(position + prompt, 0)


def require_fitting(
    coders: Mapping[int, Coder],
    interventions: Sequence[Intervention],
    prompt: int,
    last: int | None = None,
    text: Bool[Tensor, " prompt"] | None = None,
) -> None:
    """Raises UsageError for an intervention on what there is not: a layer's coder, a latent, a token, a coder there.

    `last`: the most tokens that there will be, where some are generated. `text`: as `freeze` takes it.
    """
    t = prompt if last is None else last
    silent = set() if text is None else set((~text).nonzero().squeeze(1).tolist())
    for each in interventions:
        coder = coders.get(each.layer)
        if coder is None:
            having = ", ".join(map(str, sorted(coders))) or "none"
            raise UsageError(f"layer {each.layer} has no coder to intervene in: name a layer that has one ({having})")
        if not 0 <= each.latent < coder.spec.latents:
            raise UsageError(
                f"no latent {each.latent} in layer {each.layer}, whose coder has 0 to {coder.spec.latents - 1}; "
                f"nearest: {each.layer}/{coder.spec.latents - 1}"
            )
        if isinstance(each.positions, tuple):
            outside = [p for p in each.positions if not -prompt <= p < t]
            if outside:
                raise UsageError(f"no token {outside[0]} here: name one from {-prompt} to {t - 1}")
            for at in (_from_start(p, prompt) for p in each.positions):
                if at in silent:
                    read = ", ".join(str(p) for p in range(t) if p not in silent) or "none"
                    raise UsageError(f"no coder is read at token {at}, such as a BOS: name one of ({read})")


def exchanged(
    interventions: Sequence[Intervention], z: Float[Tensor, "fresh latents"], prompt: int, done: int = 0
) -> Float[Tensor, "fresh latents"]:
    """z' of z at the tokens from `done` on; several interventions on one latent act one after the other."""
    z = z.clone()
    for each in interventions:
        at = each.at(prompt, done, done + len(z)).to(z.device)
        z[at, each.latent] = each.of(z[at, each.latent])
    return z


@contextmanager
def intervening(
    lm: LanguageModel,
    sites: Mapping[int, tuple[Site, Coder]],
    interventions: Sequence[Intervention],
    prompt: int,
    done: int = 0,
    text: Bool[Tensor, " prompt"] | None = None,
) -> Iterator[None]:
    """Within it, the model given a row's tokens from `done` on has these latents exchanged.

    `sites`: by layer, the FFN and its coder. `prompt`: how many tokens the row's prompt has. `text`: those of them at
    which coders are read (None: all); at the others, such as a BOS that no coder was trained on, nothing is exchanged.
    The model is as before once the block is left, by whatever exception.
    """

    def exchange(coder: Coder, mine: list[Intervention]) -> Callable[[Tensor, Tensor], Tensor]:
        concerned = sorted({each.latent for each in mine})

        def replaced(x: Float[Tensor, "1 s d_in"], y: Float[Tensor, "1 s d_out"]) -> Float[Tensor, "1 s d_out"]:
            z = coder.dense(coder.encode(x[0]))
            more = (exchanged(mine, z, prompt, done) - z)[:, concerned] @ coder.W_dec[concerned]
            if text is not None:
                more[: max(prompt - done, 0)][~text[done:].to(more.device)] = 0
            return y + more.to(y)

        return replaced

    by_layer: dict[int, list[Intervention]] = {}
    for each in interventions:
        by_layer.setdefault(each.layer, []).append(each)
    replacements: dict[Site, Any] = {sites[i][0]: exchange(sites[i][1], mine) for i, mine in by_layer.items()}
    with torch.no_grad(), splice(lm, replacements):
        yield


def sites_of(frozen: Frozen) -> dict[int, tuple[Site, Coder]]:
    """By layer, the FFN and its coder."""
    d = frozen.embedded.shape[1]
    layers = enumerate(frozen.layers)
    return {i: (Site(at.layer.ffn, "mlp", d, d), at.coder) for i, at in layers if at.coder is not None}


@contextmanager
def running(
    frozen: Frozen, interventions: Sequence[Intervention], attention: Literal["held", "free"] = "free"
) -> Iterator[Int[Tensor, "1 t"]]:
    """Within it, the model given these tokens, which are the frozen model's, runs with the interventions.

    `attention`: "held", by the patterns of the model without them; "free", as they make it. Attention is computed as it
    was when the model was frozen. Raises UsageError for an intervention on what there is not.
    """
    sites = sites_of(frozen)
    require_fitting({i: coder for i, (_, coder) in sites.items()}, interventions, frozen.t, text=frozen.text)
    patterns = [layer.pattern for layer in frozen.layers]
    held = hold_patterns(frozen.lm, frozen.anatomy, patterns) if attention == "held" else nullcontext()
    with eager_attention(frozen.lm), held, intervening(frozen.lm, sites, interventions, frozen.t, text=frozen.text):
        yield frozen.tokens[None]


@torch.no_grad()
def logits_after(
    frozen: Frozen, interventions: Sequence[Intervention], attention: Literal["held", "free"] = "free"
) -> Float[Tensor, "t vocabulary"]:
    """The model's logits (after a soft cap, where it has one) at the frozen prompt, with the interventions.

    Raises UsageError as `running` does, and for amounts so large that the model overflows.
    """
    with running(frozen, interventions, attention) as tokens:
        logits = frozen.lm.model(tokens, use_cache=False).logits[0]
    require_numbers(logits)
    return logits


def require_numbers(logits: Float[Tensor, "*n vocabulary"]) -> None:
    """Raises UsageError for logits that no distribution can be made of."""
    if bool((logits.isnan() | logits.isposinf()).any()):
        raise UsageError("with these interventions the model's logits are no numbers any more: give smaller amounts")
