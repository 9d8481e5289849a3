"""The fast step beside plain autograd in float32, and what it comes to beside sparsify, on the same real activations.

    scripts/peers.sh coders                        # once
    .venv/bin/python benchmarks/train_curve.py     # a few minutes

A skip transcoder of 4,096 latents, k = 32, at the pocket model's middle FFN, on the standard library: 300 steps of
2,048 vectors, in one order for all, from our initial weights (sparsify: from its own). Held out: the last tenth of the
fit part's vectors. Prints a table and puts it into benchmarks/README.md.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import plainspoken

# isort: split
import numpy as np
import rounds
import torch
from torch import Tensor

from plainspoken.activations import collect
from plainspoken.activations.order import derived_generator
from plainspoken.coders import Coder, CoderSpec, initialise
from plainspoken.config import TrainConfig, load_config
from plainspoken.pipeline.shelves import load_rows
from plainspoken.pipeline.workplace import Workplace
from plainspoken.train.checkpoint import Run
from plainspoken.train.objective import objective_of, schedule_of
from plainspoken.train.step import Recipe, step, terms_of

CPU = torch.device("cpu")
EVERY = 10
"""Steps between comparisons of gradients."""


@dataclass(frozen=True, eq=False)
class Curve:
    """The FVU of every step, and how far gradients were at most from plain autograd's at the same weights."""

    loss: np.ndarray
    apart: float | None = None


def vectors(folder: Path) -> tuple[Tensor, Tensor]:
    """Inputs and outputs at the fit part's tokens, in order, of mean 0 and variance 1 a coordinate."""
    from plainspoken.pipeline import STAGES

    config = load_config(overrides=["corpus.fit_tokens=700000", "corpus.explain_tokens=1000"])
    plainspoken.run(config, folder, target="corpus")
    workplace = Workplace(folder, config, STAGES)
    [store] = collect(workplace.lm, workplace.sites, load_rows(workplace, "fit"), folder).values()
    x, y = (table - table.double().mean(0).float() for table in (store.x, store.y))
    return tuple(table / table.double().square().mean().sqrt().float() for table in (x, y))


def fast(coder: Coder, x: Tensor, y: Tensor, config: TrainConfig) -> Curve:
    """The FVU of every step of `train.step`."""
    run = Run(coder, {})
    objective, schedule = objective_of(config, coder.spec, float(y.shape[1]), CPU), schedule_of(config, coder.spec)
    curve, apart = [], []
    for number in range(schedule.steps):
        part, before = slice(number * config.batch, (number + 1) * config.batch), float(run.sums[0])
        if number % EVERY == 0:
            apart.append(gradients_apart(run, x[part], y[part], Recipe(config, objective)))
        step(run, x[part], y[part], Recipe(config, objective), schedule.rate(number))
        curve.append(float(run.sums[0]) - before)
    return Curve(np.array(curve), max(apart))


def gradients_apart(run: Run, x: Tensor, y: Tensor, recipe: Recipe) -> float:
    """How far our gradient is from plain autograd's at the same weights, as a share of the latter's norm."""
    ours, theirs = [], []
    for found, loss in ((ours, terms_of(run, x, y, recipe)[0].total), (theirs, plain_loss(run.coder, x, y))):
        run.optimizer.zero_grad()
        loss.backward()
        found += [parameter.grad.double().flatten().clone() for parameter in run.parameters]
    run.optimizer.zero_grad()
    return float((torch.cat(ours) - torch.cat(theirs)).norm() / torch.cat(theirs).norm())


def plain(coder: Coder, x: Tensor, y: Tensor, config: TrainConfig) -> Curve:
    """The same by autograd through dense codes, torch's own Adam and its clipping, all in float32."""
    schedule = schedule_of(config, coder.spec)
    parameters = list(coder.parameters())
    adam = torch.optim.Adam(parameters)
    curve = []
    for number in range(schedule.steps):
        part = slice(number * config.batch, (number + 1) * config.batch)
        loss = plain_loss(coder, x[part], y[part])
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip)
        adam.param_groups[0]["lr"] = schedule.rate(number)
        adam.step()
        curve.append(loss.item())
    return Curve(np.array(curve))


def plain_loss(coder: Coder, x: Tensor, y: Tensor) -> Tensor:
    """FVU by a dense code."""
    pre = torch.nn.functional.linear(x, coder.W_enc, coder.b_enc)
    top = pre.topk(coder.spec.k, dim=1)
    z = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    out = z @ coder.W_dec + coder.b_dec + torch.nn.functional.linear(x, coder.W_skip)
    return (out - y).square().sum(1).mean() / y.shape[1]


def renumbered(coder: Coder, x: Tensor, y: Tensor, config: TrainConfig) -> Curve:
    """`plain` with the latents in another order: the same mathematics, whose sums only round otherwise."""
    order = torch.randperm(coder.spec.latents, generator=derived_generator("renumber", 0))
    with torch.no_grad():
        for parameter in (coder.W_enc, coder.b_enc, coder.W_dec):
            parameter.copy_(parameter[order].clone())
    return plain(coder, x, y, config)


def fvu(out: Tensor, y: Tensor) -> float:
    """Globally centred, in float64."""
    return float((out.double() - y).square().sum() / (y.double() - y.double().mean(0)).square().sum())


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("latents", 4096), ("k", 32), ("steps", 300), ("batch", 2048), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peers", type=Path, default=rounds.TRAINERS, help="Python of an environment that has them")
    parser.add_argument("--readme", type=Path, default=rounds.README, help="the page with the block to write")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        x, y = vectors(folder / "run")
        block = compared(x, y, given, folder)
    print("\n" + block)
    if given.peers.exists():
        rounds.write_block(given.readme, "train-curve", block)


RATES = {"the paper's rate": (1.0, 1.0), "the presets' rate": (2.0, 0.5)}
"""(train.lr_scale, train.decay)."""
TRAINERS = {
    "plain autograd, float32": (plain, "float32"),
    "plain autograd, float32, latents renumbered": (renumbered, "float32"),
    "plainspoken, float32": (fast, "float32"),
    "plainspoken, candidates in bfloat16": (fast, "bfloat16"),
}


def compared(x: Tensor, y: Tensor, given: argparse.Namespace, folder: Path) -> str:
    """The table."""
    seen, wanted = len(x) * 9 // 10, given.steps * given.batch
    order = torch.randperm(seen, generator=derived_generator("curve", given.seed))
    order = order.repeat(-(-wanted // seen))[:wanted]
    fit_x, fit_y, held_x, held_y = x[order], y[order], x[seen:], y[seen:]
    spec = CoderSpec("transcoder", "topk", given.latents, given.k, True, x.shape[1], y.shape[1])
    for name, array in (("x", fit_x), ("y", fit_y), ("held_x", held_x)):
        np.save(folder / f"{name}.npy", array.numpy())
    rows = []
    for title, (lr_scale, decay) in RATES.items():
        config = TrainConfig(tokens=wanted, batch=given.batch, warm_up=30, lr_scale=lr_scale, decay=decay)
        curves: dict[str, Curve] = {}
        for name, (train, precision) in TRAINERS.items():
            generator = torch.Generator().manual_seed(given.seed)
            coder = initialise(spec, torch.zeros(x.shape[1]), torch.zeros(y.shape[1]), generator)
            curves[name] = found = train(coder, fit_x, fit_y, replace(config, precision=precision))
            apart = np.abs(found.loss / curves["plain autograd, float32"].loss - 1)
            with torch.no_grad():
                rows.append([f"{name}; {title}", f"{apart.max():.3%}", f"{apart.mean():.3%}"])
                rows[-1].append("" if found.apart is None else f"{found.apart:.1e}")
                rows[-1].append(f"{fvu(coder(held_x), held_y):.4f}")
            print(rows[-1], flush=True)
        schedule = schedule_of(config, spec)
        if given.peers.exists():
            rates = [schedule.rate(number) for number in range(given.steps)]
            rows.append([f"sparsify, Adam; {title}", "", "", "", theirs("sparsify", rates, held_y, given, folder)])
    if given.peers.exists():
        for title, name in (("Adam", "sparsify"), ("signum, its default", "sparsify-signum")):
            own = theirs(name, [float("nan")] * given.steps, held_y, given, folder)
            rows.append([f"sparsify, {title}; its own rate", "", "", "", own])
    head = [f"{given.steps} steps, {given.latents:,} latents", "loss curve from plain autograd's: largest distance"]
    head += [
        "mean distance",
        "gradients at equal weights: largest distance",
        f"FVU on {len(held_x):,} vectors held out",
    ]
    return rounds.table(head, rows) + f"\n\nSeed {given.seed}; {rounds.cpu()}, torch {torch.__version__}."


def theirs(name: str, rates: list[float], held_y: Tensor, given: argparse.Namespace, folder: Path) -> str:
    """FVU of the coder that a peer trains on the same vectors in the same order."""
    np.save(folder / "rates.npy", np.array(rates))
    sizes = [f"--{size}={getattr(given, size)}" for size in ("latents", "k", "batch", "seed")]
    rounds.run([given.peers, rounds.HERE / "peers" / "with_trainers.py", "fit", name, folder, *sizes], 2)
    return f"{fvu(torch.from_numpy(np.load(folder / f'{name}.npy')), held_y):.4f}"


if __name__ == "__main__":
    main(sys.argv[1:])
