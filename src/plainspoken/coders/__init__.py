"""Sparse coders: the module, its activations, its initial weights, its checkpoint formats and whatever they hold."""

from plainspoken.coders.base import Coder, CoderSpec
from plainspoken.coders.code import SparseCode
from plainspoken.coders.find import checkpoints_below, fingerprint, format_of, is_coder, load_any, require_fits
from plainspoken.coders.formats import FORMATS, CheckpointFormat
from plainspoken.coders.formats.own import load_coder, read_extra, read_spec, save_coder
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
    "checkpoints_below",
    "fingerprint",
    "fold_units",
    "format_of",
    "initialise",
    "is_coder",
    "load_any",
    "load_coder",
    "read_extra",
    "read_spec",
    "require_fits",
    "save_coder",
]
