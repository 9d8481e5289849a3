"""All that training is at a step, in one file, so that there is no moment at which it is half written."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from plainspoken.coders import Coder, CoderSpec
from plainspoken.config import TrainConfig
from plainspoken.errors import CoderError, ConfigError
from plainspoken.store import write_atomic

CHECKPOINT = "checkpoint.safetensors"
AUX_K = "a share of the residual"
"""Which loss `aux_k` stands for: it was another once, under the same settings."""


@dataclass(eq=False)
class Run:
    """The moving parts of a training: a fitter, and so the one kind of object that changes.

    The order of the vectors is no part of it: it follows from the seed and the step (`EpochOrder`).
    """

    coder: Coder
    identity: dict[str, str]
    """What this is a training of."""
    step: int = 0
    log_bytes: int = 0
    summed: int = 0
    """Steps in `sums`."""
    seen: int = 0
    """Vectors that were trained on; those that were masked are not among them."""
    sparsity: Float[Tensor, ""] = field(init=False)
    """Weight of the penalty on firing: nothing until whoever starts the training sets it."""
    sums: Float[Tensor, "4"] = field(init=False)
    """FVU, L0, KL (0 but in a finishing phase) and gradient norm summed since the last line of the log."""
    fired_at: Int[Tensor, " latents"] = field(init=False)
    """The step at which each latent last fired."""
    optimizer: torch.optim.Adam = field(init=False)

    def __post_init__(self) -> None:
        device = self.coder.W_enc.device
        self.sparsity = torch.zeros((), dtype=torch.float64, device=device)
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)
        self.fired_at = torch.full((self.coder.spec.latents,), -1, dtype=torch.long, device=device)
        self.optimizer = torch.optim.Adam(self.parameters, fused=device.type in ("cpu", "cuda"))

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The coder's weights: what the optimizer moves, and what the gradient's norm is clipped over."""
        return list(self.coder.parameters())


_OWN = ("sparsity", "sums", "fired_at")
_COUNTS = ("step", "log_bytes", "summed", "seen")


def identity(fingerprint: str, spec: CoderSpec, config: TrainConfig, seed: int, rounded: bool) -> dict[str, str]:
    """What must agree between a checkpoint and the run that goes on from it."""
    found = {
        "activations": fingerprint,
        "spec": str(asdict(spec)),
        "train": str(asdict(config)),
        "seed": str(seed),
        "rounded": str(rounded),
    }
    return found | {"aux_k": AUX_K} if config.aux_k else found


def save_checkpoint(folder: Path, run: Run) -> None:
    """Writes the run over the checkpoint before it."""
    tensors = {name: getattr(run, name) for name in _OWN}
    tensors |= {f"coder.{name}": tensor for name, tensor in run.coder.state_dict().items()}
    for name, parameter in run.coder.named_parameters():
        for key, value in run.optimizer.state[parameter].items():
            tensors[f"adam.{name}.{key}"] = value
    counts = {name: str(getattr(run, name)) for name in _COUNTS}
    metadata = {**counts, "identity": json.dumps(run.identity)}
    with write_atomic(folder / CHECKPOINT) as file:
        file.write(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata))


def load_checkpoint(folder: Path, run: Run) -> None:
    """Brings the run to where the folder's checkpoint left it; without a checkpoint nothing happens.

    Raises CoderError for a file that is truncated, ConfigError for the checkpoint of another training.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found = json.loads(metadata["identity"])
    except (SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise CoderError(f"{path} is truncated or altered ({error}); delete it to train anew") from error
    for key, wanted in run.identity.items():
        if (was := found.get(key, "not told")) != wanted:
            raise ConfigError(
                f"{path} is of another training: {key} was {was}, now {wanted}; delete it or choose --out"
            )
    for name in _COUNTS:
        setattr(run, name, int(metadata[name]))
    for name in _OWN:
        getattr(run, name).copy_(tensors[name])
    run.coder.load_state_dict({name: tensors[f"coder.{name}"] for name in run.coder.state_dict()})
    with torch.no_grad():
        for name, parameter in run.coder.named_parameters():
            prefix = f"adam.{name}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            run.optimizer.state[parameter] = {
                key: value.to(parameter.device) if value.dim() or run.optimizer.defaults["fused"] else value
                for key, value in state.items()
            }


def has_checkpoint(folder: Path) -> bool:
    """Whether a training in this folder goes on from where it was, or begins."""
    return (folder / CHECKPOINT).is_file()


def remove_checkpoint(folder: Path) -> None:
    """For when the trained coder is safely stored."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
