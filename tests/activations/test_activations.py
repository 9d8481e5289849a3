"""Activations come out of the model as they went through it, at the tokens of the text and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
import torch

from plainspoken.activations import ALONE, collect, store, stream
from plainspoken.activations.moments import moments
from plainspoken.errors import ActivationError, LeakError
from plainspoken.lm import LanguageModel, capture, resolve_sites
from plainspoken.types import Part, Rows


def make_rows(part: Part = "fit", rows: int = 5, t: int = 12) -> Rows:
    """Rows of two documents with BOS in front and padding behind, each row of another length."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 300, (rows, t)).astype(np.int32)
    mask = np.zeros((rows, t), bool)
    for r in range(rows):
        mask[r, 1 : t - r] = True
    tokens[~mask] = 0
    return Rows(tokens, mask, np.minimum(np.arange(rows) // 2, 1).astype(np.int32), ("first", "second"), part)


@pytest.mark.parametrize("pattern", ["gpt_neox.layers.*.mlp", "gpt_neox.layers.*"])
@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_the_stream_is_the_forward_pass(neox: LanguageModel, pattern: str, batch_rows: int) -> None:
    rows, sites = make_rows(), resolve_sites(neox, pattern)
    with torch.no_grad(), capture(neox, sites) as whole:
        neox.model(torch.from_numpy(rows.tokens).long())
    at, told = 0, []
    for batches in stream(neox, sites, rows, batch_rows, told.append):
        for site in sites:
            batch = batches[site.module]
            assert batch.first_row == at
            here = slice(at, at + len(batch.tokens))
            torch.testing.assert_close(batch.x, whole[site.module][0][here], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(batch.y, whole[site.module][1][here], rtol=1e-4, atol=1e-5)
            assert np.array_equal(batch.tokens.numpy(), rows.tokens[here])
            assert np.array_equal(batch.mask.numpy(), rows.mask[here])
        at += len(batch.tokens)
    assert at == sum(told) == 5


def test_the_forward_pass_ends_at_the_last_site(neox: LanguageModel) -> None:
    """A site in the first layer: the second layer never runs, and afterwards the model is whole again."""
    rows, [site] = make_rows(), resolve_sites(neox, "gpt_neox.layers.0.mlp")
    tokens = torch.from_numpy(rows.tokens).long()
    before = neox.model(tokens).logits
    ran = []
    hook = neox.model.get_submodule("gpt_neox.layers.1").register_forward_hook(lambda *_: ran.append(1))
    list(stream(neox, [site], rows))
    assert not ran
    assert torch.equal(neox.model(tokens).logits, before)
    assert ran
    hook.remove()


def test_collect_keeps_the_text_alone_in_its_order(neox: LanguageModel, tmp_path: Path) -> None:
    rows = make_rows()
    sites = [*resolve_sites(neox, "gpt_neox.layers.1.mlp"), *resolve_sites(neox, "gpt_neox.layers.0")]
    kept = collect(neox, sites, rows, tmp_path, batch_rows=2)
    mask = torch.from_numpy(rows.mask)
    for site in sites:
        batches = [batch[site.module] for batch in stream(neox, [site], rows, 2)]
        torch.testing.assert_close(kept[site.module].x, torch.cat([b.x for b in batches])[mask], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(kept[site.module].y, torch.cat([b.y for b in batches])[mask], rtol=1e-4, atol=1e-5)
    assert kept["gpt_neox.layers.0"].y is kept["gpt_neox.layers.0"].x
    assert len({store.fingerprint for store in kept.values()}) == 2


def test_a_mapped_store_is_the_same_and_leaves_no_file(
    neox: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, sites = make_rows(), resolve_sites(neox, "gpt_neox.layers.*.mlp")
    held = collect(neox, sites, rows, tmp_path)
    monkeypatch.setattr(store, "MEMORY_LIMIT", 0)
    mapped = collect(neox, sites, rows, tmp_path)
    for module, kept in held.items():
        assert torch.equal(mapped[module].x, kept.x)
        assert torch.equal(mapped[module].y, kept.y)
        assert mapped[module].fingerprint == kept.fingerprint
    assert list(tmp_path.iterdir()) == []


def test_only_fit_rows_are_collected(neox: LanguageModel, tmp_path: Path) -> None:
    sites = resolve_sites(neox, "gpt_neox.layers.0.mlp")
    for part in ("explain", "calibrate", "evaluate"):
        with pytest.raises(LeakError):
            collect(neox, sites, make_rows(part), tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_names_document_token_and_site(neox: LanguageModel, value: float) -> None:
    """And is nobody's business at BOS and padding."""
    rows, [site] = make_rows(), resolve_sites(neox, "gpt_neox.layers.1.mlp")

    mask = rows.mask[4:].copy()
    mask[:, 7] = False

    def spoil(module: torch.nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        output[:, 7] = value
        return output

    hook = neox.model.get_submodule(site.module).register_forward_hook(spoil)
    try:
        with pytest.raises(ActivationError, match=r"'gpt_neox.layers.1.mlp' in document 'first' \(fit, row 0, token 7"):
            list(stream(neox, [site], rows, 2))
        late = Rows(rows.tokens[3:], rows.mask[3:], rows.document[3:], rows.keys, "fit")
        with pytest.raises(ActivationError, match="document 'second'"):
            list(stream(neox, [site], late, 1))
        assert len(list(stream(neox, [site], Rows(rows.tokens[4:], mask, rows.document[4:], rows.keys, "fit")))) == 1
    finally:
        hook.remove()


def test_moments_are_those_of_all_that_is_kept() -> None:
    x, y, kept = torch.randn(1000, 3) + 5.0, torch.randn(1000, 2) * 3.0 - 1.0, torch.rand(1000) < 0.7
    found = moments(x, y, kept, ALONE)
    torch.testing.assert_close(found.mean_x, x[kept].mean(0))
    torch.testing.assert_close(found.mean_y, y[kept].mean(0))
    spread = (y[kept] - y[kept].mean(0)).square().sum(1).mean()
    assert found.variance_y == pytest.approx(float(spread), rel=1e-6) and found.vectors == int(kept.sum())
