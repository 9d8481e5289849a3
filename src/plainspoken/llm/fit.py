"""Whether a request fits a model's context, told before it is sent."""

from plainspoken.errors import ConfigError
from plainspoken.llm.requests import AtPositions, Chat, Completion, Fault, NextToken, Request
from plainspoken.llm.tokens import LlmTokens

_TURN = 64
"""Tokens that a template may put around a message; more than that is found by the server."""


def misfit(request: Request, tokens: LlmTokens | None, context: int, drawn: int = 0) -> Fault | None:
    """What keeps a request from being answered: no prompt, no text, or one too long, with its answer, for `context`.

    `drawn`: the tokens that a service draws where only log-probabilities are asked for, which have to fit too (servers:
    one). Without `tokens` or with context 0 lengths are not looked at.
    """
    if isinstance(request, NextToken | AtPositions):
        prompts = request.prompts if isinstance(request, NextToken) else (request.prompt,)
        if not all(prompts):
            return Fault("refused", "an empty prompt: nothing comes next after nothing")
        length = max(map(len, prompts), default=0) + drawn
    else:
        try:
            bound = _bound(request)
        except UnicodeEncodeError:
            return Fault("refused", "the text holds half a surrogate pair, which UTF-8 cannot spell: read it anew")
        if tokens is None or bound <= context:
            return None
        length = prompt_length(request, tokens) + request.max_tokens
    if not context or length <= context:
        return None
    reason = f"{length} tokens with the answer; the context is {context}: shorten the prompt, or serve a longer context"
    return Fault("beyond context", reason)


def prompt_length(request: Chat | Completion, tokens: LlmTokens) -> int:
    """Tokens of the prompt; 0 where the tokenizer's template refuses the roles, for the server may have another."""
    if isinstance(request, Completion):
        return len(tokens.encode_prompt(request.prompt))
    try:
        return len(tokens.chat_prefix(request.messages))
    except ConfigError:
        return 0


def _bound(request: Chat | Completion) -> int:
    """No fewer tokens than it has: every token spells a byte at least. Counting bytes spares most prompts a count."""
    texts = [m.content for m in request.messages] if isinstance(request, Chat) else [request.prompt]
    return sum(len(text.encode()) + _TURN for text in texts) + request.max_tokens
