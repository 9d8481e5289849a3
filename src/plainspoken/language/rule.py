"""What a sentence of controlled English says: when a latent fires, and how strongly, as conditions on the text.

A `Rule` gives every place in a text a level from 0 to 9, in ninths of the latent's maximum. It lists groups of
conditions under levels. Where several conditions hold at once the most specific one decides, and among equally specific
ones the highest level; where none holds the level is 0. Specific means: the word at hand counts 3, each word directly
before it 2, as does the start of a line or of the text, a token 2, anything else 1. So an exception is written like any
other clause, at its own, lower level.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from plainspoken.language.reading import LINE_BREAK, TEXT_START

MAX_PHRASE = 4
"""Units of one phrase, the word at hand and those directly before it: as far back as a condition looks exactly."""

MAX_WINDOW = 10_000
"""Words that a condition may look back over."""

HIGHEST_LEVEL = 9

FormName = Literal[
    "a number", "a capitalised word", "a word in capitals", "a word in small letters", "a name with an underscore",
    "punctuation", "a line break", "an indentation", "a blank",
]  # fmt: skip
FORMS: tuple[FormName, ...] = get_args(FormName)

PlaceName = Literal[
    "inside a string", "inside a comment", "inside brackets", "outside brackets",
]  # fmt: skip
PLACES: tuple[PlaceName, ...] = get_args(PlaceName)

StartOf = Literal["the text", "a line"]
STARTS: tuple[StartOf, ...] = get_args(StartOf)


@dataclass(frozen=True)
class Phrase:
    """The text so far ends in these units: the last is the word so far, the others stand whole before it."""

    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.units) <= MAX_PHRASE:
            raise ValueError(f"a phrase has 1 to {MAX_PHRASE} units, not {len(self.units)}")


@dataclass(frozen=True)
class Token:
    """The token itself adds exactly this text."""

    text: str


@dataclass(frozen=True)
class Ending:
    """The word so far ends in these characters."""

    text: str


@dataclass(frozen=True)
class Beginning:
    """The word so far begins with these characters."""

    text: str


@dataclass(frozen=True)
class Form:
    """The word so far has a named form."""

    name: FormName


@dataclass(frozen=True)
class Anything:
    """Any word so far."""


Head = Phrase | Token | Ending | Beginning | Form | Anything


@dataclass(frozen=True)
class After:
    """One of these phrases stands directly before the word so far (or before the phrase, where the head is one)."""

    phrases: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Earlier:
    """One of these words stands whole before the word so far: anywhere, among the last n words, or on this line."""

    words: tuple[str, ...]
    within: int | Literal["line"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.within, int) and not 1 <= self.within <= MAX_WINDOW:
            raise ValueError(f"the last 1 to {MAX_WINDOW} words, not {self.within}")


@dataclass(frozen=True)
class Line:
    """This line's first unit is one of these."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Opener:
    """One of these words stands before the innermost open bracket."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A named place."""

    name: PlaceName


@dataclass(frozen=True)
class Start:
    """The start of the text, or a line break, stands directly before the word so far, the phrase, or what they stand
    after. The first line of a text has the start of the text before it: where a row is cut from a longer text, whether
    a line starts there is not known."""

    of: StartOf

    @property
    def unit(self) -> str:
        """What the reading has in the place of the unit before."""
        return TEXT_START if self.of == "the text" else LINE_BREAK


Context = After | Earlier | Line | Opener | Place | Start


@dataclass(frozen=True)
class Group:
    """Any of the heads, where all of the contexts hold."""

    heads: tuple[Head, ...]
    contexts: tuple[Context, ...] = ()

    def __post_init__(self) -> None:
        kinds = [type(c) for c in self.contexts]
        if not self.heads or len(set(kinds)) != len(kinds):
            raise ValueError("a group needs a head, and at most one context of each kind")
        longest = max(len(h.units) if isinstance(h, Phrase) else 1 for h in self.heads)
        before = max((len(p) for c in self.contexts if isinstance(c, After) for p in c.phrases), default=0)
        if longest + before + (Start in kinds) > MAX_PHRASE:
            raise ValueError(
                f"a phrase, what it stands after and a start have at most {MAX_PHRASE} units together, the start one"
            )


@dataclass(frozen=True)
class Clause:
    """A level from 0 to 9 and where it holds."""

    level: int
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        if not 0 <= self.level <= HIGHEST_LEVEL or not self.groups:
            raise ValueError(f"a clause needs a level from 0 to {HIGHEST_LEVEL} and a group")


@dataclass(frozen=True)
class Rule:
    """All that one sentence says; without clauses it says that no condition is worth its words."""

    clauses: tuple[Clause, ...] = ()


def is_form(name: FormName, word: str) -> bool:
    """Whether a word so far has a form; no word has two."""
    match name:
        case "a number":
            return word.isdigit()
        case "a capitalised word":
            return word.isalpha() and word[0].isupper() and not (len(word) > 1 and word.isupper())
        case "a word in capitals":
            return len(word) > 1 and word.isalpha() and word.isupper()
        case "a word in small letters":
            return word.isalpha() and word.islower()
        case "a name with an underscore":
            return "_" in word
        case "punctuation":
            return word != TEXT_START and not word.isspace() and not (word[0].isalnum() or word[0] == "_")
        case "a line break":
            return word == "\n"
        case "an indentation":
            return word[:1] == "\n" and len(word) > 1
        case "a blank":
            return word.isspace() and word[0] != "\n"
