"""Text from a model in which latents are held otherwise than they are: steering, by interventions that stay on."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from plainspoken.circuits.accepted import accepted_coders, accepted_prompt, accepted_text
from plainspoken.circuits.intervene import Intervention, intervening, require_fitting, require_numbers
from plainspoken.coders import Coder
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel, draw
from plainspoken.lm.anatomy import anatomy
from plainspoken.types import Site


@torch.no_grad()
def steered(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    prompt: Int[np.ndarray, " t"] | Sequence[int],
    interventions: Sequence[Intervention],
    new_tokens: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    stop: int | None = None,
    cached: bool = True,
    text: Bool[Tensor, " prompt"] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Int[np.ndarray, " t_new"]:
    """The prompt's tokens and up to `new_tokens` after them, fewer where the context is full or `stop` is drawn.

    Interventions act on the prompt's tokens, on new ones, or on both, as their positions say. Each token is drawn by
    inverting the distribution function at a uniform number that belongs to the seed and the token's place, so that two
    models that agree write the same; temperature 0 takes the likeliest. `cached` False runs the whole text every time.
    `text`: the prompt's tokens at which coders are read, as `freeze` takes it (None: all but a BOS that starts it); at
    the others nothing is exchanged.
    Raises UsageError for a prompt that cannot be continued, a temperature below 0, and an intervention on what there
    is not or that makes the model overflow; CoderError as `freeze` does.
    """
    of = anatomy(lm)
    # As `freeze` reads them, whatever the model's precision: rounded to 16 bits, other latents would fire.
    found = accepted_coders(of, coders, torch.promote_types(lm.dtype, torch.float32))
    by_layer = {of.layer_of(site.module): site for site in coders}
    sites = {layer: (by_layer[layer], coder) for layer, coder in found.items()}
    ids = accepted_prompt(lm, torch.as_tensor(prompt, dtype=torch.long).tolist()).cpu()
    text, tokens = accepted_text(lm, ids, text), ids.numpy()
    if temperature < 0:
        raise UsageError(f"a temperature of {temperature} means nothing: 0 takes the likeliest token, 1 samples as is")
    t, room = len(tokens), min(new_tokens, lm.context - len(tokens))
    require_fitting(found, interventions, t, t + max(room, 0), text)
    uniform, cache, done = np.random.default_rng(seed).random(lm.context), None, 0
    for _ in range(room):
        fresh = torch.from_numpy(tokens[None, done:]).to(lm.device)
        with intervening(lm, sites, interventions, t, done, text):
            answer = lm.model(fresh, past_key_values=cache, use_cache=cached)
        if cached:
            cache, done = answer.past_key_values, len(tokens)
        logits = answer.logits[0, -1:].double().cpu()
        require_numbers(logits)
        height = torch.from_numpy(uniform[len(tokens), None])
        token = int(logits.argmax() if temperature == 0 else draw(logits / temperature, height))
        tokens = np.append(tokens, token)
        if progress is not None:
            progress(1)
        if token == stop:
            break
    return tokens
