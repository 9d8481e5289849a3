"""Small trainings of a coder on a store that is made."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from plainspoken.activations import ActivationStore, StoredVectors
from plainspoken.coders import Coder, CoderSpec
from plainspoken.config import TrainConfig
from plainspoken.train import train_coders
from plainspoken.types import Rows

SITE = "site"
SPEC = CoderSpec("transcoder", "topk", 32, 4, True, 6, 5)
CONFIG = TrainConfig(tokens=120 * 64, batch=64, lr=0.01, warm_up=10, decay=0.5, checkpoint_every=30)


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
    """The log, line by line."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
