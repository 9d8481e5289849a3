import pytest
from hypothesis import example, given

from plainspoken.errors import LanguageError
from plainspoken.language.parse import parse
from plainspoken.language.quote import count_words, quote, scan_quote
from plainspoken.language.render import SILENT, render
from plainspoken.language.rule import After, Anything, Clause, Group, Phrase, Place, Rule, Start, Token
from rules_made import any_text, rules

SENTENCE = (
    "Fires at 9 on “her”, “him” or “them”, and on “it” after “with” or “for”; 4 on a number inside brackets; "
    "1 on anything with “Lily” in the last 10 words; 0 on “to her”."
)


@pytest.mark.slow
@given(rules(any_text))
@example(Rule((Clause(9, (Group((Phrase(("", "\udc80", "\n    ", '“”\\␣"')), Token(" or "))),)),)))
def test_parse_undoes_render(rule: Rule):
    assert parse(render(rule)) == rule


@given(rules(any_text))
def test_a_sentence_is_one_printable_line(rule: Rule):
    assert render(rule).isprintable()


@given(any_text, any_text)
def test_a_quotation_gives_its_units_back(a: str, b: str):
    assert scan_quote(quote((a, b)) + " or", 0) == ((a, b), len(quote((a, b))))


def test_render_undoes_parse_of_a_plain_sentence():
    assert render(parse(SENTENCE)) == SENTENCE


def test_what_people_type_reads_as_what_is_rendered():
    typed = 'Fires at 9 on "her", "him", or "them" and on "it" after "with", "for";4 on a number inside brackets; '
    typed += 'at 1 on anything with "Lily" in the last 10 words; 0 on "to her"'
    assert parse(typed) == parse(SENTENCE)


def test_silence_is_a_sentence():
    assert parse(SILENT) == Rule() and render(Rule()) == SILENT


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("Speaks of dogs.", 1, "Fires at"),
        ("Fires at 12 on “x”.", 10, "0 to 9"),
        ("Fires at 3 on “x” befor “y”.", 18, "after"),
        ("Fires at 3 on “x” or .", 22, "quotation"),
        ("Fires at 3 on “x", 15, "”"),
        ("Fires at 3 on “a\\q”.", 17, "\\n"),
        ("Fires at 3 on “”.", 15, "word"),
        ("Fires at 3 on “x” with “y” near.", 27, "earlier"),
        ("Fires at 3 on a word ending in “a b”.", 32, "one word"),
        ("Fires at 3 on “x”; on “y”.", 20, "level"),
        ("Fires at 3 on “x” with “y” in the last 0 words.", 40, "from 1 to"),
        ("Fires at 3 on “x” with “y” in the last 99999999999999999999999 words.", 40, "from 1 to"),
        ("", 1, "Fires at"),
    ],
)
def test_a_sentence_that_does_not_parse_says_where_and_what_was_expected(text: str, column: int, expected: str):
    with pytest.raises(LanguageError) as caught:
        parse(text)
    assert caught.value.column == column and expected in caught.value.expected
    assert f"column {column}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Fires at 9 on “foo.", "column 15: the quotation “foo. is not closed; expected ” at its end"),
        (
            "Fires at 9 on “foo, or “bar” after “the”.",
            "column 15: the quotation “foo, or is not closed; expected ” at its end, before the “ at column 24",
        ),
        (
            "Fires at 9 on “the” or a word ending in “ed after “a”.",
            "column 41: the quotation “ed after is not closed; expected ” at its end, before the “ at column 51",
        ),
        (
            'Fires at 9 on “foo".',
            'column 15: the quotation “foo". is not closed; expected ” at its end: what “ opens a straight quotation '
            "mark does not close",
        ),
        (
            "Fires at 9 on “foo\\”.",
            "column 15: the quotation “foo\\”. is not closed; expected ” at its end: the backslash at column 19 makes "
            "the ” behind it a character of the quotation",
        ),
        ('Fires at 9 on "foo.', 'column 15: the quotation "foo. is not closed; expected " at its end'),
        (
            "Fires at 9 on “her” with “a b c d e f g h i j k l m n o p in the last 9 words.",
            "column 26: the quotation “a b c d e f g h i j … is not closed; expected ” at its end",
        ),
    ],
)
def test_a_quotation_that_is_not_closed_says_so_and_which_mark_is_missing(text: str, told: str) -> None:
    with pytest.raises(LanguageError) as caught:
        parse(text)
    assert str(caught.value) == told
    assert told.partition("expected ")[2] == caught.value.expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Fires at 9 on “her” or “him”.", 7),
        ("Fires at 9 on “her”“him”“them”.", 7),
        ('Fires at 9 on "her","him".', 6),
        ("Fires at 9 on “to her”.", 6),
        ("A free sentence about dogs", 5),
        ("well — yes", 3),
        ("", 0),
    ],
)
def test_every_quoted_token_counts_as_a_word_whatever_stands_between(text: str, words: int):
    assert count_words(text) == words


@given(rules(any_text))
def test_words_are_never_fewer_than_the_pieces_between_blanks_or_the_quoted_units(rule: Rule):
    text = render(rule)
    quoted = sum(len(h.units) for c in rule.clauses for g in c.groups for h in g.heads if isinstance(h, Phrase))
    assert count_words(text) >= max(len(text.split()), quoted)


def test_a_group_says_what_it_cannot_be():
    with pytest.raises(ValueError, match="one context of each kind"):
        Group((Anything(),), (Place("inside a string"), Place("inside brackets")))
    with pytest.raises(LanguageError, match="at most 4 units"):
        parse("Fires at 2 on “x y” after “a b c”.")


def test_the_start_of_a_line_or_of_the_text_is_said_as_such():
    rule = Rule((Clause(4, (Group((Phrase(("to", "her")),), (After((("said",),)), Start("a line"))),)),))
    assert render(rule) == "Fires at 4 on “to her” after “said” at the start of a line."
    assert parse(render(rule)) == rule
    with pytest.raises(LanguageError, match="at most 4 units"):
        parse("Fires at 2 on “x y” after “a b” at the start of the text.")


def test_an_indentation_is_counted_and_not_drawn():
    assert quote(("\n            ", "x")) == "“\\n␣{12} x”"
    drawn, counted = (scan_quote(f"“\\n{blanks} x”", 0) for blanks in ("␣" * 12, "␣{12}"))
    assert drawn and counted and drawn[0] == counted[0]
    assert scan_quote(quote((" {12}",)), 0) == ((" {12}",), len(quote((" {12}",))))
