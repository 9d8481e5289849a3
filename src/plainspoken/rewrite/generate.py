"""Text from a rewritten model: at every step the sites put out what their explanations say of the text so far."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.calibrators import Calibration
from plainspoken.coders import Coder
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel, draw
from plainspoken.lm.hooks import splice
from plainspoken.rewrite.prediction import Prediction
from plainspoken.rewrite.treatment import Baseline, Batch, Mixture, Treated, Treatment
from plainspoken.types import Simulation, Site

Simulate = Callable[[Int[np.ndarray, "1 t"]], Simulation]
"""The text so far, as one row, to the levels of a site's latents; only those of its newest tokens are used."""


@dataclass(frozen=True, eq=False)
class Voice:
    """What speaks in the place of a site's module: for the text so far, how the latents are to be treated."""

    coder: Coder
    mean: Float[np.ndarray, " latents"]
    treat: Callable[[Int[np.ndarray, "1 t"]], Treatment]

    @staticmethod
    def of_coder(coder: Coder) -> "Voice":
        """The coder with its true latents."""
        return Voice(coder, np.zeros(coder.spec.latents), lambda tokens: Baseline("coder"))

    @staticmethod
    def of_explanations(
        coder: Coder, calibration: Calibration, explained: Bool[np.ndarray, " latents"], simulate: Simulate
    ) -> "Voice":
        """Every latent as its explanation has it; those without one are 0."""
        everything = np.ones(len(explained), bool)

        def treat(tokens: Int[np.ndarray, "1 t"]) -> Treatment:
            return Mixture(Prediction(simulate(tokens), calibration, calibration, explained), everything)

        return Voice(coder, np.zeros(len(explained)), treat)


@torch.no_grad()
def generate(
    lm: LanguageModel,
    voices: Mapping[Site, Voice],
    prompt: Int[np.ndarray, " t"],
    new_tokens: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    stop: int | None = None,
    cached: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Int[np.ndarray, " t_new"]:
    """The prompt's tokens and up to `new_tokens` after them, fewer where the context is full or `stop` is drawn.

    A BOS token that starts the prompt is not text: nothing is spliced there. Each token is drawn by inverting the
    distribution function at a uniform number that belongs to the seed and the token's place, so that two models that
    agree write the same; temperature 0 takes the likeliest. `cached` False runs the whole text at every step.
    Raises UsageError for an empty prompt, one that fills the context, or a temperature below 0.
    """
    if not 0 < len(prompt) < lm.context:
        raise UsageError(
            f"a prompt of {len(prompt)} tokens cannot be continued: {lm.name} needs 1 to {lm.context - 1} tokens; "
            + ("shorten it" if len(prompt) else "give some text, since this model has no token that starts one")
        )
    if temperature < 0:
        raise UsageError(f"a temperature of {temperature} means nothing: 0 takes the likeliest token, 1 samples as is")
    tokens = np.asarray(prompt, np.int64)
    room = min(new_tokens, lm.context - len(tokens))
    uniform, cache, done = np.random.default_rng(seed).random(lm.context), None, 0
    for _ in range(room):
        fresh = torch.from_numpy(tokens[None, done:]).to(lm.device)
        with _speaking(lm, voices, tokens, done):
            answer = lm.model(fresh, past_key_values=cache, use_cache=cached)
        if cached:
            cache, done = answer.past_key_values, len(tokens)
        token = _next_token(answer.logits[0, -1:].double().cpu(), temperature, uniform[len(tokens), None])
        tokens = np.append(tokens, token)
        if progress is not None:
            progress(1)
        if token == stop:
            break
    return tokens


@contextmanager
def _speaking(
    lm: LanguageModel, voices: Mapping[Site, Voice], tokens: Int[np.ndarray, " t"], done: int
) -> Iterator[None]:
    """Within it, the model given tokens[done:] has its sites spoken for at those positions, but not at BOS."""
    spliced = np.zeros((1, len(tokens)), bool)
    spliced[0, done:] = True
    spliced[0, 0] &= tokens[0] != lm.bos_id
    batch = Batch(np.zeros(1, np.int64), spliced)
    places = batch.places.to(lm.device) - done
    replacements: dict[Site, Any] = {
        site: partial(_spoken, voice, tokens, batch, places) for site, voice in voices.items()
    }
    with splice(lm, replacements):
        yield


def _spoken(
    voice: Voice,
    tokens: Int[np.ndarray, " t"],
    batch: Batch,
    places: Int[Tensor, " n"],
    x: Float[Tensor, "1 s d_in"],
    y: Float[Tensor, "1 s d_out"],
) -> Float[Tensor, "1 s d_out"]:
    """The site's output with the voice's at the places, of the s positions that the model is given."""
    read = x[0].index_select(0, places).to(voice.coder.W_dec)
    treated = Treated(voice.coder, torch.from_numpy(voice.mean).to(voice.coder.W_dec), batch, read)
    return y[0].index_copy(0, places, treated.output(voice.treat(tokens[None])).to(y))[None]


def _next_token(logits: Float[Tensor, "1 v"], temperature: float, uniform: Float[np.ndarray, "1"]) -> int:
    return int(logits.argmax() if temperature == 0 else draw(logits / temperature, torch.from_numpy(uniform)))
