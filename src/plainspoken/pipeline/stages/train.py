"""Train: one pass over the fit rows feeds the coders of all sites."""

from collections.abc import Iterator, Sequence

import torch

from plainspoken.coders import CoderSpec
from plainspoken.config import CoderConfig, TrainConfig
from plainspoken.errors import ConfigError
from plainspoken.language.counted import counted
from plainspoken.pipeline.fitting import fit, sources
from plainspoken.pipeline.loading import load_coders, require_loadable
from plainspoken.pipeline.shelves import load_rows
from plainspoken.pipeline.stage import Outcome, Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.train.objective import objective_of
from plainspoken.types import Site


def check(workplace: Workplace) -> None:
    """ConfigError where the coder or the training that is asked for does not fit a site, CoderError where a coder that
    is to be loaded does not."""
    if workplace.config.coder.load is not None:
        require_loadable(workplace)
        return
    for site in workplace.sites:
        require_trainable(coder_spec(workplace.config.coder, site), workplace.config.train)


def needs(workplace: Workplace) -> None:
    """CoderError where a coder that is to be loaded again is no longer what it has to be."""
    if workplace.config.coder.load is not None:
        require_loadable(workplace, anew=True)


def work(workplace: Workplace, units: Sequence[Unit]) -> Iterator[Outcome]:
    """Writes coder.safetensors and coder.json at each site, and of a coder that is trained log.jsonl."""
    if workplace.config.coder.load is not None:
        yield from load_coders(workplace, units)
        return
    workplace.processes.tell([unit.name for unit in units])
    wanted = {unit.site for unit in units}
    sites = {site.module: site for site in workplace.sites if site.module in wanted}
    specs = {module: coder_spec(workplace.config.coder, site) for module, site in sites.items()}
    folders = {module: workplace.path("train", module) for module in sites}
    rows = load_rows(workplace, "fit")
    for source in sources(workplace, list(sites.values()), rows, workplace.path("train")):
        label = source.sites[0] if len(source.sites) == 1 else f"coders at {counted(len(source.sites), 'site')}"
        for module, counts in fit(workplace, source, sites, specs, folders, rows, label):
            yield Outcome(Unit("train", module), {"fit_tokens": rows.token_count, **counts})


def work_along(workplace: Workplace) -> None:
    """What the processes that are not the first do under torchrun: their part of every training, until there is none.

    They write nothing; all other stages are the first one's.
    """
    while (names := workplace.processes.hear()) is not None:
        units = [Unit("train", name.removeprefix("train/")) for name in names]
        for _ in work(workplace, units):
            raise AssertionError("only the first process has something to say")


def require_trainable(spec: CoderSpec, config: TrainConfig) -> None:
    """ConfigError where the settings of a training do not go with the coder: before any text is read for it."""
    objective_of(config, spec, 1.0, torch.device("cpu"))


def coder_spec(config: CoderConfig, site: Site) -> CoderSpec:
    """What is trained at this site: an SAE where input and output are one, else a transcoder, unless told.

    Raises ConfigError where the kind that is asked for does not fit the site.
    """
    kind = ("sae" if site.kind == "resid" else "transcoder") if config.kind == "auto" else config.kind
    # With sites of both kinds the skip is the transcoders'; an SAE that is asked for by name is refused with one.
    skip = config.skip and not (config.kind == "auto" and kind == "sae")
    if kind == "transcoder" and site.kind == "resid":
        raise ConfigError(
            f"coder.kind is transcoder, but at {site.module} (a decoder layer, read and written at its output) "
            "there is nothing to predict one from the other; use coder.kind=sae, or name its FFN as the site"
        )
    assert kind == "transcoder" or site.kind == "resid", "an SAE's sites are read at their output (`reconstructed`)"
    return CoderSpec(kind, config.activation, config.latents, config.k, skip, site.d_in, site.d_out)
