"""Train: one pass over the fit rows collects the activations of all sites, then a coder is fitted at each."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from plainspoken.activations import store_vectors
from plainspoken.coders import CoderSpec, save_coder
from plainspoken.config import CoderConfig
from plainspoken.errors import ConfigError
from plainspoken.pipeline.shelves import load_rows
from plainspoken.pipeline.sources import short_name
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.train import has_checkpoint, remove_checkpoint, train_coders
from plainspoken.types import Site


def check(workplace: Workplace) -> None:
    """ConfigError where the coder that is asked for does not fit a site."""
    for site in workplace.sites:
        coder_spec(workplace.config.coder, site)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes coder.safetensors, coder.json and log.jsonl at each site."""
    config, lm = workplace.config, workplace.lm
    wanted = {unit.site for unit in units}
    sites = [site for site in workplace.sites if site.module in wanted]
    specs = {site.module: coder_spec(config.coder, site) for site in sites}
    rows = load_rows(workplace, "fit")
    with workplace.progress.track("reading activations", len(rows.tokens)) as advance:
        source = store_vectors(
            lm, sites, rows, workplace.path("train"), batch=config.train.batch, seed=config.seed, progress=advance,
            outlier_norm=config.train.outlier_norm,
        )  # fmt: skip
    for site in sites:
        folder = workplace.path("train", site.module)
        if has_checkpoint(folder):
            workplace.progress.say(f"training {site.module} goes on from its last checkpoint")
        with workplace.progress.track(f"training {site.module}", config.train.tokens) as advance:
            [coder] = train_coders(
                source.only(site.module), specs, config.train, {site.module: folder}, config.seed, advance, lm.device
            ).values()
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
