"""What a language model answered, read as an explanation or as the reason why it is none."""

import re

from plainspoken.llm import Fault, Reply

MARKER = "[EXPLANATION]:"

# A sentence that ends and another that begins: where there is no marker, nobody knows which of the two it is.
_TWO_SENTENCES = re.compile(r"[.!?][\"”’)\]]*\s+[\"“‘(\[]?[A-Z]")
_REFUSAL = re.compile(
    r"(?:(?:i[’']?m|i am|we[’']?re)?\s*(?:very |so )?sorry,?\s+(?:but\s+)?(?:i|we|as an)\b"
    r"|as an ai\b"
    r"|i\s+(?:can\s?not|can[’']?t|won[’']?t|am unable to|am not able to|[’']?m unable to|[’']?m not able to)\s+"
    r"(?:help|assist|comply|answer|provide|determine|explain|identify|do that|fulfil|continue|say|give|see|tell|know)"
    r"|i\s+(?:do\s+not|don[’']?t)\s+(?:know|see|understand)\b)",
    re.IGNORECASE,
)


def read_answer(reply: Reply) -> str | Fault:
    """The explanation in a reply, on one line: what follows the last marker, or a reply of one sentence without it.

    A Fault of kind "cut answer" where `max_tokens` cut it off (its end is not known), "refused" for a refusal, "parse"
    for what holds no explanation. White space and control characters become single blanks.
    """
    if reply.finish == "refused":
        return Fault("refused", f"the model refused: {_shown(reply.text)}")
    if reply.finish == "length":
        return Fault("cut answer", "the reply was cut off (explain.max_tokens)")
    _, marker, said = reply.text.rpartition(MARKER)
    text = _one_line(said)
    if _REFUSAL.match(text):
        return Fault("refused", f"the model refused: {_shown(text)}")
    if not any(character.isalnum() for character in text):
        return Fault("parse", f"no explanation stands in the reply: {_shown(reply.text)}")
    if not marker and ("\n" in reply.text.strip() or _TWO_SENTENCES.search(text)):
        return Fault("parse", f"no {MARKER} in a reply of more than one sentence: {_shown(reply.text)}")
    return text


def _one_line(text: str) -> str:
    """One line without control characters; a lone surrogate, which no file can hold, reads U+FFFD."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", text)
    return re.sub(r"^[\s*]+|[\s*]+$", "", text)


def _shown(text: str) -> str:
    text = _one_line(text)
    return repr(text if len(text) <= 80 else text[:77] + "...")
