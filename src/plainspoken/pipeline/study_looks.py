"""What a study shows: a latent's weights, its neighbours, its circuits with tokens hidden; and what a reveal brings.

Every function gives lines of text, and looks at nothing else than it says: what is hidden never gets into them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from plainspoken.circuits.asking import Asked, piece, root_asked
from plainspoken.circuits.attribution import attribution_graph
from plainspoken.circuits.frozen import Frozen, Latents
from plainspoken.circuits.graph import Graph, Node
from plainspoken.circuits.lines import node_words, signed, strongest_paths
from plainspoken.circuits.study import Known, Look, require_visible
from plainspoken.circuits.vocabulary import exciting, unembedding
from plainspoken.circuits.weights import connections, decoder_vectors, pushforward
from plainspoken.coders import Coder
from plainspoken.errors import UsageError
from plainspoken.latents import FiringTable
from plainspoken.latents.examples import examples
from plainspoken.latents.windows import Windows
from plainspoken.lm.anatomy import anatomy
from plainspoken.pipeline.circuit import Prompt, RunCircuits
from plainspoken.pipeline.survey_exhibit import marked
from plainspoken.report.tokens import visible

TOKENS, NEIGHBOURS, PATHS = 20, 10, 12
_TRIED = 400
"""Paths looked through for `PATHS` that show nothing hidden."""
_AT_PROMPT = ("latent", "error", "skip")
"""What of a layer's FFN depends on the prompt."""


@dataclass(frozen=True)
class Subject:
    """A latent, by its layer."""

    layer: int
    latent: int

    @property
    def name(self) -> str:
        """As it is written: LAYER/NUMBER."""
        return f"{self.layer}/{self.latent}"


def coder_of(circuits: RunCircuits, subject: Subject) -> Coder:
    """The coder that has the latent. Raises UsageError, naming the nearest, where none has."""
    layers = sorted(circuits.site_of_layer)
    if subject.layer not in layers:
        has = ", ".join(map(str, layers)) or "none"
        raise UsageError(f"layer {subject.layer} has no coder, so that it has no latents; layers with one: {has}")
    coder = circuits.coders[circuits.site_of_layer[subject.layer]]
    if not 0 <= subject.latent < coder.spec.latents:
        last = coder.spec.latents - 1
        raise UsageError(
            f"layer {subject.layer} has latents 0 to {last}, and no {subject.latent}; nearest: "
            f"latent:{subject.layer}/{last}"
        )
    if coder.spec.kind != "transcoder":
        raise UsageError(
            f"the coder of layer {subject.layer} is an {coder.spec.kind}: circuits go through transcoders; name a run "
            "with one (coder.kind=transcoder)"
        )
    return coder


def look_lines(
    circuits: RunCircuits, prompts: Sequence[Prompt], known: Known, look: Look, subject: Subject, number: int | None
) -> list[str]:
    """What a look shows by now. `prompts`: where the latent fires; `number`: which of them, from 1, for a circuit.

    Raises UsageError for what is hidden, and for a latent or a prompt that there is not.
    """
    coder = coder_of(circuits, subject)
    require_visible(known, look, subject.layer)
    weights, latents = circuits.weights, torch.tensor([subject.latent])
    match look:
        case "weights":
            return weight_lines(circuits, subject, coder)
        case "promoted":
            found = unembedding(weights.of, decoder_vectors(weights, subject.layer, latents))
            return token_lines(circuits, found[0], "promoted", "suppressed")
        case "deembedding":
            found = exciting(weights.of, circuits.site_of_layer[subject.layer], coder.W_enc[latents])
            assert found is not None, "a transcoder of an FFN reads embeddings"
            return token_lines(circuits, found[0], "answers to", "is held down by")
        case "sources" | "targets":
            return neighbour_lines(circuits, subject, look == "sources")
        case "circuit":
            if number is None or not 1 <= number <= len(prompts):
                raise UsageError(
                    f"name a prompt of 1 to {len(prompts)} with --prompt-number, the first firing strongest"
                )
            return circuit_lines(circuits, prompts[number - 1], subject, known)


def weight_lines(circuits: RunCircuits, subject: Subject, coder: Coder) -> list[str]:
    """Norms and bias of the latent's rows, and where it stands."""
    encoder, decoder = coder.W_enc.detach()[subject.latent].float(), coder.W_dec.detach()[subject.latent].float()
    cosine = torch.nn.functional.cosine_similarity(encoder, decoder, dim=0)
    layers = len(anatomy(circuits.lm).layers)
    return [
        f"latent {subject.name}: one of {coder.spec.latents} of layer {subject.layer} (of 0 to {layers - 1})",
        f"norm of its encoder row {encoder.norm():.4g}, of its decoder row {decoder.norm():.4g}",
        f"encoder bias {signed(float(coder.b_enc[subject.latent]))}",
        f"cosine of encoder and decoder row {signed(float(cosine))}",
    ]


def token_lines(circuits: RunCircuits, score: Float[Tensor, " vocabulary"], most: str, least: str) -> list[str]:
    """The tokens with the largest and with the lowest scores; those without text are left out."""
    table = circuits.lm.pieces.table
    ids = torch.tensor([i for i, text in enumerate(table[: len(score)]) if text])
    order = ids[score.cpu()[ids].argsort(descending=True, stable=True)].tolist()

    def told(some: Sequence[int]) -> list[str]:
        return [f'  {signed(float(score[i]))}  "{visible(table[i])}"' for i in some[:TOKENS]]

    return [f"{most}:", *told(order), f"{least}:", *told(order[::-1])]


def neighbour_lines(circuits: RunCircuits, subject: Subject, earlier: bool) -> list[str]:
    """The latents of each earlier (later) layer with the strongest connections by weights, by their numbers."""
    weights, latents, lines = circuits.weights, torch.tensor([subject.latent]), list[str]()
    for layer in weights.coders:
        if (layer < subject.layer) if earlier else (layer > subject.layer):
            if earlier:
                weight = connections(weights, layer, subject.layer, latents)[0].cpu()
            else:
                weight = pushforward(weights, layer, decoder_vectors(weights, subject.layer, latents))[0].cpu()
            order = weight.abs().argsort(descending=True, stable=True)[:NEIGHBOURS].tolist()
            lines += [f"layer {layer}:", *(f"  {signed(float(weight[i]))}  {layer}/{i}" for i in order)]
    return lines or [f"no coder stands {'before' if earlier else 'behind'} layer {subject.layer}"]


def circuit_lines(circuits: RunCircuits, prompt: Prompt, subject: Subject, known: Known) -> list[str]:
    """What makes the latent fire at the end of a prompt: direct contributions, and paths; signed, strongest first.

    Tokens are told by their places, and what layer 0's FFN does is left out, where they are hidden; of latents'
    sentences nothing is told. With layer 0 hidden the sum is not told either: what is left of it would be the hidden.
    """
    frozen = circuits.frozen(prompt)
    frozen = _without_coder_0(frozen) if known.layer_0_hidden else frozen
    root = root_asked(frozen, Asked("latent", -1, subject.layer, subject.latent))
    graph = attribution_graph(frozen, root, prompt.spelled)

    def shown(nodes: Sequence[int]) -> bool:
        return not (known.layer_0_hidden and any(_of_layer_0(graph.nodes[i]) for i in nodes))

    def words(node: int) -> str:
        return _words(graph, node, known.tokens_hidden)

    lines = [f"latent {subject.name} at token @{len(prompt.tokens) - 1}, the last of its prompt"]
    if not known.layer_0_hidden:
        value = graph.nodes[0].value or 0.0
        lines.append(f"before activation {signed(value)}, of which {signed(float(graph.offset[0]))} are its own biases")
    direct = [e for e in graph.incoming(0).tolist() if shown([int(graph.source[e])])][:PATHS]
    lines.append("directly from:")
    lines += [f"  {signed(float(graph.weight[e]))}  {words(int(graph.source[e]))}" for e in direct]
    tried = strongest_paths(graph, 0, _TRIED)
    paths = [path for path in tried if shown(path.nodes)][:PATHS]
    lines.append("by the paths:")
    lines += [f"  {signed(path.contribution)}  {' ← '.join(map(words, path.nodes[1:]))}" for path in paths]
    if len(paths) < PATHS and len(tried) == _TRIED:
        lines.append(f"  (of the {_TRIED} strongest paths all others are hidden; weaker ones were not looked through)")
    if known.layer_0_hidden:
        lines.append("what layer 0's FFN does is hidden (restricted), and is in none of these")
    return lines


def _without_coder_0(frozen: Frozen) -> Frozen:
    """All that layer 0's FFN puts out as error, as if it had no coder.

    Else its skip would be within what is told of a token: edges pass through it.
    """
    first = frozen.layers[0]
    none, d = first.latents.position[:0], frozen.embedded.shape[1]
    zero = frozen.embedded.new_zeros(0)
    error = first.error + first.ffn_bias + (0 if first.skipped is None else first.skipped)
    error = error.index_add(0, first.latents.position, first.latents.written)
    hidden = replace(
        first, coder=None, W_skip=None, skipped=None, error=error, ffn_bias=torch.zeros_like(error),
        latents=Latents(none, none, zero, zero, zero.view(0, d), none.new_zeros(frozen.t + 1)),
    )  # fmt: skip
    return replace(frozen, layers=(hidden, *frozen.layers[1:]))


def _of_layer_0(node: Node) -> bool:
    return node.layer == 0 and node.kind in _AT_PROMPT


def _words(graph: Graph, number: int, hidden: bool) -> str:
    node = graph.nodes[number]
    if hidden and node.kind == "token":
        return f"token @{node.position}"
    return node_words(node, () if hidden else graph.tokens)


def firing_prompts(circuits: RunCircuits, table: FiringTable, latent: int, most: int) -> list[Prompt]:
    """Of each document the row in which the latent fires most strongly, up to the token where it does; strongest first.

    Equal ones in the order of the text. At most `most`.
    """
    position, value = map(np.asarray, table.latent(latent))
    rows, t, found = table.rows, table.rows.tokens.shape[1], list[Prompt]()
    seen: set[int] = set()
    for i in np.argsort(-value, kind="stable").tolist():
        row, column = divmod(int(position[i]), t)
        if (document := int(rows.document[row])) in seen:
            continue
        seen.add(document)
        tokens = tuple(map(int, rows.tokens[row, : column + 1]))
        text = tuple(map(bool, rows.mask[row, : column + 1]))
        found.append(Prompt(tokens, text, tuple(piece(circuits.lm, token) for token in tokens)))
        if len(found) == most:
            break
    return found


def example_lines(circuits: RunCircuits, table: FiringTable, latent: int, seed: int) -> list[str]:
    """The strongest windows, and some of each quarter of the windows by their largest activation."""
    strongest, quarters, window, each = 10, 4, 32, 3
    drawn = examples(table, latent, each, quarters, window, np.random.default_rng([seed, latent, 0x57]))
    top = Windows(table, window).strongest(latent, strongest)
    largest, pieces = float(top[0].values.max()), circuits.lm.pieces.table
    lines = [f"strongest (⟦a token at which it fires⟧, tenths of {largest:.3g}):"]
    lines += [f"  {marked(example, pieces, largest)}" for example in top]
    for quarter in reversed(range(quarters)):
        lines.append(f"quarter {quarter + 1} of {quarters}:")
        lines += [f"  {marked(example, pieces, largest)}" for example in drawn if example.quantile == quarter]
    return lines


def prompt_lines(prompts: Sequence[Prompt], numbers: Sequence[int]) -> list[str]:
    """The text of prompts, by their numbers from 1, each token behind its place."""
    lines = []
    for number in numbers:
        spelled = [visible(text.encode()) for text in prompts[number - 1].spelled]
        lines += [f"prompt {number}:", "  " + " ".join(f'{i}"{text}"' for i, text in enumerate(spelled))]
    return lines
