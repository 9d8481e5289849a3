"""Statistics and examples say of the table what they would say of the dense code."""

import numpy as np
import pytest

from plainspoken.coders import Coder
from plainspoken.latents import FiringTable, statistics
from plainspoken.types import Rows, Site


def test_statistics_equal_the_dense_oracle(
    tables: dict[Site, FiringTable], dense: dict[Site, np.ndarray], coders: dict[Site, Coder], rows: Rows
) -> None:
    for site, table in tables.items():
        found = statistics(table, coders[site].W_dec)
        z = dense[site][rows.mask.ravel()].astype(np.float64)
        norm = np.sqrt((coders[site].W_dec.double().numpy() ** 2).sum(1))
        for name, wanted in {
            "firings": (z > 0).sum(0),
            "rate": (z > 0).mean(0),
            "mean": z.mean(0),
            "second_moment": (z**2).mean(0),
            "maximum": z.max(0),
            "decoder_norm": norm,
            "mass": z.mean(0) * norm,
        }.items():
            np.testing.assert_allclose(getattr(found, name), wanted, rtol=1e-4, err_msg=name)
        assert found.tokens == len(z)
        assert found.dead == pytest.approx((z.max(0) == 0).mean())
