"""While a coder is trained, memory that a step frees is kept for the next.

A step makes and frees arrays as large as the weights. The C library asks the kernel for each anew and gives it back,
and the kernel fills every page with zeros: at 12,288 latents that was a fifth of a step.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # of mallopt(3)
_AFTER = ((_TRIM_THRESHOLD, 2**26), (_MMAP_THRESHOLD, 2**25), (_MMAP_MAX, 65536))
"""What the C library's own thresholds grow to in a process that frees large blocks: once set, they grow no more."""


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While the block lasts, freed memory stays with the process. Does nothing where the C library is not glibc."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        for setting, value in _AFTER:
            library.mallopt(setting, value)
        library.malloc_trim(0)
