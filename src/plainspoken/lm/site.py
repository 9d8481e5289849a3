"""Name a site: a path like "model.layers.2.mlp", a glob, or several with commas between."""

import difflib
from collections.abc import Sequence

import torch
from torch import nn

from plainspoken.config.site_names import is_named
from plainspoken.errors import SiteError
from plainspoken.lm.hooks import capture
from plainspoken.lm.load import LanguageModel
from plainspoken.types import Site, SiteKind

# What model families call the feed-forward network of a decoder layer.
_FFN_NAMES = ("mlp", "feed_forward", "ffn", "ff", "block_sparse_moe")


def resolve_sites(lm: LanguageModel, pattern: str) -> tuple[Site, ...]:
    """The sites that `pattern` names, each once, in the order in which the model runs them.

    A glob matches path part by path part: "model.layers.*" is every decoder layer (kind `resid`: its output),
    "model.layers.*.mlp" every feed-forward network (kind `mlp`). Widths are found by running the model on one token.
    Raises SiteError, naming the nearest, for a name or a glob that fits no site.
    """
    kinds = candidate_sites(lm)
    chosen = {path for name in pattern.split(",") for path in _matches(lm, kinds, name.strip())}
    wanted = [Site(path, kind, 1, 1) for path, kind in kinds.items() if path in chosen]
    return _measured(lm, wanted)


def reconstructed(site: Site) -> Site:
    """The site as an SAE has it, which reads and writes one activation: the module's output."""
    return Site(site.module, "resid", site.d_out, site.d_out)


def candidate_sites(lm: LanguageModel) -> dict[str, SiteKind]:
    """Every module that can be a site, by path, in the order in which the model runs them: FFN, then its layer.

    Decoder layers are the members of the list that is as long as the configuration says there are layers.
    """
    layers = lm.model.config.get_text_config().num_hidden_layers
    found: dict[str, SiteKind] = {}
    for path, module in lm.model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            for i, layer in enumerate(module):
                children = dict(layer.named_children())
                found |= {f"{path}.{i}.{name}": "mlp" for name in _FFN_NAMES if name in children}
                found[f"{path}.{i}"] = "resid"
    return found


def _matches(lm: LanguageModel, kinds: dict[str, SiteKind], name: str) -> list[str]:
    """The paths that one name or glob fits: at least one."""
    matches = [path for path in kinds if is_named(path, name)]
    if matches:
        return matches
    modules = dict(lm.model.named_modules())
    nearest = difflib.get_close_matches(name, list(kinds), n=1, cutoff=0.0)
    layers = lm.model.config.get_text_config().num_hidden_layers
    what = "is no feed-forward network or decoder layer" if name and name in modules else "fits no module"
    raise SiteError(
        f"'{name}' {what} of {lm.name} ({layers} layers); "
        + (f"nearest: {nearest[0]}" if nearest else "no module of this architecture is known as a site")
    )


def _measured(lm: LanguageModel, sites: Sequence[Site]) -> tuple[Site, ...]:
    """The same sites with the widths that a forward pass over one token shows."""
    token = torch.zeros(1, 1, dtype=torch.long, device=lm.device)
    with torch.no_grad(), capture(lm, sites) as seen:
        lm.model(token, use_cache=False)
    return tuple(
        Site(site.module, site.kind, seen[site.module][0].shape[-1], seen[site.module][1].shape[-1]) for site in sites
    )
