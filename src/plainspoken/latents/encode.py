"""Encode a corpus into firing tables: one pass of the model, then a counting sort that never holds the corpus.

The pass writes the firings as they come, in the order of the text, to a spill file, and counts them by latent. The
counts say where each latent's firings will stand; reading the spill a chunk at a time, every firing goes straight to
its place in a mapped file. Memory: one batch of activations, one batch of pre-activations [tokens of a batch, latents],
one chunk of the spill; the mapped files' pages are given back as they are written.
"""

import mmap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from jaxtyping import Int

from plainspoken.activations import BATCH_ROWS, stream
from plainspoken.activations.mapped import reserve
from plainspoken.activations.stream import ActivationBatch
from plainspoken.coders import Coder
from plainspoken.corpus.rows import require_part
from plainspoken.latents.table import ABOUT, POINTER, POSITION, VALUE, FiringTable
from plainspoken.lm import LanguageModel
from plainspoken.store import write_json
from plainspoken.types import Rows, Site

FIRING = np.dtype([("position", np.int64), ("value", np.float32), ("latent", np.int32)])
CHUNK = 2**18
"""Firings sorted at a time."""
PIECE = 2**15
"""Firings written to a mapped file before its pages are given back; at worst each has a page of its own."""
ENCODE_AT_ONCE = 6 * 2**20
"""Pre-activations computed at a time: bounds [tokens, latents].

24 MB in float32. From 32 MB on, glibc's malloc takes an array from the system anew each time, page by page, which cost
a third of the matmul's own time; fewer tokens at a time make the matmul itself slower.
"""


def encode_rows(
    lm: LanguageModel,
    coders: Mapping[Site, Coder],
    rows: Rows,
    folders: Mapping[Site, Path],
    progress: Callable[[int], object] | None = None,
    batch_rows: int = BATCH_ROWS,
) -> dict[Site, FiringTable]:
    """Every coder's firings at the tokens of the rows, written into its site's folder and opened from there.

    All sites in one pass over the text. `progress` is told how many more rows are done. Raises ActivationError for NaN
    or infinity, naming the document and the site; LeakError for evaluate rows, whose firings nothing may learn from.
    """
    require_part(rows, "fit", "explain", "calibrate")
    spills = {site: _Spill(folders[site], coder.spec.latents) for site, coder in coders.items()}
    try:
        for batches in stream(lm, list(coders), rows, batch_rows, progress):
            for site, coder in coders.items():
                for firings in _firings(coder, batches[site.module]):
                    spills[site].add(firings)
        for spill in spills.values():
            spill.sort(rows)
    finally:
        for spill in spills.values():
            spill.discard()
    return {site: FiringTable.open(folders[site], rows) for site in coders}


def _firings(coder: Coder, batch: ActivationBatch) -> Iterator[np.ndarray]:
    """A batch's firings in the order of the text, in pieces small enough to encode at once."""
    start = batch.first_row * batch.tokens.shape[1]
    x, mask = batch.x.flatten(0, 1), batch.mask.flatten()
    for part in mask.nonzero().squeeze(1).split(max(1, ENCODE_AT_ONCE // coder.spec.latents)):
        with torch.no_grad():
            code = coder.encode(x[part].to(coder.W_enc.device))
        values, latent = code.values.cpu().numpy(), code.indices.cpu().numpy()
        token, entry = np.nonzero(values > 0)
        firings = np.empty(len(token), FIRING)
        firings["position"] = part.cpu().numpy()[token] + start
        firings["value"] = values[token, entry]
        firings["latent"] = latent[token, entry]
        yield firings


class _Spill:
    """Firings in the order of the text, on disk, with their number by latent."""

    def __init__(self, folder: Path, latents: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / ".spill.part"
        self._file: BinaryIO = open(self._path, "w+b")  # noqa: SIM115
        self._counts = np.zeros(latents, np.int64)

    def add(self, firings: np.ndarray) -> None:
        """Appends firings whose positions all come after those before."""
        self._counts += np.bincount(firings["latent"], minlength=len(self._counts))
        self._file.write(firings.tobytes())

    def sort(self, rows: Rows) -> None:
        """Writes the table's files."""
        pointer = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._counts)])
        np.save(self._folder / POINTER, pointer)
        total = int(pointer[-1])
        self._file.seek(0)
        position, value = (
            _new(self._folder / name, total, kind) for name, kind in ((POSITION, np.int64), (VALUE, np.float32))
        )
        cursor = pointer[:-1].copy()
        while len(firings := np.fromfile(self._file, FIRING, CHUNK)):
            order, places = _places(firings["latent"], cursor)
            _fill(position, places, firings["position"][order])
            _fill(value, places, firings["value"][order])
        for table in (position, value):
            if isinstance(table, np.memmap):
                table.flush()
        write_json(self._folder / ABOUT, {"rows": rows.fingerprint, "latents": len(cursor), "firings": total})

    def discard(self) -> None:
        """Closes and removes the spill."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def _places(
    latent: Int[np.ndarray, " n"], cursor: Int[np.ndarray, " latents"]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """(a chunk's firings in the order of their latents, where each of these goes). Moves the cursor on.

    A firing goes after all those that its latent had so far; the places ascend, so pages are written one after another.
    """
    # Radix sort over 16 bits takes a tenth of the time of a sort by comparing.
    order = np.argsort(latent.astype(np.uint16) if len(cursor) <= 2**16 else latent, kind="stable")
    counts = np.bincount(latent, minlength=len(cursor))
    starts = np.cumsum(counts) - counts
    places = np.arange(len(latent)) - np.repeat(starts - cursor, counts)
    cursor += counts
    return order, places


def _fill(table: np.ndarray, places: Int[np.ndarray, " n"], entries: np.ndarray) -> None:
    """Writes entries to their places, which ascend; the pages of a mapped table leave the process as it goes.

    The system writes them to the file when it likes. Kept, they would add up to the table.
    """
    for first in range(0, len(places), PIECE):
        part = slice(first, first + PIECE)
        table[places[part]] = entries[part]
        if isinstance(table.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            table.base.madvise(mmap.MADV_DONTNEED)


def _new(path: Path, n: int, kind: type) -> np.ndarray:
    """An array of n entries on disk, to be filled."""
    if n == 0:  # nothing can be mapped from an empty file
        np.save(path, np.empty(0, kind))
        return np.empty(0, kind)
    table = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=(n,))
    reserve(path, path.stat().st_size)
    return table
