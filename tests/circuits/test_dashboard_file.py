"""Dashboards come back as they were written, the same bytes for the same, and a file that came to harm is refused."""

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dashboards_made import made_dashboards, without_wiring
from plainspoken.circuits.dashboard_file import HEADER, Dashboards, read_dashboards, write_dashboards
from plainspoken.errors import StoreError


@pytest.fixture(scope="module")
def dashboards() -> Dashboards:
    return made_dashboards({0: "9 at “a”.", 5: "sürprise \ud800 <b>"}, {4: b"\xff\x00", 5: b""})


@pytest.fixture
def path(dashboards: Dashboards, tmp_path: Path) -> Path:
    write_dashboards(tmp_path / "d.safetensors", dashboards)
    return tmp_path / "d.safetensors"


def same(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    if is_dataclass(one):
        return type(one) is type(other) and all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    return one == other


def test_what_is_written_is_read(dashboards: Dashboards, path: Path, tmp_path: Path) -> None:
    assert same(read_dashboards(path), dashboards)
    bare = without_wiring(dashboards)
    write_dashboards(tmp_path / "bare", bare)
    assert same(read_dashboards(tmp_path / "bare"), bare)
    assert not same(bare, dashboards), "the comparison can tell"


def test_a_file_of_before_without_strongest_windows_is_read(dashboards: Dashboards, tmp_path: Path) -> None:
    before = replace(dashboards, activity=replace(dashboards.activity, strongest=None), strongest_document=None)
    write_dashboards(tmp_path / "before", before)
    assert not [name for name in load_file(tmp_path / "before") if name.startswith("strongest.")]
    assert same(read_dashboards(tmp_path / "before"), before)


def test_equal_dashboards_are_equal_bytes(dashboards: Dashboards, path: Path, tmp_path: Path) -> None:
    write_dashboards(tmp_path / "again", dashboards)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert len(list(tmp_path.iterdir())) == 2, "nothing half-written is left"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused_by_name(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StoreError, match=r"d\.safetensors is truncated.*plainspoken dashboards"):
        read_dashboards(path)


def test_a_single_changed_byte_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for place in np.random.default_rng(0).integers(8, len(whole), 40).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(StoreError, match=r"d\.safetensors .*plainspoken dashboards"):
            read_dashboards(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 99}, "of version 99, and this plainspoken reads 1"),
        ({"format": "other"}, "holds no dashboards"),
        ({"sites": None}, "is altered"),
    ],
)
def test_another_header_is_refused(path: Path, change: dict[str, object], told: str) -> None:
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()[HEADER])
    save_file(load_file(path), path, {HEADER: json.dumps(header | change)})
    with pytest.raises(StoreError, match=told):
        read_dashboards(path)


def test_what_is_no_dashboards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"absent is missing; .*plainspoken dashboards"):
        read_dashboards(tmp_path / "absent")
    save_file({"x": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(StoreError, match="holds no dashboards"):
        read_dashboards(tmp_path / "other")
