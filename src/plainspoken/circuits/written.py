"""How latents and heads are written, everywhere: 2/17, as options have it; L2/17, as paths print it; latent:2/17."""

import re

from plainspoken.errors import UsageError

LATENT = r"(?:latent:|L)?(\d+)/(\d+)"
"""Layer and number, for whoever reads more behind them."""
_HEAD = r"(?:head[: ])?(\d+)[/.](\d+)"


def parsed_latent(text: str) -> tuple[int, int]:
    """A latent's layer and number. Raises UsageError for other words."""
    found = re.fullmatch(LATENT, text.strip())
    if found is None:
        raise UsageError(f"no latent is written '{text}'; write LAYER/NUMBER, e.g. 2/17")
    return int(found[1]), int(found[2])


def parsed_head(text: str) -> tuple[int, int]:
    """A head's layer and number. Raises UsageError for other words."""
    found = re.fullmatch(_HEAD, text.strip())
    if found is None:
        raise UsageError(f"no head is written '{text}'; write LAYER/HEAD, e.g. 2/1")
    return int(found[1]), int(found[2])
