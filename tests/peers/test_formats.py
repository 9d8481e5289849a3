"""What the peers' own packages write gives the same outputs here, and what we write gives the same outputs there."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from peers.speak import CASES, D_IN, D_OUT, LATENTS, K
from plainspoken.coders import FORMATS, Coder, CoderSpec, load_any
from plainspoken.types import Site

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peers" / "bin" / "python"

pytestmark = [
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason=".venv-peers is absent: make it with scripts/peers.sh coders"),
]

OURS = {
    ("sparsify", "sae"): CoderSpec("sae", "topk", LATENTS, K, False, D_IN, D_IN),
    ("sparsify", "transcoder"): CoderSpec("transcoder", "topk", LATENTS, K, False, D_IN, D_IN),
    ("sparsify", "skip"): CoderSpec("transcoder", "topk", LATENTS, K, True, D_IN, D_IN),
    ("saelens", "relu"): CoderSpec("sae", "relu", LATENTS, K, False, D_IN, D_IN),
    ("saelens", "topk"): CoderSpec("sae", "topk", LATENTS, K, False, D_IN, D_IN),
    ("saelens", "batch_topk"): CoderSpec("sae", "batch_topk", LATENTS, K, False, D_IN, D_IN),
    ("saelens", "jump_relu"): CoderSpec("sae", "jump_relu", LATENTS, None, False, D_IN, D_IN),
    ("saelens", "relu_transcoder"): CoderSpec("transcoder", "relu", LATENTS, None, False, D_IN, D_OUT),
    ("saelens", "relu_skip"): CoderSpec("transcoder", "relu", LATENTS, None, True, D_IN, D_OUT),
    ("saelens", "jump_relu_transcoder"): CoderSpec("transcoder", "jump_relu", LATENTS, K, False, D_IN, D_OUT),
    ("saelens", "batch_topk_skip"): CoderSpec("transcoder", "batch_topk", LATENTS, K, True, D_IN, D_OUT),
}


def coder_of(spec: CoderSpec) -> Coder:
    coder = Coder(spec)
    with torch.no_grad():
        for name, tensor in coder.state_dict().items():
            tensor.normal_()
            if name == "threshold":
                tensor.abs_()
    return coder


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ours, which the peers have then read, and theirs: one process, since their imports take long."""
    folder = tmp_path_factory.mktemp("peers")
    for (form, case), spec in OURS.items():
        coder, save, x = coder_of(spec), FORMATS[form].save, torch.randn(50, D_IN)
        assert save is not None
        site = Site("model.layers.3.mlp", "mlp" if spec.kind == "transcoder" else "resid", spec.d_in, spec.d_out)
        save(folder / "ours" / form / case, coder, site)
        save_file({"x": x, "y": coder(x).detach()}, folder / "ours" / form / f"{case}.safetensors")
    # Our source is none of theirs: they are to find their own packages alone.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(PYTHON), str(Path(__file__).with_name("speak.py")), str(folder)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-3000:]
    return folder


def assert_same(found: Tensor, wanted: Tensor) -> None:
    """To 1e-5 of the outputs' size: both are float32, and sums that nearly cancel have no digits left of their own."""
    assert wanted.std() > 0.1
    assert (found - wanted).abs().max() < 1e-5 * wanted.std()


@pytest.mark.parametrize("case", CASES)
def test_theirs_give_the_same_here(spoken: Path, case: str) -> None:
    held = load_file(spoken / "theirs" / f"{case}.safetensors")
    [path] = {file.parent for file in (spoken / "theirs" / case).rglob("*") if file.is_file()}
    coder, _, form = load_any(path)
    assert case.replace("gemma-gemma-scope-2-", "gemma_scope_2").replace("gemma-", "gemma_scope").startswith(form)
    assert_same(coder(held["x"]), held["y"])


@pytest.mark.parametrize(("form", "case"), OURS)
def test_ours_give_the_same_there(spoken: Path, form: str, case: str) -> None:
    held = load_file(spoken / "ours" / form / f"{case}.safetensors")
    there = load_file(spoken / "ours" / form / f"{case}.out.safetensors")["y"]
    assert_same(there, held["y"])
