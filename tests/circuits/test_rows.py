"""Rows: the contributions of all sources, and nothing but them, make up a target."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from families_made import FAMILIES, made_scene, relative
from frozen_oracle import Boost, HeldModel
from heads_oracle import rows_by_head
from plainspoken.circuits.adjoint import columns, head_gradients, rows, seed
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.graph import Node
from plainspoken.circuits.targets import Targets, firing_targets, latent_targets, logit_targets, stream_at, value_of

TYPES = [(torch.float64, 1e-9), (torch.float32, 1e-4)]


@pytest.mark.parametrize(("dtype", "within"), TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_sources_and_the_own_bias_make_up_a_latent_a_logit_and_a_logit_difference(
    family: str, dtype: torch.dtype, within: float
) -> None:
    frozen = made_scene(family, dtype).frozen
    for layer in (0, 2):
        targets = firing_targets(frozen, layer)
        assert relative(rows(frozen, targets).sum(0) + targets.offset, frozen.layers[layer].latents.pre) < within
    targets = logit_targets(frozen, 8, None, [3, 5, 7])
    logits = frozen.logits[8]
    assert relative(rows(frozen, targets).sum(0) + targets.offset, logits[[3, 5, 7]] - logits.mean()) < within
    difference = torch.zeros(1, len(logits), dtype=dtype)
    difference[0, 3], difference[0, 5] = 1, -1
    targets = logit_targets(frozen, 8, difference)
    assert relative(rows(frozen, targets).sum(0) + targets.offset, logits[3:4] - logits[5]) < within


@pytest.mark.parametrize("family", FAMILIES)
def test_the_frozen_logits_are_the_models(family: str) -> None:
    scene = made_scene(family)
    logits = scene.lm.model(scene.frozen.tokens[None], use_cache=False).logits[0]
    cap = getattr(scene.lm.model.config, "final_logit_softcapping", None)
    shown = cap * torch.tanh(scene.frozen.logits / cap) if cap else scene.frozen.logits
    # Hugging Face computes RMS norms and softmax in float32, whatever the model's type is.
    assert relative(shown, logits) < 1e-5


@pytest.mark.parametrize(("dtype", "within"), TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_heads_and_the_bypass_make_up_the_row(family: str, dtype: torch.dtype, within: float) -> None:
    frozen = made_scene(family, dtype).frozen
    for targets in (firing_targets(frozen, 2, slice(0, 5)), logit_targets(frozen, 8, None, [3])):
        bypass, by_head = rows_by_head(frozen, targets)
        assert relative(bypass + by_head.sum((0, 1)), rows(frozen, targets)) < within


def cut(frozen: Frozen, keep: Callable[[int, Tensor], Tensor]) -> Frozen:
    """The same with what attention mixes changed, layer by layer."""
    return replace(frozen, layers=tuple(replace(at, mix=keep(i, at.mix)) for i, at in enumerate(frozen.layers)))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_share_of_a_head_is_what_passes_it_and_no_later_one(family: str) -> None:
    """Against the row of a model in which later heads mix nothing, and at the head's layer it alone does."""
    frozen = made_scene(family).frozen
    for targets in (firing_targets(frozen, 2, slice(0, 5)), logit_targets(frozen, 8, None, [3])):
        bypass, by_head = rows_by_head(frozen, targets)
        size = rows(frozen, targets).abs().max()
        nothing = cut(frozen, lambda i, mix: torch.zeros_like(mix))
        assert (bypass - rows(nothing, targets)).abs().max() < 1e-9 * size
        for layer, head in product(range(len(frozen.layers)), range(by_head.shape[1])):
            before = rows(cut(frozen, lambda i, mix, at=layer: mix * (i < at)), targets)
            alone = torch.arange(by_head.shape[1]) == head
            through = rows(
                cut(frozen, lambda i, m, at=layer, one=alone: m * (one[:, None, None] if i == at else i < at)), targets
            )
            assert (by_head[layer, head] - (through - before)).abs().max() < 1e-9 * size, (layer, head)


def _last_latent(frozen: Frozen, layer: int) -> tuple[Node, Targets]:
    latents, n = frozen.layers[layer].latents, len(frozen.layers[layer].latents)
    node = Node("latent", layer, int(latents.position[-1]), int(latents.latent[-1]))
    return node, firing_targets(frozen, layer, slice(n - 1, n))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_the_gradients_of_the_real_modules_held_linear(family: str) -> None:
    frozen = made_scene(family).frozen
    oracle = HeldModel(frozen)
    for node, targets in (
        _last_latent(frozen, 0),
        _last_latent(frozen, 2),
        (Node("logit", position=8, index=3), logit_targets(frozen, 8, None, [3])),
        (Node("logit", position=4, index=9), logit_targets(frozen, 4, None, [9])),
    ):
        assert relative(rows(frozen, targets)[:, 0], oracle.row(node)) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_scaling_a_source_moves_the_real_modules_held_linear_by_its_edge(family: str) -> None:
    frozen, eps = made_scene(family).frozen, 0.25
    oracle, where, first = HeldModel(frozen), columns(frozen), frozen.layers[0]
    latent, targets = _last_latent(frozen, 2)
    nodes = [latent, Node("logit", position=8, index=3)]
    row = torch.cat([rows(frozen, targets), rows(frozen, logit_targets(frozen, 8, None, [3]))], 1)
    with torch.no_grad():
        before = torch.stack(oracle.values(oracle.sources(), nodes))
        for leaf, at in _single_sources(first.latents.start, where):
            sources = oracle.sources()
            chosen = leaf(sources)
            chosen *= 1 + eps
            moved = torch.stack(oracle.values(sources, nodes)) - before
            assert relative(moved, eps * row[at]) < 1e-9


def _single_sources(start: torch.Tensor, where):
    """(which leaf, its column): an embedding, errors, a latent at a token, biases, a position where learned."""
    own = int(start[4])
    first, second = where.layers[0], where.layers[1]
    found = [
        (lambda s: s.token[3], where.token.start + 3),
        (lambda s: s.error[0][2], first.error.start + 2),
        (lambda s: s.error[1][4], second.error.start + 4),
        (lambda s: s.latent[0][own], first.latents.start + own),
        (lambda s: s.attention_bias[1], second.attention_bias),
        (lambda s: s.ffn_bias[0], first.ffn_bias),
    ]
    if where.position.stop > where.position.start:
        found.append((lambda s: s.position[5], where.position.start + 5))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_scaling_what_a_head_reads_at_a_token_moves_a_logit_by_its_edge(family: str) -> None:
    frozen, eps = made_scene(family).frozen, 0.25
    oracle, targets = HeldModel(frozen), logit_targets(frozen, 8, None, [3])
    last, nodes = frozen.layers[2], [Node("logit", position=8, index=3)]
    gradient = seed(targets)
    if not last.layer.parallel and last.W_skip is not None:
        gradient = gradient + (gradient @ last.W_skip) * last.skip_factor[:, None, None]
    values = torch.einsum("sd,gvd->gsv", last.stream, last.W_V)[last.group]
    edges = torch.einsum("hsbv,hsv->hs", head_gradients(last, gradient), values)
    with torch.no_grad():
        before = oracle.values(oracle.sources(), nodes)[0]
        for head, source in ((0, 0), (2, 5), (3, 8)):
            oracle.boost = Boost(2, head, source, eps)
            moved = oracle.values(oracle.sources(), nodes)[0] - before
            assert relative(moved, eps * edges[head, source]) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_comes_from_later_layers_or_later_tokens(family: str) -> None:
    frozen = made_scene(family).frozen
    where = columns(frozen)
    targets = latent_targets(frozen, 2, torch.tensor([4, 4]), torch.tensor([0, 1]))
    row = rows(frozen, targets)
    assert (row[where.token][5:] == 0).all() and (row[where.token][:5] != 0).any()
    assert (row[where.position][5:] == 0).all()
    for at, layer in zip(where.layers, frozen.layers, strict=True):
        assert (row[at.error][5:] == 0).all()
        assert (row[at.latents][layer.latents.position > 4] == 0).all()
    own = where.layers[2]
    assert (row[own.ffn_bias] == 0).all() and (row[own.error] == 0).all() and (row[own.latents] == 0).all()
    early, first = rows(frozen, latent_targets(frozen, 0, torch.tensor([4]), torch.tensor([0]))), where.layers[0]
    assert (early[first.ffn_bias :] == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_is_linear_in_its_target(family: str) -> None:
    frozen = made_scene(family).frozen
    some = firing_targets(frozen, 2, slice(0, 3))
    position = torch.full_like(some.position, 8)
    one = Targets(2, some.middle, position, some.direction, some.offset)
    factors = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    mixed = Targets(2, some.middle, position[:1], factors[None] @ some.direction, (factors @ some.offset)[None])
    assert relative(rows(frozen, mixed)[:, 0], rows(frozen, one) @ factors) < 1e-9


@pytest.mark.parametrize(("dtype", "within"), TYPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_batched_is_one_at_a_time(family: str, dtype: torch.dtype, within: float) -> None:
    frozen = made_scene(family, dtype).frozen
    targets = firing_targets(frozen, 2)
    together = rows(frozen, targets)
    for i in range(0, len(targets), 7):
        alone = rows(frozen, targets[i : i + 1])
        assert relative(together[:, i : i + 1], alone) < within


@pytest.mark.parametrize("family", FAMILIES)
def test_no_targets_have_no_rows(family: str) -> None:
    frozen = made_scene(family).frozen
    none = firing_targets(frozen, 2, slice(0, 0))
    assert rows(frozen, none).shape == (columns(frozen).total, 0)
    bypass, by_head = rows_by_head(frozen, none)
    assert bypass.shape == (columns(frozen).total, 0) and by_head.shape[-1] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_norm_factor_is_one_over_the_scale_for_directions_that_are_centred(family: str) -> None:
    frozen = made_scene(family).frozen
    norm, x = frozen.anatomy.layers[1].attention_norm, frozen.layers[1].stream
    factor = norm.factor(x)
    scale = (x - x.mean(-1, keepdim=True) if norm.centred else x).pow(2).mean(-1).add(norm.eps).sqrt()
    assert relative(factor * scale, torch.ones_like(scale)) < 1e-12
    direction = torch.randn(len(x), x.shape[1], dtype=x.dtype)
    if norm.centred:
        direction -= (direction / norm.weight).mean(-1, keepdim=True) * norm.weight
        folded = direction * norm.weight
        direction = (folded - folded.mean(-1, keepdim=True)) / norm.weight
    wanted = direction * norm.weight / scale[:, None]
    assert relative(norm.adjoint(direction, factor), wanted) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stream_is_where_targets_read(family: str) -> None:
    frozen = made_scene(family).frozen
    assert relative(stream_at(frozen, 3, False), frozen.final) < 1e-9
    for layer in range(3):
        assert relative(stream_at(frozen, layer, False), frozen.layers[layer].stream) < 1e-9
    targets = firing_targets(frozen, 2)
    assert relative(value_of(frozen, targets), frozen.layers[2].latents.pre) < 1e-9
