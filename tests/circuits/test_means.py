"""Means over a corpus: the attributions at each firing, averaged."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from families_made import VOCABULARY, made_coders, made_lm
from plainspoken.circuits.direct import direct, readers_of
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.means import mean_attributions
from plainspoken.circuits.targets import firing_targets
from plainspoken.errors import LeakError, UsageError
from plainspoken.types import Part, Rows


def made_rows(part: Part = "explain") -> Rows:
    """Four rows of three documents, the first token of each BOS, the last two of the third row padding."""
    tokens = np.random.default_rng(0).integers(1, VOCABULARY, (4, 9)).astype(np.int32)
    mask = np.ones((4, 9), bool)
    mask[:, 0], mask[2, -2:] = False, False
    return Rows(tokens, mask, np.array([0, 0, 1, 2], np.int32), ("a", "b", "c"), part)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_the_mean_is_that_of_the_direct_terms_wherever_the_latent_fires(family: str) -> None:
    lm = made_lm(family)
    coders, rows = made_coders(lm), made_rows()
    wanted, firings = np.zeros((48, 3, 48)), np.zeros((48, 3), int)
    for r in range(4):
        length = 7 if r == 2 else 9
        frozen = freeze(lm, coders, rows.tokens[r, :length].tolist(), torch.float64)
        targets, latents, lower = firing_targets(frozen, 2), frozen.layers[2].latents, frozen.layers[0].latents
        terms = direct(frozen, readers_of(frozen, targets)).latents[:, 0]
        for b in range(len(targets)):
            p, j = int(latents.position[b]), int(latents.latent[b])
            if p == 0:
                continue
            firings[j, rows.document[r]] += 1
            for n, i in enumerate(lower.latent[lower.start[p] : lower.start[p + 1]].tolist()):
                wanted[j, rows.document[r], i] += float(terms[b, n])
    told: list[int] = []
    found = mean_attributions(lm, coders, rows, 2, range(48), [0], 10, 0, torch.float64, told.append)
    assert sum(told) == 4 and (firings.sum(1) > 0).any()
    assert found.fired.tolist() == np.flatnonzero(firings.sum(1)).tolist()
    assert (found.rows, found.documents, found.tokens) == (4, 3, rows.token_count)
    for j, by_source in enumerate(found.of):
        if not firings[j].sum():
            assert by_source is None, "a latent that never fires has no mean"
            continue
        assert by_source is not None
        each = by_source[0]
        assert each.latent == j and each.looked_at == rows.token_count
        assert each.documents.tolist() == np.flatnonzero(firings[j]).tolist()
        assert each.firings.tolist() == firings[j][firings[j] > 0].tolist()
        assert np.allclose(each.sums, wanted[j][each.documents], rtol=1e-9, atol=1e-12)
        assert np.allclose(each.mean, wanted[j].sum(0) / firings[j].sum(), rtol=1e-9, atol=1e-12)


def test_the_same_seed_takes_the_same_rows_and_another_others() -> None:
    lm = made_lm("gpt2")
    coders, rows = made_coders(lm), made_rows()

    def seen(seed: int) -> list[bytes]:
        found = mean_attributions(lm, coders, rows, 2, range(48), [0], 2, seed, torch.float64)
        return [b"" if each is None else each[0].sums.tobytes() for each in found.of]

    assert seen(0) == seen(0)
    assert any(seen(0) != seen(seed) for seed in range(1, 5))


def test_coders_in_half_precision_have_the_means_of_their_own_weights() -> None:
    lm = made_lm("gpt2")
    halves = {site: deepcopy(coder).to(torch.bfloat16) for site, coder in made_coders(lm).items()}
    wide = {site: deepcopy(coder).to(torch.float64) for site, coder in halves.items()}
    found, wanted = (
        mean_attributions(lm, each, made_rows(), 2, range(48), [0], 4, 0, torch.float64) for each in (halves, wide)
    )
    assert len(found.fired) and found.fired.tolist() == wanted.fired.tolist()
    for latent in found.fired.tolist():
        assert np.array_equal(found.of[latent][0].sums, wanted.of[latent][0].sums)
    assert all(coder.W_enc.dtype == torch.bfloat16 for coder in halves.values())


def test_what_has_no_mean_is_refused() -> None:
    lm = made_lm("gpt2")
    coders = made_coders(lm)
    with pytest.raises(LeakError, match="evaluate"):
        mean_attributions(lm, coders, made_rows("evaluate"), 2, [0], [0], 4, 0)
    with pytest.raises(UsageError, match="layer 1 has no coder"):
        mean_attributions(lm, coders, made_rows(), 2, [0], [1], 4, 0)
    with pytest.raises(UsageError, match="writes nothing"):
        mean_attributions(lm, coders, made_rows(), 0, [0], [2], 4, 0)
    with pytest.raises(UsageError, match="no latent 48 in layer 2: it has latents 0 to 47"):
        mean_attributions(lm, coders, made_rows(), 2, [48], [0], 4, 0)
