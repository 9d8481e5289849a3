"""Rules and readings made by Hypothesis, and the language's meaning spelled out slowly: for three rooms' tests."""

import re

import numpy as np
from hypothesis import strategies as st

from plainspoken.language.reading import Reading, read_rows
from plainspoken.language.rule import (
    FORMS,
    MAX_PHRASE,
    PLACES,
    STARTS,
    After,
    Anything,
    Beginning,
    Clause,
    Context,
    Earlier,
    Ending,
    Form,
    Group,
    Head,
    Line,
    Opener,
    Phrase,
    Place,
    Rule,
    Start,
    Token,
    is_form,
)
from plainspoken.types import Rows

# Everything that a unit may hold, bytes that are no character among them.
any_text = st.text(
    st.characters() | st.sampled_from(list("“”\"'\\␣ \n\t\r\x00\udc80\udcff☃{}4")), min_size=1, max_size=6
) | st.sampled_from(["\n            x", "      {9}", "   {9}", "␣{9}", " {9}     "])


def rules(units: st.SearchStrategy[str]) -> st.SearchStrategy[Rule]:
    """Rules over such units."""
    words = st.lists(units, min_size=1, max_size=3).map(tuple)

    @st.composite
    def groups(draw: st.DrawFn) -> Group:
        before = draw(st.lists(st.lists(units, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple))
        start = draw(st.lists(st.sampled_from(STARTS).map(Start), max_size=1))
        room = MAX_PHRASE - max(map(len, before), default=0) - len(start)
        phrase = st.lists(units, min_size=1, max_size=room).map(lambda u: Phrase(tuple(u)))
        kinds: list[st.SearchStrategy[Head]] = [phrase, units.map(Token), units.map(Ending), units.map(Beginning)]
        heads = st.one_of(*kinds, st.sampled_from(FORMS).map(Form), st.just(Anything()))
        within = st.none() | st.just("line") | st.integers(1, 30)
        others: list[st.SearchStrategy[Context]] = [
            st.builds(Earlier, words, within), words.map(Line), words.map(Opener), st.sampled_from(PLACES).map(Place),
        ]  # fmt: skip
        chosen = draw(st.lists(st.one_of(*others), max_size=2, unique_by=type))
        contexts = [*([After(before)] if before else []), *start, *chosen]
        return Group(draw(st.lists(heads, min_size=1, max_size=3).map(tuple)), tuple(draw(st.permutations(contexts))))

    clauses = st.builds(Clause, st.integers(0, 9), st.lists(groups(), min_size=1, max_size=3).map(tuple))
    return st.lists(clauses, max_size=4).map(lambda c: Rule(tuple(c)))


def read_pieces(pieces: list[list[bytes]]) -> tuple[Rows, Reading, list[bytes]]:
    """Rows of tokens that add these bytes, each row after a BOS and padded."""
    table = [b"", *sorted({piece for row in pieces for piece in row})]
    t = max(map(len, pieces)) + 2
    tokens, mask = np.zeros((len(pieces), t), np.int32), np.zeros((len(pieces), t), bool)
    for r, row in enumerate(pieces):
        tokens[r, 1 : len(row) + 1] = [table.index(piece) for piece in row]
        mask[r, 1 : len(row) + 1] = True
    rows = Rows(tokens, mask, np.arange(len(pieces)), tuple(map(str, range(len(pieces)))), "evaluate")
    return rows, read_rows(tokens, mask, table), table


def level_at(rule: Rule, reading: Reading, p: int) -> int:
    """What a rule says at a position, condition by condition: the meaning that the fast simulator must reproduce."""
    found = [
        (specificity, clause.level)
        for clause in rule.clauses
        for group in clause.groups
        for specificity in _specificities(group, reading, p)
    ]
    return max(found)[1] if found else 0


def _specificities(group: Group, reading: Reading, p: int):
    s = reading.strings
    word, before = s[reading.word[p]], [s[c[p]] for c in (reading.before1, reading.before2, reading.before3)]
    afters = next((c.phrases for c in group.contexts if isinstance(c, After)), ((),))
    starts = tuple("" if c.of == "the text" else "\n" for c in group.contexts if isinstance(c, Start))
    rest = [c for c in group.contexts if not isinstance(c, After | Start)]
    if not all(_holds(c, reading, p) for c in rest):
        return
    for head in group.heads:
        for after in afters:
            units = (*starts, *after, *(head.units[:-1] if isinstance(head, Phrase) else ()))
            if tuple(reversed(before[: len(units)])) != units:
                continue
            at_hand = {Phrase: 3, Token: 2, Anything: 0}.get(type(head), 1)
            if _head_holds(head, word, s[reading.token[p]]):
                yield at_hand + 2 * len(units) + len(rest)


def _head_holds(head: Head, word: str, token: str) -> bool:
    match head:
        case Phrase(units):
            return word == units[-1]
        case Token(text):
            return token == text
        case Ending(text):
            return word.endswith(text)
        case Beginning(text):
            return word.startswith(text)
        case Form(name):
            return is_form(name, word)
        case Anything():
            return True


def _holds(context: Context, reading: Reading, p: int) -> bool:
    s = reading.strings
    match context:
        case Line(words):
            return s[reading.line[p]] in words
        case Opener(words):
            return s[reading.opener[p]] in words
        case Place(name):
            return {
                "inside a string": reading.inside[p] == 1,
                "inside a comment": reading.inside[p] == 2,
                "inside brackets": reading.depth[p] > 0,
                "outside brackets": reading.depth[p] == 0,
            }[name]
        case Earlier(words, within):
            row_start, until = reading.unit_of_row[p // reading.t], reading.unit_before[p]
            start = row_start
            if within == "line":
                start = reading.unit_of_line[p]
            elif within is not None:
                said = [u for u in range(row_start, until) if re.match(r"\w", s[reading.unit[u]])]
                start = said[-within] if len(said) >= within else row_start
            return any(s[u] in words for u in reading.unit[start:until].tolist())
    raise AssertionError(context)
