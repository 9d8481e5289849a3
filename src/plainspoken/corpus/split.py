"""The one split of documents into fit / explain / calibrate / evaluate, by hash of the document's key.

The hash makes the split a property of the document itself: it does not depend on the order of files, on the other
documents, on a seed or on the machine. The bundled pocket model was trained on everything but the evaluate part, so a
default run measures on text that neither the model nor any later stage has seen.
"""

from __future__ import annotations

import hashlib

from plainspoken.types import Part

# Evaluate comes first on the hash line, so that leaving it out (--eval-corpus) rescales the rest and moves no border.
SHARES: dict[Part, float] = {"evaluate": 0.10, "calibrate": 0.10, "explain": 0.40, "fit": 0.40}
_SALT = b"plainspoken split 1\0"


def hash_position(key: str) -> float:
    """Where a document stands on the hash line: a number in [0, 1), uniform over keys (first 8 bytes of SHA-256)."""
    digest = hashlib.sha256(_SALT + key.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def hash_order(key: str, seed: int = 0) -> bytes:
    """What documents of one part are sorted by, so that a cap takes a random few of them whatever their order."""
    return hashlib.sha256(f"plainspoken order {seed}\0".encode() + key.encode("utf-8", "surrogatepass")).digest()


def part_of(key: str, *, evaluate_elsewhere: bool = False) -> Part:
    """The part that the document with this key belongs to.

    With `evaluate_elsewhere` (another corpus is the evaluate part) the other three share the whole line.
    """
    position = hash_position(key)
    held_out = SHARES["evaluate"]
    if evaluate_elsewhere:
        position = held_out + position * (1.0 - held_out)
    border = 0.0
    for part, share in SHARES.items():
        border += share
        if position < border:
            return part
    return "fit"  # position rounds to 1.0 only through float summation of the shares
