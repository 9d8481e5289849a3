"""All that rewriting a site takes, gathered: the coder, what its explanations predict, and the controls beside it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float

from plainspoken.calibrators import calibrator_named
from plainspoken.coders import Coder
from plainspoken.corpus.rows import require_part
from plainspoken.latents.evidence import Evidence
from plainspoken.latents.table import FiringTable
from plainspoken.rewrite.prediction import Prediction, Taught, permuted, shuffle
from plainspoken.types import Simulation, Site


@dataclass(frozen=True, eq=False)
class Spoken:
    """What a site's explanations were simulated to, over the calibrate rows and over the rows to rewrite.

    `explained`: latents whose explanation was simulated; the others are predicted to be exactly 0.
    """

    calibrate: Simulation
    rewrite: Simulation
    explained: Bool[np.ndarray, " latents"]


@runtime_checkable
class Spliceable(Protocol):
    """What a splice takes of a site: the coder, and the mean of each latent (for `mean-latents`)."""

    @property
    def site(self) -> Site:
        """Where it is spliced."""
        ...

    @property
    def coder(self) -> Coder:
        """What is spliced."""
        ...

    @property
    def mean(self) -> Float[np.ndarray, " latents"]:
        """The mean of each latent over some text."""
        ...


@dataclass(frozen=True, eq=False)
class SiteCoder:
    """A site and its coder alone: for what is measured of a coder before anything is said of its latents."""

    site: Site
    coder: Coder
    mean: Float[np.ndarray, " latents"]


@dataclass(frozen=True, eq=False)
class SiteMaterial:
    """One site, ready to be rewritten over some rows.

    `prediction`: from its explanations; `shuffled`: with explanations permuted, each latent keeping its calibration;
    `refitted`: permuted, with the calibration fitted anew; both None where fewer than two latents are explained, since
    no permutation then leaves none its own. `as_written`: from the explanations as the explainer wrote
    them, where `edited` latents were changed by a person since. `otherwise`: `prediction` by other calibrators, by
    their names. `mean`: of each latent over the calibrate documents.
    `score`: what "best" sorts by, largest first; None: there is no such order, only all latents or none.
    """

    site: Site
    coder: Coder
    prediction: Prediction
    shuffled: Prediction | None
    refitted: Prediction | None
    mean: Float[np.ndarray, " latents"]
    score: Float[np.ndarray, " latents"] | None
    edited: tuple[int, ...]
    as_written: Prediction | None
    otherwise: Mapping[str, Prediction] = field(default_factory=dict)

    @property
    def explained(self) -> Bool[np.ndarray, " latents"]:
        """Which latents have an explanation."""
        return self.prediction.explained

    @cached_property
    def mass(self) -> Float[np.ndarray, " latents"]:
        """Mean activation times the norm of the decoder row: how far a latent moves the output, on average."""
        return self.mean * self.coder.W_dec.detach().double().norm(dim=1).cpu().numpy()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the site, the coder's weights and the latents' means: what the baselines depend on."""
        digest = hashlib.sha256(repr((self.site, self.coder.spec)).encode())
        for name, tensor in sorted(self.coder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        digest.update(self.mean.tobytes())
        return digest.hexdigest()


def gather(
    site: Site,
    coder: Coder,
    spoken: Spoken,
    table: FiringTable,
    maximum: Float[np.ndarray, " latents"],
    *,
    calibrator: str,
    seed: int,
    edited: tuple[int, ...] = (),
    as_written: Spoken | None = None,
    also: Sequence[str] = (),
    score: Float[np.ndarray, " latents"] | None = None,
) -> SiteMaterial:
    """Calibrate a site's explanations and their shuffled control, and put its material together.

    `table`: firings over the calibrate rows. `maximum`: the largest activation of each latent anywhere but on evaluate
    documents. `seed`: of the shuffled control. `also`: calibrators beside `calibrator`. `score`: what "best" sorts by,
    from other documents than these. Raises ConfigError for an unknown calibrator, LeakError for a table over other rows
    than the calibrate part's, RunError where simulations and table do not belong together.
    """
    require_part(table.rows, "calibrate")

    def predict(spoken: Spoken, evidence: Evidence, by: str = calibrator) -> Prediction:
        way = calibrator_named(by)
        sizes = way.fit(evidence.at_firings(), maximum)
        taught = Taught(*spoken.calibrate.pairs_by_latent(table.rows.mask)) if way.learns else None
        return Prediction(spoken.rewrite, way.fit(evidence, maximum), sizes, spoken.explained, taught)

    evidence = Evidence.over(spoken.calibrate, table)
    prediction = predict(spoken, evidence)
    shuffled = refitted = None
    permutation = shuffle(spoken.explained, seed)
    if permutation is not None:
        calibrate, rewrite = permuted(spoken.calibrate, permutation), permuted(spoken.rewrite, permutation)
        swapped = Spoken(calibrate, rewrite, spoken.explained)
        shuffled = replace(prediction, simulation=swapped.rewrite)
        refitted = predict(swapped, Evidence.over(swapped.calibrate, table))
    return SiteMaterial(
        site=site,
        coder=coder,
        prediction=prediction,
        shuffled=shuffled,
        refitted=refitted,
        mean=evidence.mean if spoken.calibrate.complete else evidence.mean_unseen,
        score=score,
        edited=edited,
        as_written=as_written and predict(as_written, Evidence.over(as_written.calibrate, table)),
        otherwise={name: predict(spoken, evidence, name) for name in also if name != calibrator},
    )
