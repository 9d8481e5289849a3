"""What is encoded from where it differs is what the tokenizer makes of the whole: the same ids, whatever it is."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from plainspoken.llm.encoding import LONG, Encoder
from plainspoken.llm.requests import Message
from plainspoken.llm.tokens import LlmTokens

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
END = "<|end|>"
EATS = (AddedToken("<|left|>", lstrip=True, special=True), AddedToken("<|right|>", rstrip=True, special=True))
ENDING = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 0)])


def trained(model, trainer, texts, normalizer=None, splits=None, decoder=None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(model)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if splits is not None:
        tokenizer.pre_tokenizer = splits
    tokenizer.decoder = decoder or decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(list(EATS))
    tokenizer.post_processor = ENDING
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END)


def made(kind: str, texts: list[str]) -> PreTrainedTokenizerFast:
    """A small tokenizer of each kind that there is, trained on these texts."""
    more = {"special_tokens": [END], "show_progress": False}
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, **more)
    plain = trainers.BpeTrainer(vocab_size=500, **more)
    metaspace = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    match kind:
        case "gpt-2":
            return trained(models.BPE(), bpe, texts, None, pre_tokenizers.ByteLevel(add_prefix_space=False))
        case "gpt-2, a space before":
            return trained(models.BPE(), bpe, texts, normalizers.NFC(), pre_tokenizers.ByteLevel(add_prefix_space=True))
        case "llama-3":
            bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            splits = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA_3), "isolated"), bytes_alone])
            return trained(models.BPE(), bpe, texts, None, splits)
        case "no words":  # whole lines are one word, and a token may hold the end of one and the beginning of the next
            return trained(models.BPE(), bpe, texts, None, pre_tokenizers.ByteLevel(False, use_regex=False))
        case "llama-2":
            put = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
            return trained(models.BPE(unk_token=END), plain, texts, put, None, metaspace)
        case "metaspace":
            splits = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
            return trained(models.BPE(unk_token=END), plain, texts, None, splits, metaspace)
        case "unigram":
            trainer = trainers.UnigramTrainer(vocab_size=300, unk_token=END, **more)
            return trained(models.Unigram(), trainer, texts, None, pre_tokenizers.Metaspace(), metaspace)
        case "wordpiece":
            trainer = trainers.WordPieceTrainer(vocab_size=500, **more)
            splits = pre_tokenizers.BertPreTokenizer()
            return trained(
                models.WordPiece(unk_token=END), trainer, texts, normalizers.Lowercase(), splits, decoders.WordPiece()
            )
    raise AssertionError(kind)


KINDS = (
    "gpt-2", "gpt-2, a space before", "llama-3", "no words", "llama-2", "metaspace", "unigram", "wordpiece", "pocket",
    "stories260K",
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session", params=KINDS)
def tokens(request: pytest.FixtureRequest, story: str) -> LlmTokens:
    if request.param == "pocket":
        return LlmTokens.of(AutoTokenizer.from_pretrained(ROOT / "src/plainspoken/data/pocket"))
    if request.param == "stories260K":
        folder = ROOT.parent / "shared/real/stories260K"
        if not folder.exists():
            pytest.skip(f"{folder} is absent")
        return LlmTokens.of(AutoTokenizer.from_pretrained(folder))
    texts = [story, *HEADS, "Explanation: words\n\nText: a<<b>>\nUser: 0 1 2\n\nText 3: x\n"]
    return LlmTokens.of(made(request.param, texts))


HEADS = (
    "A language model has features.\n\nSay how well a token matches the explanation: 0 to 9.\n" * 4 + "Text: ",
    "User: Explanation: Names of people.\n\nText: Lily said, 'No!'\n\n  Assistant: 7\n" * 5,
    f"<|left|>user\n Explanation: the end{END}\n<|right|>\n\nText:\tand so on\r\nIt goes on\n" * 5,
    "x" * 300 + "\ny",
    "\n" * 300 + "Text",
)
pieces = st.sampled_from([
    "\n", "\n\n", " ", "   ", "\t", "\r\n", "Text", "Lily", "aaaa", "12345", "0", "é", "e\u0301", "\u0301", "\u2028",
    "中文", "🙂", "<<", ">>", "'s", "'", ":", END, "<|left|>", "<|right|>", "<|", "▁", "\\n", "Explanation: names\n",
])  # fmt: skip
tails = st.lists(pieces, max_size=12).map("".join) | st.text(max_size=20)
alike = st.lists(st.tuples(st.sampled_from(HEADS), tails, tails).map("".join), min_size=2, max_size=5)


def by_itself(tokenizer: PreTrainedTokenizerBase, text: str, special: bool) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False, split_special_tokens=not special)["input_ids"])


@settings(max_examples=60)
@given(texts=alike, special=st.booleans())
def test_a_text_has_the_ids_that_it_has_by_itself_whatever_came_before(tokens, texts: list[str], special: bool):
    encoder = Encoder(tokens.tokenizer, tokens.pieces)
    for text in texts:
        assert encoder.ids(text, special) == by_itself(tokens.tokenizer, text, special)


TEMPLATES = (
    "{% for m in messages %}<|left|>{{ m.role }}\n{{ m.content | trim }}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}<|left|>assistant\n{% endif %}",
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
    "{{ messages[-1].content[-9:] }}\n{% for m in messages %}{{ m.role }}: {{ m.content }}<|right|>{% endfor %}\n",
    None,
)


@pytest.mark.parametrize("template", range(len(TEMPLATES)))
@settings(max_examples=20)
@given(said=st.lists(st.tuples(tails, tails), min_size=2, max_size=4))
def test_a_conversation_has_the_ids_that_it_has_by_itself(tokens, template: int, said: list[tuple[str, str]]):
    tokenizer, pieces = tokens.tokenizer, tokens.pieces
    before = tokenizer.chat_template
    try:
        tokenizer.chat_template = TEMPLATES[template]
        warm = LlmTokens(tokenizer, pieces)
        for explanation, text in said:
            messages = [
                Message("system", HEADS[0]), Message("user", f"Explanation: {END} ends"), Message("assistant", "7"),
                Message("user", f"Explanation: {explanation}\n\nText: {text}<<{text}>>"),
            ]  # fmt: skip
            assert warm.chat_prefix(messages) == LlmTokens(tokenizer, pieces).chat_prefix(messages)
    finally:
        tokenizer.chat_template = before


def test_a_text_that_goes_on_is_encoded_from_where_it_differs(tokens: LlmTokens):
    """The proofs above would hold of an encoder that never did."""
    encoder = Encoder(tokens.tokenizer, tokens.pieces)
    encoded = list[int]()
    encode = encoder._encode
    encoder._encode = lambda text, special: (encoded.append(len(text)), encode(text, special))[1]
    for tail in ("Lily", "Tom", "a dog"):
        assert encoder.ids(HEADS[0] + tail) == by_itself(tokens.tokenizer, HEADS[0] + tail, False)
    parted = encoder._parts_at_breaks
    assert (max(encoded[-2:]) < LONG / 4) == parted
    assert parted or any(b"\n" in piece for piece in tokens.pieces.table)


def test_what_a_tokenizer_was_last_used_for_changes_nothing(byte_tokenizer):
    tokens = LlmTokens.of(byte_tokenizer)
    before = tokens.encode("Lily said no")
    byte_tokenizer(["Lily said no", "x"], truncation=True, max_length=2, padding="max_length")
    assert tokens.encode("Lily said no") == before
