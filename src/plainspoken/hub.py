"""Whether the Hugging Face hub can be reached, found out once and soon, before its client is let try.

The client retries each file five times, half a minute at best, and prints every try; where the hub is away its users
say `local_files_only` instead, so that the cache on this machine serves or an error comes at once.
"""

import threading
import time
from dataclasses import dataclass, field

WITHIN = 5.0
"""Seconds in which the hub must answer, names looked up and all."""
_AGAIN = 60.0
"""Seconds for which what was found holds: a run loads several things, and a hub comes back."""
_DOWN = (500, 502, 503, 504)
_FOUND: dict[str, tuple[float, str | None]] = {}
"""For each address when it was last asked, and what was the matter."""


def why_away() -> str | None:
    """What is the matter with the hub: `the hub (ADDRESS) cannot be reached: ...`; None where it answers.

    It is asked at the address and through the proxies that its client is set to (HF_ENDPOINT); with HF_HUB_OFFLINE
    nobody is asked.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE keeps the hub from being asked"
    address = constants.ENDPOINT
    asked, matter = _FOUND.get(address, (-_AGAIN, None))
    if time.monotonic() - asked > _AGAIN:
        matter = _asked(address)
        _FOUND[address] = (time.monotonic(), matter)
    return None if matter is None else f"the hub ({address}) cannot be reached: {matter}"


@dataclass
class _Asking:
    """One request, and what came of it."""

    address: str
    matter: str | None = field(default=None)

    def ask(self) -> None:
        """Any answer will do, but that of a gateway with nobody behind it."""
        from huggingface_hub import get_session
        from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage] (httpx's or httpx2's)

        try:
            answer = get_session().head(self.address, timeout=WITHIN, follow_redirects=False)
        except (OSError, ValueError, HTTPError) as error:
            self.matter = (str(error).strip().splitlines() or [type(error).__name__])[0]
        else:
            self.matter = f"it answers {answer.status_code}" if answer.status_code in _DOWN else None


def _asked(address: str) -> str | None:
    asking = _Asking(address)
    # No time-out of a socket holds for looking up a name, nor for all addresses of a name together.
    thread = threading.Thread(target=asking.ask, name="is the hub there?", daemon=True)
    thread.start()
    thread.join(WITHIN)
    return f"no answer within {WITHIN:g} seconds" if thread.is_alive() else asking.matter
