"""The mixing buffer: vectors of text too large to keep, read again in every epoch and mixed across two chunks of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.activations.masks import norms
from plainspoken.activations.mixing import MixingOrder, Stretch
from plainspoken.activations.shares import ALONE, Portion, Share
from plainspoken.activations.stream import BATCH_ROWS
from plainspoken.activations.survey import Survey, survey
from plainspoken.activations.tables import Tables, fill, fingerprint
from plainspoken.corpus import require_part
from plainspoken.lm import LanguageModel
from plainspoken.types import Rows, Site


@dataclass(frozen=True, eq=False)
class _Chunk:
    """One process's portion of a chunk, at every site."""

    portion: Portion
    tables: Tables
    norms: Mapping[str, tuple[Float[Tensor, " n"], Float[Tensor, " n"]]]


@dataclass(frozen=True, eq=False)
class _Window:
    """One process's share of the window that is being served.

    Its chunks, one or two, lie one after another: `places` goes through the window and says where in them a vector is,
    or -1 where it is another process's; `kept` is, by site, whether the vector there is not masked.
    """

    epoch: int
    number: int
    chunks: tuple[_Chunk, ...]
    places: Int[Tensor, " window"]
    kept: dict[str, Bool[Tensor, " n"]]


class MixingBuffer:
    """A `VectorSource` that holds no more than two chunks of vectors, in the order of `plainspoken.activations.mixing`.

    What it holds at a step follows from seed and step: a training that resumes needs nothing from it but that at most
    two chunks are read again. Limits of norms and moments are those of the first chunk, which is a sample of the text
    drawn row by row; it is read when the buffer is made, and counted in `survey(site).moments.vectors`.
    """

    def __init__(
        self,
        lm: LanguageModel,
        sites: Sequence[Site],
        rows: Rows,
        *,
        vectors: int,
        batch: int,
        seed: int,
        outlier_norm: float = 0.0,
        share: Share = ALONE,
        device: torch.device | str = "cpu",
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        """`vectors`: how many of each site are held at most, by all processes together.

        `batch`: vectors of a step over all processes. `outlier_norm`: times the median norm, above which a vector is
        masked (0: none is). `device`: where the vectors are held and served. Raises LeakError for rows of another part
        than fit, ConfigError for fewer vectors than two rows have, ActivationError (also `batch`) for NaN or infinity.
        """
        require_part(rows, "fit")
        self.sites = tuple(site.module for site in sites)
        self._lm, self._where, self._rows = lm, tuple(sites), rows
        self._batch, self._share, self._device, self._batch_rows = batch, share, device, batch_rows
        self._tokens = rows.mask.sum(1)
        self._order = MixingOrder(self._tokens, vectors // 2, seed)
        self._settings = f"mixed {vectors // 2} {outlier_norm} {batch_rows}"
        self._chunks: dict[tuple[int, int], _Chunk] = {}
        self._window: _Window | None = None
        [chunk] = self._hold(0, [0])
        self._surveys = {site: survey(*table, outlier_norm, rows, share)[0] for site, table in chunk.tables.items()}

    def survey(self, site: str) -> Survey:
        """Of the first chunk."""
        return self._surveys[site]

    def fingerprint(self, site: str) -> str:
        """Of the model, the site, the rows, the mask and the buffer's size."""
        [where] = (where for where in self._where if where.module == site)
        return fingerprint(self._lm.fingerprint, where, self._rows.fingerprint, self._settings)

    def batch(self, step: int) -> dict[str, tuple[Float[Tensor, "m d_in"], Float[Tensor, "m d_out"]]]:
        """Places [step * batch, (step + 1) * batch) of the endless order; reads a chunk where a new window begins."""
        stretches = self._order.between(step * self._batch, (step + 1) * self._batch)
        drawn = [self._draw(stretch) for stretch in stretches]
        return {site: _joined([one[site] for one in drawn]) for site in self.sites}

    def _draw(self, stretch: Stretch) -> dict[str, tuple[Float[Tensor, "m d_in"], Float[Tensor, "m d_out"]]]:
        """This process's vectors of a stretch."""
        window = self._window
        if window is None or (window.epoch, window.number) != (stretch.epoch, stretch.window):
            # The old window holds on to a chunk that has to go before the next is read.
            window = self._window = None
            window = self._window = self._open(stretch.epoch, stretch.window)
        places = window.places[stretch.start : stretch.stop]
        mine = places[places >= 0]
        drawn = {}
        for site in self.sites:
            here = mine[window.kept[site][mine]]
            tables = [chunk.tables[site] for chunk in window.chunks]
            x = _take([x for x, _ in tables], here)
            drawn[site] = (x, x if tables[0][0] is tables[0][1] else _take([y for _, y in tables], here))
        return drawn

    def _open(self, epoch: int, number: int) -> _Window:
        """The window, its chunks read where they are not yet held."""
        wanted = list(range(max(0, number - 1), number + 1))
        chunks = self._hold(epoch, wanted)
        chunk_of, token = self._order.epoch(epoch).window(number)
        places = torch.full_like(token, -1)
        before = 0
        for name, chunk in zip(wanted, chunks, strict=True):
            here = chunk_of == name
            local = chunk.portion.local(token[here])
            places[here] = torch.where(local >= 0, local + before, -1)
            before += chunk.portion.size
        kept = {
            site: torch.cat([known.limits.kept(*chunk.norms[site]) for chunk in chunks])
            for site, known in self._surveys.items()
        }
        return _Window(epoch, number, chunks, places.to(self._device), kept)

    def _hold(self, epoch: int, wanted: Sequence[int]) -> tuple[_Chunk, ...]:
        """The chunks wanted of an epoch; what else was held is let go first, so that there are never more than two."""
        self._chunks = {key: chunk for key, chunk in self._chunks.items() if key in {(epoch, c) for c in wanted}}
        for c in wanted:
            if (epoch, c) not in self._chunks:
                self._chunks[epoch, c] = self._read(epoch, c)
        return tuple(self._chunks[epoch, c] for c in wanted)

    def _read(self, epoch: int, chunk: int) -> _Chunk:
        chosen = self._order.epoch(epoch).rows_of(chunk)
        portion = Portion(self._tokens[chosen], self._batch_rows, self._share)
        tables: dict[str, tuple[Float[Tensor, "n d_in"], Float[Tensor, "n d_out"]]] = {}
        for site in self._where:
            x = torch.empty(portion.size, site.d_in, device=self._device)
            y = x if site.kind == "resid" else torch.empty(portion.size, site.d_out, device=self._device)
            tables[site.module] = (x, y)
        fill(tables, self._lm, self._where, self._rows, chosen, portion)
        return _Chunk(portion, tables, {site: norms(*table) for site, table in tables.items()})


def _take(tables: Sequence[Float[Tensor, "_ d"]], places: Int[Tensor, " m"]) -> Float[Tensor, "m d"]:
    """The vectors at these places of tables that lie one after another, without putting them together."""
    if len(tables) == 1:
        return tables[0].index_select(0, places)
    first, second = tables
    late = places >= len(first)
    taken = first.new_empty(len(places), first.shape[1])
    for table, before, here in ((first, 0, ~late), (second, len(first), late)):
        of = here.nonzero().squeeze(1)
        taken.index_copy_(0, of, table.index_select(0, places[of] - before))
    return taken


def _joined(
    drawn: Sequence[tuple[Float[Tensor, "_ d_in"], Float[Tensor, "_ d_out"]]],
) -> tuple[Float[Tensor, "m d_in"], Float[Tensor, "m d_out"]]:
    """Stretches of one site after one another."""
    if len(drawn) == 1:
        return drawn[0]
    x = torch.cat([x for x, _ in drawn])
    return x, x if drawn[0][0] is drawn[0][1] else torch.cat([y for _, y in drawn])
