"""Coders: one of every kind and k at one FFN, all fitted to the same activations, which are collected once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from plainspoken.activations import ActivationStore, collect
from plainspoken.activations.stored import StoredVectors
from plainspoken.coders import CoderSpec
from plainspoken.config import CoderConfig
from plainspoken.errors import ConfigError, SiteError
from plainspoken.lm import reconstructed, resolve_sites
from plainspoken.pipeline.fitting import fit
from plainspoken.pipeline.shelves import load_rows
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.stages.train import coder_spec, require_trainable
from plainspoken.pipeline.workplace import Workplace
from plainspoken.types import Site


@dataclass(frozen=True)
class Variant:
    """One of the coders that are compared: its kind and k as they are asked for, and what they come to at the site."""

    kind: str
    k: int
    site: Site
    spec: CoderSpec

    @property
    def name(self) -> str:
        """`model.layers.2.mlp/skip-transcoder-k16`: its unit and its folder."""
        return f"{self.site.module}/{self.kind}-k{self.k}"


def check(workplace: Workplace) -> None:
    """SiteError unless the site is one FFN; ConfigError for a k above the number of latents, and for settings that a
    comparison has no use for."""
    for variant in variants(workplace):
        require_trainable(variant.spec, workplace.config.train)
    if workplace.config.coder.load is not None:
        raise ConfigError(
            "coder.load is set, but compare-coders trains every coder that it compares; use coder.load=none"
        )
    if workplace.config.coder.kind == "sae":
        raise ConfigError(
            "coder.kind is sae, but compare-coders trains a coder of each kind in compare.kinds; use --kinds sae "
            "(compare.kinds=sae), and leave coder.kind at auto"
        )
    if workplace.config.train.source == "buffer":
        raise ConfigError(
            "train.source is buffer, but compare-coders keeps activations for all of its coders; use train.source=store"
        )


def parts(workplace: Workplace) -> Sequence[str]:
    """The names of all variants."""
    return [variant.name for variant in variants(workplace)]


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes coder.safetensors, coder.json and log.jsonl in each variant's folder."""
    site, rows, train = _ffn(workplace), load_rows(workplace, "fit"), workplace.config.train
    with workplace.progress.track("reading activations", len(rows.tokens)) as advance:
        both = collect(workplace.lm, [site], rows, workplace.path("coders"), advance)[site.module]
    # An SAE has the same tokens' outputs on both of its sides.
    outputs = ActivationStore(both.y, both.y, f"{both.fingerprint} outputs")
    known = {variant.name: variant for variant in variants(workplace)}
    for unit in units:
        assert unit.site is not None
        variant = known[unit.site]
        store = outputs if variant.site.kind == "resid" else both
        source = StoredVectors(
            {site.module: store}, rows, batch=train.batch, seed=workplace.config.seed, outlier_norm=train.outlier_norm
        )
        folders = {site.module: workplace.path(unit.stage, unit.site)}
        sites, specs = {site.module: variant.site}, {site.module: variant.spec}
        for _, counts in fit(workplace, source, sites, specs, folders, rows, unit.site):
            yield Outcome(unit, {"fit_tokens": rows.token_count, **counts})


def variants(workplace: Workplace) -> tuple[Variant, ...]:
    """Every kind at every k, in the order asked for; raises as `check` does."""
    config, site = workplace.config, _ffn(workplace)
    found = []
    for kind in dict.fromkeys(config.compare.kinds):
        here = reconstructed(site) if kind == "sae" else site
        for k in sorted(set(config.compare.k)):
            found.append(Variant(kind, k, here, coder_spec(_varied(config.coder, kind, k), here)))
    return tuple(found)


def _varied(config: CoderConfig, kind: str, k: int) -> CoderConfig:
    if k > config.latents:
        raise ConfigError(f"compare.k asks for k = {k}, but coder.latents is {config.latents}; lower k or add latents")
    return replace(config, kind="sae" if kind == "sae" else "transcoder", skip=kind == "skip-transcoder", k=k)


def _ffn(workplace: Workplace) -> Site:
    """The one site, read at its input whatever `coder.kind` says."""
    sites = resolve_sites(workplace.lm, workplace.config.site)
    if len(sites) != 1 or sites[0].kind != "mlp":
        raise SiteError(
            f"coders are compared at one FFN, and '{workplace.config.site}' names "
            f"{', '.join(site.module for site in sites)}; name one FFN with --site"
        )
    return sites[0]
