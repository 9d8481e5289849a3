"""What is asked for in words: `latent:3/41@-1`, `logit:" self"`, `logit-diff:")","]"`, or the likeliest next tokens.

A place is @ and a token's number from 0, or from the end if negative; the last token where none is said. A logit at a
place is of the token that follows it. A token is called by what it spells, a special one by its name (`<|endoftext|>`),
a byte that is fallen back to likewise (`<0x28>`), and any by its number: `logit:#123`.
"""

import difflib
import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.attribution import Root, root_of
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Node
from plainspoken.circuits.targets import latent_targets, logit_targets, value_of
from plainspoken.circuits.written import LATENT
from plainspoken.corpus.pieces import backend_of
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel

LIKELIEST = "logits"
_FORMS = (
    'latent:LAYER/NUMBER@PLACE, logit:" token", logit:#123 (a token by its number), logit-diff:" one"," other", or '
    "logits (the likeliest next tokens)"
)
_LATENT = re.compile(LATENT + r"(?:@(-?\d+))?")
_PLACE = re.compile(r"(?P<rest>.*?)(?:@(?P<place>-?\d+))?", re.DOTALL)
_TOKEN = r'"(?:[^"\\]|\\.)*"|[^",]+'
_ESCAPED = re.compile(
    r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(00(?:0[0-9a-f]|10)[0-9a-f]{4})|(.))", re.DOTALL | re.IGNORECASE
)
"""What `lines.quoted` makes of a token's text, so that a label that was printed can be asked for."""
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_COMPARED = 200
"""Tokens, at most, whose likeness to one that there is not is worked out."""


@dataclass(frozen=True)
class Asked:
    """A target as it was asked for. `kind` latent: `layer` and `latent`; else `tokens`, by what they are called or by
    their numbers, none for the likeliest ones."""

    kind: str
    position: int = -1
    layer: int = 0
    latent: int = 0
    tokens: tuple[str | int, ...] = ()


def parse_target(text: str) -> Asked:
    """Raises UsageError for words of another form, naming the forms there are."""
    if found := _LATENT.fullmatch(text):
        return Asked("latent", int(found[3] or -1), int(found[1]), int(found[2]))
    kind, _, rest = text.partition(":")
    form = _PLACE.fullmatch(text if kind.startswith(LIKELIEST) else rest)
    assert form is not None
    rest, position = form["rest"], int(form["place"] or -1)
    if rest == LIKELIEST:
        return Asked("logits", position)
    wanted = {"logit": 1, "logit-diff": 2}.get(kind)
    tokens = tuple(map(_unquoted, re.findall(_TOKEN, rest)))
    if wanted is not None and len(tokens) == wanted and ",".join(re.findall(_TOKEN, rest)) == rest:
        return Asked(kind, position, tokens=tokens)
    raise UsageError(f"no target is written '{text}'; write {_FORMS}")


def _unquoted(token: str) -> str | int:
    if not token.startswith('"'):
        return int(token[1:]) if re.fullmatch(r"#\d{1,9}", token) else token
    return _ESCAPED.sub(_unescaped, token[1:-1])


def _unescaped(found: re.Match[str]) -> str:
    code, letter = found[1] or found[2] or found[3], found[4]
    if code:
        return chr(int(code, 16))
    if letter not in _LETTERS:
        raise UsageError(f"no character is written '\\{letter}'; a backslash is '\\\\' within quotation marks")
    return _LETTERS[letter]


def root_asked(frozen: Frozen, asked: Asked, *, silent: bool = False, share: float = 0.95, most: int = 10) -> Root:
    """The root that was asked for, at a prompt.

    Logits are less their mean over the vocabulary. The likeliest tokens are those with this share of the probability
    together, at most `most`. `silent`: a latent may be one that does not fire there; what is explained is then what
    holds it down. Raises UsageError for a layer without coder, an unknown latent, token or place, and a silent latent.
    """
    position = asked.position + frozen.t * (asked.position < 0)
    if not 0 <= position < frozen.t:
        raise UsageError(f"no token @{asked.position} in a prompt of {frozen.t} tokens; the last is @{frozen.t - 1}")
    if asked.kind == "latent":
        return _latent_root(frozen, asked, position, silent)
    if asked.kind == "logits":
        probability = frozen.probabilities[position]
        chosen = _likeliest(probability, share, most)
        nodes = [_logit_node(frozen, token, position) for token in chosen]
        return root_of(frozen, logit_targets(frozen, position, None, chosen), nodes, _shares(probability, chosen))
    ids = [_token(frozen.lm, token) for token in asked.tokens]
    if asked.kind == "logit":
        return root_of(frozen, logit_targets(frozen, position, None, ids), [_logit_node(frozen, ids[0], position)])
    if ids[0] == ids[1]:
        raise UsageError(
            f"the difference of {_shown(frozen.lm, ids[0])} from itself is 0 at every prompt; name two tokens"
        )
    direction = torch.zeros(1, len(frozen.anatomy.W_U), dtype=frozen.dtype, device=frozen.tokens.device)
    direction[0, ids[0]], direction[0, ids[1]] = 1, -1
    label = " − ".join(_shown(frozen.lm, i) for i in ids)
    node = Node("direction", position=position, label=label)
    return root_of(frozen, logit_targets(frozen, position, direction), [node])


def _latent_root(frozen: Frozen, asked: Asked, position: int, silent: bool) -> Root:
    layers = [i for i, layer in enumerate(frozen.layers) if layer.coder is not None]
    if asked.layer not in layers:
        has = ", ".join(map(str, layers)) or "none"
        raise UsageError(f"layer {asked.layer} has no coder, so that it has no latents; layers with one: {has}")
    at = frozen.layers[asked.layer]
    assert at.coder is not None
    if asked.latent >= at.coder.spec.latents:
        raise UsageError(
            f"layer {asked.layer} has latents 0 to {at.coder.spec.latents - 1}, and no {asked.latent}; nearest: "
            f"latent:{asked.layer}/{at.coder.spec.latents - 1}"
        )
    if not bool(frozen.text[position]):
        raise UsageError(
            f"@{position} is the BOS before the text, where no coder is read, and latents have no value there: name "
            "a place from @1 on"
        )
    place, latent = (torch.tensor([n], device=frozen.tokens.device) for n in (position, asked.latent))
    targets = latent_targets(frozen, asked.layer, place, latent)
    mine = at.latents.latent == asked.latent
    fires = at.latents.position[mine].tolist()
    node = Node("latent", asked.layer, position, asked.latent)
    if position in fires:
        node = replace(node, activation=float(at.latents.value[mine][fires.index(position)]))
    elif not silent:
        places = ", ".join(f"@{p} ({v:.3g})" for p, v in zip(fires[:8], at.latents.value[mine].tolist(), strict=False))
        raise UsageError(
            f"latent {asked.layer}/{asked.latent} does not fire @{position}: its pre-activation there is "
            f"{float(value_of(frozen, targets)):.3g}; it fires {'at ' + places if fires else 'nowhere in the prompt'}. "
            "Name one of its places, another prompt, or ask for --silent: what holds it down"
        )
    else:
        node = replace(node, activation=0.0)
    return root_of(frozen, targets, [node])


def _likeliest(probability: Float[Tensor, " vocabulary"], share: float, most: int) -> list[int]:
    values, tokens = probability.topk(min(most, len(probability)))
    before = values.cumsum(0) - values
    return tokens[before < share].tolist()


def _shares(probability: Float[Tensor, " vocabulary"], tokens: Sequence[int]) -> list[float]:
    found = probability[torch.tensor(tokens)]
    return (found / found.sum()).tolist()


def _logit_node(frozen: Frozen, token: int, position: int) -> Node:
    return Node("logit", position=position, index=token, label=called(frozen.lm, token))


def piece(lm: LanguageModel, token: int) -> str:
    """What a token spells; a special one's name."""
    spelled = lm.pieces.table[token].decode("utf-8", "replace")
    return spelled or str(lm.tokenizer.convert_ids_to_tokens(token))


def called(lm: LanguageModel, token: int) -> str:
    """By what `token_called` finds the token again: what it spells, or its name; "" where only its number is its own.

    That is so of a part of a character, of one of two tokens that spell the same, and of an id without a token.
    """
    names = lm.pieces.table[token].decode("utf-8", "replace"), str(lm.tokenizer.convert_ids_to_tokens(token))
    return next((name for name in names if name and _found(lm, name) == token), "")


def _shown(lm: LanguageModel, token: int) -> str:
    name = called(lm, token)
    return repr(name) if name else f"#{token}"


def _token(lm: LanguageModel, asked: str | int) -> int:
    if isinstance(asked, str):
        return token_called(lm, asked)
    if asked >= lm.vocabulary:
        raise UsageError(f"no token #{asked}: {lm.name} knows #0 to #{lm.vocabulary - 1}")
    return asked


def token_called(lm: LanguageModel, text: str) -> int:
    """The token that spells this text, exactly: also a byte that is no character, as a command line hands it on.

    Of several that spell it, the one that the tokenizer makes of it, else one that is no byte of a byte fallback. Where
    none does: the special token, or the byte, of this name. Raises UsageError, naming the nearest, where there is none.
    """
    if (token := _found(lm, text)) is not None:
        return token
    near = ", ".join(map(repr, _nearest(lm, text))) or "none"
    raise UsageError(
        f"no single token of {lm.name} spells {text!r}; nearest: {near}; special tokens are called by name, and "
        "all by number: #123"
    )


def _found(lm: LanguageModel, text: str) -> int | None:
    try:
        wanted = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, which no token is
        return None
    spelling = [token for token in lm.pieces.spelling.get(wanted, ()) if token < lm.vocabulary]
    if len(spelling) > 1:
        made = lm.ids(text) if wanted.decode("utf-8", "replace") == text else []
        first = [token for token in spelling if made == [token]] + [i for i in spelling if not _is_byte(lm, i)]
        return (first or spelling)[0]
    if spelling:
        return spelling[0]
    named = backend_of(lm.tokenizer).token_to_id(text)
    if named is None or named >= lm.vocabulary or (lm.pieces.table[named] and not _is_byte(lm, named)):
        return None
    return named


def _is_byte(lm: LanguageModel, token: int) -> bool:
    """Whether it is a byte that a tokenizer falls back to where it knows no token for a character."""
    spelled = lm.pieces.table[token]
    return len(spelled) == 1 and lm.tokenizer.convert_ids_to_tokens(token) == f"<0x{spelled[0]:02X}>"


def _nearest(lm: LanguageModel, text: str) -> list[str]:
    """Three tokens like the text: with a space more or less, else of those that begin as it does."""
    if near := [other for other in (" " + text, text.strip()) if other != text and _found(lm, other) is not None]:
        return sorted(near)

    def begun(spelled: str) -> tuple[int, int]:
        word = spelled.strip().casefold()
        apart = (i for i, (one, other) in enumerate(zip(word, wanted, strict=False)) if one != other)
        return next(apart, min(len(word), len(wanted))), -abs(len(word) - len(wanted))

    # A likeness to each of 256,000 tokens is 5 s of work; a beginning in common is found in a tenth of one.
    wanted = text.strip().casefold()
    starts = (wanted[:1], " " + wanted[:1], text[:1], " " + text[:1])
    known = (each.decode("utf-8", "replace") for each in lm.pieces.spelling)
    alike = heapq.nlargest(_COMPARED, (each for each in known if wanted and each.startswith(starts)), key=begun)
    return difflib.get_close_matches(text, alike, n=3, cutoff=0.0)
