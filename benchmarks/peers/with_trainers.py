"""Others' trainers of sparse coders, through their installed packages: run by the Python of .venv-peers.

    with_trainers.py step NAME --latents M ...       times steps on random vectors
    with_trainers.py fit NAME FOLDER --latents M ... trains on x.npy and y.npy; writes what it makes of held_x.npy

NAME: sparsify (skip transcoder, Adam), sparsify-signum (its default optimizer), saelens-sparse, saelens-dense,
dictionary_learning (the last three: SAEs, since they train no transcoder).
"""

import argparse
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

os.environ.update(SPARSIFY_DISABLE_TRITON="1", WANDB_MODE="disabled")

import numpy as np
import torch
from meter import measured, tell
from torch import Tensor

Step = Callable[[Tensor, Tensor, float | None], None]
"""(x, y, learning rate or the project's own)."""


def sparsify(d_in: int, given: argparse.Namespace, mean: tuple[Tensor, Tensor], optimizer: str) -> tuple[Step, object]:
    """As its Trainer steps a skip transcoder."""
    from schedulefree import ScheduleFreeWrapper
    from sparsify import SparseCoderConfig
    from sparsify.sign_sgd import SignSGD
    from sparsify.sparse_coder import SparseCoder

    config = SparseCoderConfig(num_latents=given.latents, k=given.k, transcode=True, skip_connection=True)
    coder = SparseCoder(d_in, config, dtype=torch.float32)
    with torch.no_grad():
        coder.encoder.bias.copy_(-(coder.encoder.weight @ mean[0]))
        coder.b_dec.copy_(mean[1])
    scale = (given.latents / 2**14) ** 0.5
    if optimizer == "adam":
        moved = torch.optim.Adam(coder.parameters(), lr=2e-4 / scale)
    else:
        moved = ScheduleFreeWrapper(SignSGD(coder.parameters(), lr=5e-3 / scale), momentum=0.95)
        moved.train()

    def step(x: Tensor, y: Tensor, rate: float | None) -> None:
        if rate is not None and optimizer == "adam":
            moved.param_groups[0]["lr"] = rate
        coder(x=x, y=y).fvu.backward()
        moved.step()
        moved.zero_grad()

    def decode(x: Tensor) -> Tensor:
        if optimizer != "adam":
            moved.eval()
        with torch.no_grad():
            return coder(x=x, y=torch.zeros_like(x)).sae_out

    return step, decode


def saelens(d_in: int, given: argparse.Namespace, sparse: bool) -> tuple[Step, object]:
    """As its SAETrainer steps a TopK SAE."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = TopKTrainingSAEConfig(
        d_in=d_in, d_sae=given.latents, k=given.k, device="cpu", use_sparse_activations=sparse,
        rescale_acts_by_decoder_norm=not sparse,
    )  # fmt: skip
    settings = SAETrainerConfig(
        total_training_samples=given.batch * 1000, train_batch_size_samples=given.batch, device="cpu", lr_end=3e-5
    )
    trainer = SAETrainer(settings, TopKTrainingSAE(config), iter(()))

    def step(x: Tensor, _: Tensor, __: float | None) -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    return step, None


def dictionary_learning(d_in: int, given: argparse.Namespace) -> tuple[Step, object]:
    """As its TopKTrainer updates."""
    absent = types.ModuleType("nnsight")  # it is imported for reading activations from models, which is not timed
    absent.LanguageModel = object
    sys.modules["nnsight"] = absent
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=100_000, activation_dim=d_in, dict_size=given.latents, k=given.k, layer=0, lm_name="none", device="cpu",
        warmup_steps=1, seed=0,
    )  # fmt: skip
    done = iter(range(1, 100_000))
    return lambda x, y, rate: trainer.update(next(done), x), None


def made(name: str, d_in: int, given: argparse.Namespace, mean: tuple[Tensor, Tensor]) -> tuple[Step, Callable]:
    match name:
        case "sparsify":
            return sparsify(d_in, given, mean, "adam")
        case "sparsify-signum":
            return sparsify(d_in, given, mean, "signum")
        case "saelens-sparse" | "saelens-dense":
            return saelens(d_in, given, name.endswith("sparse"))
    return dictionary_learning(d_in, given)


def time_steps(given: argparse.Namespace) -> None:
    """Median wall seconds of a step, and the peak of memory."""
    torch.manual_seed(0)
    batches = [torch.randn(2, given.batch, given.width) for _ in range(4)]
    taken: list[float] = []
    step: Step | None = None

    def go(steps: int) -> None:
        nonlocal step
        if step is None:
            step, _ = made(given.name, given.width, given, (torch.zeros(given.width), torch.zeros(given.width)))
        for i in range(steps):
            began = time.perf_counter()
            step(*batches[i % 4], None)
            taken.append(time.perf_counter() - began)

    cost = measured(lambda: go(given.steps), first=lambda: go(2))
    tell(seconds=statistics.median(taken[2:]), cpu_seconds=cost["seconds"] / given.steps, peak_mb=cost["peak_mb"])


def fit(given: argparse.Namespace) -> None:
    """Trains on the vectors in their order, at rates.npy (NaN: its own), and writes the output for those held out."""
    torch.manual_seed(given.seed)
    x, y, held = (torch.from_numpy(np.load(given.folder / f"{name}.npy")) for name in ("x", "y", "held_x"))
    rates = np.load(given.folder / "rates.npy")
    step, decode = made(given.name, x.shape[1], given, (x.mean(0), y.mean(0)))
    for i, rate in enumerate(rates.tolist()):
        part = slice(i * given.batch, (i + 1) * given.batch)
        step(x[part], y[part], None if rate != rate else rate)
    np.save(given.folder / f"{given.name}.npy", decode(held).numpy())
    tell(steps=len(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("step", "fit"))
    parser.add_argument("name")
    parser.add_argument("folder", type=Path, nargs="?")
    for name, value in (("latents", 12288), ("k", 32), ("batch", 2048), ("width", 768), ("steps", 5), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    (time_steps if given.work == "step" else fit)(given)


if __name__ == "__main__":
    main()
