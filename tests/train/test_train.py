"""Training lowers FVU, whatever units the activations are in, and refuses what it cannot train on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plainspoken.activations import ActivationStore
from plainspoken.coders import CoderSpec
from plainspoken.errors import ActivationError, ConfigError
from trainings import CONFIG, SPEC, lines, train


def test_training_lowers_fvu_and_logs_it(fit: ActivationStore, tmp_path: Path) -> None:
    coder = train(fit, SPEC, CONFIG, tmp_path, seed=0)
    log = lines(tmp_path)
    assert [line["step"] for line in log] == [50, 100, 120]
    assert [line["vectors"] for line in log] == [3200, 6400, 7680]
    assert log[-1]["fvu"] < 0.5 * log[0]["fvu"]
    residual = (coder(fit.x) - fit.y).square().sum(1).mean()
    centred = (fit.y - fit.y.mean(0)).square().sum(1).mean()
    assert float(residual / centred) == pytest.approx(log[-1]["fvu"], rel=0.2)
    assert not coder.training
    assert not any(parameter.requires_grad for parameter in coder.parameters())


def test_an_sae_learns_to_reconstruct(tmp_path: Path) -> None:
    """On sums of three of 24 directions in eight dimensions, all moved away from zero; x and y are one array."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(24, 8, generator=generator)
    chosen = torch.rand(2000, 24, generator=generator).topk(3, dim=1).indices
    x = directions[chosen].sum(1) + 4.0
    config = replace(CONFIG, tokens=400 * 256, batch=256)
    coder = train(ActivationStore(x, x, "x"), CoderSpec("sae", "topk", 48, 4, False, 8, 8), config, tmp_path, 0)
    residual = (coder(x) - x).square().sum(1).mean() / (x - x.mean(0)).square().sum(1).mean()
    assert float(residual) < 0.2
    assert lines(tmp_path)[-1]["dead"] < 0.2


def test_an_untrained_transcoder_has_an_fvu_of_one(fit: ActivationStore, tmp_path: Path) -> None:
    """With a rate of nothing the coder stays at the mean output, and FVU is centred once over the whole store."""
    train(fit, SPEC, replace(CONFIG, lr=1e-30, tokens=500 * 64), tmp_path, seed=0)
    log = lines(tmp_path)
    assert sum(line["fvu"] for line in log) / len(log) == pytest.approx(1.0, abs=1e-3)  # 500 steps: 64 whole epochs


def test_a_loss_that_diverges_is_an_error(fit: ActivationStore, tmp_path: Path) -> None:
    with pytest.raises(ActivationError, match=r"lower train\.lr"):
        train(fit, SPEC, replace(CONFIG, lr=1e30, warm_up=0), tmp_path, seed=0)


def test_units_are_folded_away(fit: ActivationStore, tmp_path: Path) -> None:
    """Inputs a hundred times larger and outputs a thousand times smaller, both moved: the same coder in other units."""
    scaled = ActivationStore(fit.x * 128.0 + 50.0, fit.y / 1024.0 - 1.0, "other units")
    plain, other = (train(f, SPEC, CONFIG, tmp_path / f.fingerprint, seed=3) for f in (fit, scaled))
    torch.testing.assert_close((other(scaled.x) + 1.0) * 1024.0, plain(fit.x), rtol=1e-3, atol=1e-2)
    codes = plain.dense(plain.encode(fit.x)), other.dense(other.encode(scaled.x))
    torch.testing.assert_close(*codes, rtol=1e-3, atol=1e-2)


def test_without_normalising_the_units_are_those_given(fit: ActivationStore, tmp_path: Path) -> None:
    config = replace(CONFIG, normalise=False)
    scaled = ActivationStore(fit.x * 128.0, fit.y / 1024.0, "other units")
    assert not torch.allclose(
        train(scaled, SPEC, config, tmp_path / "scaled", seed=3)(scaled.x) * 1024.0,
        train(fit, SPEC, config, tmp_path / "plain", seed=3)(fit.x),
        rtol=0.1,
        atol=0.1,
    )


def test_activations_that_never_vary_are_refused(fit: ActivationStore, tmp_path: Path) -> None:
    for x, y in ((torch.ones_like(fit.x), fit.y), (fit.x, torch.zeros_like(fit.y))):
        with pytest.raises(ActivationError, match="the same at every token"):
            train(ActivationStore(x, y, ""), SPEC, CONFIG, tmp_path, seed=0)


def test_widths_that_do_not_fit_are_refused(fit: ActivationStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="widths 6 -> 5"):
        train(fit, replace(SPEC, d_in=7), CONFIG, tmp_path, seed=0)
