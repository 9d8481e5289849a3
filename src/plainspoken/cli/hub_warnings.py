"""What is told of the Hugging Face hub goes the way of all other warnings, each thing once."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from plainspoken.errors import HubWarning


@contextmanager
def hub_warnings_to(warn: Callable[[str], object]) -> Iterator[None]:
    """Every HubWarning goes to `warn` while the block lasts; other warnings go where they went before."""
    told = set[str]()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, HubWarning):
            others(message, category, *where, **more)
        elif str(message) not in told:
            told.add(str(message))
            warn(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always", HubWarning)
        others, warnings.showwarning = warnings.showwarning, show
        yield
