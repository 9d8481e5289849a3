"""Coders that a run takes from elsewhere (`coder.load`): found, held against their sites, kept as the run's own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from plainspoken.coders import Coder, fingerprint, load_any, require_fits, save_coder
from plainspoken.errors import ConfigError
from plainspoken.pipeline.coder_source import coder_path, require_trained
from plainspoken.pipeline.sources import short_name
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
            coder, path, _ = _load(workplace, site)
            if coder.spec.k is None and workplace.config.evaluate.keep == "top-k":
                raise ConfigError(f"evaluate.keep is top-k, but nothing in {path} tells its k; use evaluate.keep=all")


def load_coders(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes coder.safetensors and coder.json at each site; the manifest counts format and hash of where they are from.

    From here on the run needs the place that they came from no more.
    """
    wanted = {unit.site for unit in units}
    for site in workplace.sites:
        if site.module not in wanted:
            continue
        coder, path, form = _load(workplace, site)
        loaded = {"name": short_name(str(path)), "format": form, "sha256": fingerprint(path)}
        lm, seed = workplace.lm, workplace.config.seed
        extra = {"lm": short_name(lm.name), "lm_fingerprint": lm.fingerprint, "seed": seed, "loaded": loaded}
        save_coder(workplace.path("train", site.module), coder, site, extra)
        yield Outcome(Unit("train", site.module), {"loaded": loaded, "latents": coder.spec.latents})


def _load(workplace: Workplace, site: Site) -> tuple[Coder, Path, str]:
    """(the coder for a site, where it lies, its format)."""
    given = Path(str(workplace.config.coder.load))
    path = coder_path(given, site.module, [each.module for each in workplace.sites])
    require_trained(given, path)
    coder, _, form = load_any(path)
    require_fits(coder, site, path)
    return coder, path, form
