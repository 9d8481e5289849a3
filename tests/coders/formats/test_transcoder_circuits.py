"""transcoder_circuits' files give here what its definition says, though its classes are not installed here."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from checkpoints_made import D_IN, D_OUT, LATENTS, Tree, gives, inputs, wide
from plainspoken.coders import load_any
from plainspoken.errors import CoderError
from plainspoken.types import Site

MODULE = "sae_training_config_not_here"


@pytest.fixture
def settings() -> Iterator[type]:
    """A class that is there while the file is written and gone when it is read."""
    sys.modules[MODULE] = ModuleType(MODULE)
    kind = make_dataclass(
        "LanguageModelSAERunnerConfig",
        [
            ("hook_point", str, "blocks.8.ln2.hook_normalized"),
            ("device", Any, field(default_factory=lambda: torch.device("cuda"))),
            ("dtype", Any, torch.float32),
            ("layers", list[int], field(default_factory=lambda: [1, 2])),
        ],
    )
    kind.__module__ = MODULE
    setattr(sys.modules[MODULE], kind.__name__, kind)
    yield kind
    sys.modules.pop(MODULE, None)


def saved(path: Path, cfg: Any, **shapes: tuple[int, ...]) -> Tree:
    module = torch.nn.Module()
    for name, shape in shapes.items():
        module.register_parameter(name, torch.nn.Parameter(torch.randn(shape)))
    torch.save({"cfg": cfg, "state_dict": module.state_dict()}, path)
    return wide({name: tensor.detach() for name, tensor in module.state_dict().items()})


SHAPES = {"W_enc": (D_IN, LATENTS), "b_enc": (LATENTS,), "W_dec": (LATENTS, D_OUT), "b_dec": (D_IN,)}


def latents(t: Tree, x: Tensor) -> Tensor:
    return ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()


def test_a_transcoder(tmp_path: Path, settings: type) -> None:
    t = saved(tmp_path / "8.pt", settings(), **SHAPES, b_dec_out=(D_OUT,))
    sys.modules.pop(MODULE)
    coder, site, name = gives(tmp_path / "8.pt", inputs(), lambda x: latents(t, x) @ t["W_dec"] + t["b_dec_out"])
    assert (coder.spec.activation, name) == ("relu", "transcoder_circuits")
    assert site == Site("blocks.8.ln2.hook_normalized", "mlp", D_IN, D_OUT)
    assert MODULE not in sys.modules


def test_an_sae(tmp_path: Path, settings: type) -> None:
    t = saved(tmp_path / "8.pt", settings(), **{**SHAPES, "W_dec": (LATENTS, D_IN)})
    coder, _, _ = gives(tmp_path / "8.pt", inputs(), lambda x: latents(t, x) @ t["W_dec"] + t["b_dec"])
    assert coder.spec.kind == "sae"


@dataclass
class Other:
    """Settings of a class that is here: it is a husk all the same."""

    hook_point: str = "h"


def test_what_else_a_pt_may_hold_is_refused(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(3, 2)}, tmp_path / "a.pt")
    with pytest.raises(CoderError, match=r"a\.pt holds no `cfg` and `state_dict`.*dictionary_learning"):
        load_any(tmp_path / "a.pt")
    saved(tmp_path / "b.pt", Other(), W_enc=(D_IN, LATENTS))
    with pytest.raises(CoderError, match=r"b\.pt lacks the tensor 'W_dec'; it holds W_enc"):
        load_any(tmp_path / "b.pt")
