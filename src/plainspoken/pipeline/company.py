"""Which sentences a latent's levels rest on: its own, and where several stand in one prompt, those of its batch.

What is read again is read in the prompts of a whole run: one latent's sentence is changed in the prompts of its whole
batch, so all of that is read again, and what was asked so before comes out of the response cache.
"""

import hashlib
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Bool, UInt8

from plainspoken.config import Config
from plainspoken.pipeline.gating import positions_by_latent
from plainspoken.simulators import simulator_named
from plainspoken.simulators.pairs import batches
from plainspoken.types import Pairs


def latents_in_prompt(config: Config) -> int:
    """How many latents stand in one prompt of the run's simulator, at most."""
    simulate = config.simulate
    return simulate.batch if "batch" in simulator_named(simulate.simulator).reads else 1


def text_hashes(
    texts: Mapping[int, str], latents: int, only: Pairs | None = None, together: int = 1
) -> UInt8[np.ndarray, "latents 32"]:
    """SHA-256 of what each latent's levels rest on; zeros without a sentence.

    That is its sentence, where it passes the gate, if there is one (`only`: the pairs that pass), and with more than
    one latent `together` in a prompt the same of its whole batch.
    """
    found = np.zeros((latents, 32), np.uint8)
    passes = {} if only is None else positions_by_latent(only, latents)
    for latent, text in texts.items():
        told = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
        if only is not None:
            told.update(b"passes" + passes[latent].astype(np.int64).tobytes())
        found[latent] = np.frombuffer(told.digest(), np.uint8)
    alone = found.copy()
    for batch in batches(texts, together) if together > 1 else ():
        for latent in batch:
            told = hashlib.sha256(alone[latent].tobytes() + alone[batch].tobytes())
            found[latent] = np.frombuffer(told.digest(), np.uint8)
    return found


def with_company(
    some: Bool[np.ndarray, " latents"], sentences: Collection[int], together: int
) -> Bool[np.ndarray, " latents"]:
    """These latents, and all that stand in a prompt with one of them: batches of these alone are those of a whole run.

    `sentences`: all latents with a sentence.
    """
    found = some.copy()
    for batch in batches(sentences, together):
        found[batch] = some[batch].any()
    return found
