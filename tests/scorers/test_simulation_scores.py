"""Scores of simulations against scikit-learn and numpy on dense arrays."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, recall_score

from plainspoken.calibrators import CALIBRATORS
from plainspoken.latents.evidence import Evidence
from plainspoken.scorers.simulation import score_simulation

TOKENS, LATENTS = 400, 6


def dense(level: np.ndarray, true: np.ndarray) -> Evidence:
    at, latent = np.indices(level.shape).reshape(2, -1)
    return Evidence.sampled(level.shape[1], latent, level[at, latent], true[at, latent], np.ones(level.size))


@pytest.fixture
def case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = rng.gamma(1, 2, (TOKENS, LATENTS)) * (rng.random((TOKENS, LATENTS)) < 0.1)
    level = np.rint(np.clip(true + rng.normal(-1, 1, true.shape), 0, 9))
    return level.astype(np.float32), true.astype(np.float32)


def test_every_measure_equals_its_dense_oracle(case):
    level, true = case
    scores = score_simulation(dense(level, true))
    for latent in range(LATENTS):
        said, fires = level[:, latent], true[:, latent] > 0
        assert scores.correlation.of(latent) == pytest.approx(np.corrcoef(said, true[:, latent])[0, 1])
        assert scores.sensitivity.of(latent) == pytest.approx(recall_score(fires, said > 0))
        assert scores.specificity.of(latent) == pytest.approx(recall_score(~fires, said == 0))
        assert scores.auprc.of(latent) == pytest.approx(average_precision_score(fires, said))
    assert scores.auprc.mean == pytest.approx(np.mean([scores.auprc.of(i) for i in range(LATENTS)]))


def test_correlation_can_be_that_of_the_calibrated_activation(case):
    level, true = case
    evidence = dense(level, true)
    curve = CALIBRATORS["conditional_mean"].fit(evidence, true.max(axis=0))
    scores = score_simulation(evidence, curve.apply)
    for latent in range(LATENTS):
        said = curve.apply(np.full(TOKENS, latent), level[:, latent])
        assert scores.correlation.of(latent) == pytest.approx(np.corrcoef(said, true[:, latent])[0, 1], abs=1e-6)
        assert scores.auprc.of(latent) == score_simulation(evidence).auprc.of(latent)


def test_what_is_not_defined_is_left_out_of_means_and_counted(case):
    level, true = case[0].copy(), case[1].copy()
    true[:, 0] = 0  # never fires
    level[:, 1] = 0  # never spoken of
    true[:, 2] = np.maximum(true[:, 2], 0.5)  # never silent
    scores = score_simulation(dense(level, true))
    assert scores.correlation.of(0) is None and scores.sensitivity.of(0) is None and scores.auprc.of(0) is None
    assert scores.specificity.of(0) == pytest.approx((level[:, 0] == 0).mean())
    assert scores.correlation.of(1) is None
    assert scores.sensitivity.of(1) == 0
    assert scores.auprc.of(1) == pytest.approx((true[:, 1] > 0).mean())
    assert scores.specificity.of(2) is None
    assert scores.correlation.undefined == 2 and scores.auprc.undefined == 1
    assert scores.auprc.mean == pytest.approx(np.mean([scores.auprc.of(i) for i in range(1, LATENTS)]))
    assert np.isneginf(scores.correlation.ranking()[:2]).all()


def test_nothing_defined_has_no_mean():
    scores = score_simulation(dense(np.zeros((5, 2), np.float32), np.zeros((5, 2), np.float32)))
    assert scores.auprc.mean is None and scores.correlation.mean is None
    assert scores.specificity.mean == 1
