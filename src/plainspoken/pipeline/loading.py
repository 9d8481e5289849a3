"""Coders that a run takes from elsewhere (`coder.load`): found, held against their sites, kept as the run's own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from plainspoken.coders import Coder, fingerprint, load_any, read_extra, require_fits, save_coder
from plainspoken.config.named import short_name
from plainspoken.errors import ConfigError
from plainspoken.lm import LanguageModel, candidate_sites
from plainspoken.pipeline.coder_source import coder_path, require_trained
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.types import Site


def require_loadable(workplace: Workplace, *, anew: bool = False) -> None:
    """CoderError where the coder of a site that has none yet is not there, came to harm or does not fit.

    ConfigError where the evaluation would need its k, which nobody knows.
    anew: of the sites that have one, which is to be read again.
    """
    for site in workplace.sites:
        known = workplace.folder(Unit("train", site.module)).manifest() is not None
        if known is anew:
            found = _load(workplace, site)
            if found.coder.spec.k is None and workplace.config.evaluate.keep == "top-k":
                raise ConfigError(
                    f"evaluate.keep is top-k, but nothing in {found.path} tells its k; use evaluate.keep=all"
                )


def load_coders(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes coder.safetensors and coder.json at each site; the manifest counts format and hash of where they are from.

    From here on the run needs the place that they came from no more. Warns of a coder that is another site's or model's
    by what is said where it lies: it fits, so that whoever named it may mean it.
    """
    wanted = {unit.site for unit in units}
    for site in workplace.sites:
        if site.module not in wanted:
            continue
        found, lm, seed = _load(workplace, site), workplace.lm, workplace.config.seed
        for doubt in (_of_another_site(found, site, lm), _of_another_model(found, lm)):
            if doubt is not None:
                workplace.progress.warn(doubt)
        loaded = {"name": found.name, "format": found.format, "sha256": fingerprint(found.path)}
        extra = {"lm": short_name(lm.name), "lm_fingerprint": lm.fingerprint, "seed": seed, "loaded": loaded}
        save_coder(workplace.path("train", site.module), found.coder, site, extra)
        yield Outcome(Unit("train", site.module), {"loaded": loaded, "latents": found.coder.spec.latents})


@dataclass(frozen=True)
class _Found:
    coder: Coder
    path: Path
    name: str
    """What it is called, wherever it lies."""
    format: str
    module: str
    """Where it belongs, as the checkpoint names it."""


def _load(workplace: Workplace, site: Site) -> _Found:
    """The coder for a site."""
    source = workplace.coder_source
    path = coder_path(source.path, site.module, [each.module for each in workplace.sites])
    require_trained(source.path, path)
    coder, named, form = load_any(path)
    require_fits(coder, site, path)
    return _Found(coder, path, source.name_of(path), form, named.module)


def _of_another_site(found: _Found, site: Site, lm: LanguageModel) -> str | None:
    """Only where the name is one of this model's sites; a single word (`mlp`, `3`) tells no layer from another."""
    meant = [module for module in candidate_sites(lm) if f".{module}".endswith(f".{found.module}")]
    if "." not in found.module or not meant or site.module in meant:
        return None
    return (
        f"{found.path} holds a coder of {found.module}, by what is written there or its folder's name, and is taken "
        f"for {site.module}; if that is not meant, use --site {meant[0]}, or name another coder"
    )


def _of_another_model(found: _Found, lm: LanguageModel) -> str | None:
    """Only our own checkpoints tell."""
    extra = read_extra(found.path) if found.format == "plainspoken" else {}
    if extra.get("lm_fingerprint") in (None, lm.fingerprint):
        return None
    return (
        f"{found.path} was trained on {extra.get('lm')}, whose fingerprint is not that of {short_name(lm.name)}: other "
        "weights, another lm.dtype or other tokens; if that is not meant, name another --lm, or another coder"
    )
