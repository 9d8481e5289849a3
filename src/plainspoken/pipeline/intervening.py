"""Intervening: some of a run's latents held otherwise at a prompt, and what the model then says next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.asking import piece
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Node
from plainspoken.circuits.intervene import Intervention, Span, logits_after, require_fitting
from plainspoken.circuits.intervention_words import placed
from plainspoken.circuits.steer import steered
from plainspoken.errors import UsageError
from plainspoken.pipeline.circuit import Prompt, RunCircuits
from plainspoken.pipeline.workplace import Workplace

MOST_SHOWN = 10
"""Next tokens of the table: the likeliest before and after."""


@dataclass(frozen=True)
class InterveningSettings:
    """How the model runs with the interventions, and whether it writes on."""

    hold_attention: bool = False
    """Attention mixes by the patterns that it has without the interventions."""
    tokens: int = 0
    """Tokens to write, without the interventions and with them; 0: none."""
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Touched:
    """A latent that was intervened on. `was`: (token, activation) where it is touched and fires by itself."""

    node: Node
    intervention: Intervention
    tokens: int
    """Tokens of the prompt at which it is touched."""
    was: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class NextToken:
    """A token that may come next, and its probability without the interventions and with them."""

    token: int
    spelled: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """Of the probability."""
        return self.after - self.before


@dataclass(frozen=True)
class Intervened:
    """What interventions do at a prompt. `kl`: from the next token's distribution without them to that with, in nats.

    `texts`: the prompt and what is written after it, without the interventions and with them, where that was asked for.
    """

    prompt: Prompt
    touched: tuple[Touched, ...]
    next_tokens: tuple[NextToken, ...]
    kl: float
    texts: tuple[str, str] | None


def intervene(
    workplace: Workplace, text: str, interventions: Sequence[Intervention], settings: InterveningSettings
) -> Intervened:
    """Run a run's model at a prompt, with and without interventions. The run must be brought up to `train` at least.

    Raises UsageError for a prompt or an intervention that does not fit, and for a text that is to be written with
    attention held, which has no patterns yet for what is not written; CoderError and ModelError as `freeze` does.
    """
    _require_possible(interventions, settings)
    circuits = RunCircuits(workplace)
    prompt = circuits.prompt(text)
    t = len(prompt.tokens)
    most = t + max(min(settings.tokens, circuits.lm.context - t), 0)
    if settings.tokens and most == t:
        raise UsageError(f"the prompt fills the context of {circuits.lm.name} ({t}): shorten it to have text")
    by_layer = {layer: circuits.coders[site] for layer, site in circuits.site_of_layer.items()}
    interventions = [placed(each, t, most, prompt.begun) for each in interventions]
    require_fitting(by_layer, interventions, t, most)
    frozen = circuits.frozen(prompt)
    at_once = [_of_prompt(each, t) for each in interventions]
    before, after = (
        _distribution(frozen, each, settings.hold_attention) for each in ([], [each for each in at_once if each])
    )
    return Intervened(
        prompt=prompt,
        touched=tuple(_touched(circuits, frozen, each) for each in interventions),
        next_tokens=_next_tokens(frozen, before, after),
        kl=_kl(before, after),
        texts=_texts(workplace, circuits, prompt, text, interventions, settings) if settings.tokens else None,
    )


def _require_possible(interventions: Sequence[Intervention], settings: InterveningSettings) -> None:
    if not interventions:
        raise UsageError("nothing is intervened on; say what with --ablate, --scale or --set, e.g. --ablate 2/17@-1")
    if settings.hold_attention and settings.tokens:
        raise UsageError(
            "a text is written with attention free, since there are no patterns to hold at tokens that are not written "
            "yet; leave out --hold-attention, or --tokens"
        )


def _of_prompt(intervention: Intervention, t: int) -> Intervention | None:
    """The part that lies in the prompt's t tokens."""
    if isinstance(intervention.positions, Span):
        return intervention if intervention.positions.start < t else None
    inside = tuple(each for each in intervention.positions if each < t)
    return replace(intervention, positions=inside) if inside else None


def _distribution(frozen: Frozen, interventions: Sequence[Intervention], held: bool) -> Float[Tensor, " vocabulary"]:
    """Log probabilities of the token after the prompt."""
    return logits_after(frozen, interventions, "held" if held else "free")[-1].double().log_softmax(-1).cpu()


def _kl(before: Float[Tensor, " vocabulary"], after: Float[Tensor, " vocabulary"]) -> float:
    p = before.exp()
    return float(torch.where(p > 0, p * (before - after), 0).sum().clamp(min=0))


def _next_tokens(
    frozen: Frozen, before: Float[Tensor, " vocabulary"], after: Float[Tensor, " vocabulary"]
) -> tuple[NextToken, ...]:
    likeliest = torch.maximum(before, after).topk(min(MOST_SHOWN, len(before))).indices.tolist()
    found = [NextToken(i, piece(frozen.lm, i), float(before[i].exp()), float(after[i].exp())) for i in likeliest]
    return tuple(sorted(found, key=lambda each: -each.before))


def _touched(circuits: RunCircuits, frozen: Frozen, intervention: Intervention) -> Touched:
    node = circuits.tell(Node("latent", intervention.layer, index=intervention.latent))
    latents, mask = frozen.layers[intervention.layer].latents, intervention.at(frozen.t, 0, frozen.t)
    mine = latents.latent == intervention.latent
    fires = zip(latents.position[mine].tolist(), latents.value[mine].tolist(), strict=True)
    return Touched(node, intervention, int(mask.sum()), tuple((at, value) for at, value in fires if mask[at]))


def _texts(
    workplace: Workplace,
    circuits: RunCircuits,
    prompt: Prompt,
    text: str,
    interventions: Sequence[Intervention],
    settings: InterveningSettings,
) -> tuple[str, str]:
    lm, coders, end = circuits.lm, circuits.coders, circuits.lm.tokenizer.eos_token_id

    def written(changes: Sequence[Intervention], label: str) -> str:
        with workplace.progress.track(label, settings.tokens) as advance:
            tokens = steered(
                lm, coders, prompt.tokens, changes, settings.tokens, seed=settings.seed,
                temperature=settings.temperature, stop=end if isinstance(end, int) else None, progress=advance,
                text=torch.tensor(prompt.text),
            )  # fmt: skip
        return text + lm.pieces.text(tokens[len(prompt.tokens) :])

    return written([], "writing as the model is"), written(interventions, "writing with the interventions")
