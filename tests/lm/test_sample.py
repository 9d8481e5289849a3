"""Samples are the model's own: seeded, the same with and without the cache and in any batches."""

import numpy as np
import pytest
import torch
from scipy import stats

from plainspoken.corpus import build_rows
from plainspoken.errors import CorpusError
from plainspoken.lm import LanguageModel, resolve_sites, sample, sample_rows, self_documents, splice


def slow_rows(lm: LanguageModel, rows: int, t: int, seed: int) -> np.ndarray:
    """Row by row, the whole text anew for every token."""
    uniform = np.random.default_rng(seed).random((rows, t))
    out = np.zeros((rows, t), np.int32)
    for r in range(rows):
        for position in range(1, t):
            with torch.no_grad():
                logits = lm.model(torch.from_numpy(out[r : r + 1, :position]).long(), use_cache=False).logits[0, -1]
            cumulative = logits.double().softmax(-1).cumsum(-1).numpy()
            out[r, position] = np.searchsorted(cumulative, uniform[r, position] * cumulative[-1], side="right")
    return out


@pytest.mark.parametrize("static", [True, False])
def test_samples_are_those_of_the_slow_way(
    neox: LanguageModel, llama: LanguageModel, static: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lm in (neox, llama):
        monkeypatch.setattr(type(lm.model), "_can_compile_fullgraph", static)
        assert np.array_equal(sample_rows(lm, 3, 20, seed=4), slow_rows(lm, 3, 20, seed=4))


def test_batches_do_not_matter_and_fewer_rows_are_the_first(
    neox: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    rows = sample_rows(neox, 7, 16, seed=1, progress=told.append)
    assert rows.shape == (7, 16) and rows.dtype == np.int32 and (rows[:, 0] == neox.bos_id).all()
    assert sum(told) == 7 and len(told) == 15
    monkeypatch.setitem(sample._BATCH_TOKENS, "cpu", 3 * 16)
    assert np.array_equal(sample_rows(neox, 7, 16, seed=1), rows)
    assert np.array_equal(sample_rows(neox, 2, 16, seed=1), rows[:2])
    assert not np.array_equal(sample_rows(neox, 7, 16, seed=2)[:, 1:], rows[:, 1:])


def test_tokens_are_drawn_from_the_models_distribution(neox: LanguageModel) -> None:
    drawn = sample_rows(neox, 4000, 2, seed=0, temperature=1.5)[:, 1]
    with torch.no_grad():
        expected = (neox.model(torch.tensor([[neox.bos_id]])).logits[0, -1].double() / 1.5).softmax(-1).numpy() * 4000
    often = expected > 20
    counts = np.bincount(drawn, minlength=neox.vocabulary)
    observed = np.append(counts[often], counts[~often].sum())
    assert stats.chisquare(observed, np.append(expected[often], expected[~often].sum())).pvalue > 0.001


def test_what_is_spliced_is_sampled_from(neox: LanguageModel) -> None:
    plain = sample_rows(neox, 4, 12, seed=0)
    with splice(neox, {site: lambda x, y: 9 * y for site in resolve_sites(neox, "gpt_neox.layers.*.mlp")}):
        assert not np.array_equal(sample_rows(neox, 4, 12, seed=0), plain)


def test_samples_are_documents_that_never_hold_two_texts(neox: LanguageModel) -> None:
    documents = list(self_documents(neox, "self:12x64", seed=3))
    assert [document.key for document in documents[:2]] == ["self-3#0", "self-3#1"]
    rows = build_rows(documents, neox.tokenizer, context=64, part="fit", vocabulary=neox.vocabulary)
    assert not (rows.tokens[:, 1:] == neox.bos_id)[rows.mask[:, 1:]].any()
    tokens = np.stack([document.tokens for document in documents])
    assert rows.token_count == (tokens != neox.bos_id).sum()


@pytest.mark.parametrize("source", ["self:3x", "self:0x5", "self:3x1", "self:3x5x7", "self:axb"])
def test_other_requests_are_refused(neox: LanguageModel, source: str) -> None:
    with pytest.raises(CorpusError, match="write self:ROWSxTOKENS, such as self:3072x256"):
        self_documents(neox, source)


def test_what_cannot_be_sampled_is_refused(neox: LanguageModel) -> None:
    with pytest.raises(CorpusError, match=r"longer than the context .*: ask for 64 or fewer"):
        self_documents(neox, "self:1x65")
    with pytest.raises(CorpusError, match="temperature"):
        sample_rows(neox, 1, 4, seed=0, temperature=0.0)
