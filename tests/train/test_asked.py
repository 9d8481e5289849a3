"""What is asked of a training is what it gives: so many latents a token, good prefixes; or it says that it cannot."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from plainspoken.activations import ActivationStore
from plainspoken.coders import CoderSpec
from plainspoken.errors import ConfigError
from trainings import CONFIG, SPEC, lines, train


@pytest.mark.slow
@pytest.mark.parametrize(
    ("activation", "fvu"), [("topk", 0.15), ("batch_topk", 0.15), ("relu", 0.6), ("jump_relu", 0.15)]
)
def test_every_activation_fires_as_often_as_it_is_asked_to(
    mixed: ActivationStore, tmp_path: Path, activation: str, fvu: float
) -> None:
    """In the mean over a text, at inference, where each token stands by itself. L1 shrinks what it keeps."""
    spec = CoderSpec("transcoder", activation, 48, 4, False, 12, 8)
    coder = train(mixed, spec, replace(CONFIG, tokens=1000 * 64, lr=0.005), tmp_path, seed=0)
    log, dense = lines(tmp_path), coder.dense(coder.encode(mixed.x))
    assert float((dense > 0).double().sum(1).mean()) == pytest.approx(4.0, rel=0.15)
    assert log[-1]["fvu"] < fvu and log[-1]["l0"] == pytest.approx(4.0, rel=0.15)
    assert ("sparsity" in log[-1]) == (activation in ("relu", "jump_relu"))
    residual = (coder(mixed.x) - mixed.y).square().sum(1).mean() / (mixed.y - mixed.y.mean(0)).square().sum(1).mean()
    assert float(residual) == pytest.approx(log[-1]["fvu"], rel=0.1)


def test_the_threshold_of_batch_topk_keeps_up_in_a_short_training(mixed: ActivationStore, tmp_path: Path) -> None:
    """Forty steps, in which pre-activations grow many times over."""
    spec = CoderSpec("transcoder", "batch_topk", 48, 4, False, 12, 8)
    coder = train(mixed, spec, replace(CONFIG, tokens=40 * 64, lr=0.02), tmp_path, seed=0)
    dense = coder.dense(coder.encode(mixed.x))
    assert float((dense > 0).double().sum(1).mean()) == pytest.approx(4.0, rel=0.25)


@pytest.mark.parametrize(
    ("activation", "changes", "words"),
    [
        ("relu", {"multi_topk": True}, "multi_topk is of topk"),
        ("topk", {"prefixes": (8, 4)}, "must ascend"),
        ("topk", {"prefixes": (32,)}, "stay below coder.latents = 32"),
        ("relu", {"prefixes": (8,)}, "of topk and batch_topk"),
        ("topk", {"sparsity": 0.1}, "of relu and jump_relu"),
    ],
)
def test_terms_that_do_not_go_with_the_coder_are_refused(
    fit: ActivationStore, tmp_path: Path, activation: str, changes: dict, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(fit, replace(SPEC, activation=activation), replace(CONFIG, **changes), tmp_path, seed=0)


@pytest.mark.slow
def test_the_first_latents_of_a_matryoshka_do_without_the_rest(fit: ActivationStore, tmp_path: Path) -> None:
    """The first 8 of its latents alone explain more than the first 8 of a coder trained without prefixes."""
    found = []
    for prefixes in ((), (8,)):
        config = replace(CONFIG, tokens=600 * 64, lr=0.003, prefixes=prefixes)
        coder = train(fit, SPEC, config, tmp_path / str(len(prefixes)), seed=0)
        code = coder.dense(coder.encode(fit.x)) * (torch.arange(32) < 8)
        out = coder.decode_dense(code) + coder.skip(fit.x)
        found.append(float((out - fit.y).square().sum()))
    assert found[1] < 0.8 * found[0]
