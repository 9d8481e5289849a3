"""A rule as an English sentence; `parse` is its inverse.

Fires at 9 on “her” or “him”, and on “it” after “with”; 4 on a number inside brackets; 0 on “to her”.
"""

from collections.abc import Sequence

from plainspoken.language.quote import quote
from plainspoken.language.rule import (
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
)

SILENT = "Fires rarely, on nothing in particular."


def render(rule: Rule) -> str:
    """The sentence that says what the rule says."""
    if not rule.clauses:
        return SILENT
    return "Fires at " + "; ".join(_clause(c) for c in rule.clauses) + "."


def _clause(clause: Clause) -> str:
    return f"{clause.level} on " + ", and on ".join(_group(g) for g in clause.groups)


def _group(group: Group) -> str:
    return " ".join([_listed([_head(h) for h in group.heads]), *(_context(c) for c in group.contexts)])


def _head(head: Head) -> str:
    match head:
        case Phrase(units):
            return quote(units)
        case Token(text):
            return f"the token {quote((text,))}"
        case Ending(text):
            return f"a word ending in {quote((text,))}"
        case Beginning(text):
            return f"a word beginning with {quote((text,))}"
        case Form(name):
            return name
        case Anything():
            return "anything"


def _context(context: Context) -> str:
    match context:
        case After(phrases):
            return "after " + _listed([quote(p) for p in phrases])
        case Earlier(words, None):
            return f"with {_words(words)} earlier"
        case Earlier(words, "line"):
            return f"with {_words(words)} earlier on this line"
        case Earlier(words, window):
            return f"with {_words(words)} in the last {window} words"
        case Line(words):
            return f"on a line that begins with {_words(words)}"
        case Opener(words):
            return f"inside the brackets of {_words(words)}"
        case Place(name):
            return name
        case Start(of):
            return f"at the start of {of}"


def _words(words: Sequence[str]) -> str:
    return _listed([quote((word,)) for word in words])


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"
