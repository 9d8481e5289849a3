"""The firing table is the dense code, sorted by latent, and nothing dense was built on the way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from plainspoken.coders import Coder
from plainspoken.errors import LeakError, StoreError
from plainspoken.latents import FiringTable, encode, encode_rows
from plainspoken.lm import LanguageModel
from plainspoken.types import Rows, Site


def check(table: FiringTable, dense: np.ndarray) -> None:
    assert table.latents == dense.shape[1]
    for latent in range(table.latents):
        position, value = table.latent(latent)
        assert position.tolist() == np.flatnonzero(dense[:, latent]).tolist()
        np.testing.assert_allclose(value, dense[position, latent], rtol=1e-4, atol=1e-5)
    assert len(table.position) == len(table.value) == table.pointer[-1]
    assert (table.position.dtype, table.value.dtype) == (np.int64, np.float32)


def test_the_table_equals_the_dense_oracle(tables: dict[Site, FiringTable], dense: dict[Site, np.ndarray]) -> None:
    assert len(tables) == 2
    for site, table in tables.items():
        check(table, dense[site])
        assert (np.diff(table.pointer) == 0).any()  # latents that never fire are there, with nothing
        assert isinstance(table.position, np.memmap)


@pytest.mark.parametrize(("batch_rows", "chunk", "at_once"), [(1, 1, 1), (3, 7, 200), (7, 1000, 2**24)])
def test_batches_and_chunks_change_nothing(
    neox: LanguageModel,
    coders: dict[Site, Coder],
    rows: Rows,
    dense: dict[Site, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch_rows: int,
    chunk: int,
    at_once: int,
) -> None:
    monkeypatch.setattr(encode, "CHUNK", chunk)
    monkeypatch.setattr(encode, "PIECE", 5)
    monkeypatch.setattr(encode, "ENCODE_AT_ONCE", at_once)
    told: list[int] = []
    folders = {site: tmp_path / site.module for site in coders}
    for site, table in encode_rows(neox, coders, rows, folders, told.append, batch_rows).items():
        check(table, dense[site])
        names = {path.name for path in folders[site].iterdir()}
        assert names == {"pointer.npy", "position.npy", "value.npy", "table.json"}
    assert sum(told) == len(rows.tokens)


def test_no_array_of_tokens_by_latents_is_built(
    neox: LanguageModel, coders: dict[Site, Coder], rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tokens there are, the encoder sees at most ENCODE_AT_ONCE / latents of them at once."""
    monkeypatch.setattr(encode, "ENCODE_AT_ONCE", 40 * 6)
    sizes: list[int] = []

    def watched(pre: Callable[[Coder, torch.Tensor], torch.Tensor]) -> Callable[[Coder, torch.Tensor], torch.Tensor]:
        def call(self: Coder, x: torch.Tensor) -> torch.Tensor:
            out = pre(self, x)
            sizes.append(out.numel())
            return out

        return call

    monkeypatch.setattr(Coder, "pre", watched(Coder.pre))
    encode_rows(neox, coders, rows, {site: tmp_path / site.module for site in coders})
    assert max(sizes) <= 40 * 6
    assert sum(sizes) == 2 * rows.token_count * 40


@pytest.mark.parametrize("latents", [7, 70_000])
def test_placing_chunk_by_chunk_is_one_stable_sort(latents: int) -> None:
    """On both sides of the 16 bits that the faster sort needs."""
    latent = np.random.default_rng(0).integers(0, latents, 500)
    cursor = np.cumsum(np.bincount(latent, minlength=latents)) - np.bincount(latent, minlength=latents)
    table = np.full(500, -1)
    for first in range(0, 500, 90):
        order, places = encode._places(latent[first : first + 90], cursor)
        assert (np.diff(places) > 0).all()
        table[places] = first + order
    assert table.tolist() == np.argsort(latent, kind="stable").tolist()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read as Linux tells it")
def test_memory_does_not_grow_with_the_table(rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of 48 MB is sorted in 16: what was written is not held."""

    def megabytes(name: str) -> int:
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status[name].split()[0]) // 1024

    monkeypatch.setattr(encode, "CHUNK", 2**17)
    spill, latents, n = encode._Spill(tmp_path, 16), np.random.default_rng(0), 2**18
    for first in range(0, 2**22, n):
        firings = np.zeros(n, encode.FIRING)
        firings["position"], firings["latent"] = np.arange(first, first + n), latents.integers(0, 16, n)
        spill.add(firings)
    before = megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    spill.sort(rows)
    spill.discard()
    assert megabytes("VmHWM") - before < 16
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 48 * 10**6


def test_a_corpus_on_which_nothing_fires(
    neox: LanguageModel, coders: dict[Site, Coder], rows: Rows, tmp_path: Path
) -> None:
    site, coder = next(iter(coders.items()))
    silent = Coder(coder.spec)
    table = encode_rows(neox, {site: silent}, rows, {site: tmp_path})[site]
    assert table.latents == 40
    assert len(table.latent(3)[0]) == 0


def test_a_table_is_opened_whole_or_not_at_all(
    neox: LanguageModel, coders: dict[Site, Coder], rows: Rows, dense: dict[Site, np.ndarray], tmp_path: Path
) -> None:
    site, coder = next(iter(coders.items()))
    encode_rows(neox, {site: coder}, rows, {site: tmp_path})
    check(FiringTable.open(tmp_path, rows), dense[site])
    other = Rows(rows.tokens, rows.mask, rows.document, rows.keys, "calibrate")
    with pytest.raises(StoreError, match="over other rows"):
        FiringTable.open(tmp_path, other)
    for name in ("pointer.npy", "position.npy", "value.npy"):
        whole = (tmp_path / name).read_bytes()
        for length in (0, 5, 60, len(whole) - 4):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(StoreError, match=f"{name} is truncated"):
                FiringTable.open(tmp_path, rows)
        (tmp_path / name).unlink()
        with pytest.raises(StoreError, match=f"{name} is missing"):
            FiringTable.open(tmp_path, rows)
        (tmp_path / name).write_bytes(whole)
    np.save(tmp_path / "value.npy", np.zeros(3, np.float32))
    with pytest.raises(StoreError, match="do not belong together"):
        FiringTable.open(tmp_path, rows)


def test_evaluate_rows_are_refused_and_leave_nothing_behind(
    neox: LanguageModel, coders: dict[Site, Coder], rows: Rows, tmp_path: Path
) -> None:
    site, coder = next(iter(coders.items()))
    evaluate = Rows(rows.tokens, rows.mask, rows.document, rows.keys, "evaluate")
    with pytest.raises(LeakError, match="evaluate"):
        encode_rows(neox, {site: coder}, evaluate, {site: tmp_path / "table"})
    assert not list(tmp_path.iterdir())
