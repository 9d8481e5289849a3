"""Whether a server read what it was sent and no more, by the prompt tokens that it tells: some cut in silence."""

from collections.abc import Callable
from functools import lru_cache

from plainspoken.llm.requests import Chat, Completion, Fault, NextToken, Request, Usage
from plainspoken.llm.tokens import LlmTokens

_LOOSE, _SHARE = 4, 0.05
"""So many tokens of a message, and this share of all, may lack in a prompt that the server made into tokens itself:
it may trim a message, join tokens across its ends, or split words a little otherwise (llama.cpp does)."""
_COUNTS = 512
"""Counts of messages that are remembered: a system message and what is shown as an example come again and again."""
_CONTEXT = "raise the server's context, or shorten the prompt"

Count = Callable[[str], int]
"""How many tokens a text is."""


def counter(tokens: LlmTokens | None) -> Count | None:
    """Counts in these tokens, those of messages that come again once; None without any tokens."""
    if tokens is None:
        return None
    return lru_cache(_COUNTS)(lambda text: len(tokens.encode(text)))


def misread(request: Request, usage: Usage, count: Count | None) -> Fault | None:
    """What is wrong where the server tells of other prompt tokens than were sent; None where it tells of none.

    Token ids are counted exactly: fewer were cut, more were put before them (a BOS). A text that the server makes into
    tokens itself is held against `count` of its messages, without what a template puts around them: clearly fewer are a
    prompt that was cut, while more are the template's. A cut of less than `_LOOSE` and `_SHARE` is not seen.
    """
    read = usage.prompt_tokens
    if not read:
        return None
    if isinstance(request, Chat | Completion):
        return None if count is None else _cut(request, read, usage, count)
    sent = sum(map(len, request.prompts)) if isinstance(request, NextToken) else len(request.prompt)
    return miscounted(sent, usage)


def miscounted(sent: int, usage: Usage) -> Fault | None:
    """What is wrong where of `sent` token ids others were read; None where it is not told."""
    read = usage.prompt_tokens
    if 0 < read < sent:
        return Fault("cut prompt", f"of {sent} prompt tokens it read {read}: tokens are dropped; {_CONTEXT}", usage)
    if read > sent:
        reason = f"of {sent} prompt tokens it made {read}: tokens are added (a BOS?); have the server add none to ids"
        return Fault("server", reason, usage)
    return None


def _cut(request: Chat | Completion, read: int, usage: Usage, count: Count) -> Fault | None:
    texts = [m.content.strip() for m in request.messages] if isinstance(request, Chat) else [request.prompt.strip()]
    if read >= sum(len(text.encode()) for text in texts):  # a token is a byte at least: nothing to count
        return None
    ours = sum(map(count, texts))
    if read >= (1 - _SHARE) * ours - _LOOSE * len(texts):
        return None
    reason = (
        f"the prompt has {ours} tokens by our tokenizer and it read {read}: it was cut; {_CONTEXT}, "
        "or, if the model has another tokenizer, set `tokenizer` to it"
    )
    return Fault("cut prompt", reason, usage)
