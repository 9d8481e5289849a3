"""Targets in words: read back as they were asked for, and refused with what is there instead."""

from dataclasses import replace
from time import process_time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from plainspoken.circuits.asking import Asked, called, parse_target, root_asked, token_called
from plainspoken.circuits.frozen import Frozen, freeze
from plainspoken.circuits.graph import Node
from plainspoken.circuits.intervention_words import parse_interventions
from plainspoken.circuits.lines import DIFFERENCE, node_words
from plainspoken.circuits.targets import value_of
from plainspoken.circuits.written import parsed_head, parsed_latent
from plainspoken.coders import Coder, CoderSpec
from plainspoken.corpus.pieces import Pieces
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


def fallen_back(lm: LanguageModel) -> LanguageModel:
    """A model with a tokenizer as Llama 2's: the 256 bytes that it falls back to come before all other tokens."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += ["▁", "(", ")", "A", "s", "e", "l", "f", "se", "lf", "self", "▁self", "\u200b", "#7", "\\x", "\r", '"']
    merges = [("s", "e"), ("l", "f"), ("se", "lf"), ("▁", "self")]
    vocabulary = {name: i for i, name in enumerate(names)}
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    # Rows of the embedding beyond the tokenizer, as models pad theirs, have no token.
    padded = len(names) + 2
    pieces = Pieces.from_tokenizer(tokenizer, padded)
    return replace(lm, tokenizer=tokenizer, pieces=pieces, vocabulary=padded, name="llama-like")


@pytest.mark.parametrize("text", ["(", ")", "A", " ", "s", "self", " self"])
def test_a_character_is_its_own_token_before_the_byte_that_is_fallen_back_to(pocket: LanguageModel, text: str) -> None:
    lm = fallen_back(pocket)
    assert [token_called(lm, text)] == lm.ids(text)


@pytest.mark.parametrize("name", ["pocket", "llama-like"])
def test_what_is_printed_of_a_logit_asks_for_it_again(pocket: LanguageModel, frozen: Frozen, name: str) -> None:
    """Of every id of the vocabulary, parts of characters, special tokens and padding included."""
    lm, numbered = {"pocket": pocket, "llama-like": fallen_back(pocket)}[name], 0
    for token in range(lm.vocabulary):
        printed = node_words(Node("logit", index=token, label=called(lm, token)))
        [asked] = parse_target("logit:" + printed.removeprefix("logit").removeprefix(":").removeprefix(" ")).tokens
        assert (asked if isinstance(asked, int) else token_called(lm, asked)) == token, printed
        numbered += isinstance(asked, int)
    assert 0 < numbered < lm.vocabulary / 2


def test_special_tokens_are_called_by_name_bytes_too_and_any_by_number(pocket: LanguageModel, frozen: Frozen) -> None:
    assert token_called(pocket, "<|endoftext|>") == pocket.bos_id
    lm = fallen_back(pocket)
    assert [token_called(lm, name) for name in ("</s>", "<0x28>")] == [2, 3 + 0x28]
    assert lm.pieces.table[token_called(lm, "#7")] == b"#7"
    [root] = root_asked(frozen, parse_target("logit:#65@2")).nodes
    assert (root.index, root.position) == (65, 2) and parse_target('logit:"#65"').tokens == ("#65",)
    [root] = root_asked(frozen, parse_target(f'logit-diff:#65,"{"<|endoftext|>"}"')).nodes
    assert DIFFERENCE.fullmatch(root.label) and root.label.endswith(" − '<|endoftext|>'")
    byte = pocket.pieces.table.index(b"\xff")
    [root] = root_asked(frozen, parse_target(f"logit-diff:#{byte},#65")).nodes
    assert DIFFERENCE.fullmatch(root.label) and root.label.startswith(f"#{byte} − ")
    with pytest.raises(UsageError, match=f"no token #999999: pocket knows #0 to #{pocket.vocabulary - 1}"):
        root_asked(frozen, parse_target("logit:#999999"))
    with pytest.raises(UsageError, match="no single token"):
        token_called(pocket, "\ud800")


def test_a_token_that_there_is_not_is_refused_quickly_with_what_begins_alike(pocket: LanguageModel) -> None:
    """Of 256,000 tokens as Gemma has: held against each of them it took 5 s."""
    words = (f"{a}{b}{c}".encode() for a in "abcdeqrstuvwxyz_" for b in range(16) for c in range(1000))
    table = (*pocket.pieces.table, *words)
    lm = replace(pocket, pieces=Pieces(table), vocabulary=len(table))
    began = process_time()
    with pytest.raises(UsageError, match="nearest: 'self"):
        token_called(lm, "selfselfself")
    assert process_time() - began < 2.5


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


@pytest.mark.parametrize(("written", "token"), [(r"\x28", "("), (r"\xFF", "\xff"), (r"\\d", r"\d"), (r"\"", '"')])
def test_what_is_escaped_is_read_as_it_is_printed_in_either_case(written: str, token: str) -> None:
    assert parse_target(f'logit:"{written}"').tokens == (token,)


@pytest.mark.parametrize("written", [r"\d", r"\section", r"\u", r"\xg1", r"\("])
def test_a_backslash_before_what_is_no_escape_is_refused_and_not_dropped(written: str) -> None:
    with pytest.raises(UsageError, match="no character is written"):
        parse_target(f'logit:"{written}"')
