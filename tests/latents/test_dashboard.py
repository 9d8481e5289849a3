"""One pass over the table says of every latent what the dense code says of it, and draws what `examples` draws."""

from collections.abc import Sequence

import numpy as np

from plainspoken.coders import Coder
from plainspoken.latents import FiringTable, examples, statistics
from plainspoken.latents.dashboard import Activity, Shown, activity, generator_of
from plainspoken.latents.windows import Windows
from plainspoken.types import Rows, Site

SHOWN = Shown(bands=3, per_band=2, window=5, bins=7)


def made(tables: dict[Site, FiringTable], coders: dict[Site, Coder], seed: int = 0) -> Sequence[tuple[Site, Activity]]:
    return [(site, activity(table, coders[site].W_dec, SHOWN, seed)) for site, table in tables.items()]


def test_statistics_are_those_of_the_table(tables: dict[Site, FiringTable], coders: dict[Site, Coder]) -> None:
    for site, found in made(tables, coders):
        wanted = statistics(tables[site], coders[site].W_dec)
        for name, value in vars(wanted).items():
            np.testing.assert_array_equal(getattr(found.statistics, name), value, err_msg=name)
        firings = np.diff(tables[site].pointer)
        np.testing.assert_allclose(found.statistics.rate * found.statistics.tokens, firings)


def test_a_histogram_counts_every_firing_in_its_bin(
    tables: dict[Site, FiringTable], dense: dict[Site, np.ndarray], coders: dict[Site, Coder]
) -> None:
    for site, found in made(tables, coders):
        assert np.array_equal(found.histogram.sum(1), found.statistics.firings)
        for latent, counted in enumerate(found.histogram):
            z = dense[site][:, latent]
            if not (z > 0).any():
                assert not counted.any()
                continue
            wanted, _ = np.histogram(z[z > 0], bins=SHOWN.bins, range=(0, float(z.max())))
            # A value on a border may be rounded to either side; these random ones are not.
            assert np.array_equal(counted, wanted)
            assert counted[-1] >= 1


def test_examples_are_drawn_as_for_each_latent_alone(
    tables: dict[Site, FiringTable], coders: dict[Site, Coder]
) -> None:
    for site, found in made(tables, coders, seed=3):
        for latent in range(tables[site].latents):
            wanted = examples(tables[site], latent, SHOWN.per_band, SHOWN.bands, SHOWN.window, generator_of(3, latent))
            drawn = found.examples.of(latent)
            assert [(e.row, e.start, e.quantile) for e in drawn] == [(e.row, e.start, e.quantile) for e in wanted]
            for one, other in zip(drawn, wanted, strict=True):
                assert np.array_equal(one.tokens, other.tokens)
                assert np.array_equal(one.values, other.values)


def test_the_strongest_windows_are_those_with_the_largest_maxima(
    tables: dict[Site, FiringTable], coders: dict[Site, Coder], dense: dict[Site, np.ndarray]
) -> None:
    for site, found in made(tables, coders):
        windows = Windows(tables[site], SHOWN.window)
        for latent in range(tables[site].latents):
            wanted, shown = windows.strongest(latent, SHOWN.per_band), found.strongest.of(latent)
            assert [(e.row, e.start) for e in shown] == [(e.row, e.start) for e in wanted]
            maxima = [float(e.values.max()) for e in shown]
            assert maxima == sorted(maxima, reverse=True)
            assert maxima[:1] == [z for z in [float(dense[site][:, latent].max())] if z > 0], (
                "the very maximum is shown"
            )
            drawn = found.examples.of(latent)
            if len(drawn) >= SHOWN.per_band:
                assert len(shown) == SHOWN.per_band and min(maxima) >= max(float(e.values.max()) for e in drawn[:1])


def test_values_are_those_of_the_table_at_those_tokens(
    tables: dict[Site, FiringTable], coders: dict[Site, Coder], rows: Rows
) -> None:
    t = rows.tokens.shape[1]
    for site, found in made(tables, coders):
        for latent in range(tables[site].latents):
            z = np.zeros(rows.tokens.size, np.float32)
            position, value = tables[site].latent(latent)
            z[position] = value
            for example in (*found.strongest.of(latent), *found.examples.of(latent)):
                at = example.row * t + example.start + np.arange(len(example.tokens))
                assert np.array_equal(example.values, z[at])
                assert np.array_equal(example.tokens, rows.tokens.ravel()[at])


def test_progress_counts_every_latent_and_seeds_differ(
    tables: dict[Site, FiringTable], coders: dict[Site, Coder]
) -> None:
    (site, table), told = next(iter(tables.items())), list[int]()
    activity(table, coders[site].W_dec, SHOWN, 0, told.append)
    assert sum(told) == table.latents
    one, other = (activity(table, coders[site].W_dec, SHOWN, seed).examples for seed in (0, 1))
    assert not np.array_equal(one.row, other.row) or not np.array_equal(one.start, other.start)
