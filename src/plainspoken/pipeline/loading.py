"""Coders that a run takes from elsewhere (`coder.load`): found, held against their sites, kept as the run's own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from plainspoken.coders import FORMATS, Coder, load_any, require_fits, save_coder
from plainspoken.errors import CoderError, ConfigError
from plainspoken.pipeline.sources import short_name
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace, is_run_folder
from plainspoken.store import sha256_file
from plainspoken.store.manifest import digest
from plainspoken.types import Site


def require_loadable(workplace: Workplace) -> None:
    """CoderError where a site has no coder yet and the one for it is not there, came to harm or does not fit.

    ConfigError where the evaluation would need its k, which nobody knows.
    """
    for site in workplace.sites:
        if workplace.folder(Unit("train", site.module)).manifest() is None:
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
        loaded = {"name": short_name(str(path)), "format": form, "sha256": _hash(path)}
        lm, seed = workplace.lm, workplace.config.seed
        extra = {"lm": short_name(lm.name), "lm_fingerprint": lm.fingerprint, "seed": seed, "loaded": loaded}
        save_coder(workplace.path("train", site.module), coder, site, extra)
        yield Outcome(Unit("train", site.module), {"loaded": loaded, "latents": coder.spec.latents})


def _load(workplace: Workplace, site: Site) -> tuple[Coder, Path, str]:
    """(the coder for a site, where it lies, its format)."""
    path = _place(workplace, site)
    coder, _, form = load_any(path)
    require_fits(coder, site, path)
    return coder, path, form


def _place(workplace: Workplace, site: Site) -> Path:
    """Where a site's coder lies: `coder.load` itself, or the folder in it that is named after the site.

    The folder may leave out the first parts of the module's path (`layers.3.mlp` for `gpt_neox.layers.3.mlp`), as
    sparsify does.
    """
    given, sites = Path(str(workplace.config.coder.load)), workplace.sites
    if any(form.recognises(given) for form in FORMATS.values()):
        if len(sites) > 1:
            raise CoderError(
                f"coder.load names one coder ({given}), but there are {len(sites)} sites; name a folder that holds one "
                "for each, in folders named after the sites"
            )
        return given
    above = given / "train" if is_run_folder(given) else given
    folders = sorted(path.name for path in above.iterdir() if path.is_dir()) if above.is_dir() else []
    fitting = [name for name in folders if f".{site.module}".endswith(f".{name}")]
    if fitting:
        return above / max(fitting, key=len)
    if len(sites) > 1 and folders:
        raise CoderError(f"{above} has no folder for {site.module}; there are: {', '.join(folders)}")
    return given


def _hash(path: Path) -> str:
    """SHA-256 of a checkpoint's file, or over all files of its folder."""
    if path.is_file():
        return sha256_file(path)
    return digest([(each.name, sha256_file(each)) for each in sorted(path.iterdir()) if each.is_file()])
