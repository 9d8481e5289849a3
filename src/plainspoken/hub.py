"""Whether the Hugging Face hub can be reached, found out soon, before its client is let try.

The client retries each file five times, half a minute at best, and prints every try; where the hub is away its users
say `local_files_only` instead, so that the cache on this machine serves or an error comes soon. Away is what will be so
at every try, or silent for half a minute, where the client would go on for minutes a file; a slow hub is waited for.
Who is given what the cache holds instead of what the hub has is told so (HubWarning).
"""

import errno
import logging
import os
import re
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from plainspoken.errors import ConfigError, HubWarning

WITHIN = 5.0
"""Seconds in which a hub that is not slow answers, names looked up and all."""
PATIENCE = 30.0
"""Seconds after which one that has said nothing is away: the client gives up a try after ten."""
_DOWN = (502, 503, 504)
_FOR_GOOD = (ConnectionRefusedError, socket.gaierror, ssl.SSLCertVerificationError)
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
_NO_ADDRESS = "HF_ENDPOINT, where the hub should be, is no address; write it as https://huggingface.co"
_USERINFO = re.compile(r"//[^/\s]*@")


def why_away() -> str | None:
    """What is the matter with the hub: `the hub (ADDRESS) cannot be reached: ...`; None where its client is to ask it.

    It is asked at the address and through the proxies that its client is set to (HF_ENDPOINT), once for whatever is
    loaded; with HF_HUB_OFFLINE nobody is asked. Where it is slow, or breaks off, a HubWarning says so at once.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE keeps the hub from being asked"
    address = _shown(constants.ENDPOINT)
    if address is None:
        return _NO_ADDRESS
    found = _asked(constants.ENDPOINT, address)
    if found.matter is not None and found.away:
        return f"the hub ({address}) cannot be reached: {found.matter}"
    if found.matter is not None:
        warnings.warn(
            f"the hub ({address}) does not answer as it should ({found.matter}): its client goes on trying, and takes "
            "what it cannot have from its cache here, which may be of an older commit",
            HubWarning,
            stacklevel=2,
        )
    return None


def require_readable() -> None:
    """ConfigError for an HF_ENDPOINT that cannot be read, with which neither the client nor transformers is imported:
    nothing is loaded then, from here or there."""
    try:
        _ = urlsplit(os.environ.get("HF_ENDPOINT", "")).port
    except ValueError as error:  # what it says may quote a part of a password
        raise ConfigError(f"{_NO_ADDRESS}, or unset it") from error


def tell_cached(name: str, away: str) -> None:
    """A HubWarning that the cache served for `name`, because of `away`; none where the user wanted it so."""
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        told = f"{away}; '{name}' is taken from its cache here, which may be of an older commit than the hub's"
        warnings.warn(told, HubWarning, stacklevel=2)


def hidden(text: str) -> str:
    """The text without what HF_ENDPOINT holds beside scheme, host and port: a name, a password, a token."""
    from huggingface_hub import constants

    if constants.ENDPOINT:
        text = text.replace(constants.ENDPOINT, _shown(constants.ENDPOINT) or "HF_ENDPOINT")
    return _USERINFO.sub("//", text)


def reason(error: Exception) -> str:
    """The first line of what the client, or who uses it, raised, without the address's secrets."""
    return hidden((str(error).strip().splitlines() or [type(error).__name__])[0])


@contextmanager
def quietly() -> Iterator[None]:
    """Without the client's own progress bars, and its reports of every try (with whole addresses in them)."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity

    shown, verbosity = not are_progress_bars_disabled(), get_verbosity()
    disable_progress_bars()
    set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if shown:
            enable_progress_bars()


def _shown(address: str) -> str | None:
    """Scheme, host and port; None where the text is no address."""
    try:
        parts = urlsplit(address)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return f"{parts.scheme}://{f'[{parts.hostname}]' if ':' in parts.hostname else parts.hostname}{port}"


@dataclass
class _Asking:
    """One request, and what came of it. `away`: asked again, it would be so again."""

    address: str
    matter: str | None = None
    away: bool = False

    def ask(self) -> None:
        """Any answer will do, but that of a gateway with nobody behind it."""
        from huggingface_hub import get_session
        from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage] (httpx's or httpx2's)

        try:
            answer = get_session().head(self.address, timeout=2 * PATIENCE, follow_redirects=False)
        except (OSError, HTTPError) as error:
            self.matter, self.away = reason(error), _is_for_good(error)
        except Exception as error:  # noqa: BLE001 (an address that only the client finds out to be none, say)
            self.matter, self.away = reason(error), True
        else:
            self.away = answer.status_code in _DOWN
            self.matter = f"it answers {answer.status_code}" if self.away else None


def _asked(address: str, shown: str) -> _Asking:
    asking = _Asking(address)
    # No time-out of a socket holds for looking up a name, nor for all addresses of a name together.
    thread = threading.Thread(target=asking.ask, name="is the hub there?", daemon=True)
    thread.start()
    thread.join(WITHIN)
    if thread.is_alive():
        warnings.warn(
            f"the hub ({shown}) is slow: no answer within {WITHIN:g} seconds; waiting for it up to {PATIENCE:g}, for "
            "whatever is loaded (HF_HUB_OFFLINE=1 takes what its cache here holds at once)",
            HubWarning,
            stacklevel=3,
        )
        thread.join(PATIENCE - WITHIN)
    return _Asking(address, f"no answer within {PATIENCE:g} seconds", True) if thread.is_alive() else asking


def _is_for_good(error: BaseException | None) -> bool:
    """Whether it, or what it comes from, is a refusal, a name that is not found, or a network that is not there."""
    while error is not None:
        if isinstance(error, _FOR_GOOD) or (isinstance(error, OSError) and error.errno in _NO_WAY):
            return True
        error = error.__cause__ or error.__context__
    return False
