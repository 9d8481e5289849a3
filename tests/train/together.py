"""A program that trains coders of every activation, and from both sources, alone or as one of several processes.

together.py LM_FOLDER OUT_FOLDER    the first process writes OUT_FOLDER/{source}-{activation}.safetensors
"""

import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from plainspoken.activations import ALONE, MixingBuffer, Share, store_vectors
from plainspoken.coders import CoderSpec
from plainspoken.config import TrainConfig
from plainspoken.lm import load_lm, resolve_sites
from plainspoken.train import FinishText, train_coders
from plainspoken.train.processes import Processes, processes_of_torchrun
from plainspoken.types import Rows

SIZES = {"topk": (256, 96), "batch_topk": (256, 96), "relu": (48, 4), "jump_relu": (48, 4)}
"""Latents and batch: so many of the ones, so little of the other, that some latents are silent in a batch."""
TRAININGS = [*(("store", activation) for activation in SIZES), ("buffer", "topk"), ("buffer", "batch_topk")]
"""What is trained: which vectors a source gives is all one to the activations, so that
from the buffer only those are trained of which processes hold something in common."""
STEPS = 20


def rows(n: int = 96, t: int = 16) -> Rows:
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 300, (n, t)).astype(np.int32)
    mask = np.ones_like(tokens, bool)
    mask[:, 0] = False
    return Rows(tokens, mask, np.arange(n, dtype=np.int32), tuple(map(str, range(n))), "fit")


def main(lm_folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    lm = load_lm(str(lm_folder), device="cpu", dtype="float32")
    sites = resolve_sites(lm, "gpt_neox.layers.*.mlp")
    with processes_of_torchrun(cuda=False) if "RANK" in os.environ else nullcontext(Processes()) as processes:
        share = ALONE if processes.world == 1 else Share(processes.rank, processes.world, processes.total)
        settings = {"seed": 1, "share": share, "batch_rows": 4, "outlier_norm": 1.6}
        text = FinishText(lm, {site.module: site for site in sites}, rows(n=12, t=64), logits=1)  # a row at a time
        for kind, activation in TRAININGS:
            latents, batch = SIZES[activation]
            if kind == "store":
                source = store_vectors(lm, sites, rows(), out, batch=batch, **settings)
            else:
                source = MixingBuffer(lm, sites, rows(), vectors=600, batch=batch, **settings)
            spec = CoderSpec("transcoder", activation, latents, 4, True, 16, 16)
            config = TrainConfig(tokens=batch * STEPS, batch=batch, lr=0.003, aux_k=0.03, dead_after=batch)
            if activation == "topk":
                config = replace(config, multi_topk=True, prefixes=(8, 20))
            if kind == "store":  # on one row or two a step, of which the other processes have none
                config = replace(config, finish_tokens=800)
            specs = {site.module: spec for site in sites}
            folders = {site.module: out / f"{kind}-{activation}-{site.module}" for site in sites}
            coders = train_coders(
                source, specs, config, folders, 0, processes=processes, text=text if config.finish_tokens else None
            )
            if processes.first:
                for module, coder in coders.items():
                    save_file(coder.state_dict(), out / f"{kind}-{activation}-{module}.safetensors")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
