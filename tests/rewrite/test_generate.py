"""Text from a rewritten model, on the planted model and on random ones."""

import numpy as np
import pytest
import torch

from plainspoken.calibrators import CALIBRATORS, Evidence
from plainspoken.coders import Coder, CoderSpec
from plainspoken.errors import UsageError
from plainspoken.lm import resolve_sites
from plainspoken.rewrite import Voice, generate
from plainspoken.types import Rows
from planted import LATENTS, SITE, Planted, fallible, make_simulation, maximum, perfect

PROMPT = np.array([0, 5, 9, 2], np.int64)


def one_row(tokens: np.ndarray) -> Rows:
    """The text so far as rows; BOS is no text."""
    return Rows(tokens.astype(np.int32), tokens != 0, np.zeros(1, np.int32), ("text",), "evaluate")


def listener(planted: Planted, simulator, heard: list[int]) -> Voice:
    """A voice that simulates whatever text it is given, and notes how long it was."""
    evidence = Evidence.sampled(LATENTS, np.zeros(0, np.int64), *(np.zeros(0) for _ in range(3)))
    straight = CALIBRATORS["none"].fit(evidence, maximum())

    def simulate(tokens):
        heard.append(tokens.shape[1])
        return make_simulation(one_row(tokens), simulator(one_row(tokens)))

    return Voice.of_explanations(planted.coder, straight, np.ones(LATENTS, bool), simulate)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_perfect_explanations_write_what_the_coder_writes(planted: Planted, cached, temperature):
    heard: list[int] = []
    options = {"seed": 3, "temperature": temperature, "cached": cached}
    spoken = generate(planted.lm, {SITE: listener(planted, perfect, heard)}, PROMPT, 20, **options)
    coder = generate(planted.lm, {SITE: Voice.of_coder(planted.coder)}, PROMPT, 20, **options)
    np.testing.assert_array_equal(spoken, coder)
    np.testing.assert_array_equal(spoken[:4], PROMPT)
    assert heard == list(range(4, 24))  # the text as it grows, one new token at a time


def test_without_voices_it_is_the_model_itself(planted: Planted):
    text = torch.from_numpy(PROMPT[None])
    oracle = planted.lm.model.generate(text, max_new_tokens=12, min_new_tokens=12, do_sample=False, pad_token_id=0)
    found = generate(planted.lm, {}, PROMPT, 12, temperature=0.0)
    np.testing.assert_array_equal(found, oracle[0].numpy())


def test_the_cache_changes_nothing_with_fallible_explanations_at_several_sites(planted: Planted, neox):
    voices = {}
    for site in resolve_sites(neox, "gpt_neox.layers.*.mlp"):
        coder = Coder(CoderSpec("transcoder", "topk", 32, 4, True, 16, 16)).requires_grad_(False)
        for weight in coder.parameters():
            weight.normal_(0, 0.4)
        voices[site] = Voice.of_coder(coder)
    voices[next(iter(voices))] = listener(planted, fallible_by_token, [])
    texts = [generate(neox, voices, PROMPT, 25, seed=1, cached=cached) for cached in (True, False)]
    np.testing.assert_array_equal(*texts)
    plain = generate(neox, {}, PROMPT, 25, seed=1)
    assert (plain != texts[0]).any()


def fallible_by_token(rows: Rows) -> np.ndarray:
    """Levels that depend on the token alone, so that they do not change as the text grows."""
    rng = np.random.default_rng(0)
    table = rng.integers(0, 10, (400, LATENTS)) * (rng.random((400, LATENTS)) < 0.2)
    return table[rows.tokens] * rows.mask[:, :, None].astype(float)


def test_one_seed_writes_one_text_and_another_another(planted: Planted):
    voices = {SITE: listener(planted, fallible_by_token, [])}
    first, again, other = (generate(planted.lm, voices, PROMPT, 30, seed=seed, temperature=2.0) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_bos_is_not_spoken_for(planted: Planted):
    silent = {SITE: listener(planted, lambda rows: np.zeros((*rows.tokens.shape, LATENTS)), [])}
    module = planted.lm.model.get_submodule("gpt_neox.layers.0.post_mlp_dropout")
    seen: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda m, args, out: seen.append(args[0].clone()))
    generate(planted.lm, silent, PROMPT, 1)
    hook.remove()
    bias = planted.coder.b_dec
    assert [torch.equal(y, bias) for y in seen[0][0]] == [False, True, True, True]


def test_it_ends_where_the_context_is_full_or_the_text_ends(planted: Planted):
    assert len(generate(planted.lm, {}, PROMPT, 1000, seed=0)) == planted.lm.context
    text = generate(planted.lm, {}, PROMPT, 10, seed=0)
    stopped = generate(planted.lm, {}, PROMPT, 10, seed=0, stop=int(text[6]))
    np.testing.assert_array_equal(stopped, text[: 1 + np.flatnonzero(text[4:] == text[6])[0] + 4])


def test_the_model_is_left_as_it_was(planted: Planted):
    before = generate(planted.lm, {}, PROMPT, 8, temperature=0.0)

    def broken(tokens):
        raise KeyboardInterrupt

    voice = Voice(planted.coder, np.zeros(LATENTS), broken)
    with pytest.raises(KeyboardInterrupt):
        generate(planted.lm, {SITE: voice}, PROMPT, 8)
    np.testing.assert_array_equal(generate(planted.lm, {}, PROMPT, 8, temperature=0.0), before)


def test_what_cannot_be_continued_is_refused(planted: Planted):
    for prompt in (np.zeros(0, np.int64), np.zeros(planted.lm.context, np.int64)):
        with pytest.raises(UsageError, match="cannot be continued"):
            generate(planted.lm, {}, prompt, 3)
    with pytest.raises(UsageError, match="temperature"):
        generate(planted.lm, {}, PROMPT, 3, temperature=-1.0)


def test_fallible_explanations_are_not_perfect(planted: Planted):
    texts = [
        generate(planted.lm, {SITE: listener(planted, how, [])}, PROMPT, 30, seed=5) for how in (perfect, fallible)
    ]
    assert (texts[0] != texts[1]).any()
