"""Targets in words: read back as they were asked for, and refused with what is there instead."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.circuits.asking import Asked, parse_target, root_asked, token_called
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.intervention_words import parse_interventions
from plainspoken.circuits.targets import value_of
from plainspoken.circuits.written import parsed_head, parsed_latent
from plainspoken.coders import Coder, CoderSpec
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel, load_lm, resolve_sites


@pytest.fixture(scope="module")
def pocket() -> LanguageModel:
    return load_lm("pocket")


@pytest.fixture(scope="module")
def frozen(pocket: LanguageModel) -> Frozen:
    torch.manual_seed(0)
    (site,) = resolve_sites(pocket, "gpt_neox.layers.1.mlp")
    coder = Coder(CoderSpec("transcoder", "topk", 64, 4, False, site.d_in, site.d_out))
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.normal_(0, 0.3)
    ids = pocket.tokenizer("def f(self, x):", add_special_tokens=False)["input_ids"]
    text = torch.tensor([False, *[True] * len(ids)])
    return freeze(pocket, {site: coder.requires_grad_(False)}, [0, *ids], text=text)


@given(st.integers(0, 40), st.integers(0, 9999), st.integers(-20, 20))
def test_a_latent_is_read_back(layer: int, latent: int, place: int) -> None:
    assert parse_target(f"latent:{layer}/{latent}@{place}") == Asked("latent", place, layer, latent)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6), min_size=1, max_size=2))
def test_quoted_tokens_are_read_back_whatever_they_hold(tokens: list[str]) -> None:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    quoted = ",".join('"' + "".join(escapes.get(c, c) for c in token) + '"' for token in tokens)
    kind = "logit" if len(tokens) == 1 else "logit-diff"
    assert parse_target(f"{kind}:{quoted}@3") == Asked(kind, 3, tokens=tuple(tokens))


def test_words_without_quotes_and_places_left_out() -> None:
    assert parse_target("logit: self") == Asked("logit", -1, tokens=(" self",))
    assert parse_target("logit-diff:a,b") == Asked("logit-diff", -1, tokens=("a", "b"))
    assert parse_target("logits@2") == Asked("logits", 2)


@pytest.mark.parametrize(
    "text", ["", "latent:3", "latent:a/b", "logit:", "logit-diff:a", "logit-diff:a,b,c", "neuron:1/2"]
)
def test_other_words_are_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="latent:LAYER/NUMBER@PLACE"):
        parse_target(text)


def test_every_token_is_found_by_its_spelling_and_the_nearest_is_named(pocket: LanguageModel) -> None:
    token = pocket.tokenizer("self", add_special_tokens=False)["input_ids"][0]
    spelled = pocket.pieces.table[token].decode()
    assert pocket.pieces.table[token_called(pocket, spelled)] == spelled.encode()
    with pytest.raises(UsageError, match=r"no single token .* nearest: "):
        token_called(pocket, "selfselfself")
    byte = b"\xff".decode("utf-8", "surrogateescape")  # as Python hands a stray byte of a command line on
    assert pocket.pieces.table[token_called(pocket, byte)] == b"\xff"


def test_a_logit_is_what_the_model_says_less_the_mean(frozen: Frozen) -> None:
    token = int(frozen.logits[-1].argmax())
    spelled = frozen.lm.pieces.table[token].decode()
    root = root_asked(frozen, Asked("logit", tokens=(spelled,)))
    assert root.nodes[0].value == pytest.approx(float(frozen.logits[-1, token] - frozen.logits[-1].mean()), abs=1e-3)
    other = frozen.lm.pieces.table[int(frozen.logits[-1].argsort()[-2])].decode()
    difference = root_asked(frozen, Asked("logit-diff", tokens=(spelled, other)))
    ordered = frozen.logits[-1].sort().values
    assert difference.nodes[0].value == pytest.approx(float(ordered[-1] - ordered[-2]), abs=1e-3)


def test_the_likeliest_have_the_share_asked_for_and_no_more_than_needed(frozen: Frozen) -> None:
    root = root_asked(frozen, Asked("logits"), share=0.5, most=2000)
    probability = frozen.probabilities[-1][[node.index for node in root.nodes if node.index is not None]]
    assert float(probability.sum()) >= 0.5 > float(probability[:-1].sum())
    assert root.share.sum() == pytest.approx(1)
    assert len(root_asked(frozen, Asked("logits"), most=3).nodes) <= 3


def test_a_silent_latent_is_told_with_its_value_and_its_places(frozen: Frozen) -> None:
    at = frozen.layers[1].latents
    fires = int(at.latent[0])
    silent = next(p for p in range(1, frozen.t) if p not in at.position[at.latent == fires].tolist())
    root = root_asked(frozen, Asked("latent", silent, 1, fires), silent=True)
    assert root.nodes[0].value == pytest.approx(float(value_of(frozen, root.targets)), abs=1e-5)
    with pytest.raises(UsageError, match=rf"does not fire @{silent}: its pre-activation there is -?\d.* fires at @"):
        root_asked(frozen, Asked("latent", silent, 1, fires))
    never = next(i for i in range(64) if i not in at.latent.tolist())
    with pytest.raises(UsageError, match="nowhere in the prompt"):
        root_asked(frozen, Asked("latent", 2, 1, never))


def test_what_is_not_there_is_refused_with_what_is(frozen: Frozen) -> None:
    with pytest.raises(UsageError, match=r"layer 0 has no coder.*layers with one: 1"):
        root_asked(frozen, Asked("latent", -1, 0, 3))
    with pytest.raises(UsageError, match="latents 0 to 63, and no 64; nearest: latent:1/63"):
        root_asked(frozen, Asked("latent", -1, 1, 64))
    with pytest.raises(UsageError, match="the last is @"):
        root_asked(frozen, Asked("logits", 99))
    with pytest.raises(UsageError, match="difference"):
        root_asked(frozen, Asked("logit-diff", tokens=("(", "(")))


def test_no_coder_is_read_before_the_text(frozen: Frozen) -> None:
    layer = frozen.layers[1]
    assert 0 not in layer.latents.position.tolist()
    assert not layer.ffn_bias[0].any() and layer.ffn_bias[1].any()


@pytest.mark.parametrize("written", ["3/41@-2", "L3/41@-2", "latent:3/41@-2"])
def test_a_latent_is_read_as_any_verb_prints_it(written: str) -> None:
    assert parse_target(written) == Asked("latent", -2, 3, 41)
    [asked] = parse_interventions(ablate=[written])
    assert (asked.layer, asked.latent, asked.positions) == (3, 41, (-2,))
    assert parsed_latent(written.split("@")[0]) == (3, 41)


def test_a_head_is_read_as_lines_print_it() -> None:
    assert parsed_head("2/1") == parsed_head("head 2/1") == parsed_head("2.1") == (2, 1)
    with pytest.raises(UsageError, match="write LAYER/HEAD"):
        parsed_head("2")
