"""The processes that train together under torchrun: each has a share of every batch, and all take the same step."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributed.rendezvous import rendezvous


@dataclass(frozen=True)
class Processes:
    """This process among those that train together; by default it is alone."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def add(self, *tensors: Shaped[Tensor, "..."]) -> None:
        """Replaces each tensor by its sum over the processes: the same bits in all of them."""
        for tensor in tensors if self.world > 1 else ():
            dist.all_reduce(tensor)

    def total(self, partial: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """The sum over the processes of a tensor that lies on the CPU, itself left as it is."""
        # NCCL adds up what lies on GPUs only.
        there = partial.to("cuda" if dist.get_backend() == "nccl" else "cpu", copy=True)
        self.add(there)
        return there.to(partial.device)

    def count(self, mine: int, device: torch.device) -> int:
        """The sum of what each process has."""
        return mine if self.world == 1 else int(self.gather(torch.tensor([mine], device=device)).sum())

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

    def tell(self, names: Sequence[str] | None) -> None:
        """What the first process is about to do, to all the others; None: nothing more. From others: nothing."""
        if self.world > 1 and self.first:
            dist.broadcast_object_list([names], src=0)

    def hear(self) -> Sequence[str] | None:
        """What the first process tells next."""
        told = [None]
        dist.broadcast_object_list(told, src=0)
        return told[0]


ALONE = Processes()


@contextmanager
def processes_of_torchrun(cuda: bool) -> Iterator[Processes]:
    """The processes that torchrun started, joined by NCCL on GPUs, one each, and by Gloo elsewhere."""
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, world = next(rendezvous("env://"))
    # Processes that are started again meet in the store of those that died, where these' addresses still stand.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(attempt, store)  # pyright: ignore[reportPrivateImportUsage]
    # Between two trainings the others wait for what the first does alone, however long that takes.
    dist.init_process_group(
        "nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(days=30)
    )
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def gradients(parameters: Sequence[torch.nn.Parameter]) -> list[Float[Tensor, "..."]]:
    """The parameters' gradients, all of which are there."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
