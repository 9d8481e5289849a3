"""Tokens as a reader can see them: whitespace and stray bytes made visible, activations as shades."""

from collections.abc import Sequence
from dataclasses import dataclass

from plainspoken.report import numbers
from plainspoken.report.latents import Card, Example

# Fainter than this share of the strongest activation on the card is not told from none.
FAINTEST = 0.02
MOST_DOTS = 12


@dataclass(frozen=True)
class Cell:
    """One token: what is shown, its two shades in percent (0: none), a tooltip, whether a line ends after it."""

    text: str
    true: int
    simulated: int
    title: str | None
    ends_line: bool


def visible(piece: bytes) -> str:
    """The text of a token with every character visible; bytes that are no whole character as `\\xe2`."""
    shown: list[str] = []
    text = piece.decode("utf-8", errors="backslashreplace")
    for character in text.replace("\r\n", "\n"):
        if character == "\n":
            shown.append("↵")
        elif character == "\t":
            shown.append("⇥")
        elif character == "\u00a0":
            shown.append("⍽")
        elif ord(character) < 0x20:
            shown.append(chr(0x2400 + ord(character)))
        elif not character.isprintable():
            shown.append(f"\\u{ord(character):04x}")
        else:
            shown.append(character)
    return _dotted("".join(shown))


def _dotted(text: str) -> str:
    """Indentation as dots: a run of two or more spaces is meant, a single space is between words."""
    parts: list[str] = []
    rest = text
    while "  " in rest:
        before, _, after = rest.partition("  ")
        run = 2 + len(after) - len(after.lstrip(" "))
        parts.append(before + ("·" * run if run <= MOST_DOTS else f"·×{run}·"))
        rest = after.lstrip(" ")
    return "".join(parts) + rest


def strongest(card: Card) -> float:
    """The scale of a card: the largest activation, true or simulated, on any of its examples."""
    return max((value for example in card.examples for value in (*example.true, *example.simulated)), default=0.0)


def cells(example: Example, scale: float) -> tuple[Cell, ...]:
    """The tokens of an example, shaded on one scale for true and simulated.

    Tokens that only together spell a character share a cell, which shows the largest of their values.
    """
    found: list[Cell] = []
    first = 0
    for last in ends(example.pieces):
        true, simulated = max(0.0, *example.true[first:last]), max(0.0, *example.simulated[first:last])
        found.append(_cell(b"".join(example.pieces[first:last]), true, simulated, scale))
        first = last
    return tuple(found)


def ends(pieces: Sequence[bytes]) -> list[int]:
    """After which pieces a cell ends: after each, but within a character that several only spell together."""
    found: list[int] = []
    held = b""
    for place, piece in enumerate(pieces):
        held += piece
        if place == len(pieces) - 1 or not unfinished(held):
            found.append(place + 1)
            held = b""
    return found


def unfinished(piece: bytes) -> bool:
    """Whether the bytes end within a character that further bytes could complete."""
    try:
        piece.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


def _cell(piece: bytes, true: float, simulated: float, scale: float) -> Cell:
    shades = [
        round(100 * value / scale) if scale > 0 and value / scale >= FAINTEST else 0 for value in (true, simulated)
    ]
    title = f"true {numbers.activation(true)} · simulated {numbers.activation(simulated)}" if any(shades) else None
    return Cell(visible(piece), shades[0], shades[1], title, b"\n" in piece)
