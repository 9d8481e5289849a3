"""What is asked for in words: `latent:3/41@-1`, `logit:" self"`, `logit-diff:")","]"`, or the likeliest next tokens.

A place is @ and a token's number from 0, or from the end if negative; the last token where none is said. A logit at a
place is of the token that follows it.
"""

import difflib
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
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel

LIKELIEST = "logits"
_FORMS = 'latent:LAYER/NUMBER@PLACE, logit:" token", logit-diff:" one"," other", or logits (the likeliest next tokens)'
_LATENT = re.compile(LATENT + r"(?:@(-?\d+))?")
_PLACE = re.compile(r"(?P<rest>.*?)(?:@(?P<place>-?\d+))?", re.DOTALL)
_TOKEN = r'"(?:[^"\\]|\\.)*"|[^",]+'


@dataclass(frozen=True)
class Asked:
    """A target as it was asked for. `kind` latent: `layer` and `latent`; else `tokens`, none for the likeliest ones."""

    kind: str
    position: int = -1
    layer: int = 0
    latent: int = 0
    tokens: tuple[str, ...] = ()


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


def _unquoted(token: str) -> str:
    if not token.startswith('"'):
        return token
    escapes = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[0]), token[1:-1], flags=re.DOTALL)


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
    ids = [token_called(frozen.lm, token) for token in asked.tokens]
    if asked.kind == "logit":
        return root_of(frozen, logit_targets(frozen, position, None, ids), [_logit_node(frozen, ids[0], position)])
    if ids[0] == ids[1]:
        raise UsageError(f"the difference of {asked.tokens[0]!r} from itself is 0 at every prompt; name two tokens")
    direction = torch.zeros(1, len(frozen.anatomy.W_U), dtype=frozen.dtype, device=frozen.tokens.device)
    direction[0, ids[0]], direction[0, ids[1]] = 1, -1
    label = " − ".join(repr(frozen.lm.pieces.table[i].decode("utf-8", "replace")) for i in ids)
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
    return Node("logit", position=position, index=token, label=piece(frozen.lm, token))


def piece(lm: LanguageModel, token: int) -> str:
    """What a token spells; a special one's name."""
    spelled = lm.pieces.table[token].decode("utf-8", "replace")
    return spelled or str(lm.tokenizer.convert_ids_to_tokens(token))


def token_called(lm: LanguageModel, text: str) -> int:
    """The token that spells this text, exactly: also a byte that is no character, as a command line hands it on.

    Raises UsageError, naming the nearest, where no single one does.
    """
    wanted = text.encode("utf-8", "surrogateescape")
    for token, spelled in enumerate(lm.pieces.table[: lm.vocabulary]):
        if spelled == wanted and spelled:
            return token
    known = {spelled.decode("utf-8", "replace") for spelled in lm.pieces.table[: lm.vocabulary] if spelled}
    near = difflib.get_close_matches(text, known, n=3, cutoff=0.0)
    near = sorted({" " + text, text.strip()} & known) or near
    raise UsageError(f"no single token of {lm.name} spells {text!r}; nearest: {', '.join(map(repr, near))}")
