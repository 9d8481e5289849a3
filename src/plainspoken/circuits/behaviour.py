"""A behaviour: prompts after which the model prefers one token to another, by how much.

The difference of two logits, by prompt, is a number that a circuit can be held against. (The greater-than study of
Dunefsky et al., arXiv 2406.11944, section 5.)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel

AT_ONCE = 64
"""Prompts of one length that are run together."""


@dataclass(frozen=True)
class Behaviour:
    """After each prompt the logit of `wanted` less that of `other`. `begun`: the prompts start with a BOS token.

    Raises UsageError for no prompts, a prompt without text, or other than one wanted and one other token a prompt.
    """

    prompts: tuple[tuple[int, ...], ...]
    wanted: tuple[int, ...]
    other: tuple[int, ...]
    begun: bool = True

    def __post_init__(self) -> None:
        if not len(self.prompts) == len(self.wanted) == len(self.other) or not self.prompts:
            raise UsageError(
                "a behaviour has a wanted and another token for each prompt, and at least one prompt; here there are "
                f"{len(self.prompts)} prompts, {len(self.wanted)} wanted and {len(self.other)} other tokens"
            )
        short = [i for i, prompt in enumerate(self.prompts) if len(prompt) <= self.begun]
        if short:
            raise UsageError(f"prompt {short[0]} of the behaviour has no text: give it at least one token")

    def __len__(self) -> int:
        return len(self.prompts)

    def some(self, chosen: Sequence[int]) -> "Behaviour":
        """The same of some of the prompts."""
        return Behaviour(
            tuple(self.prompts[i] for i in chosen),
            tuple(self.wanted[i] for i in chosen),
            tuple(self.other[i] for i in chosen),
            self.begun,
        )


@torch.no_grad()
def difference(lm: LanguageModel, behaviour: Behaviour) -> Float[np.ndarray, " prompts"]:
    """The logit difference after each prompt, in the model as it runs now, with whatever is spliced into it."""
    found = np.zeros(len(behaviour))
    for chosen in _of_one_length(behaviour):
        text = torch.tensor([behaviour.prompts[i] for i in chosen], device=lm.device)
        logits = lm.model(text, use_cache=False, logits_to_keep=1).logits[:, -1].double()
        answers = torch.tensor([[behaviour.wanted[i], behaviour.other[i]] for i in chosen], device=lm.device)
        wanted, other = logits.gather(1, answers).T
        found[chosen] = (wanted - other).cpu().numpy()
    return found


def _of_one_length(behaviour: Behaviour) -> list[list[int]]:
    """Prompts that can be run together without padding."""
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(behaviour.prompts):
        by_length.setdefault(len(prompt), []).append(i)
    return [each[low : low + AT_ONCE] for each in by_length.values() for low in range(0, len(each), AT_ONCE)]
