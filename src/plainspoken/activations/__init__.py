"""What flows through the sites: streams of a model's activations, and the sources of vectors that coders train on."""

from plainspoken.activations.buffer import MixingBuffer
from plainspoken.activations.masks import MaskCounts
from plainspoken.activations.moments import Moments
from plainspoken.activations.order import derived_generator
from plainspoken.activations.shares import ALONE, Share
from plainspoken.activations.source import VectorSource
from plainspoken.activations.store import ActivationStore, collect
from plainspoken.activations.stored import StoredVectors, store_vectors
from plainspoken.activations.stream import BATCH_ROWS, ActivationBatch, require_finite, stream
from plainspoken.activations.tables import vector_bytes

__all__ = [
    "ALONE",
    "BATCH_ROWS",
    "ActivationBatch",
    "ActivationStore",
    "MaskCounts",
    "MixingBuffer",
    "Moments",
    "Share",
    "StoredVectors",
    "VectorSource",
    "collect",
    "derived_generator",
    "require_finite",
    "store_vectors",
    "stream",
    "vector_bytes",
]
