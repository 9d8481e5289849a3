"""The benchmarks of encoding and of examples at sizes of no interest: they run, and both sides do the same work."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TOKENS, LATENTS, K = 4096, 96, 4


def test_encoding_is_measured_and_told(load, tmp_path: Path) -> None:
    encode, rounds = load("encode"), load("rounds")
    encode.make(tmp_path, TOKENS, LATENTS)
    ours = encode.ours(tmp_path, TOKENS, K)
    assert 0 < ours["firings"] <= TOKENS * K
    assert min(ours["seconds"], encode.floor(tmp_path, TOKENS, K)["float32"]) > 0
    told = {"plainspoken": [{"seconds": 2.0, "peak_mb": 50.0}], "delphi": [{"seconds": 8.0, "peak_mb": 900.0}]}
    told["floor"] = [{"forward": 0.5, "float32": 0.5}]
    told |= {encode.LARGER.format(name): [{"peak_mb": 60.0}] for name in ("plainspoken", "delphi")}
    block = encode.report(rounds.Rounds(told, [0.1]), 8000)
    # Seconds, speed, times the floor, times delphi's speed, memory twice.
    assert "| plainspoken | 2.00 | 4,000 | 2.00 | 4.00 | 50 | 60 |" in block
    assert "NOT QUIET" not in block


def test_examples_are_measured_and_told(load, tmp_path: Path) -> None:
    examples, rounds = load("examples"), load("rounds")
    cases = examples.cases([2**14])
    examples.make(tmp_path, cases)
    told = examples.ours(tmp_path, repeats=1)
    assert set(told) == {case.name for case in cases}
    block = examples.report(rounds.Rounds({"plainspoken": [told]}, [3.0]), cases)
    assert len(block.splitlines()) == 2 + len(cases) + 2
    assert "NOT QUIET" in block


def test_rounds_are_interleaved_and_medians_taken(load, tmp_path: Path) -> None:
    rounds = load("rounds")
    log = tmp_path / "log"

    def program(name: str) -> list[str]:
        code = f"f = open({str(log)!r}, 'a+'); print({name!r}, file=f); f.seek(0); n = len(f.readlines())\n"
        return [sys.executable, "-c", code + "print('noise'); print('{\"n\": %d}' % n)"]

    found = rounds.interleave({name: program(name) for name in "ab"}, 3)
    assert log.read_text().split() == list("ababab")
    assert (found.median("a", "n"), found.median("b", "n")) == (3, 4)
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- x -->\nold\n<!-- /x -->\nbelow\n")
    rounds.write_block(page, "x", "new")
    assert page.read_text() == "above\n<!-- x -->\nnew\n<!-- /x -->\nbelow\n"


@pytest.mark.peers
@pytest.mark.slow
def test_delphi_finds_the_same_firings(load, tmp_path: Path) -> None:
    """The same model, tokens and encoder on both sides: as many firings; and it draws from the same firings as ours."""
    encode, examples, rounds = load("encode"), load("examples"), load("rounds")
    if not rounds.DELPHI.exists():
        pytest.skip("delphi is absent: scripts/peers.sh delphi installs it")
    encode.make(tmp_path / "encode", TOKENS, LATENTS)
    program = [rounds.DELPHI, BENCHMARKS / "peers" / "with_delphi.py"]
    theirs = rounds.run([*program, "encode", tmp_path / "encode", "--tokens", str(TOKENS), "--k", str(K)])
    assert theirs["firings"] == encode.ours(tmp_path / "encode", TOKENS, K)["firings"]
    (tmp_path / "examples").mkdir()
    cases = [case for case in examples.cases([2**14]) if case.rate == 1e-2 and case.peer]
    examples.make(tmp_path / "examples", cases)
    assert rounds.run([*program, "examples", tmp_path / "examples", "--repeats", "1"])[cases[0].name] > 0


def test_the_page_has_the_blocks_that_are_written() -> None:
    page = (BENCHMARKS / "README.md").read_text()
    assert all(
        page.count(f"<!-- {mark}{name} -->") == 1
        for name in ("encode", "examples", "train-step", "train-curve")
        for mark in ("", "/")
    )
