from itertools import pairwise

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from plainspoken.language.reading import read_rows
from rules_made import read_pieces

code = st.text(st.sampled_from(list("ab_1 \n\t.,:;()[]{}\"'#\\“”é☃")), min_size=1, max_size=60)
COLUMNS = ("word", "before1", "before2", "before3", "line", "opener")


def cut(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(text), *(c % (len(text) + 1) for c in cuts)})
    return [text[a:b] for a, b in pairwise(edges)]


# Bytes that begin a character and do not end it, or go on with none, stand among the text.
broken = st.lists(
    st.sampled_from([b"a", b" ", b"\n", b'"', b"\xe2", b"\x98", b"\x83", b"\xc3", b"\xff"]), min_size=1, max_size=20
)


@given(code.map(str.encode) | broken.map(b"".join), st.lists(st.integers(0, 200), max_size=12), st.integers(1, 60))
@example(b"a\xe2b", [1, 2], 2)
@example(b"\xe2\x98 b", [2, 3], 1)
def test_what_is_read_at_a_token_does_not_depend_on_what_follows(text: bytes, cuts: list[int], kept: int):
    pieces = cut(text, cuts)
    kept = min(kept, len(pieces))
    _, whole, _ = read_pieces([pieces])
    _, start, _ = read_pieces([pieces[:kept]])
    for name in COLUMNS:
        a = [whole.strings[i] for i in getattr(whole, name)[1 : kept + 1]]
        b = [start.strings[i] for i in getattr(start, name)[1 : kept + 1]]
        assert a == b, name
    for name in ("inside", "depth", "unit_before", "unit_of_line"):
        assert (getattr(whole, name)[1 : kept + 1] == getattr(start, name)[1 : kept + 1]).all(), name


@given(code, st.lists(st.integers(0, 200), max_size=12), st.lists(st.integers(0, 200), max_size=12))
def test_what_is_read_does_not_depend_on_how_the_text_is_cut_into_tokens(text: str, one: list[int], other: list[int]):
    raw = text.encode()
    a, b = cut(raw, one), cut(raw, other)
    ends_a, ends_b = np.cumsum([len(p) for p in a]), np.cumsum([len(p) for p in b])
    (_, first, _), (_, second, _) = read_pieces([a]), read_pieces([b])
    for end in set(ends_a.tolist()) & set(ends_b.tolist()):
        p, q = 1 + int(np.searchsorted(ends_a, end)), 1 + int(np.searchsorted(ends_b, end))
        for name in COLUMNS:
            assert first.strings[getattr(first, name)[p]] == second.strings[getattr(second, name)[q]], name
        assert first.inside[p] == second.inside[q] and first.depth[p] == second.depth[q]


def test_a_line_of_code_reads_as_a_person_reads_it():
    pieces = [b"def", b" ", b"foo", b"(se", b"lf", b"):", b"\n   ", b" return", b" is", b"instance", b"(x", b"y"]
    _, reading, _ = read_pieces([pieces])
    s = reading.strings
    found = {name: [s[i] for i in getattr(reading, name)[1:13]] for name in COLUMNS}
    assert found["word"] == [
        "def", " ", "foo", "se", "self", "):", "\n   ", "return", "is", "isinstance", "x", "xy",
    ]  # fmt: skip
    assert found["before1"][:8] == ["", "def", "def", "(", "(", "self", "):", "\n"]
    assert found["before2"][10:] == ["isinstance", "isinstance"]
    assert found["line"] == ["", "def", "def", "def", "def", "def", "def", "", "return", "return", "return", "return"]
    assert found["opener"][3:6] == ["foo", "foo", ""] and found["opener"][10] == "isinstance"
    assert reading.depth[1:13].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1]


def test_strings_and_comments_are_told_from_apostrophes():
    pieces = [b"x = ", b"'a", b"(b", b"' ", b"# it", b"'s\n", b"don", b"'", b"t ", b'"""a', b'"\n', b'"""', b" y"]
    _, reading, _ = read_pieces([pieces])
    assert reading.inside[1:14].tolist() == [0, 1, 1, 0, 2, 0, 0, 0, 0, 1, 1, 0, 0]
    assert (reading.depth[1:14] == 0).all()


def test_rows_are_read_apart_and_only_where_there_is_text():
    rows, reading, table = read_pieces([[b"a", b" b"], [b"c"]])
    assert (reading.word >= 0).tolist() == rows.mask.reshape(-1).tolist()
    assert reading.strings[reading.before1[reading.t + 1]] == ""  # nothing of the first row
    alone = read_rows(rows.tokens[1:], rows.mask[1:], table)
    assert alone.strings[alone.word[1]] == "c"
