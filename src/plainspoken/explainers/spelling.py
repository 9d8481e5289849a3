"""Conditions of the lattice in the terms of the language, spelled from what stands where they hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from plainspoken.language.rule import (
    After,
    Anything,
    Context,
    Ending,
    Form,
    FormName,
    Head,
    Line,
    Opener,
    Phrase,
    Place,
    PlaceName,
    Token,
)

Spelled = tuple[Head, tuple[Context, ...]]
"""A condition in the terms of the language: a head, and where it counts."""


@dataclass(frozen=True, eq=False)
class Spell:
    """Spells the condition that a position falls under: what stands there in each column, put into the language.

    Data and not a closure, so that it can be sent to another process.
    """

    say: Callable[..., Spelled]
    columns: tuple[Int[np.ndarray, " n"], ...]
    names: tuple[Sequence[str], ...]
    """What each column's values are called."""

    def __call__(self, position: int) -> Spelled:
        return self.say(*(names[column[position]] for names, column in zip(self.names, self.columns, strict=True)))


def phrase(word: str, *before: str) -> Spelled:
    """The word so far, and the words before it, the nearest first."""
    return Phrase((*reversed(before), word)), ()


def after(*before: str) -> Spelled:
    """Anything after these words, the nearest first."""
    return Anything(), (After((tuple(reversed(before)),)),)


def word_on_line(word: str, first: str) -> Spelled:
    """A word on a line that begins with another."""
    return Phrase((word,)), (Line((first,)),)


def word_in_brackets(word: str, opener: str) -> Spelled:
    """A word inside the brackets of another."""
    return Phrase((word,)), (Opener((opener,)),)


def word_in_place(word: str, place: PlaceName) -> Spelled:
    """A word in a named place."""
    return Phrase((word,)), (Place(place),)


def word_with(context: Context, word: str) -> Spelled:
    """A word in a context."""
    return Phrase((word,)), (context,)


def on_line(first: str) -> Spelled:
    """Anything on a line that begins with a word."""
    return Anything(), (Line((first,)),)


def in_brackets(opener: str) -> Spelled:
    """Anything inside the brackets of a word."""
    return Anything(), (Opener((opener,)),)


def in_place(place: PlaceName) -> Spelled:
    """Anything in a named place."""
    return Anything(), (Place(place),)


def with_ending(length: int, word: str) -> Spelled:
    """A word that ends as this one does in its last `length` characters."""
    return Ending(word[-length:]), ()


def of_form(name: FormName) -> Spelled:
    """A word of a named form."""
    return Form(name), ()


def token(text: str) -> Spelled:
    """A token."""
    return Token(text), ()


def anything() -> Spelled:
    """Anything."""
    return Anything(), ()
