"""Training of coders: the loop, its schedule, its order, its log and its checkpoints."""

from plainspoken.train.checkpoint import has_checkpoint, remove_checkpoint
from plainspoken.train.finish import FinishText
from plainspoken.train.loop import train_coders

__all__ = ["FinishText", "has_checkpoint", "remove_checkpoint", "train_coders"]
