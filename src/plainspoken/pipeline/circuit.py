"""A run's model frozen at a prompt: its coders, its sentences beside the latents, true activations or simulated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.asking import piece
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.graph import Node
from plainspoken.circuits.weights import Weights, weights_of
from plainspoken.coders import Coder
from plainspoken.corpus.pieces import special_ids
from plainspoken.errors import RunError, UsageError
from plainspoken.language.counted import counted
from plainspoken.lm.anatomy import anatomy
from plainspoken.pipeline import explanations
from plainspoken.pipeline.dashboard import is_of
from plainspoken.pipeline.own_coders import own_coders
from plainspoken.pipeline.shelves import latents_of, load_calibration, load_scores
from plainspoken.pipeline.speech import opened_simulator, text_of
from plainspoken.pipeline.stage import Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.rewrite.prediction import Prediction, permuted, shuffle
from plainspoken.scorers.simulation import SimulationScores
from plainspoken.store.manifest import versions
from plainspoken.types import Explanation, Rows, Simulation, Site

FIDELITY = "correlation"
"""Which score of the stage calibrate tells how well a latent's sentence foretells it."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt in tokens. `text`: False at a BOS that was put before it, where no coder is read."""

    tokens: tuple[int, ...]
    text: tuple[bool, ...]
    spelled: tuple[str, ...]

    @property
    def begun(self) -> bool:
        """Whether a BOS stands before the text."""
        return not self.text[0]


class RunCircuits:
    """What a run folder has for circuits: brought up to `encode` at least."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self.lm = workplace.lm

    def prompt(self, text: str, *, typed: bool = True) -> Prompt:
        """The tokens of a text, after a BOS where the run's rows have one. Raises UsageError for a prompt that is
        empty, no text or too long, and for one that spells a special token.

        typed: on a command line, where \\n is hardly meant.
        """
        if typed and "\\n" in text and "\n" not in text:
            self._workplace.progress.warn(
                "the prompt holds a backslash and an n, and no line break: in a shell $'...' makes one of them"
            )
        ids = self.lm.ids(text)
        begun = self.lm.bos_id is not None and self._workplace.config.corpus.bos != "never"
        start = [self.lm.bos_id] if begun and self.lm.bos_id is not None else []
        if not ids:
            raise UsageError('the prompt has no text: give some with --prompt "..."')
        special = special_ids(self.lm.tokenizer)
        if found := [i for i in ids if i in special]:
            raise UsageError(
                f"the prompt's text spells {piece(self.lm, found[0])!r}, a special token that no row of text holds: "
                "leave it out (a BOS is put before the text where the run's rows have one)"
            )
        tokens = (*start, *ids)
        if len(tokens) > self.lm.context:
            raise UsageError(
                f"the prompt has {counted(len(tokens), 'token')} and {self.lm.name} takes {self.lm.context}: shorten it"
            )
        return Prompt(tokens, (*[False] * len(start), *[True] * len(ids)), tuple(piece(self.lm, i) for i in tokens))

    @cached_property
    def coders(self) -> dict[Site, Coder]:
        """The run's coders. Raises as `own_coders` does."""
        return own_coders(self._workplace)

    @cached_property
    def weights(self) -> Weights:
        """The model's weights with those of its FFNs' transcoders: an SAE reads what its FFN puts out, no stream."""
        chosen = self.site_of_layer.values()
        coders = {site: self.coders[site] for site in chosen if self.coders[site].spec.kind == "transcoder"}
        return weights_of(anatomy(self.lm), coders)

    @cached_property
    def site_of_layer(self) -> dict[int, Site]:
        """The sites by their layers."""
        of = anatomy(self.lm)
        layers = {of.layer_of(site.module): site for site in self._workplace.sites}
        return {layer: site for layer, site in layers.items() if layer is not None}

    def frozen(
        self,
        prompt: Prompt,
        dtype: torch.dtype = torch.float32,
        given: Mapping[Site, Float[Tensor, "t latents"]] | None = None,
    ) -> Frozen:
        """The model at the prompt; `given`: with these activations in the place of the true ones."""
        text = torch.tensor(prompt.text)
        with self._workplace.progress.track("freezing the model at the prompt", None):
            return freeze(self.lm, self.coders, list(prompt.tokens), dtype, given, text)

    def shuffles(self, prompt: Prompt, draw: int) -> dict[Site, Int[np.ndarray, " latents"]] | None:
        """By site which latent's sentence each is given as a control, never its own; another for each draw.

        None, with a warning, where a site has fewer than two sentences.
        """
        found = {}
        seed = int(np.random.default_rng([self._workplace.config.seed, 0xC1, draw]).integers(2**31))
        for site, (_, explained) in self._said_at(prompt).items():
            permutation = shuffle(explained, seed)
            if permutation is None:
                self._workplace.progress.warn(
                    f"there is no control of shuffled sentences: {site.module} has "
                    f"{counted(int(explained.sum()), 'sentence')} to hand round; explain more of its latents"
                )
                return None
            found[site] = permutation
        return found

    def simulated(
        self, prompt: Prompt, shuffles: Mapping[Site, Int[np.ndarray, " latents"]] | None = None
    ) -> dict[Site, Float[Tensor, "t latents"]]:
        """What the run's simulator and calibrator make of the sentences at each token of the prompt, as activations.

        `shuffles`: of which latent what was said is taken for each. Each prompt is simulated once.
        """
        found = {}
        for site, (simulation, explained) in self._said_at(prompt).items():
            if shuffles is not None:
                simulation = permuted(simulation, shuffles[site])
            curves = load_calibration(self._workplace, site.module)
            mask = np.array([prompt.text])
            values = Prediction(simulation, curves, curves, explained).values(np.zeros(1, np.int64), mask)
            out = torch.zeros(len(prompt.tokens), len(explained), dtype=values.dtype)
            out[torch.tensor(prompt.text)] = values
            found[site] = out.to(self.lm.device)
        return found

    def _said_at(self, prompt: Prompt) -> Mapping[Site, tuple[Simulation, Bool[np.ndarray, " latents"]]]:
        return self._workplace.remembered(f"simulated at {prompt.tokens}", lambda: self._simulations(prompt))

    def _simulations(self, prompt: Prompt) -> dict[Site, tuple[Simulation, Bool[np.ndarray, " latents"]]]:
        """(levels at the prompt, which latents have a sentence that could be read) by site."""
        rows = Rows(
            np.array([prompt.tokens], np.int64), np.array([prompt.text]), np.zeros(1, np.int64), ("prompt",), "evaluate"
        )
        text, simulate, found = text_of(self._workplace, rows), opened_simulator(self._workplace), {}
        for site in self._workplace.sites:
            latents = latents_of(self._workplace, site.module)
            texts = {latent: e.text for latent, e in self.sentences(site).items()}
            with self._workplace.progress.track(f"simulating {site.module} at the prompt", 1) as advance:
                simulation, failures = simulate(texts, latents, text, None, None, advance)
            unread = [failure for failure in failures if failure.kind is None]
            unanswered = [f"{site.module}, latent {each.latent}: {each.reason}" for each in failures if each.kind]
            for told in (*explanations.unread_told(self._workplace.path("explain", site.module), unread), *unanswered):
                self._workplace.progress.warn(told)
            explained = np.zeros(latents, bool)
            explained[[*texts.keys() - {failure.latent for failure in unread}]] = True
            found[site] = simulation, explained
        return found

    def sentences(self, site: Site) -> Mapping[int, Explanation]:
        """A site's explanations, as they stand in the file; none where the run is not explained."""
        folder = self._workplace.path("explain", site.module)
        if self._workplace.folder(Unit("explain", site.module)).manifest() is None:
            return {}
        return explanations.read_explanations(folder, latents_of(self._workplace, site.module))

    def _scores(self, site: Site) -> SimulationScores | None:
        """None where nothing was scored, or where sentences were changed since, which is said."""
        if self._workplace.folder(Unit("calibrate", site.module)).manifest() is None:
            return None
        if not is_of(self._workplace, "simulate", "explain", site):
            self._workplace.progress.warn(
                f"sentences of {site.module} were changed since they were scored, so that no fidelity is shown; score "
                f"them with: plainspoken score {self._workplace.root}"
            )
            return None
        return load_scores(self._workplace, site.module)

    @cached_property
    def _said(self) -> dict[int, tuple[Mapping[int, Explanation], SimulationScores | None]]:
        """(sentences, scores) by layer."""
        return {layer: (self.sentences(site), self._scores(site)) for layer, site in self.site_of_layer.items()}

    def tell(self, node: Node) -> Node:
        """A latent's node with its sentence, and how well that foretells the latent; any other node as it is."""
        if node.kind != "latent" or node.layer is None or node.index is None:
            return node
        sentences, scores = self._said[node.layer]
        known = sentences.get(node.index)
        fidelity = None if scores is None else getattr(scores, FIDELITY).of(node.index)
        return replace(node, text=None if known is None else known.text, fidelity=fidelity)

    def about(self, **more: Any) -> dict[str, Any]:
        """What a file about a circuit says of where it is from, and `more`, such as its prompt."""
        kept = {site.module: self._workplace.folder(Unit("train", site.module)).manifest() for site in self.coders}
        return {
            "model": self.lm.name,
            "model_fingerprint": self.lm.fingerprint,
            "coders": {module: None if m is None else m.output_digest for module, m in kept.items()},
            "fidelity_of": f"{FIDELITY} of the calibrated level with the true activation, on documents of their own",
            "seed": self._workplace.config.seed,
            "versions": versions(),
            **more,
        }

    def without_coder(self) -> Sequence[int]:
        """The layers whose FFN is kept whole, as error."""
        return [i for i in range(len(anatomy(self.lm).layers)) if i not in self.site_of_layer]


def require_encoded(workplace: Workplace) -> None:
    """RunError where a coder is lacking, before a model is loaded for nothing."""
    if not any(workplace.root.glob("train/*/coder.json")):
        raise RunError(f"{workplace.root} has no coder yet; train one with: plainspoken train {workplace.root}")
