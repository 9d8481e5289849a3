"""The activations a coder can have: a new one is one file and one line here."""

from collections.abc import Callable

from torch import Tensor

from plainspoken.coders.code import SparseCode
from plainspoken.coders.topk import topk

# (pre-activations [n latents], k) -> the code: chooses entries and gives each its ReLU(pre) or 0.
Activation = Callable[[Tensor, int], SparseCode]

ACTIVATIONS: dict[str, Activation] = {"topk": topk}
