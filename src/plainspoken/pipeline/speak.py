"""Text from a run's model, as it is or with every site rewritten."""

import numpy as np

from plainspoken.coders import load_coder
from plainspoken.pipeline import explanations
from plainspoken.pipeline.shelves import latents_of, load_calibration, load_simulation
from plainspoken.pipeline.speech import simulate_as_written
from plainspoken.pipeline.workplace import Workplace
from plainspoken.rewrite.generate import Voice, generate
from plainspoken.types import Site


def speak(workplace: Workplace, prompt: str, *, rewritten: bool, tokens: int, temperature: float, seed: int) -> str:
    """The prompt and what the model writes after it, until its text ends, `tokens` are written or the context is full.

    The run must be brought up to `calibrate` where the model is to speak rewritten.
    """
    lm = workplace.lm
    voices = {site: _voice(workplace, site) for site in workplace.sites} if rewritten else {}
    ids = lm.ids(prompt)
    start = [] if lm.bos_id is None or workplace.config.corpus.bos == "never" else [lm.bos_id]
    end = lm.tokenizer.eos_token_id
    with workplace.progress.track("writing", tokens) as advance:
        written = generate(
            lm,
            voices,
            np.array([*start, *ids], np.int64),
            tokens,
            seed=seed,
            temperature=temperature,
            stop=end if isinstance(end, int) else None,
            progress=advance,
        )
    return prompt + lm.pieces.text(written[len(start) + len(ids) :])


def _voice(workplace: Workplace, site: Site) -> Voice:
    """A site that says what its sentences say, as they stand in the file."""
    latents = latents_of(workplace, site.module)
    written = explanations.read_explanations(workplace.path("explain", site.module), latents)
    _, texts, _ = load_simulation(workplace.path("simulate", site.module) / "calibrate.safetensors")
    spoken = {latent: e.text for latent, e in written.items() if texts[latent].any()}
    return Voice.of_explanations(
        load_coder(workplace.path("train", site.module)).to(workplace.lm.device),
        load_calibration(workplace, site.module),
        np.asarray(texts.any(axis=1)),
        simulate_as_written(workplace, spoken, latents),
    )
