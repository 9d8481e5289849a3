"""`torchrun -m plainspoken train`: the coders of one process; a rank that is killed costs nothing but time."""

import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import zygote

SITES = "gpt_neox.layers.0.mlp,gpt_neox.layers.1.mlp"
STEPS = 120


def settings(lm: Path, corpus: Path, source: str) -> list[str]:
    values = {
        "coder.latents": 48, "coder.k": 3, "train.tokens": 64 * STEPS, "train.batch": 64, "train.buffer": 2048,
        "train.checkpoint_every": 12, "train.lr": 0.001, "train.source": source, "evaluate.bootstrap": 50,
    }  # fmt: skip
    words = ["--lm", str(lm), "--corpus", str(corpus), "--site", SITES, "--device", "cpu"]
    return words + [word for name, value in values.items() for word in ("--set", f"{name}={value}")]


started = partial(zygote.start, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def start(words: list[str], out: Path) -> zygote.Forked:
    """By torchrun, in two processes; it, too, only imports torch to begin with, and its processes are fresh ones."""
    launch = ["--standalone", "--max-restarts", "1", "--nproc-per-node", "2", "-m", "plainspoken"]
    program = "from torch.distributed.run import main; main()"
    return started(program, *launch, "train", *words, "--out", str(out))


def finish(process: zygote.Forked) -> str:
    said = process.communicate(timeout=300)[0] or ""
    assert process.returncode == 0, said[-3000:]
    return said


def weights(out: Path) -> dict[str, torch.Tensor]:
    return {
        f"{path.parent.name}.{name}": tensor
        for path in sorted(out.glob("train/*/coder.safetensors"))
        for name, tensor in load_file(path).items()
    }


def process_of_rank(rank: int, out: Path) -> int | None:
    """The process that torchrun started for this run and rank."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = (entry / "cmdline").read_bytes().split(b"\0"), (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(out).encode() in words and f"\0RANK={rank}\0".encode() in b"\0" + environment:
            return int(entry.name)
    return None


def ranks(words: list[str], out: Path) -> list[zygote.Forked]:
    """The two processes, without a torchrun to start them."""
    return [started(zygote.PLAINSPOKEN, "train", *words, "--out", str(out), env=env) for env in zygote.meetings(2)]


def begun(out: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return any(out.glob("train/*/checkpoint.safetensors"))


def cut_under_torchrun(words: list[str], out: Path) -> str:
    """What is said where rank 1 is killed, and torchrun ends the other and starts both again."""
    process, killed = start(words, out), False
    while process.poll() is None and not killed:
        if begun(out) and (victim := process_of_rank(1, out)) is not None:
            os.kill(victim, signal.SIGKILL)
            killed = True
        time.sleep(0.01)
    assert killed, "the training was over before a rank could be killed"
    return finish(process)


def cut_by_hand(words: list[str], out: Path) -> str:
    """The same without torchrun, to which it is all one where vectors come from: its processes are fresh, and dear."""
    first, second = ranks(words, out)
    while second.poll() is None and not begun(out):
        time.sleep(0.01)
    assert second.poll() is None, "the training was over before a rank could be killed"
    second.kill()
    first.send_signal(signal.SIGTERM)
    for rank in (first, second):
        rank.communicate(timeout=300)
        assert rank.returncode != 0
    return "".join(finish(rank) for rank in ranks(words, out))


@pytest.mark.slow
@pytest.mark.parametrize("source", ["store", "buffer"])
def test_a_killed_rank_starts_again_from_the_last_checkpoint_to_the_same_result(
    neox_folder: Path, corpus: Path, tmp_path: Path, source: str
) -> None:
    words = settings(neox_folder, corpus, source)
    alone, whole, cut = tmp_path / "alone", tmp_path / "whole", tmp_path / "cut"
    finish(started(zygote.PLAINSPOKEN, "train", *words, "--out", str(alone)))
    said = "".join(finish(rank) for rank in ranks(words, whole))
    assert said.count("measure the coder") == 1, "one of the processes speaks"
    said = cut_under_torchrun(words, cut) if source == "store" else cut_by_hand(words, cut)
    assert "goes on from its last checkpoint" in said
    one, two, three = weights(alone), weights(whole), weights(cut)
    assert len(one) == 8 and one.keys() == two.keys() == three.keys()
    for name, weight in one.items():
        assert torch.allclose(two[name], weight, atol=1e-5, rtol=1e-5), name
        assert torch.equal(three[name], two[name]), name
    assert all((cut / path).read_bytes() == (whole / path).read_bytes() for path in logs(whole))


def logs(out: Path) -> list[Path]:
    return [path.relative_to(out) for path in out.glob("train/*/log.jsonl")]
