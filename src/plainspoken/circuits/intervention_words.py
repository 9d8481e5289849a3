"""Interventions in words: `3/41`, `3/41@-1`, `3/41@2:5`; to scale or set one, `3/41@-1=2.5`.

A place is @ and a token's number from 0, or from the prompt's end if negative. `@P:Q` are the tokens from P on and
before Q, either of which may be left out: no end takes in all that are generated. No place is everywhere.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from plainspoken.circuits.intervene import Intervention, Positions, Span
from plainspoken.circuits.written import LATENT
from plainspoken.errors import UsageError

FORM = "LAYER/NUMBER[@P[:Q]]"
_FORM = re.compile(LATENT + r"(?:@(?:(-?\d+)|(-?\d+)?:(-?\d+)?))?(?:=(.+))?")


def parse_interventions(
    ablate: Sequence[str] = (), scale: Sequence[str] = (), set_to: Sequence[str] = ()
) -> tuple[Intervention, ...]:
    """In the order in which they act: first those that scale, then those that set, then those that ablate.

    Raises UsageError for words of another form, for an amount where there is none to give, and for none where there is.
    """
    factors = [_parsed("scale", each, "FACTOR") for each in scale]
    values = [_parsed("set", each, "VALUE") for each in set_to]
    return (*factors, *values, *(_parsed("ablate", each, "") for each in ablate))


def _parsed(kind: str, text: str, amount: str) -> Intervention:
    form = f"--{kind} {FORM}" + f"={amount}" * bool(amount)
    found = _FORM.fullmatch(text.strip())
    if found is None or bool(found[6]) != bool(amount):
        raise UsageError(f"'{text}' says no latent to {kind}; write {form}, e.g. --{kind} 2/17@-1{'=2' * bool(amount)}")
    layer, latent, at, start, stop, given = found.groups()
    positions: Positions = Span(int(start or 0), int(stop) if stop else None) if at is None else (int(at),)
    return Intervention(int(layer), int(latent), positions, kind, _number(given, text, form) if given else 0.0)  # pyright: ignore[reportArgumentType]


def _number(given: str, text: str, form: str) -> float:
    try:
        return float(given)
    except ValueError as error:
        raise UsageError(f"'{given}' in '{text}' is no number; write {form}") from error


def placed(intervention: Intervention, prompt: int, last: int, begun: bool) -> Intervention:
    """The same with its positions counted from 0, and none before the text.

    `prompt`, `last`: tokens of the prompt, and the most that there will be. `begun`: a BOS stands before the text,
    where no coder is read. Raises UsageError where no token is left.
    """
    first = int(begun)
    there = f"the text is @{first} to @{prompt - 1} (@-1)" + f", what is generated ends @{last - 1}" * (last > prompt)
    if isinstance(intervention.positions, Span):
        span = intervention.positions
        start = max(_counted(span.start, prompt), first)
        stop = None if span.stop is None else _counted(span.stop, prompt)
        if start >= min(last, last if stop is None else stop):
            said = f"@{span.start}:{'' if span.stop is None else span.stop}"
            raise UsageError(f"no token of the text is {said}; {there}")
        return replace(intervention, positions=Span(start, stop))
    positions = tuple(_counted(each, prompt) for each in intervention.positions)
    for said, at in zip(intervention.positions, positions, strict=True):
        if not 0 <= at < last:
            raise UsageError(f"no token @{said}; {there}")
        if at < first:
            raise UsageError(f"@{said} is the BOS before the text, where no coder is read; {there}")
    return replace(intervention, positions=positions)


def _counted(position: int, prompt: int) -> int:
    return position if position >= 0 else position + prompt


def in_words(intervention: Intervention, first: int = 0) -> str:
    """What is done and where: "× 2 @7", "= 3 at every token". `first`: of the text, counted from 0."""
    done = {"ablate": "ablated", "scale": f"× {intervention.amount:g}", "set": f"= {intervention.amount:g}"}
    return f"{done[intervention.kind]} {_place(intervention.positions, first)}"


def _place(positions: Positions, first: int) -> str:
    if not isinstance(positions, Span):
        return ", ".join(f"@{each}" for each in positions)
    if positions.stop is not None:
        return f"@{positions.start}:{positions.stop}"
    return "at every token" if 0 <= positions.start <= first else f"@{positions.start}:"
