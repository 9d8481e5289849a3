"""Prompts of a behaviour: a file's lines come back as they are, an answer is what the prompt goes on with, and what
cannot be asked is refused by its line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.circuits.prompt_pairs import PromptFile, PromptPair, answer, behaviours, read_pairs
from plainspoken.errors import UsageError
from plainspoken.lm import LanguageModel, load_lm
from plainspoken.store import sha256_file

PAIRS = [
    PromptPair(prompt=f"class {name}:\n    def {way}(", wanted="self", other="path", contrast=f"def {way}(")
    for name, way in (("Reader", "read"), ("Writer", "write"), ("Node", "add"), ("Cache", "clear"))
]


def written(path: Path, lines: list[object]) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    path.write_text(text, "utf-8")
    return path


def file_of(pairs: list[PromptPair]) -> PromptFile:
    return PromptFile(Path("asked.jsonl"), dict(enumerate(pairs, 1)), "")


def told(pair: PromptPair, **other: object) -> dict[str, object]:
    return pair.model_dump(exclude_none=True) | other


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load_lm("pocket", device="cpu")


@given(
    st.lists(st.text(min_size=1).filter(lambda s: s.isprintable()), min_size=4, max_size=8, unique=True),
    st.integers(0, 3),
)
def test_lines_come_back_by_their_numbers_with_empty_ones_left_out(tmp_path_factory, prompts, empty) -> None:
    pairs = [PromptPair(prompt=prompt, wanted="a", other="b") for prompt in prompts]
    path = tmp_path_factory.mktemp("pairs") / "prompts.jsonl"
    found = read_pairs(written(path, [""] * empty + [told(pair) for pair in pairs] + ["  "]))
    assert found.pairs == dict(enumerate(pairs, empty + 1)) and found.sha256 == sha256_file(path)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"prompt": "a"', r"line 3 is no JSON: .* at column"),
        ('["a", "b", "c"]', "line 3: it: .*; a line is"),
        ('{"prompt": "a", "wanted": "b"}', "line 3: other: field required"),
        ('{"prompt": "", "wanted": "b", "other": "c"}', "line 3: prompt: .*at least 1"),
        ('{"prompt": 4, "wanted": "b", "other": "c"}', "line 3: prompt: .*string"),
        ('{"prompt": "a", "wanted": "b", "other": "c", "sef": "d"}', "line 3: sef: extra"),
        (told(PAIRS[2], other="self"), "line 3: the difference of 'self' from itself is 0"),
        ("[" * 100_000, "line 3 is no JSON"),
        (f'{{"prompt": {"9" * 5000}, "wanted": "b", "other": "c"}}', "line 3 is no JSON"),
        ('{"prompt": "a", "wanted": "b", "other": "c", "other": "d"}', "line 3 is no JSON: a field stands twice"),
        ({k: v for k, v in told(PAIRS[2]).items() if k != "contrast"}, "line 3: no contrast, where line 1 has one"),
    ],
)
def test_a_line_that_cannot_be_asked_is_refused_by_its_number(tmp_path: Path, line: object, why: str) -> None:
    lines: list[object] = [told(pair) for pair in PAIRS]
    lines[2] = line
    with pytest.raises(UsageError, match=why) as raised:
        read_pairs(written(tmp_path / "prompts.jsonl", lines))
    assert "prompts.jsonl" in str(raised.value)


def test_too_few_prompts_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"too few prompts in .*\(3\): .* at least 4"):
        read_pairs(written(tmp_path / "few.jsonl", [told(pair) for pair in PAIRS[:3]]))
    with pytest.raises(UsageError, match="cannot be read"):
        read_pairs(tmp_path / "nowhere.jsonl")
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        read_pairs(tmp_path / "bytes.jsonl")


def test_the_answer_is_the_token_that_the_text_goes_on_with(lm: LanguageModel) -> None:
    tokens = lambda text: [lm.bos_id, *lm.tokenizer(text, add_special_tokens=False)["input_ids"]]  # noqa: E731
    made = behaviours(lm, file_of(PAIRS), tokens)
    assert made.contrasts is not None and made.prompts.begun
    for side, texts in ((made.prompts, [p.prompt for p in PAIRS]), (made.contrasts, [p.contrast for p in PAIRS])):
        for i, text in enumerate(texts):
            assert [*side.prompts[i], side.wanted[i]] == tokens(f"{text}self")
            assert [*side.prompts[i], side.other[i]] == tokens(f"{text}path")
    assert behaviours(lm, file_of([p.model_copy(update={"contrast": None}) for p in PAIRS]), tokens).contrasts is None


@pytest.mark.parametrize("word", ["thermodynamics", "el", ")):x"])
def test_a_word_that_is_no_single_token_there_is_refused_with_its_place(lm: LanguageModel, word: str) -> None:
    text = "def read(s"
    with pytest.raises(UsageError, match="no single token of pocket after"):
        answer(lm, text, word)
    pair = PromptPair(prompt=text, wanted=word, other="x")
    with pytest.raises(UsageError, match=r"asked.jsonl, line 1: .*no single token"):
        behaviours(lm, file_of([pair]), lambda text: [0, 1])


def test_what_the_circuit_is_found_on_is_not_what_it_is_tested_on(lm: LanguageModel) -> None:
    """No two lines have one prompt, in tokens, and no contrast is another line's prompt."""
    again = [*PAIRS, PAIRS[1].model_copy(update={"other": "data"})]
    with pytest.raises(UsageError, match="line 5: this prompt stands in line 2 too"):
        behaviours(lm, file_of(again), lm.ids)
    leak = [*PAIRS[:3], PAIRS[3].model_copy(update={"contrast": PAIRS[0].prompt})]
    with pytest.raises(UsageError, match="line 4: its contrast is the prompt of line 1"):
        behaviours(lm, file_of(leak), lm.ids)
    same = [pair.model_copy(update={"contrast": pair.prompt}) for pair in PAIRS]
    assert behaviours(lm, file_of(same), lm.ids).contrasts == behaviours(lm, file_of(same), lm.ids).prompts
