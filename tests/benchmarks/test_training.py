"""The benchmarks of training at sizes of no interest; and the fast step is the mathematics of the plain one."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from plainspoken.coders import CoderSpec, initialise
from plainspoken.config import TrainConfig

SIZES = argparse.Namespace(width=16, latents=[64], batch=32, k=4, steps=3)


def test_a_step_is_timed_and_told(load, capsys: pytest.CaptureFixture[str]) -> None:
    train_step, rounds = load("train_step"), load("rounds")
    told = {}
    for name, work in (("plainspoken", train_step.ours), ("floor", train_step.floor)):
        work(SIZES)
        told[name] = [json.loads(capsys.readouterr().out.splitlines()[-1])]
    assert min(told["plainspoken"][0]["seconds"], told["floor"][0]["seconds"]) > 0
    told["sparsify"] = [{**told["plainspoken"][0], "seconds": 2 * told["plainspoken"][0]["seconds"]}]
    block = train_step.report(rounds.Rounds(told, [0.0], 2), SIZES, 64)
    [line] = [line for line in block.splitlines() if line.startswith("| sparsify")]
    assert line.split("|")[5].strip() == "2.00"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_fast_step_is_the_mathematics_of_plain_autograd(load, precision: str) -> None:
    """Forty steps of Adam, clipped, from the same weights: to what float32 and 40 of 400 candidates leave."""
    train_curve = load("train_curve")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40 * 128, 24, generator=generator)
    y = x.relu() @ torch.randn(24, 24, generator=generator) / 4
    config = TrainConfig(tokens=40 * 128, batch=128, lr=0.002, warm_up=5, precision=precision)
    curves = []
    for train in (train_curve.plain, train_curve.fast):
        spec = CoderSpec("transcoder", "topk", 400, 32, True, 24, 24)
        coder = initialise(spec, torch.zeros(24), torch.zeros(24), torch.Generator().manual_seed(0))
        curves.append(train(coder, x, y, config))
    plain, fast = (curve.loss for curve in curves)
    assert plain[-1] < 0.5 * plain[0]
    assert np.abs(fast / plain - 1).max() < {"float32": 1e-4, "bfloat16": 5e-3}[precision]
    assert 0 < curves[1].apart < {"float32": 1e-5, "bfloat16": 2e-2}[precision]


@pytest.mark.peers
@pytest.mark.slow
def test_peers_are_timed_and_fit_the_same_vectors(load, tmp_path: Path) -> None:
    rounds = load("rounds")
    if not rounds.TRAINERS.exists():
        pytest.skip("the other trainers are absent: scripts/peers.sh coders installs them")
    program = [rounds.TRAINERS, Path(rounds.HERE) / "peers" / "with_trainers.py"]
    sizes = ["--latents", "64", "--k", "4", "--batch", "32", "--width", "16", "--steps", "2"]
    for name in ("sparsify", "sparsify-signum", "saelens-sparse", "saelens-dense", "dictionary_learning"):
        assert rounds.run([*program, "step", name, *sizes])["seconds"] > 0, name
    vectors = np.random.default_rng(0).normal(size=(3, 96, 16)).astype(np.float32)
    for name, array in zip(("x", "y", "held_x"), vectors, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "rates.npy", np.array([0.001, np.nan, 0.001]))
    rounds.run([*program, "fit", "sparsify", tmp_path, *sizes])
    assert np.load(tmp_path / "sparsify.npy").shape == (96, 16)
