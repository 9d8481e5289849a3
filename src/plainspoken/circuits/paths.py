"""Paths: by which ways the strongest contributions flow to a target, found greedily and with their signs.

A path goes from the target back through heads, skips and latents; its weight is the product of its edges: how much of
the target's value flows along exactly this way. What a path that ends at a head, skip or latent carries is, in its
turn, a linear function of the stream there, and splits exactly into one-hop terms (`direct`), which are its extensions.
Each round extends every path by its strongest terms and keeps the strongest paths of all. (Algorithm 1 of Dunefsky et
al., arXiv 2406.11944; by magnitude, so that what inhibits is found, and through every part of the model.)

Gates are held open: a latent that fires with z hands on z through its encoder row with derivative 1. Its path carries
its upstream gradient times z W_dec; with z the coder's own, that is its pre-activation, which its extensions and own
bias sum to. Where z was given (`freeze`), what it is above the coder's own counts with its own bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from plainspoken.circuits.direct import Direct, Readers, Term, direct, joined, readers_of, term_node
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Node, NodeKind
from plainspoken.circuits.targets import Targets, firing_targets
from plainspoken.errors import ActivationError, UsageError

_OPEN = ("head", "latent", "skip")
CONSTANT: tuple[NodeKind, ...] = ("error", "attention_bias", "ffn_bias")
"""What a layer adds without reading anything that a path could go on to."""


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths as a tree: entry i is the path from the root, entry 0, to nodes[i], and parent[i] the one a node shorter.

    `position`: the token at which the root reads the stream. `weight`: what flows along the path, in units of the
    root's value, which is the root's own. `extended`: whether it was split into its terms; if so, `bias` is what its
    own bias adds and `size` the sum of all its terms in absolute terms, its bias aside; of those, `by_kind` and
    `size_by_kind` are the sums over all layers of the kinds `CONSTANT`. Of a path that was not extended, all of these
    are 0. `rounds`: the paths that each round kept, strongest first; one that has ended (at an embedding, a bias, an
    error) stays as long as it is among the strongest.
    """

    nodes: tuple[Node, ...]
    position: int
    parent: Int[np.ndarray, " n"]
    weight: Float[np.ndarray, " n"]
    extended: Bool[np.ndarray, " n"]
    bias: Float[np.ndarray, " n"]
    size: Float[np.ndarray, " n"]
    by_kind: Float[np.ndarray, "n kinds"]
    size_by_kind: Float[np.ndarray, "n kinds"]
    rounds: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.nodes)

    def steps(self, path: int) -> tuple[int, ...]:
        """The path and all that it begins with, from the root."""
        found = [path]
        while self.parent[found[-1]] >= 0:
            found.append(int(self.parent[found[-1]]))
        return tuple(reversed(found))

    def only(self, chosen: Sequence[int]) -> "Paths":
        """The tree of these paths alone, in the order in which they were found: what else was found counts as not kept.

        Raises UsageError for a path that is not there.
        """
        if not all(0 <= path < len(self) for path in chosen):
            raise UsageError(f"paths {list(chosen)} are not all among the {len(self)} that were found: choose of those")
        on_them = np.array(sorted({0}.union(*map(self.steps, chosen))))
        place = {path: i for i, path in enumerate(on_them.tolist())}
        parent = np.array([place.get(above, -1) for above in self.parent[on_them].tolist()])
        return Paths(
            tuple(self.nodes[i] for i in on_them),
            self.position,
            parent,
            self.weight[on_them],
            self.extended[on_them],
            self.bias[on_them],
            self.size[on_them],
            self.by_kind[on_them],
            self.size_by_kind[on_them],
            tuple(tuple(place[path] for path in kept if path in place) for kept in self.rounds),
        )


def strongest_paths(
    frozen: Frozen,
    target: Targets,
    root: Node,
    tokens: Sequence[str],
    rounds: int = 3,
    width: int = 15,
    keep: int = 15,
) -> Paths:
    """The strongest paths to one target, of at most `rounds` steps; each is extended by `width` terms at a time.

    `root`: the node that stands for the target. Raises UsageError where there is not one target, or a number is below
    1; ActivationError where a contribution is not finite.
    """
    if len(target) != 1 or min(rounds, width, keep) < 1:
        raise UsageError(
            f"paths are sought to one target, in 1 or more rounds: {len(target)} targets, rounds = {rounds}, "
            f"width = {width} and keep = {keep} were given"
        )
    tree = _Tree()
    tree.add(root, -1, float("nan"))
    open_, ended = _Open([0], readers_of(frozen, target), target.offset), []
    kept: list[tuple[int, ...]] = []
    for _ in range(rounds):
        if not open_.paths:
            break
        found = direct(frozen, open_.readers)
        if not kept:
            # The root's value is the sum of its terms, which costs less than to sum the stream for it again.
            tree.weight[0] = float(found.values.sum(dtype=torch.float64) + target.offset)
        chosen, new = _strongest(frozen, found, open_, ended, tree, width, keep, tuple(tokens))
        kept.append(tuple(chosen))
        ended = [path for path in chosen if tree.nodes[path].kind not in _OPEN]
        open_ = _opened(frozen, open_, new, tree)
    return tree.finish(int(target.position), kept)


@dataclass(frozen=True, eq=False)
class _Open:
    """The paths that can be extended, what each reads of the stream, and what its own bias adds."""

    paths: list[int]
    readers: Readers
    bias: Float[Tensor, " b"]


@dataclass
class _Tree:
    """Paths as they are found."""

    nodes: list[Node] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    weight: list[float] = field(default_factory=list)
    split: dict[int, list[float]] = field(default_factory=dict)
    """Of a path that was extended: bias, size, then sums and sizes by kind."""

    def add(self, node: Node, parent: int, weight: float) -> int:
        self.nodes.append(node)
        self.parent.append(parent)
        self.weight.append(weight)
        return len(self.nodes) - 1

    def finish(self, position: int, rounds: list[tuple[int, ...]]) -> Paths:
        extended = np.array([i in self.split for i in range(len(self.nodes))])
        none = [0.0] * (2 + 2 * len(CONSTANT))
        bias, size, *by_kind = np.array([self.split.get(i, none) for i in range(len(self.nodes))]).T
        sums, sizes = np.stack(by_kind, 1).reshape(-1, 2, len(CONSTANT)).swapaxes(0, 1)
        parent, weight = np.array(self.parent), np.array(self.weight, np.float64)
        return Paths(tuple(self.nodes), position, parent, weight, extended, bias, size, sums, sizes, tuple(rounds))


@dataclass(frozen=True)
class _New:
    """A path that was found: its number, the open path that it extends (by its place among them), and by which term."""

    path: int
    of: int
    term: Term
    weight: float


def _strongest(
    frozen: Frozen,
    found: Direct,
    open_: _Open,
    ended: list[int],
    tree: _Tree,
    width: int,
    keep: int,
    tokens: tuple[str, ...],
) -> tuple[list[int], list[_New]]:
    """(the strongest paths of this round, those of them that are new and can be extended)."""
    # The own bias is one more term, the last.
    terms = torch.cat([found.values, open_.bias[:, None]], 1)
    _note_split(found, open_, tree)
    best = terms.abs().topk(min(width, terms.shape[1]), 1).indices
    weight = terms.gather(1, best).double().cpu().numpy().ravel()
    of = np.repeat(np.arange(len(best)), best.shape[1])
    place = best.cpu().numpy().ravel()
    everything = np.concatenate([weight, np.array([tree.weight[path] for path in ended])])
    order = np.argsort(-np.abs(everything), kind="stable")[:keep]
    chosen, new, positions = [], [], found.position.tolist()
    for i in order[everything[order] != 0].tolist():
        if i >= len(weight):
            chosen.append(ended[i - len(weight)])
            continue
        parent = open_.paths[of[i]]
        if place[i] == terms.shape[1] - 1:
            above = tree.nodes[parent]
            own = Node("own_bias", above.layer, above.position, above.index)
            chosen.append(tree.add(own, parent, float(weight[i])))
            continue
        term = found.places.term(frozen, int(place[i]), positions[of[i]])
        node = term_node(frozen, term, positions[of[i]], tokens)
        chosen.append(tree.add(node, parent, float(weight[i])))
        if term.kind in _OPEN:
            new.append(_New(chosen[-1], int(of[i]), term, float(weight[i])))
    return chosen, new


def _note_split(found: Direct, open_: _Open, tree: _Tree) -> None:
    constant = torch.stack([found.error, found.attention_bias, found.ffn_bias], 1).double()
    size = found.values.abs().sum(1, dtype=torch.float64)
    if not bool(torch.isfinite(size).all()):
        raise ActivationError("a contribution is not finite: run with lm.dtype=float32, or another prompt")
    split = torch.cat([open_.bias.double()[:, None], size[:, None], constant.sum(2), constant.abs().sum(2)], 1)
    tree.split |= dict(zip(open_.paths, split.tolist(), strict=True))


def _opened(frozen: Frozen, before: _Open, new: list[_New], tree: _Tree) -> _Open:
    """What the new paths read of the stream."""
    parts: list[tuple[list[_New], Readers, Float[Tensor, " b"]]] = []
    for layer in sorted({each.term.layer for each in new}):
        latents = [each for each in new if each.term.kind == "latent" and each.term.layer == layer]
        if latents:
            parts.append((latents, *_through_latents(frozen, layer, latents)))
    for each in new:
        if each.term.kind != "latent":
            readers = _through_head(frozen, before.readers, each)
            readers = _through_skip(frozen, before.readers, each) if each.term.kind == "skip" else readers
            parts.append(([each], readers, readers.direction.new_zeros(1)))
    if not parts:
        return _Open([], before.readers, before.bias)
    paths = [each.path for some, _, _ in parts for each in some]
    return _Open(paths, joined([readers for _, readers, _ in parts]), torch.cat([bias for _, _, bias in parts]))


def _through_latents(frozen: Frozen, layer: int, new: list[_New]) -> tuple[Readers, Float[Tensor, " b"]]:
    """Through a latent: its encoder row, by what the path carries for each unit of z."""
    latents = frozen.layers[layer].latents
    entry = torch.tensor([each.term.index for each in new], device=latents.value.device)
    weight = torch.tensor([each.weight for each in new], dtype=latents.value.dtype, device=latents.value.device)
    targets, value = firing_targets(frozen, layer, entry), latents.value[entry]
    scale = weight / value
    readers = readers_of(frozen, targets)
    scaled = Readers(readers.attended, readers.fed, readers.position, readers.direction * scale[:, None])
    return scaled, scale * (targets.offset + value - latents.pre[entry])


def _through_head(frozen: Frozen, readers: Readers, new: _New) -> Readers:
    """Through a head: what it makes, at the token that it reads, of the direction at the token that it writes to."""
    term, layer = new.term, frozen.layers[new.term.layer]
    if term.kind != "head":
        return readers
    direction = (layer.W_O[term.index] @ readers.direction[new.of]) @ layer.W_V[layer.group[term.index]]
    mix = layer.mix[term.index, readers.position[new.of], term.source]
    at = torch.tensor([term.layer], device=direction.device)
    return Readers(at, at, torch.full_like(at, term.source), (direction * mix)[None])


def _through_skip(frozen: Frozen, readers: Readers, new: _New) -> Readers:
    layer, position = frozen.layers[new.term.layer], readers.position[new.of]
    assert layer.W_skip is not None, "no term of a skip without a skip"
    direction = (readers.direction[new.of] @ layer.W_skip) * layer.skip_factor[position]
    at = torch.tensor([new.term.layer], device=direction.device)
    return Readers(at + int(not layer.layer.parallel), at, position[None], direction[None])
