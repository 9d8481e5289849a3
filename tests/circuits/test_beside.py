"""What stands beside a number says which number it is, and says nothing where there is nothing to say."""

import pytest

from plainspoken.circuits.beside import SOFT_CAP, Said, brackets_told, logit_told
from plainspoken.circuits.graph import Node

LOGIT, DIRECTION = Node("logit", index=3, label="x"), Node("direction", label="'a' − 'b'")


@pytest.mark.parametrize(
    ("node", "difference", "about", "told"),
    [
        (LOGIT, False, {}, "less the vocabulary’s mean"),
        (LOGIT, False, {SOFT_CAP: 30.0}, "less the vocabulary’s mean, before the soft cap"),
        (DIRECTION, True, {SOFT_CAP: 30.0}, "before the soft cap"),
        (DIRECTION, True, {}, ""),
        (DIRECTION, False, {SOFT_CAP: 30.0}, ""),
        (Node("latent", 0, 1, 2), False, {SOFT_CAP: 30.0}, ""),
    ],
)
def test_a_logit_says_its_form(node: Node, difference: bool, about: dict, told: str) -> None:
    assert logit_told(node, about, difference=difference) == told


def test_brackets_are_told_where_there_are_any() -> None:
    bare, scored = [Said("a"), Said(), Said("b", float("nan")), Said(None, 0.4)], Said("c", 0.4)
    assert brackets_told(bare, {"fidelity_of": "r"}) == ""
    assert "(r)" in brackets_told([*bare, scored], {"fidelity_of": "r"}) and "not told" in brackets_told([scored], {})
