"""The prompts as they are sent, whole, in golden files: a change of wording shows in the diff, and changes all levels.

Written anew with PLAINSPOKEN_GOLDEN=write.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plainspoken.config import SimulateConfig
from plainspoken.language.text import Text
from plainspoken.llm.open import Llm
from plainspoken.llm.probe import Probe
from plainspoken.simulators import SimulateMeans, simulator_named
from plainspoken.simulators.passages import on_a_line, passage

GOLDEN = Path(__file__).parent / "golden"
SENTENCES = {0: "Names of people.", 2: "Fires at 7 on “her”; 2 on “to her”."}


@pytest.mark.parametrize("name", ["last-token", "all-at-once", "batched"])
def test_the_prompt_is_the_one_in_the_golden_file(reader: Llm, passages: Text, name: str, monkeypatch):
    config = SimulateConfig(simulator=name, least_mass=1e-9, strategy="fan-out")
    request = last_request(reader, config, passages, monkeypatch)
    # A tab at the end would go unseen.
    is_golden(name, reader.tokens.text(request.prompts[-1]) + "◆")


@pytest.mark.parametrize("held", [False, True], ids=["words", "schema"])
@pytest.mark.parametrize("batch", [1, 32])
def test_the_prompt_for_words_is_the_one_in_the_golden_file(reader, passages: Text, batch: int, held, monkeypatch):
    able = frozenset({"chat", "schema"} if held else {"chat"})
    monkeypatch.setattr(Llm, "tried", lambda self, *abilities, **more: Probe("able", able, {}))
    monkeypatch.setattr(type(reader.asker.wire), "abilities", able)
    request = last_request(reader, SimulateConfig(simulator="structured", batch=batch), passages, monkeypatch)
    said = "".join(f"[{message.role}] {message.content}\n" for message in request.messages)
    is_golden(f"structured{'-many' if batch > 1 else ''}{'-schema' if held else ''}", f"{said}{request.schema}\n")


def last_request(reader: Llm, config: SimulateConfig, passages: Text, monkeypatch) -> Any:
    """What is asked last, of all latents at the last token of the second row."""
    opened = simulator_named(config.simulator).opens(SimulateMeans(config, 0, reader))
    seen, send = [], reader.asker.wire.send

    async def watch(request):
        seen.append(request)
        return await send(request)

    monkeypatch.setattr(reader.asker.wire, "send", watch)
    asked = np.zeros_like(passages.rows.mask)
    asked[1, -1] = True
    opened(SENTENCES, 3, passages, asked)
    return seen[-1]


def is_golden(name: str, prompt: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("PLAINSPOKEN_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(prompt, "utf-8")
    assert prompt == path.read_text("utf-8")


def test_a_line_shows_what_would_break_it():
    table = {b"\n": "\\n", b"\t\t": "\\t\\t", b"\\n": "\\\\n", b" a": " a", b"\xff": "\ufffd", "é".encode(): "é"}
    assert {piece: on_a_line(piece) for piece in table} == table


def test_a_passage_is_the_text_of_its_tokens(passages: Text):
    rows = passages.rows
    for row, column in zip(*np.nonzero(rows.mask), strict=True):
        position = int(row * rows.tokens.shape[1] + column)
        ids = rows.tokens[row, 1 : column + 1].tolist()
        words = [passages.pieces[i].decode("utf-8", "replace") for i in ids]
        assert passage(passages, position).marked == "".join(words[:-1]) + f"<<{words[-1]}>>"
        assert passage(passages, position, 3).marked == "".join(words[-3:-1]) + f"<<{words[-1]}>>"
