"""Several processes train the coders that one would."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import zygote
from plainspoken.train.processes import Processes

PROGRAM = Path(__file__).with_name("together.py")


def trained(lm: Path, out: Path, processes: int) -> dict[str, dict[str, torch.Tensor]]:
    """The coders that `together.py` makes with so many processes."""
    out.mkdir()
    words = PROGRAM.read_text(), str(lm), str(out)
    begun = [zygote.start(*words, env=env) for env in (zygote.meetings(processes) if processes > 1 else [None])]
    try:
        assert [each.wait(timeout=600) for each in begun] == [0] * processes
    finally:
        for each in begun:
            each.kill()  # of those that wait for one that failed
    return {path.stem: load_file(path) for path in sorted(out.glob("*.safetensors"))}


@pytest.mark.slow
def test_processes_that_share_batches_train_what_one_does(neox_folder: Path, tmp_path: Path) -> None:
    """Every activation from the store, two from the buffer too, two sites, vectors masked, latents brought back.

    To 1e-5 after 20 steps, with three processes, whose shares of a batch or a row differ (`test_torchrun.py` has two).
    """
    alone = trained(neox_folder, tmp_path / "1", 1)
    assert len(alone) == 12
    logs = {path.parent.name: path.read_text().splitlines() for path in (tmp_path / "1").glob("*/log.jsonl")}
    assert logs.keys() == alone.keys()
    for name, log in logs.items():  # all ask for aux-k: where none is dead there is nothing to bring back
        assert any(json.loads(line)["dead"] > 0 for line in log), name
    together = trained(neox_folder, tmp_path / "3", 3)
    assert together.keys() == alone.keys()
    for name, weights in alone.items():
        for key, weight in weights.items():
            assert torch.allclose(together[name][key], weight, atol=1e-5, rtol=1e-5), (name, key)


def test_a_process_alone_adds_and_gathers_nothing() -> None:
    vector = torch.arange(3.0)
    Processes().add(vector)
    assert torch.equal(Processes().gather(vector), torch.arange(3.0))
    assert Processes().tell(["train"]) is None
