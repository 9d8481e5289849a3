"""delphi's encoding and its sampling of examples, measured. Run by encode.py and examples.py, by .venv-delphi's Python.

with_delphi.py encode FOLDER --tokens N --k K
with_delphi.py examples FOLDER --repeats N
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from delphi.config import ConstructorConfig, SamplerConfig
from delphi.latents import Latent, LatentCache, LatentRecord, constructor, sampler
from delphi.latents.latents import ActivationData
from meter import measured, tell
from transformers import GPTNeoXModel

BATCH_ROWS = 8


def encode(folder: Path, tokens: int, k: int) -> dict[str, float]:
    """`LatentCache.run` over the first tokens, the site's input through a TopK encoder that gives dense latents.

    Dense is what the cache asks for: its own loader of sparsify's coders scatters them likewise.
    """
    model = GPTNeoXModel.from_pretrained(folder / "lm").float().eval()
    W_enc = torch.from_numpy(np.load(folder / "W_enc.npy"))
    text = torch.from_numpy(np.load(folder / "tokens.npy")).long()

    def latents(x: torch.Tensor) -> torch.Tensor:
        z = torch.relu(torch.nn.functional.linear(x, W_enc))
        values, indices = z.topk(k, dim=-1, sorted=False)
        return torch.zeros_like(z).scatter_(-1, indices, values)

    def cache() -> LatentCache:
        return LatentCache(model, {"layers.1.mlp": latents}, BATCH_ROWS, transcode=True)

    context = text.shape[1]
    timed = cache()
    cost = measured(lambda: timed.run(tokens, text), first=lambda: cache().run(BATCH_ROWS * context, text))
    return {**cost, "firings": len(timed.cache.latent_activations["layers.1.mlp"])}


class Words:
    """As much of a tokenizer as the sampler uses."""

    def batch_decode(self, tokens: torch.Tensor) -> list[str]:
        return [str(token) for token in tokens.tolist()]


def examples(folder: Path, repeats: int) -> dict[str, float]:
    """Milliseconds to choose 40 + 50 examples of each latent in the folder, all settings delphi's own."""
    found, words = {}, Words()
    for path in sorted(folder.glob("*.position.npy")):
        name = path.name.removesuffix(".position.npy")
        text = torch.from_numpy(np.load(folder / f"{name.split()[0]}.tokens.npy")).long()
        position = torch.from_numpy(np.load(path))
        t = text.shape[1]
        where = torch.stack([position // t, position % t, torch.zeros_like(position)], dim=1)
        firings = ActivationData(where, torch.from_numpy(np.load(folder / f"{name}.value.npy")))
        times = []
        for _ in range(repeats):
            began = time.process_time()
            record = constructor(LatentRecord(Latent("m", 0)), firings, ConstructorConfig(min_examples=1), text, words)
            sampler(record, SamplerConfig(), words)
            times.append(1000 * (time.process_time() - began))
        found[name] = median(times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["encode", "examples"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--k", type=int)
    parser.add_argument("--repeats", type=int)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "encode":
        tell(**encode(given.folder, given.tokens, given.k))
    else:
        tell(**examples(given.folder, given.repeats))


if __name__ == "__main__":
    main()
