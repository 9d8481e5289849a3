"""Sparse coders: the module, its activations, its initial weights and its checkpoint formats."""

from plainspoken.coders.base import Coder, CoderSpec
from plainspoken.coders.code import SparseCode
from plainspoken.coders.formats import FORMATS, CheckpointFormat
from plainspoken.coders.formats.own import load_coder, save_coder
from plainspoken.coders.initialise import initialise
from plainspoken.coders.registry import ACTIVATIONS
from plainspoken.coders.units import Units, fold_units

__all__ = [
    "ACTIVATIONS",
    "FORMATS",
    "CheckpointFormat",
    "Coder",
    "CoderSpec",
    "SparseCode",
    "Units",
    "fold_units",
    "initialise",
    "load_coder",
    "save_coder",
]
