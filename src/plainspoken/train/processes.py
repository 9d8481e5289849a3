"""The processes that train together under torchrun: each has a share of every batch, and all take the same step."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; by default it is alone."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def add(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over the processes: the same bits in all of them."""
        for tensor in tensors if self.world > 1 else ():
            dist.all_reduce(tensor)

    def gather(self, vector: Shaped[Tensor, " mine"]) -> Shaped[Tensor, " all"]:
        """What all processes hold, one after the other, of vectors whose lengths may differ."""
        if self.world == 1:
            return vector
        lengths = [torch.zeros(1, dtype=torch.long, device=vector.device) for _ in range(self.world)]
        dist.all_gather(lengths, torch.tensor([len(vector)], device=vector.device))
        counts = [int(length) for length in lengths]
        parts = [vector.new_zeros(max(counts)) for _ in counts]
        dist.all_gather(parts, torch.nn.functional.pad(vector, (0, max(counts) - len(vector))))
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def wait(self) -> None:
        """Until all have come here."""
        if self.world > 1:
            dist.barrier()


@contextmanager
def processes_of_torchrun(device: torch.device) -> Iterator[Processes]:
    """The processes that torchrun started, joined by NCCL on GPUs and by Gloo elsewhere; without torchrun, this one."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def launched_rank() -> int:
    """The rank that torchrun gave this process; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def gradients(parameters: Sequence[torch.nn.Parameter]) -> list[Tensor]:
    """The parameters' gradients, all of which are there."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
