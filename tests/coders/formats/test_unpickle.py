"""Nothing in a `.pt` is executed: what it asks to be called is refused by name, and is not called."""

import builtins
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints_made import write_json
from plainspoken.coders import load_any
from plainspoken.coders.formats.unpickle import read_pt
from plainspoken.errors import CoderError


class Calls:
    """Pickled, it is a call of `function` with these arguments."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def hostile(marker: Path) -> dict[str, Any]:
    """Files that would leave the marker behind, by how they try."""
    touch = Calls(os.system, f"touch {marker}")
    tensor = torch.zeros(2)
    return {
        "alone": touch,
        "as a weight": {"W_enc": touch},
        "in the settings": {"cfg": {"hook_point": touch}, "state_dict": {}},
        "as a key": OrderedDict([(("a", touch), 1)]),
        "by eval": {"x": Calls(eval, f"open({str(marker)!r}, 'w')")},
        "by exec": [Calls(exec, f"open({str(marker)!r}, 'w')")],
        "by open": Calls(open, str(marker), "w"),
        "by getattr": Calls(getattr, "x", "upper"),
        "by import": Calls(builtins.__import__, "this"),
        "by partial": Calls(Calls, os.system, f"touch {marker}"),
        "through torch": Calls(torch._tensor._rebuild_from_type_v2, os.system, str, (f"touch {marker}",), {}),
        "through torch's load": Calls(torch.load, str(marker)),
        "through a tensor": Calls(torch._utils._rebuild_tensor_v2, touch, 0, (1,), (1,), False, OrderedDict()),
        "through a parameter": Calls(torch._utils._rebuild_parameter, touch, True, OrderedDict()),
        "beside a tensor": {"b_enc": tensor, "more": Calls(os.system, f"touch {marker}")},
    }


CALLS = list(hostile(Path("marker")))


@pytest.mark.parametrize("how", CALLS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_file_is_refused_and_did_not_run(tmp_path: Path, how: str, protocol: int) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "run").mkdir()
    for path in (tmp_path / "run" / "ae.pt", tmp_path / "run" / "8.pt"):
        torch.save(hostile(marker)[how], path, pickle_protocol=protocol)
        with pytest.raises(CoderError, match=rf"{path.name} was refused: it asks for .* to be called.*nothing was run"):
            read_pt(path)
    trainer = {"dict_class": "AutoEncoder", "activation_dim": 2, "dict_size": 2}
    write_json(tmp_path / "run" / "config.json", {"trainer": trainer})
    for path in (tmp_path / "run", tmp_path / "run" / "8.pt"):
        with pytest.raises(CoderError, match="was refused"):
            load_any(path)
    assert not marker.exists()


def test_the_files_are_hostile_indeed(tmp_path: Path) -> None:
    """Python's own unpickler runs them: what is refused above is no straw man."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(hostile(marker)["alone"]))
    assert marker.exists()


def written(path: Path, program: bytes, **storages: bytes) -> Path:
    """A file in torch's layout around any program."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program)
        for key, data in storages.items():
            archive.writestr(f"a/data/{key}", data)
    return path


@pytest.mark.parametrize("opcodes", [b"(cos\nsystem\nS'touch MARKER'\no.", b"(S'touch MARKER'\nios\nsystem\n."])
def test_the_opcodes_that_call_in_other_ways_are_refused_too(tmp_path: Path, opcodes: bytes) -> None:
    marker = tmp_path / "marker"
    program = opcodes.replace(b"MARKER", str(marker).encode())
    with pytest.raises(CoderError, match=r"asks for (posix|os)\.system to be called"):
        read_pt(written(tmp_path / "8.pt", program))
    assert not marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"ccollections\nOrderedDict\n(N}S'__call__'\ncos\nsystem\nstb.",  # an attribute on what may be called
        b"ctorch\nFloatStorage\n(N}S'x'\nI1\nstb.",  # on a dtype
        b"cos\nsystem\n(N}S'__call__'\nI1\nstb.",  # on the class of a husk
        b"ctorch._utils\n_rebuild_tensor_v2\n(((I1\ntI0\n(I1\nt(I1\ntI00\nNtR.",  # a tensor of no storage
        b"ctorch\nFloatStorage\n)R.",  # a call of a dtype
        b"Pstorage\n.",  # a reference that is none
    ],
)
def test_nothing_that_is_reached_can_be_changed(tmp_path: Path, program: bytes) -> None:
    torch.save({"x": torch.arange(3.0)}, tmp_path / "good.pt")
    with pytest.raises(CoderError, match="truncated or no checkpoint"):
        read_pt(written(tmp_path / "8.pt", program))
    assert torch.equal(read_pt(tmp_path / "good.pt")["x"], torch.arange(3.0))


def test_a_zip_that_unfolds_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "8.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"}." + b"\0" * 10**6)
    with pytest.raises(CoderError, match="a compressed zip"):
        read_pt(tmp_path / "8.pt")


def test_a_tensor_is_never_larger_than_its_storage(tmp_path: Path) -> None:
    """A stride of 0 would make a terabyte of four bytes."""
    call = b"ctorch._utils\n_rebuild_tensor_v2\n((S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQI0\n"
    for size, stride in ((b"I1000000000000\n", b"I0\n"), (b"I2\n", b"I1\n"), (b"I-1\n", b"I1\n")):
        program = call + b"(" + size + b"t(" + stride + b"tI00\nNtR."
        with pytest.raises(CoderError, match="truncated or no checkpoint"):
            read_pt(written(tmp_path / "8.pt", program, **{"0": b"\0\0\0\0"}))


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_tensors_come_back_as_torch_wrote_them(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = (torch.randn(7, 5) * 3).to(dtype)
    held = {"whole": whole, "view": whole[1:4, ::2].T, "scalar": whole[0, 0].clone(), "none": whole[:0]}
    torch.save(held, tmp_path / "a.pt")
    found = read_pt(tmp_path / "a.pt")
    assert all(torch.equal(found[name], tensor) and found[name].dtype == dtype for name, tensor in held.items())


def test_a_truncated_or_altered_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    x = torch.randn(50)
    torch.save({"x": x}, path)
    whole = path.read_bytes()
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CoderError, match=r"a\.pt is truncated or no checkpoint that torch wrote"):
            read_pt(path)
    middle = whole.index(x.numpy().tobytes()) + 8
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(CoderError, match=r"a\.pt is truncated or no checkpoint that torch wrote"):
        read_pt(path)


def test_torch_s_layout_before_1_6_is_told(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(2)}, buffer, _use_new_zipfile_serialization=False)
    (tmp_path / "a.pt").write_bytes(buffer.getvalue())
    with pytest.raises(CoderError, match=r"written by a torch before 1\.6; load it with torch and save it anew"):
        read_pt(tmp_path / "a.pt")
