"""The conditions of an evaluation: what is spliced at which site, under which name it is reported."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from plainspoken.rewrite import Baseline, Constant, Keep, Mixture, Mode, Prediction, SiteMaterial, Treatment

Order = Literal["best", "random", "mass"]
ALL_SITES = "all"
LADDERS = ("rewritten", "oracle-support", "oracle-magnitude", "shuffled")
"""What is measured at every fraction, in every order; `rewritten:NAME` is the rewrite by another calibrator."""
EDITS_MEASURED = 8


@dataclass(frozen=True, eq=False)
class Condition:
    """One way to run the model. `treatments`: by site's module path; none leaves the model as it is.

    `fraction`: share of the latents that are rewritten; `order`: which come first; `draw`: of several random orders.
    """

    name: str
    treatments: Mapping[str, Treatment]
    fraction: float | None = None
    order: Order | None = None
    draw: int = 0

    @property
    def kind(self) -> str:
        """The name without what follows a colon: the calibrator, or the latent whose edit is taken back."""
        return self.name.partition(":")[0]


@dataclass(frozen=True)
class Plan:
    """Which fractions and orders are measured, and how latents are mixed."""

    fractions: tuple[float, ...]
    orders: tuple[Order, ...]
    draws: int
    keep: Keep
    seed: int


def site_conditions(material: SiteMaterial, plan: Plan) -> list[Condition]:
    """Everything that is measured at one site alone; treatments of one prediction follow one another."""
    found = [*_baselines([material]), *_ladders([material], plan)]
    if material.refitted is not None:
        found.append(_whole("shuffled-refit", {material.site.module: material.refitted}, plan))
    return found + list(_edit_conditions(material, plan))


def joint_conditions(materials: Sequence[SiteMaterial], plan: Plan) -> list[Condition]:
    """Everything that is measured with several sites rewritten at once."""
    found = [*_baselines(materials), *_ladders(materials, plan)]
    refitted = {m.site.module: m.refitted for m in materials if m.refitted is not None}
    if len(refitted) == len(materials):
        found.append(_whole("shuffled-refit", refitted, plan))
    if 1.0 in plan.fractions and any(m.as_written is not None for m in materials):
        before = {m.site.module: m.as_written or m.prediction for m in materials}
        found.append(_whole("rewritten-as-written", before, plan))
    return found


def _ladders(materials: Sequence[SiteMaterial], plan: Plan) -> Iterator[Condition]:
    """Every fraction in every order: of the rewrite (by each calibrator), its oracles and its control, at all sites.

    The rewrite is averaged over several random orders; its control and its oracles are measured in the first of them.
    With every latent replaced all orders are the same: that condition stands once, with the first order.
    """
    plain = {m.site.module: m.prediction for m in materials}
    ladders: list[tuple[str, Mode, int, Mapping[str, Prediction]]] = [
        ("rewritten", "simulated", plan.draws, plain),
        ("oracle-support", "support", 1, plain),
        ("oracle-magnitude", "magnitude", 1, plain),
    ]
    for by in materials[0].otherwise:
        ladders.append(
            (f"rewritten:{by}", "simulated", plan.draws, {m.site.module: m.otherwise[by] for m in materials})
        )
    shuffled = {m.site.module: m.shuffled for m in materials if m.shuffled is not None}
    if len(shuffled) == len(materials):  # a site that kept its own explanations would make it no control
        ladders.append(("shuffled", "simulated", 1, shuffled))
    for (name, mode, draws, predictions), order, fraction in product(ladders, plan.orders, plan.fractions):
        if fraction == 1 and order != plan.orders[0]:
            continue
        for draw in range(draws if order == "random" and fraction < 1 else 1):
            treatments: dict[str, Treatment] = {}
            for material in materials:
                chosen = first_latents(material, order, fraction, plan.seed, draw)
                module = material.site.module
                treatments[module] = Mixture(predictions[module], chosen, mode, plan.keep)
            yield Condition(name, treatments, fraction, order, draw)


def first_latents(
    material: SiteMaterial, order: Order, fraction: float, seed: int, draw: int
) -> Bool[np.ndarray, " latents"]:
    """Which latents are replaced: the first of the order, at least one where the fraction is above 0.

    "best": explained latents before others, by score; "mass": by mean activation times decoder norm; "random": by the
    seed, the site and the draw.
    """
    latents = len(material.mean)
    count = min(latents, max(int(fraction > 0), round(fraction * latents)))
    if count == latents:
        return np.ones(latents, bool)
    chosen = np.zeros(latents, bool)
    chosen[_ordered(material, order, seed, draw)[:count]] = True
    return chosen


def _ordered(material: SiteMaterial, order: Order, seed: int, draw: int) -> Int[np.ndarray, " latents"]:
    if order == "best":
        assert material.score is not None, "without scores there is no best"
        return np.lexsort((-material.score, ~material.explained))
    if order == "mass":
        return np.argsort(-material.mass, kind="stable")
    site = int.from_bytes(hashlib.sha256(material.site.module.encode()).digest()[:4], "big")
    return np.random.default_rng([seed, site, draw]).permutation(len(material.mean))


def _baselines(materials: Sequence[SiteMaterial]) -> Iterator[Condition]:
    yield Condition("original", {})
    for kind in ("coder", "zero-output", "zero-latents", "mean-latents"):
        yield Condition(kind, {m.site.module: Baseline(kind) for m in materials})


def _whole(name: str, predictions: Mapping[str, Prediction], plan: Plan) -> Condition:
    """Every latent replaced, at every given site."""
    treatments: dict[str, Treatment] = {
        module: Mixture(prediction, np.ones(len(prediction.explained), bool), "simulated", plan.keep)
        for module, prediction in predictions.items()
    }
    return Condition(name, treatments, 1.0, plan.orders[0])


def _edit_conditions(material: SiteMaterial, plan: Plan) -> Iterator[Condition]:
    """The rewrite with a site's explanations as they were written, and with each edit alone taken back.

    As they were written all levels are what they were before any edit, also of latents that only stood in a prompt with
    an edited one; with one edit taken back that latent's are, and all others' stay as they are now.
    What they are compared with is everything rewritten; a plan without that has none.
    """
    if material.as_written is None or 1.0 not in plan.fractions:
        return
    module = material.site.module
    yield _whole("rewritten-as-written", {module: material.as_written}, plan)
    for latent in material.edited[:EDITS_MEASURED]:
        without = material.prediction.with_latents_of(material.as_written, np.array([latent]))
        yield _whole(f"rewritten-without-edit:{latent}", {module: without}, plan)


def condition_key(condition: Condition, materials: Mapping[str, SiteMaterial], measured_on: bytes) -> str:
    """A hash of all that a condition's losses depend on: names do not count, and neither do latents left true.

    `measured_on`: what is common to all conditions (the model, the rows, the positions).
    """
    digest = hashlib.sha256(measured_on)
    for module, treatment in sorted(condition.treatments.items()):
        digest.update(materials[module].fingerprint.encode())
        if isinstance(treatment, Baseline):
            digest.update(treatment.kind.encode())
            continue
        if isinstance(treatment, Constant):
            digest.update(b"constant" + treatment.output.tobytes())
            continue
        digest.update(f"{treatment.mode} {treatment.keep}".encode())
        digest.update(np.packbits(treatment.chosen).tobytes())
        for latent in np.flatnonzero(treatment.chosen):
            digest.update(treatment.prediction.digests[latent])
    return digest.hexdigest()
