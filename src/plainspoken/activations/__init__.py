"""What flows through the sites: streams of a model's activations, and the store a coder is fitted on."""

from plainspoken.activations.store import ActivationStore, collect
from plainspoken.activations.stream import BATCH_ROWS, ActivationBatch, require_finite, stream

__all__ = ["BATCH_ROWS", "ActivationBatch", "ActivationStore", "collect", "require_finite", "stream"]
