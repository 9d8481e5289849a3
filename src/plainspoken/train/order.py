"""The order of the vectors, which is that of their source."""

from plainspoken.activations.order import EpochOrder, derived_generator

__all__ = ["EpochOrder", "derived_generator"]
