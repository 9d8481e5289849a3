"""What flows through the sites: streams of a model's activations, and the store a coder is fitted on."""

from plainspoken.activations.store import ActivationStore

__all__ = ["ActivationStore"]
