"""Sources of vectors: each vector once an epoch, the same bits at a step however it is reached and by however many."""

import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plainspoken.activations import (
    ALONE,
    MixingBuffer,
    Moments,
    Share,
    StoredVectors,
    VectorSource,
    collect,
    store_vectors,
    vector_bytes,
)
from plainspoken.activations.order import EpochOrder
from plainspoken.errors import ActivationError, ConfigError, LeakError
from plainspoken.lm import LanguageModel, load_lm, resolve_sites
from plainspoken.types import Rows

PATTERN = "gpt_neox.layers.1.mlp,gpt_neox.layers.0"
BATCH = 37
VECTORS = 180
"""In the buffer: four or five chunks an epoch."""


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Forty rows of 3 to 15 tokens, BOS in front and padding behind, no two of which start alike."""
    generator = np.random.default_rng(0)
    t = 16
    mask = (np.arange(t) >= 1) & (np.arange(t) <= generator.integers(3, t, 40)[:, None])
    tokens = np.where(mask, generator.integers(1, 300, (40, t)), 0).astype(np.int32)
    tokens[:, 1] = np.arange(1, 41)
    return Rows(tokens, mask, np.arange(40, dtype=np.int32) // 2, tuple(f"text {i}" for i in range(20)), "fit")


Make = Callable[..., VectorSource]


def stored(folder: Path, outlier_norm: float = 0.0) -> Make:
    def make(
        lm: LanguageModel, rows: Rows, share: Share = ALONE, batch: int = BATCH, pattern: str = PATTERN
    ) -> StoredVectors:
        sites = resolve_sites(lm, pattern)
        settings = {"batch": batch, "seed": 5, "outlier_norm": outlier_norm, "share": share, "batch_rows": 4}
        return store_vectors(lm, sites, rows, folder, **settings)

    return make


def mixed(outlier_norm: float = 0.0) -> Make:
    def make(
        lm: LanguageModel, rows: Rows, share: Share = ALONE, batch: int = BATCH, pattern: str = PATTERN
    ) -> MixingBuffer:
        sites = resolve_sites(lm, pattern)
        settings = {"batch": batch, "seed": 5, "outlier_norm": outlier_norm, "share": share, "batch_rows": 4}
        return MixingBuffer(lm, sites, rows, vectors=VECTORS, **settings)

    return make


FACTOR = 1.3
"""So low that it masks something of a random model's vectors."""


@pytest.fixture(params=[0.0, FACTOR], ids=["unmasked", "masked"])
def outlier_norm(request: pytest.FixtureRequest) -> float:
    return request.param


@pytest.fixture(params=["stored", "mixed"])
def make(request: pytest.FixtureRequest, outlier_norm: float, tmp_path: Path) -> Make:
    """A source of each kind."""
    return stored(tmp_path, outlier_norm) if request.param == "stored" else mixed(outlier_norm)


def bits(source: VectorSource, step: int) -> dict[str, list[bytes]]:
    """Each vector of a batch at every site, x and y together."""
    return {
        site: [a.numpy().tobytes() + b.numpy().tobytes() for a, b in zip(x, y, strict=True)]
        for site, (x, y) in source.batch(step).items()
    }


def test_an_epoch_serves_each_vector_once_but_for_the_masked(
    neox: LanguageModel, rows: Rows, make: Make, outlier_norm: float, tmp_path: Path
) -> None:
    """Found again among the vectors of the text by their distance, since other passes give other last bits."""
    source = make(neox, rows, batch=rows.token_count)
    for site, store in collect(neox, resolve_sites(neox, PATTERN), rows, tmp_path).items():
        counts = source.survey(site).counts
        limit_x, limit_y = (outlier_norm * median or float("inf") for median in (counts.median_x, counts.median_y))
        wanted = ((store.x.norm(dim=1) <= limit_x) & (store.y.norm(dim=1) <= limit_y)).nonzero().squeeze(1)
        assert (len(wanted) < len(store)) == (outlier_norm > 0)
        for epoch in range(2):
            x, y = source.batch(epoch)[site]
            found = torch.cdist(torch.cat([x, y], 1).double(), torch.cat([store.x, store.y], 1).double()).min(1)
            assert float(found.values.max()) < 1e-4
            assert torch.equal(found.indices.sort().values, wanted)


def test_the_store_serves_its_places_in_the_order_of_its_epochs(
    neox: LanguageModel, rows: Rows, tmp_path: Path
) -> None:
    source = stored(tmp_path)(neox, rows)
    kept = collect(neox, resolve_sites(neox, PATTERN), rows, tmp_path, batch_rows=4)
    order = EpochOrder(rows.token_count, 5)
    for step in range(25):
        places = order.between(step * BATCH, (step + 1) * BATCH)
        for site, (x, y) in source.batch(step).items():
            assert torch.equal(x, kept[site].x[places])
            assert torch.equal(y, kept[site].y[places])
            assert (y is x) == (site == "gpt_neox.layers.0")


def test_a_step_is_the_same_bytes_from_wherever_it_is_reached(neox: LanguageModel, rows: Rows, make: Make) -> None:
    """Begun at every step of two epochs, run through from the start, and gone back to."""
    through = make(neox, rows)
    batches = [bits(through, step) for step in range(20)]
    for step in range(20):
        assert bits(make(neox, rows), step) == batches[step]
    assert [bits(through, step) for step in (3, 12, 0)] == [batches[step] for step in (3, 12, 0)]


class Together:
    """Processes that add up, played by threads."""

    def __init__(self, world: int) -> None:
        self._parts: list[torch.Tensor] = [torch.empty(0)] * world
        self._barrier = threading.Barrier(world, timeout=60)

    def share(self, rank: int) -> Share:
        def total(partial: torch.Tensor) -> torch.Tensor:
            self._parts[rank] = partial
            self._barrier.wait()
            found = torch.stack(self._parts).sum(0)
            self._barrier.wait()
            return found

        return Share(rank, len(self._parts), total)


@pytest.mark.parametrize("world", [2, 3])
def test_shares_together_are_the_batch_of_one_process(
    neox: LanguageModel, neox_folder: Path, rows: Rows, make: Make, world: int
) -> None:
    """To the last bit, each vector in one share, and every process knows the same moments and counts."""
    together, alone = Together(world), make(neox, rows)

    # Each has its own, as the hooks are the model's; loaded one after the other, since transformers takes weight tying
    # out of its class while it loads, and two loads at once leave it out for good.
    lms = [load_lm(str(neox_folder), device="cpu", dtype="float32") for _ in range(world)]

    def work(rank: int) -> VectorSource:
        return make(lms[rank], rows, together.share(rank))

    with ThreadPoolExecutor(world) as pool:
        shares = list(pool.map(work, range(world)))
    for step in range(12):
        batches = [bits(share, step) for share in shares]
        for site, whole in bits(alone, step).items():
            assert sorted(vector for batch in batches for vector in batch[site]) == sorted(whole)
    for site in alone.sites:
        assert len({str(flat(share.survey(site).moments)) for share in shares}) == 1
        assert flat(shares[0].survey(site).moments) == pytest.approx(flat(alone.survey(site).moments), rel=1e-6)
        assert [share.survey(site).counts for share in shares] == [alone.survey(site).counts] * world
        assert [share.fingerprint(site) for share in shares] == [alone.fingerprint(site)] * world


def flat(moments: Moments) -> list[float]:
    return [*moments.mean_x.tolist(), *moments.mean_y.tolist(), moments.variance_x, moments.variance_y, moments.vectors]


def test_a_site_does_not_depend_on_which_others_are_read(neox: LanguageModel, rows: Rows, make: Make) -> None:
    alone, among = make(neox, rows, pattern="gpt_neox.layers.1.mlp"), make(neox, rows)
    [site] = alone.sites
    assert all(bits(alone, step)[site] == bits(among, step)[site] for step in range(12))
    assert alone.survey(site).counts == among.survey(site).counts
    assert alone.fingerprint(site) == among.fingerprint(site)


def test_the_buffer_never_holds_more_than_two_chunks(neox: LanguageModel, rows: Rows) -> None:
    """Vectors of 16 float32 that are alive, counted where most are: before each pass of the model, and after steps."""
    widest = 0

    def count(*_: object) -> None:
        nonlocal widest
        held = [t for t in gc.get_objects() if type(t) is torch.Tensor and t.dtype == torch.float32 and t.dim() == 2]
        tables = {t.data_ptr(): len(t) for t in held if t.shape[1] == 16 and t.untyped_storage().size() == 64 * len(t)}
        widest = max(widest, sum(tables.values()) - before)

    before = 0
    count()
    before, widest = widest, 0
    hook = neox.model.register_forward_pre_hook(count)
    try:
        source = mixed()(neox, rows, pattern="gpt_neox.layers.0")
        for step in range(12):
            source.batch(step)
            count()
    finally:
        hook.remove()
    assert VECTORS // 2 < widest <= VECTORS


def test_moments_are_those_of_what_is_served(neox: LanguageModel, rows: Rows, tmp_path: Path) -> None:
    """A slow oracle over an epoch of the store; the buffer's are of its first chunk, and it says of how many."""
    source = stored(tmp_path, FACTOR)(neox, rows, batch=rows.token_count)
    sample = mixed(FACTOR)(neox, rows)
    for site, (x, y) in source.batch(0).items():
        found = source.survey(site).moments
        assert found.vectors == len(x) == source.survey(site).counts.text - source.survey(site).counts.outliers
        torch.testing.assert_close(found.mean_x, x.mean(0))
        torch.testing.assert_close(found.mean_y, y.mean(0))
        assert found.variance_x == pytest.approx(float((x - x.mean(0)).square().sum(1).mean()), rel=1e-5)
        assert found.variance_y == pytest.approx(float((y - y.mean(0)).square().sum(1).mean()), rel=1e-5)
        counts = sample.survey(site).counts
        assert VECTORS // 2 - 15 < counts.examined <= VECTORS // 2
        assert sample.survey(site).moments.vectors == counts.examined - counts.outliers
        assert sample.survey(site).moments.variance_y == pytest.approx(found.variance_y, rel=0.3)


def test_fingerprints_tell_what_the_vectors_depend_on(neox: LanguageModel, rows: Rows, tmp_path: Path) -> None:
    shorter = replace(rows, mask=rows.mask & (np.arange(16) < 9))
    makes = (stored(tmp_path), stored(tmp_path, 2.0), mixed(), mixed(2.0))
    sources = [make(neox, r) for make in makes for r in (rows, shorter)]
    sources.append(MixingBuffer(neox, resolve_sites(neox, PATTERN), rows, vectors=200, batch=BATCH, seed=5))
    assert len({source.fingerprint(site) for source in sources for site in source.sites}) == 2 * len(sources)


def test_the_buffer_reads_fit_rows_alone_and_finite_vectors(neox: LanguageModel, rows: Rows) -> None:
    with pytest.raises(LeakError):
        mixed()(neox, replace(rows, part="evaluate"))
    with pytest.raises(ConfigError, match="does not hold the longest row"):
        MixingBuffer(neox, resolve_sites(neox, PATTERN), rows, vectors=20, batch=BATCH, seed=5)
    source = mixed()(neox, rows)

    def spoil(module: torch.nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        return torch.full_like(output, float("nan"))

    hook = neox.model.get_submodule("gpt_neox.layers.1.mlp").register_forward_hook(spoil)
    try:
        with pytest.raises(ActivationError, match=r"at site 'gpt_neox.layers.1.mlp' in document 'text \d+' \(fit, row"):
            for step in range(10):
                source.batch(step)
    finally:
        hook.remove()


def test_bytes_of_a_vector_are_those_of_the_tables(neox: LanguageModel, rows: Rows, tmp_path: Path) -> None:
    sites = resolve_sites(neox, PATTERN)
    stores = collect(neox, sites, rows, tmp_path).values()
    tables = {id(table): table for store in stores for table in (store.x, store.y)}
    assert vector_bytes(sites) * rows.token_count == sum(table.nbytes for table in tables.values())
