"""Why a server did not answer, in our words: what went wrong, where, and the mend."""

from dataclasses import replace
from typing import TYPE_CHECKING

from plainspoken.llm.key import Key
from plainspoken.llm.requests import Fault, Usage
from plainspoken.llm.tries import tries

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAIError

TOO_LONG = ("context_length", "context length", "maximum context", "context size", "context window", "too long")
"""How servers say that a prompt does not fit: OpenAI's code, vLLM's, llama.cpp's and others' sentences."""
NOT_TAKEN = (400, 422, 501)
"""The server is there, and does not take such a request: asked again, it will not either."""
QUOTED = 300
"""Characters of a server's own message that a reason quotes."""


def fault_of(error: "OpenAIError", url: str, key: Key, timeout_s: float, seconds: float) -> Fault:
    """The Fault for an error of the `openai` package, after its retries, which took `seconds` in all.

    The key's variable is named where the key is the matter; the key itself is taken out of whatever is quoted.
    """
    from httpx2 import DecodingError
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, APIStatusError):
        return _of_status(error, url, key, seconds)
    if isinstance(error, APIConnectionError):
        usage = Usage(requests=tries(error.request), seconds=seconds)
        if isinstance(error, APITimeoutError):
            usage = replace(usage, untold=True)  # the server may have been at it all the while
            return Fault(
                "server",
                f"{url} gave no answer within {timeout_s:g} s, asked {_times(usage)}; "
                "raise timeout_s, lower concurrency, or look at the server's log",
                usage,
            )
        cause = type(error.__cause__).__name__ if error.__cause__ else "connection lost"
        return Fault(
            "server",
            f"{url} cannot be reached or broke off ({cause}), asked {_times(usage)}; "
            "is the server running, and base_url right?",
            usage,
            unreached=not isinstance(error.__cause__, DecodingError),  # a body that was there, and is none
        )
    said = key.hide(str(error))[:QUOTED]
    return Fault("server", f"{url}: {type(error).__name__}: {said}", Usage(seconds=seconds))


def _of_status(error: "APIStatusError", url: str, key: Key, seconds: float) -> Fault:
    status, body = error.status_code, error.response.text.lower()
    usage = Usage(requests=tries(error.request), seconds=seconds, untold=status >= 500)
    said = key.hide(error.response.text)[:QUOTED]  # hidden before it is cut, or a part of it would stay
    if status == 413 or (status in (400, 422) and any(words in body for words in TOO_LONG)):
        reason = f"{url} says the prompt does not fit its context: {said}; shorten it or set context"
        return Fault("beyond context", reason, usage)
    if status == 400 and "content_filter" in body:
        return Fault("refused", f"{url} refused the prompt by its content filter: {said}", usage)
    variable = key.variable
    mend = {
        401: f"is the key in {variable} right?" if variable else "it wants a key: name its variable as key_variable",
        403: f"the key in {variable or 'key_variable (none named)'} may not use this model",
        404: "no such model or path: look at base_url (it ends in /v1) and model",
        429: f"too many requests, asked {_times(usage)}; lower concurrency or per_minute",
    }.get(
        status,
        f"asked {_times(usage)}; look at the server's log" if status >= 500 else "the request is not one it takes",
    )
    kind = "refused" if status in NOT_TAKEN else "server"
    return Fault(kind, f"{url} answered {status}: {said}; {mend}", usage)


def _times(usage: Usage) -> str:
    return "once" if usage.requests == 1 else f"{usage.requests} times"
