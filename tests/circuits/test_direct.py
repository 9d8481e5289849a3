"""One hop: the direct terms, and nothing but them, make up what a direction reads of the stream."""

import pytest
import torch

from families_made import FAMILIES, made_coders, made_lm, made_prompt, relative
from neurons_oracle import with_neurons
from plainspoken.circuits.direct import Readers, direct, head_terms, joined, readers_of
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.targets import firing_targets, logit_targets, value_of


def made_frozen(family: str, t: int = 10) -> Frozen:
    lm = made_lm(family)
    return freeze(lm, made_coders(lm), made_prompt(t), torch.float64)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_direct_terms_and_the_offset_make_up_latents_and_logits(family: str) -> None:
    frozen = made_frozen(family)
    for targets in (firing_targets(frozen, 0), firing_targets(frozen, 2), logit_targets(frozen, 9, None, [3, 5])):
        found = direct(frozen, readers_of(frozen, targets))
        assert relative(found.values.sum(1) + targets.offset, value_of(frozen, targets)) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_neurons_are_sources_of_terms_too(family: str) -> None:
    frozen = made_frozen(family)
    for targets in (firing_targets(frozen, 2), logit_targets(frozen, 9, None, [3, 5])):
        found = direct(with_neurons(frozen), readers_of(frozen, targets))
        assert relative(found.values.sum(1) + targets.offset, value_of(frozen, targets)) < 1e-6
        assert bool(found.latents.any(1).all())


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "gemma3"])
def test_in_single_precision_too(family: str) -> None:
    lm = made_lm(family, dtype=torch.float32)
    frozen = freeze(lm, made_coders(lm), made_prompt(10))
    targets = firing_targets(frozen, 2)
    found = direct(frozen, readers_of(frozen, targets))
    assert relative(found.values.sum(1) + targets.offset, frozen.layers[2].latents.pre) < 1e-4


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_every_term_is_the_direction_times_the_vector_that_its_part_adds(family: str) -> None:
    frozen = made_frozen(family)
    targets = firing_targets(frozen, 2)
    found = direct(frozen, readers_of(frozen, targets))
    for b in range(0, len(targets), 7):
        p, direction = int(targets.position[b]), targets.direction[b]
        wanted = {"token": [direction @ frozen.embedded[p]]}
        assert torch.allclose(found.token[b], wanted["token"][0])
        for i, layer in enumerate(frozen.layers[:2]):
            for head in range(len(layer.group)):
                value = layer.stream @ layer.W_V[layer.group[head]].T @ layer.W_O[head]
                by_source = layer.mix[head, p, :, None] * value
                assert torch.allclose(found.heads[b, i, head], (by_source @ direction)[: found.places.t])
            start = layer.latents.start
            written = layer.latents.written[start[p] : start[p + 1]] @ direction
            assert torch.allclose(found.latents[b, i, : len(written)], written)
            assert not found.latents[b, i, len(written) :].any()
            assert torch.allclose(found.error[b, i], direction @ layer.error[p])
            assert torch.allclose(found.ffn_bias[b, i], direction @ layer.ffn_bias[p])
            assert torch.allclose(found.attention_bias[b, i], direction @ layer.attention_bias[p])
            if layer.skipped is not None:
                assert torch.allclose(found.skip[b, i], direction @ layer.skipped[p])


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma3"])
def test_readers_at_many_places_at_once_are_as_those_of_each_place_by_itself(family: str) -> None:
    frozen = made_frozen(family)
    parts = [readers_of(frozen, firing_targets(frozen, layer)) for layer in (0, 2)]
    parts.append(readers_of(frozen, logit_targets(frozen, 9, None, [1, 2, 3])))
    together, first = direct(frozen, joined(parts)), 0
    for part in parts:
        alone, last = direct(frozen, part), first + len(part)
        layers, t = alone.heads.shape[1], alone.places.t
        assert relative(together.heads[first:last, :layers, :, :t], alone.heads) < 1e-12
        assert relative(together.error[first:last, :layers], alone.error) < 1e-12
        assert relative(together.values[first:last].sum(1), alone.values.sum(1)) < 1e-9
        assert not together.heads[first:last, layers:].any(), "a later layer adds nothing"
        first = last


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_few_directions_and_many_give_the_same_and_later_tokens_nothing(family: str) -> None:
    frozen = made_frozen(family)
    layer = frozen.layers[1]
    position, directions = torch.arange(200) % 10, torch.randn(200, 24, dtype=torch.float64)
    many = head_terms(layer, position, directions, 10)
    few = [head_terms(layer, position[b : b + 1], directions[b : b + 1], 10) for b in range(200)]
    assert relative(many, torch.cat(few)) < 1e-12
    assert all(not many[b, :, int(position[b]) + 1 :].any() for b in range(200))


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_where_most_latents_fire_their_terms_are_as_where_few_do(family: str) -> None:
    """Many are computed by one product for all tokens; a reader alone never is."""
    lm = made_lm(family)
    frozen = freeze(lm, made_coders(lm, activation="relu"), made_prompt(10), torch.float64)
    readers = readers_of(frozen, firing_targets(frozen, 2))
    together = direct(frozen, readers)
    for b in range(0, len(readers), 29):
        one = Readers(*(getattr(readers, name)[b : b + 1] for name in ("attended", "fed", "position", "direction")))
        alone = direct(frozen, one).latents[0]
        assert relative(together.latents[b, :, : alone.shape[1]], alone) < 1e-12


def test_terms_know_what_they_are() -> None:
    """Each term that is not zero is the direction times the vector that its own name stands for."""
    frozen = made_frozen("gpt2")
    targets = firing_targets(frozen, 2)[-3:-2]
    found, p = direct(frozen, readers_of(frozen, targets)), int(targets.position)
    direction = targets.direction[0]
    for place in found.values[0].nonzero().squeeze(1).tolist():
        term = found.places.term(frozen, place, p)
        layer = frozen.layers[max(term.layer, 0)]
        vector = {
            "token": lambda: frozen.embedded[p],
            "position": lambda: frozen.placed[p],  # pyright: ignore[reportOptionalSubscript]
            "head": lambda layer=layer, term=term: (
                layer.mix[term.index, p, term.source]
                * (layer.stream[term.source] @ layer.W_V[term.index].T @ layer.W_O[term.index])
            ),
            "latent": lambda layer=layer, term=term: layer.latents.written[term.index],
            "error": lambda layer=layer: layer.error[p],
            "skip": lambda layer=layer: layer.skipped[p],  # pyright: ignore[reportOptionalSubscript]
            "attention_bias": lambda layer=layer: layer.attention_bias[p],
            "ffn_bias": lambda layer=layer: layer.ffn_bias[p],
        }[term.kind]()
        assert torch.allclose(found.values[0, place], direction @ vector)
