"""What stands beside a number or a sentence of a circuit so that it can be read: what it is, how good it is."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from plainspoken.circuits.graph import Node

SOFT_CAP = "soft_cap"
"""The entry of a graph's `about` that says that its model caps its logits, and where."""


@dataclass(frozen=True)
class Said:
    """What is said of a latent, and how well that foretells it; None where there is none."""

    text: str | None = None
    fidelity: float | None = None

    @property
    def brackets(self) -> str:
        """The measure as it stands beside the sentence: ` (0.79)`; nothing where there is none."""
        known = self.text and self.fidelity is not None and math.isfinite(self.fidelity)
        return f" ({self.fidelity:.2f})".replace("-", "−") if known else ""


def said_of(node: Node) -> Said:
    """A node's own."""
    return Said(node.text, node.fidelity)


def brackets_told(said: Iterable[Said], about: Mapping[str, Any]) -> str:
    """What the numbers in brackets are, in a sentence; nothing where no sentence has one."""
    if not any(each.brackets for each in said):
        return ""
    return f"In brackets, how well a sentence foretells its latent ({about.get('fidelity_of') or 'measure not told'})."


def logit_told(node: Node, about: Mapping[str, Any], *, difference: bool = False) -> str:
    """Which form of a logit a root's value is, in a few words; nothing where it is plain.

    `difference`: the root is one logit less another, from which the mean over the vocabulary drops out.
    """
    parts = ["less the vocabulary’s mean"] if node.kind == "logit" else []
    parts += ["before the soft cap"] if (parts or difference) and about.get(SOFT_CAP) else []
    return ", ".join(parts)
