"""Interventions: what must change nothing changes nothing, and what is frozen answers by its edges."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from families_made import CONTEXT, FAMILIES, Scene, made_coders, made_lm, made_prompt, made_scene, relative
from plainspoken.circuits.adjoint import columns, rows
from plainspoken.circuits.frozen import freeze
from plainspoken.circuits.intervene import Intervention, Span, exchanged, logits_after
from plainspoken.circuits.respond import Answer, respond
from plainspoken.circuits.steer import steered
from plainspoken.circuits.targets import firing_targets, logit_targets
from plainspoken.errors import UsageError
from plainspoken.lm import splice
from plainspoken.lm.patterns import eager_attention


def _firing(scene: Scene, layer: int = 0, entry: int = 12) -> tuple[int, int, float]:
    """(latent, position, value) of an entry."""
    latents = scene.frozen.layers[layer].latents
    return int(latents.latent[entry]), int(latents.position[entry]), float(latents.value[entry])


@pytest.mark.parametrize("attention", ["held", "free"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_leaves_a_latent_as_it_is_leaves_the_logits(family: str, attention) -> None:
    scene = made_scene(family)
    before = logits_after(scene.frozen, [], attention)
    latent, position, value = _firing(scene)
    silent = next(i for i in range(48) if i not in scene.frozen.layers[0].latents.latent.tolist())
    for same in (
        Intervention(0, latent, kind="scale", amount=1.0),
        Intervention(0, latent, (position,), "set", value),
        Intervention(0, silent),
        Intervention(0, latent, (), "set", 5.0),
    ):
        assert relative(logits_after(scene.frozen, [same], attention), before) < 1e-6
    assert relative(logits_after(scene.frozen, [Intervention(0, latent, (position,))], attention), before) > 1e-6


@pytest.mark.parametrize("attention", ["held", "free"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ablating_is_setting_to_nothing_and_scaling_by_nothing(family: str, attention) -> None:
    scene = made_scene(family)
    latent, position, _ = _firing(scene)
    ways = [Intervention(0, latent, (position,), kind) for kind in ("ablate", "set", "scale")]
    ablated, *others = (logits_after(scene.frozen, [way], attention) for way in ways)
    assert all(torch.equal(ablated, other) for other in others)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_the_model_the_change_is_that_of_what_the_latent_writes(family: str) -> None:
    """The same by hand: the FFN puts out z W_dec[l] less at that token."""
    scene = made_scene(family)
    latent, position, value = _firing(scene)
    site, coder = next(iter(scene.coders.items()))

    def less(x, y):
        y = y.clone()
        y[0, position] -= value * coder.W_dec[latent]
        return y

    with eager_attention(scene.lm), splice(scene.lm, {site: less}):
        wanted = scene.lm.model(scene.frozen.tokens[None], use_cache=False).logits[0]
    assert relative(logits_after(scene.frozen, [Intervention(0, latent, (position,))]), wanted) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_all_frozen_an_ablation_takes_the_edge_away(family: str) -> None:
    frozen = made_scene(family).frozen
    where, latents = columns(frozen), frozen.layers[0].latents
    by_target = [
        (targets, rows(frozen, targets))
        for targets in (firing_targets(frozen, 2), logit_targets(frozen, 8, None, [3, 5]))
    ]
    for entry in range(0, len(latents), 9):
        ablated = [Intervention(0, int(latents.latent[entry]), (int(latents.position[entry]),))]
        response = respond(frozen, ablated, "held")
        for targets, row in by_target:
            edge = row[where.layers[0].latents.start + entry]
            assert float((response.of(targets) + edge).abs().max()) < 1e-9 * float(row.abs().max())


def _partly_read(family: str, seed: int = 0) -> Scene:
    """The coders, all with a skip, are read at some tokens only."""
    lm, tokens = made_scene(family).lm, made_scene(family).frozen.tokens
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        coders, text = made_coders(lm, skips=(0, 2)), torch.rand(9) < 0.6
    text[0], text[1], text[-1] = False, True, False
    return Scene(lm, coders, freeze(lm, coders, tokens, torch.float64, text=text))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", FAMILIES)
def test_edges_are_the_effects_where_coders_are_read_at_some_tokens_only(family: str, seed: int) -> None:
    frozen = _partly_read(family, seed).frozen
    where, latents = columns(frozen), frozen.layers[0].latents
    for targets in (firing_targets(frozen, 2), logit_targets(frozen, 8, None, [3, 5])):
        row = rows(frozen, targets)
        for entry in range(0, len(latents), 5):
            ablated = [Intervention(0, int(latents.latent[entry]), (int(latents.position[entry]),))]
            edge = row[where.layers[0].latents.start + entry]
            off = respond(frozen, ablated, "held").of(targets) + edge
            assert float(off.abs().max()) < 1e-9 * float(row.abs().max())


@pytest.mark.parametrize("answer", ["held", "linear", "free"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox-serial", "llama", "gemma2"])
def test_where_no_coder_is_read_none_answers(family: str, answer: Answer) -> None:
    """What the last FFN adds to the change there is nothing, though what it reads has changed."""
    frozen = _partly_read(family).frozen
    latent, position = (int(each[0]) for each in (frozen.layers[0].latents.latent, frozen.layers[0].latents.position))
    found = respond(frozen, [Intervention(0, latent, (position,), "scale", 3.0)], answer)
    added, text = found.attention[3] - found.middle[2], frozen.text
    assert bool(added[text].any())
    assert bool(found.middle[2][~text].any()) and not bool(added[~text].any())


@pytest.mark.parametrize("attention", ["held", "free"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_span_leaves_the_tokens_at_which_no_coder_is_read(family: str, attention) -> None:
    frozen = _partly_read(family).frozen
    read = tuple(frozen.text.nonzero().squeeze(1).tolist())
    everywhere, there = (
        [Intervention(layer, 3, positions, "set", 4.0) for layer in (0, 2)] for positions in (Span(), read)
    )
    before, after = logits_after(frozen, [], attention), logits_after(frozen, everywhere, attention)
    assert torch.equal(after, logits_after(frozen, there, attention))
    # Nothing stands before the first token, at which no coder is read: it is as it was.
    assert relative(after[:1], before[:1]) < 1e-6 < relative(after[1:], before[1:])


def test_a_token_at_which_no_coder_is_read_cannot_be_named() -> None:
    frozen = _partly_read("llama").frozen
    for run in (logits_after, respond):
        with pytest.raises(UsageError, match=r"no coder is read at token 0.*name one of \(1"):
            run(frozen, [Intervention(0, 3, (1, -9))])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_change_too_small_to_turn_a_latent_on_or_off_is_answered_linearly(family: str) -> None:
    frozen = made_scene(family).frozen
    latents = frozen.layers[0].latents
    small = [Intervention(0, int(latents.latent[0]), (int(latents.position[0]),), "scale", 1 + 1e-6)]
    targets = logit_targets(frozen, 8, None, [3, 5])
    free, linear = (respond(frozen, small, answer).of(targets) for answer in ("free", "linear"))
    assert relative(free, linear) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_answered_with_nothing(family: str) -> None:
    frozen = made_scene(family).frozen
    for answer in ("held", "linear", "free"):
        response = respond(frozen, [], answer)
        assert all(not bool(change.any()) for change in (*response.attention, *response.middle))


def test_latents_that_were_given_fire_anew_by_as_much_as_the_coders_own() -> None:
    scene = made_scene("gpt_neox-serial")
    last = list(scene.coders)[1]
    told = {last: torch.rand(9, 48, dtype=torch.float64)}
    given = freeze(scene.lm, scene.coders, scene.frozen.tokens, torch.float64, told)
    latent, position, _ = _firing(scene)
    one, other = (respond(frozen, [Intervention(0, latent, (position,))]) for frozen in (scene.frozen, given))
    assert bool((one.attention[3] != one.attention[2]).any())
    assert relative(other.attention[3], one.attention[3]) < 1e-9


def test_positions_are_tokens_of_the_prompt_or_a_span_that_runs_on() -> None:
    def at(positions, done: int = 0, t: int = 6) -> list[int]:
        return (Intervention(0, 0, positions).at(4, done, t).nonzero().squeeze(1) + done).tolist()

    assert at(Span()) == [0, 1, 2, 3, 4, 5] and at(Span(2)) == [2, 3, 4, 5] and at(Span(-1)) == [3, 4, 5]
    assert at(Span(0, 4)) == [0, 1, 2, 3] and at(Span(4)) == [4, 5] and at(Span(4), 5) == [5]
    assert at((1, -1)) == [1, 3] and at((5,), 0, 4) == [] and at(()) == [] and at((5,), 5) == [5]


def test_interventions_on_one_latent_act_one_after_the_other() -> None:
    z = torch.ones(2, 3, dtype=torch.float64)
    both = [Intervention(0, 1, (0,), "set", 3.0), Intervention(0, 1, kind="scale", amount=2.0)]
    assert exchanged(both, z, 2).tolist() == [[1, 6, 1], [1, 2, 1]] and z.sum() == 6


def test_interventions_on_what_there_is_not() -> None:
    frozen = made_scene("llama").frozen
    for wrong, said in (
        (Intervention(1, 0), r"layer 1 has no coder to intervene in.*\(0, 2\)"),
        (Intervention(0, 48), "no latent 48 in layer 0.*0 to 47"),
        (Intervention(0, 3, (9,)), "no token 9 here: name one from -9 to 8"),
        (Intervention(0, 3, (-10,)), "no token -10 here"),
    ):
        for run in (lambda wrong=wrong: logits_after(frozen, [wrong]), lambda wrong=wrong: respond(frozen, [wrong])):
            with pytest.raises(UsageError, match=said):
                run()
    with pytest.raises(UsageError, match=r"becomes 0, not 2\.0: use kind 'set'"):
        Intervention(0, 1, amount=2.0)
    with pytest.raises(UsageError, match="cannot be given the amount nan"):
        Intervention(0, 1, kind="set", amount=float("nan"))


def test_logits_that_are_no_numbers_are_refused() -> None:
    """A weight of a decoder that overflows is as good as an amount that does."""
    scene = made_scene("llama")
    latent, position, _ = _firing(scene)
    coder = scene.frozen.layers[0].coder
    assert coder is not None
    kept = coder.W_dec.data.clone()
    try:
        coder.W_dec.data[latent] = 1e308
        with pytest.raises(UsageError, match="no numbers any more"):
            logits_after(scene.frozen, [Intervention(0, latent, (position,), "scale", 1e9)])
    finally:
        coder.W_dec.data.copy_(kept)


def _steered(scene: Scene, interventions: Sequence[Intervention], new: int = 8, **how: Any) -> list[int]:
    prompt = scene.frozen.tokens[:5].numpy()
    return steered(scene.lm, scene.coders, prompt, interventions, new, **how).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_is_the_same_with_a_cache_and_without(family: str) -> None:
    scene = made_scene(family)
    on = [Intervention(0, 3, Span(3), "set", 4.0), Intervention(2, 5, (1, 6), "set", 3.0)]
    cached, whole = (_steered(scene, on, 4, seed=1, cached=cached) for cached in (True, False))
    assert cached == whole and len(cached) == 9


@pytest.mark.parametrize("cached", [True, False])
def test_a_text_is_steered_from_where_coders_are_read(cached: bool) -> None:
    scene = made_scene("gpt2")
    strong: dict[str, Any] = {"kind": "set", "amount": 100.0}
    text = torch.tensor([False, True, True, True, False])
    on, there = ([Intervention(2, 4, positions, **strong)] for positions in (Span(0, 5), (1, 2, 3)))
    whole, masked, wanted = (
        _steered(scene, each, temperature=0.0, cached=cached, text=mask)
        for each, mask in ((on, None), (on, text), (there, None))
    )
    assert masked == wanted != whole
    with pytest.raises(UsageError, match="no coder is read at token 4"):
        _steered(scene, [Intervention(0, 4, (-1,))], text=text)
    with pytest.raises(UsageError, match=r"a mask of 4 for a prompt of 5 tokens"):
        _steered(scene, on, text=text[1:])


def test_what_is_exchanged_while_a_text_is_written_is_what_the_frozen_model_has() -> None:
    """In half precision, by a coder in 32 bits that rounding to 16 would let fire otherwise: the same logits, to the
    last bit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = made_lm("gpt2", dtype=torch.bfloat16)
        coders = {site: coder.float() for site, coder in made_coders(lm).items()}
        for coder in coders.values():
            for weight in coder.parameters():
                weight.mul_(1 + 0.003 * torch.rand_like(weight))  # so that bfloat16 does not hold it
    on = [Intervention(layer, latent, kind="scale", amount=5.0) for layer in (0, 2) for latent in range(48)]
    frozen = freeze(lm, coders, made_prompt(7))
    seen = list[torch.Tensor]()
    with eager_attention(lm):
        handle = lm.model.register_forward_hook(lambda module, args, answer: seen.append(answer.logits[0]))
        try:
            steered(lm, coders, frozen.tokens.tolist(), on, 1)
        finally:
            handle.remove()
    assert torch.equal(seen[0], logits_after(frozen, on))


def test_no_coder_is_read_at_a_bos_unless_that_is_asked_for() -> None:
    scene = made_scene("gpt2")
    tokens = [scene.lm.bos_id, *range(3, 9)]
    asked, plain = torch.tensor([False, *[True] * 6]), freeze(scene.lm, scene.coders, tokens, torch.float64)
    masked = freeze(scene.lm, scene.coders, tokens, torch.float64, text=asked)
    assert plain.text.tolist() == asked.tolist()
    assert torch.equal(plain.layers[0].error, masked.layers[0].error) and bool((plain.layers[0].ffn_bias[0] == 0).all())
    everywhere = freeze(scene.lm, scene.coders, tokens, torch.float64, text=torch.ones(7, dtype=torch.bool))
    assert 0 in everywhere.layers[0].latents.position.tolist() and bool(everywhere.text.all())
    assert bool(freeze(scene.lm, scene.coders, tokens[1:], torch.float64).text.all())
    strong, bos = [Intervention(2, 4, Span(), "set", 1000.0)], tokens[:1]
    own, exchanged_too = (
        steered(scene.lm, scene.coders, bos, strong, 1, temperature=0.0, text=text).tolist()
        for text in (None, torch.ones(1, dtype=torch.bool))
    )
    assert own == steered(scene.lm, scene.coders, bos, [], 1, temperature=0.0).tolist() != exchanged_too
    with pytest.raises(UsageError, match="a mask of 3 for a prompt of 7 tokens"):
        freeze(scene.lm, scene.coders, tokens, torch.float64, text=torch.ones(3, dtype=torch.bool))


def test_a_text_belongs_to_its_seed() -> None:
    scene, on = made_scene("gpt2"), [Intervention(0, 3, Span(3), "set", 4.0)]
    one, same, other = (_steered(scene, on, 5, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


def test_a_text_without_an_intervention_is_the_models_own_and_with_one_is_not() -> None:
    scene = made_scene("gpt2")
    tokens = scene.frozen.tokens[:5].tolist()
    for _ in range(8):
        logits = scene.lm.model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        tokens.append(int(logits.argmax()))
    assert _steered(scene, [], temperature=0.0) == tokens
    strong: dict[str, Any] = {"kind": "set", "amount": 100.0}
    everywhere = _steered(scene, [Intervention(2, 4, Span(), **strong)], temperature=0.0)
    new = _steered(scene, [Intervention(2, 4, Span(5), **strong)], temperature=0.0)
    assert everywhere[5:] != tokens[5:] and everywhere[:5] == tokens[:5]
    # The first new token is read off the prompt, which is as it was.
    assert new[5] == tokens[5] and new[6:] != tokens[6:]


def test_a_text_stops_at_a_token_and_at_the_context() -> None:
    scene = made_scene("gpt2")
    whole = _steered(scene, [], temperature=0.0)
    assert _steered(scene, [], temperature=0.0, stop=whole[5]) == whole[:6]
    long = steered(scene.lm, scene.coders, scene.frozen.tokens.numpy(), [], 99, progress=lambda _: None)
    assert len(long) == CONTEXT
    with pytest.raises(UsageError, match=r"temperature of -1\.0 means nothing"):
        _steered(scene, [], temperature=-1.0)
    with pytest.raises(UsageError, match="a prompt of 0 tokens"):
        steered(scene.lm, scene.coders, np.zeros(0, np.int64), [], 3)
