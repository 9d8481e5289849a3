"""Vectors that are all kept: read once, and drawn from in a new order in every epoch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from plainspoken.activations.order import EpochOrder
from plainspoken.activations.shares import ALONE, Portion, Share
from plainspoken.activations.store import ActivationStore, collect
from plainspoken.activations.stream import BATCH_ROWS
from plainspoken.activations.survey import Survey, survey
from plainspoken.activations.tables import fingerprint
from plainspoken.lm import LanguageModel
from plainspoken.types import Rows, Site


class StoredVectors:
    """A `VectorSource` over stores of the same rows, one a site: each epoch is a shuffle of all the tokens."""

    def __init__(
        self,
        stores: Mapping[str, ActivationStore],
        rows: Rows,
        *,
        batch: int,
        seed: int,
        outlier_norm: float = 0.0,
        share: Share = ALONE,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        """`stores`: what `collect` keeps of the rows for this share, with these `batch_rows`.

        `batch`: vectors of a step over all processes. `outlier_norm`: times the median norm, above which a vector is
        masked (0: none is).
        """
        self.sites = tuple(stores)
        self._stores, self._batch, self._outlier_norm = stores, batch, outlier_norm
        self._portion = Portion(rows.mask.sum(1), batch_rows, share)
        self._order = EpochOrder(rows.token_count, seed)
        found = {site: survey(store.x, store.y, outlier_norm, rows, share) for site, store in stores.items()}
        self._surveys = {site: known for site, (known, _) in found.items()}
        self._kept = {site: kept for site, (_, kept) in found.items()}

    def survey(self, site: str) -> Survey:
        """Of all the text."""
        return self._surveys[site]

    def fingerprint(self, site: str) -> str:
        """Of the model, the site, the rows and the mask."""
        return fingerprint(self._stores[site].fingerprint, "stored", self._outlier_norm)

    def batch(self, step: int) -> dict[str, tuple[Float[Tensor, "m d_in"], Float[Tensor, "m d_out"]]]:
        """Places [step * batch, (step + 1) * batch) of the endless order, on the CPU."""
        places = self._portion.local(self._order.between(step * self._batch, (step + 1) * self._batch))
        mine = places[places >= 0]
        drawn = {}
        for site, store in self._stores.items():
            here = mine[self._kept[site][mine]]
            x = store.x.index_select(0, here)
            drawn[site] = (x, x if store.y is store.x else store.y.index_select(0, here))
        return drawn


def store_vectors(
    lm: LanguageModel,
    sites: Sequence[Site],
    rows: Rows,
    folder: Path,
    *,
    batch: int,
    seed: int,
    outlier_norm: float = 0.0,
    share: Share = ALONE,
    progress: Callable[[int], object] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> StoredVectors:
    """Reads and keeps this share of the fit rows' vectors, in `folder` where they are many (see `collect`)."""
    stores = collect(lm, sites, rows, folder, progress, batch_rows, share)
    return StoredVectors(
        stores, rows, batch=batch, seed=seed, outlier_norm=outlier_norm, share=share, batch_rows=batch_rows
    )
