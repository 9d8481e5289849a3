"""Training lowers FVU, follows from its seed, and goes on after a kill as though nothing had happened."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from plainspoken.activations import ActivationStore, StoredVectors
from plainspoken.activations.order import EpochOrder
from plainspoken.coders import Coder, CoderSpec
from plainspoken.config import TrainConfig
from plainspoken.errors import ActivationError, CoderError, ConfigError, StoreError
from plainspoken.train import has_checkpoint, remove_checkpoint, train_coders
from plainspoken.train.checkpoint import CHECKPOINT
from plainspoken.train.schedule import Schedule, base_rate
from plainspoken.types import Rows

SITE = "site"
SPEC = CoderSpec("transcoder", "topk", 32, 4, True, 6, 5)
CONFIG = TrainConfig(tokens=120 * 64, batch=64, lr=0.01, warm_up=10, decay=0.5, checkpoint_every=30)


@pytest.fixture(scope="module")
def fit() -> ActivationStore:
    """500 vectors through a small random network: 7.8 batches an epoch, so that batches reach over its end."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(500, 6, generator=generator)
    hidden = (x @ torch.randn(6, 20, generator=generator)).relu()
    return ActivationStore(x, hidden @ torch.randn(20, 5, generator=generator) + 1.0, "random network")


def source(fit: ActivationStore, config: TrainConfig, seed: int) -> StoredVectors:
    """The store's vectors, every one at a token of one long row."""
    tokens = np.zeros((1, len(fit)), np.int32)
    rows = Rows(tokens, np.ones_like(tokens, bool), np.zeros(1, np.int32), ("made",), "fit")
    return StoredVectors({SITE: fit}, rows, batch=config.batch, seed=seed)


def train(
    fit: ActivationStore,
    spec: CoderSpec,
    config: TrainConfig,
    folder: Path,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> Coder:
    """A coder of the store's vectors."""
    return train_coders(source(fit, config, seed), {SITE: spec}, config, {SITE: folder}, seed, progress)[SITE]


def outputs(coder: Coder, folder: Path) -> tuple[dict[str, bytes], bytes]:
    """Weights and log as bytes."""
    weights = {name: tensor.numpy().tobytes() for name, tensor in coder.state_dict().items()}
    return weights, (folder / "log.jsonl").read_bytes()


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(fit: ActivationStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return outputs(train(fit, SPEC, CONFIG, folder, seed=3), folder)


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


def test_same_seed_same_bytes(fit: ActivationStore, tmp_path: Path, uninterrupted: tuple) -> None:
    assert outputs(train(fit, SPEC, CONFIG, tmp_path / "a", seed=3), tmp_path / "a") == uninterrupted
    assert outputs(train(fit, SPEC, CONFIG, tmp_path / "b", seed=4), tmp_path / "b") != uninterrupted


class Killed(BaseException):
    """What stops a training in these tests, wherever it is."""


def kill() -> None:
    raise Killed


def after(steps: int, act: Callable[[], object]) -> Callable[[int], None]:
    """A progress that acts when so many steps are done, whatever the step it starts from."""
    seen = 0

    def progress(more: int) -> None:
        nonlocal seen
        seen += more
        if seen == steps * 64:
            act()

    return progress


@pytest.fixture(scope="module")
def mixed() -> ActivationStore:
    """2,000 sums of a few of 40 directions in twelve dimensions, and a linear image of them."""
    generator = torch.Generator().manual_seed(1)
    directions, share = torch.randn(40, 12, generator=generator), torch.rand(2000, 40, generator=generator)
    strength = torch.where(share > 0.92, torch.rand(2000, 40, generator=generator) + 0.5, 0.0)
    x = strength @ directions + 1.0
    return ActivationStore(x, x @ torch.randn(12, 8, generator=generator), "mixed")


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
    ("activation", "changes"),
    [
        ("batch_topk", {"prefixes": (4, 16)}),
        ("relu", {}),
        ("jump_relu", {}),
        ("topk", {"aux_k": 1 / 32, "dead_after": 64, "multi_topk": True, "prefixes": (8,)}),
        ("topk", {"precision": "bfloat16"}),
    ],
)
def test_resume_is_bit_identical_whatever_is_trained(
    fit: ActivationStore, tmp_path: Path, activation: str, changes: dict
) -> None:
    """Thresholds, the penalty's weight and the knowledge of who is dead are part of where a training stands."""
    spec, config = replace(SPEC, activation=activation), replace(CONFIG, **changes)
    whole = outputs(train(fit, spec, config, tmp_path / "whole", seed=3), tmp_path / "whole")
    with pytest.raises(Killed):
        train(fit, spec, config, tmp_path / "cut", seed=3, progress=after(71, kill))
    assert outputs(train(fit, spec, config, tmp_path / "cut", seed=3), tmp_path / "cut") == whole


@pytest.mark.parametrize(
    ("activation", "changes", "words"),
    [
        ("relu", {"multi_topk": True}, "multi_topk is of topk"),
        ("topk", {"prefixes": (8, 4)}, "must ascend"),
        ("topk", {"prefixes": (32,)}, "stay below coder.latents = 32"),
        ("relu", {"prefixes": (8,)}, "of topk and batch_topk"),
    ],
)
def test_terms_that_do_not_go_with_the_coder_are_refused(
    fit: ActivationStore, tmp_path: Path, activation: str, changes: dict, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(fit, replace(SPEC, activation=activation), replace(CONFIG, **changes), tmp_path, seed=0)


def test_the_first_latents_of_a_matryoshka_do_without_the_rest(fit: ActivationStore, tmp_path: Path) -> None:
    """The first 8 of its latents alone explain more than the first 8 of a coder trained without prefixes."""
    found = []
    for prefixes in ((), (8,)):
        config = replace(CONFIG, tokens=1000 * 64, lr=0.003, prefixes=prefixes)
        coder = train(fit, SPEC, config, tmp_path / str(len(prefixes)), seed=0)
        code = coder.dense(coder.encode(fit.x)) * (torch.arange(32) < 8)
        out = coder.decode_dense(code) + coder.skip(fit.x)
        found.append(float((out - fit.y).square().sum()))
    assert found[1] < 0.8 * found[0]


@pytest.mark.parametrize("steps", [7, 30, 31, 59, 95, 119])
def test_resume_is_bit_identical(fit: ActivationStore, tmp_path: Path, uninterrupted: tuple, steps: int) -> None:
    """Killed after any step (before the first checkpoint, on one, between lines of the log), then run again."""

    with pytest.raises(Killed):
        train(fit, SPEC, CONFIG, tmp_path, seed=3, progress=after(steps, kill))
    assert has_checkpoint(tmp_path) == (steps >= 30)
    seen: list[int] = []
    coder = train(fit, SPEC, CONFIG, tmp_path, seed=3, progress=seen.append)
    assert seen[0] == steps // 30 * 30 * 64
    assert sum(seen) == CONFIG.tokens
    assert outputs(coder, tmp_path) == uninterrupted


def test_kill_dash_nine_is_nothing_special(fit: ActivationStore, tmp_path: Path, uninterrupted: tuple) -> None:
    """A process of its own is shot twice, at steps 44 and 101, and the third one finishes."""

    def shoot() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for step in (44, 101):
        child = os.fork()
        if child == 0:
            train(fit, SPEC, CONFIG, tmp_path, seed=3, progress=after(step, shoot))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert outputs(train(fit, SPEC, CONFIG, tmp_path, seed=3), tmp_path) == uninterrupted


def test_a_log_torn_in_the_middle_of_a_line_is_redone(
    fit: ActivationStore, tmp_path: Path, uninterrupted: tuple
) -> None:
    with pytest.raises(Killed):
        train(fit, SPEC, CONFIG, tmp_path, seed=3, progress=after(99, kill))
    with open(tmp_path / "log.jsonl", "ab") as log:
        log.write(b'{"step": 1')
    assert outputs(train(fit, SPEC, CONFIG, tmp_path, seed=3), tmp_path) == uninterrupted


def stopped_at_sixty(fit: ActivationStore, folder: Path) -> None:
    with pytest.raises(Killed):
        train(fit, SPEC, CONFIG, folder, seed=3, progress=after(65, kill))


def test_a_checkpoint_of_another_training_is_refused(fit: ActivationStore, tmp_path: Path) -> None:
    stopped_at_sixty(fit, tmp_path)
    for words, other in {
        "seed was 3, now 4": lambda: train(fit, SPEC, CONFIG, tmp_path, seed=4),
        "train was": lambda: train(fit, SPEC, replace(CONFIG, lr=0.02), tmp_path, seed=3),
        "spec was": lambda: train(fit, replace(SPEC, k=5), CONFIG, tmp_path, seed=3),
        "activations was": lambda: train(replace(fit, fingerprint="x"), SPEC, CONFIG, tmp_path, seed=3),
    }.items():
        with pytest.raises(ConfigError, match=words):
            other()


def test_a_truncated_checkpoint_or_log_is_refused_by_name(fit: ActivationStore, tmp_path: Path) -> None:
    stopped_at_sixty(fit, tmp_path)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[:-5])
    with pytest.raises(CoderError, match=r"checkpoint\.safetensors is truncated"):
        train(fit, SPEC, CONFIG, tmp_path, seed=3)
    (tmp_path / CHECKPOINT).write_bytes(whole)
    (tmp_path / "log.jsonl").write_bytes(b"")
    with pytest.raises(StoreError, match=r"log\.jsonl is truncated"):
        train(fit, SPEC, CONFIG, tmp_path, seed=3)
    remove_checkpoint(tmp_path)
    train(fit, SPEC, CONFIG, tmp_path, seed=3)


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


def test_every_epoch_is_a_new_shuffle_of_everything() -> None:
    order = EpochOrder(10, seed=0)
    places = torch.cat([order.between(start, start + 4) for start in range(0, 40, 4)])
    epochs = [tuple(epoch.tolist()) for epoch in places.split(10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(epochs)) == 4
    assert torch.equal(EpochOrder(10, seed=0).between(13, 29), places[13:29])
    assert not torch.equal(EpochOrder(10, seed=1).between(0, 40), places)
    assert len(EpochOrder(3, seed=0).between(0, 8)) == 8


def test_the_rate_rises_stays_and_falls_to_nothing() -> None:
    schedule = Schedule(steps=100, peak=2.0, warm_up=9, decay=0.5)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert set(rates[9:51]) == {2.0}
    assert rates[-1] == pytest.approx(2.0 / 50)
    assert schedule.rate(100) == 0.0
    assert base_rate(2**14) == 2e-4
    assert base_rate(2**12) == 4e-4
    assert base_rate(2**14, 384) == 4e-4
    with pytest.raises(ConfigError):
        Schedule(steps=0, peak=1.0, warm_up=0, decay=1.0)
