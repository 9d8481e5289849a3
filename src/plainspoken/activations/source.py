"""What training draws its vectors from, whatever keeps them: a few functions of the seed and the step."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from plainspoken.activations.survey import Survey


@runtime_checkable
class VectorSource(Protocol):
    """The vectors of one or several sites, in batches that many processes may share.

    A batch of a step is a number of places in an endless order of the text's tokens, the same at every site and with
    every number of processes. What is masked at a site is missing from the batch there, so that sites do not depend on
    each other: a batch may be a few vectors short, and a process's share of it may be empty.
    """

    @property
    def sites(self) -> tuple[str, ...]:
        """The modules' paths."""
        ...

    def survey(self, site: str) -> Survey:
        """What is known of the site's vectors, in all the text or a sample."""
        ...

    def fingerprint(self, site: str) -> str:
        """Of all that the site's vectors and their order depend on, but for seed and batch size.

        The number of processes is not part of it: training may go on with another.
        """
        ...

    def batch(self, step: int) -> Mapping[str, tuple[Float[Tensor, "m d_in"], Float[Tensor, "m d_out"]]]:
        """This process's share of a step's inputs x and outputs y at each site: the same bits whenever it is asked for.

        For a `resid` site x and y are one tensor. Nobody else holds these tensors.
        """
        ...
