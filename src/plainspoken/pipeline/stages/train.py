"""Train: one pass over the fit rows collects the activations of all sites, then a coder is fitted at each."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from plainspoken.activations import collect
from plainspoken.coders import CoderSpec, save_coder
from plainspoken.config import CoderConfig
from plainspoken.errors import ConfigError
from plainspoken.pipeline.loading import load_coders, require_loadable
from plainspoken.pipeline.shelves import load_rows
from plainspoken.pipeline.sources import short_name
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.train import has_checkpoint, remove_checkpoint, train_coder
from plainspoken.types import Site


def check(workplace: Workplace) -> None:
    """ConfigError where the coder that is asked for does not fit a site, CoderError where one that is to be loaded."""
    if workplace.config.coder.load is not None:
        require_loadable(workplace)
        return
    for site in workplace.sites:
        coder_spec(workplace.config.coder, site)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes coder.safetensors and coder.json at each site, and of a coder that is trained log.jsonl."""
    config, lm = workplace.config, workplace.lm
    if config.coder.load is not None:
        yield from load_coders(workplace, units)
        return
    wanted = {unit.site for unit in units}
    sites = [site for site in workplace.sites if site.module in wanted]
    specs = {site.module: coder_spec(config.coder, site) for site in sites}
    rows = load_rows(workplace, "fit")
    with workplace.progress.track("reading activations", len(rows.tokens)) as advance:
        stores = collect(lm, sites, rows, workplace.path("train"), advance)
    for site in sites:
        folder = workplace.path("train", site.module)
        if has_checkpoint(folder):
            workplace.progress.say(f"training {site.module} goes on from its last checkpoint")
        with workplace.progress.track(f"training {site.module}", config.train.tokens) as advance:
            coder = train_coder(
                stores[site.module], specs[site.module], config.train, folder, config.seed, advance, lm.device
            )
        save_coder(
            folder, coder, site, {"lm": short_name(lm.name), "lm_fingerprint": lm.fingerprint, "seed": config.seed}
        )
        remove_checkpoint(folder)
        log = _last_line(folder / "log.jsonl")
        yield Outcome(Unit("train", site.module), {"fit_tokens": rows.token_count, **log})


def coder_spec(config: CoderConfig, site: Site) -> CoderSpec:
    """What is trained at this site: an SAE where input and output are one, else a transcoder, unless told.

    Raises ConfigError where the kind that is asked for does not fit the site.
    """
    kind = ("sae" if site.kind == "resid" else "transcoder") if config.kind == "auto" else config.kind
    if kind == "transcoder" and site.kind == "resid":
        raise ConfigError(
            f"coder.kind is transcoder, but at {site.module} (a decoder layer, read and written at its output) "
            "there is nothing to predict one from the other; use coder.kind=sae, or name its FFN as the site"
        )
    if kind == "sae" and site.kind == "mlp":
        raise ConfigError(
            f"coder.kind is sae, but {site.module} is an FFN, read at its input and written at its output; use "
            "coder.kind=transcoder, or name a decoder layer as the site"
        )
    return CoderSpec(kind, config.activation, config.latents, config.k, config.skip, site.d_in, site.d_out)


def _last_line(path: Path) -> dict[str, float | int]:
    lines = path.read_text("utf-8").splitlines()
    return {f"final_{name}": value for name, value in json.loads(lines[-1]).items()} if lines else {}
