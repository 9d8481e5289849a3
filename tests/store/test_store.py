"""The store: a file is old or new but never half, and a stage folder that was touched is refused by name."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.errors import StoreError
from plainspoken.store import Manifest, StageFolder, StageKey, read_json, write_atomic, write_json
from plainspoken.store.manifest import digest, setting_differences


def key(**config: object) -> StageKey:
    return StageKey("train", "layers.0.mlp", 1, config, {"corpus": "00"})


def finished(path: Path) -> StageFolder:
    folder = StageFolder(path, editable=["notes.txt"])
    folder.begin(key(k=4))
    (path / "deep").mkdir()
    (path / "weights.bin").write_bytes(bytes(range(200)))
    (path / "deep" / "log.jsonl").write_text("{}\n")
    (path / "notes.txt").write_text("edit me")
    folder.commit(key(k=4), seed=3, seconds=0.5, counts={"tokens": 7})
    return folder


def test_after_an_exception_the_old_content_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), write_atomic(path) as file:
        file.write(b"new")
        _ = 1 / 0
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_full_disk_is_a_store_error_that_names_file_and_mend(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(StoreError, match=r"a\.bin.*disk is full.*what is done is kept"), write_atomic(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("below", ["a.json", "deep/a.json"])
def test_a_file_where_a_folder_is_wanted_is_a_store_error(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="a file stands where a folder is wanted"):
        write_json(tmp_path / "file" / below, {})
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full to write to")
def test_dev_full_speaks_as_the_system_does() -> None:
    with pytest.raises(OSError) as raised, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert raised.value.errno == errno.ENOSPC


WRITER = """
import sys
from pathlib import Path
from plainspoken.store import write_atomic
path, n = Path(sys.argv[1]), 0
while True:
    n += 1
    with write_atomic(path) as file:
        for _ in range(64):
            file.write(bytes([n % 256]) * 4096)
    print(n, flush=True)
"""


def test_kill_9_in_the_middle_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for attempt in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(0.003 * attempt)
            writer.send_signal(signal.SIGKILL)
        content = path.read_bytes()
        assert len(content) == 64 * 4096
        assert content == content[:1] * len(content)


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()))
def test_the_digest_does_not_depend_on_the_order_of_keys(tree: dict[str, object]) -> None:
    assert digest(tree) == digest(dict(reversed(tree.items())))


@given(st.integers(0, 199), st.integers(1, 255))
def test_any_altered_byte_is_found(tmp_path_factory: pytest.TempPathFactory, at: int, change: int) -> None:
    folder = finished(tmp_path_factory.mktemp("stage"))
    path = folder.path / "weights.bin"
    content = bytearray(path.read_bytes())
    content[at] ^= change
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"weights\.bin is altered.*--force train"):
        folder.verify()


@given(st.integers(0, 199))
def test_any_truncation_is_found(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    folder = finished(tmp_path_factory.mktemp("stage"))
    os.truncate(folder.path / "weights.bin", length)
    with pytest.raises(StoreError, match=r"weights\.bin is truncated"):
        folder.verify()


def test_a_missing_output_is_named_and_an_edited_editable_is_not(tmp_path: Path) -> None:
    folder = finished(tmp_path / "stage")
    (folder.path / "notes.txt").write_text("edited")
    folder.verify()
    (folder.path / "deep" / "log.jsonl").unlink()
    with pytest.raises(StoreError, match=r"log\.jsonl is missing"):
        folder.verify()


@pytest.mark.parametrize("cut", [0, 1, 50, 300])
def test_a_truncated_manifest_is_refused(tmp_path: Path, cut: int) -> None:
    folder = finished(tmp_path / "stage")
    os.truncate(folder.path / "manifest.json", cut)
    with pytest.raises(StoreError, match=r"manifest\.json"):
        folder.is_done(key(k=4))


def test_an_altered_manifest_is_refused(tmp_path: Path) -> None:
    folder = finished(tmp_path / "stage")
    path = folder.path / "manifest.json"
    tree = json.loads(path.read_text())
    tree["counts"]["tokens"] = 8
    path.write_text(json.dumps(tree))
    with pytest.raises(StoreError, match="altered"):
        folder.manifest()


def test_manifest_round_trips(tmp_path: Path) -> None:
    manifest = finished(tmp_path / "stage").manifest()
    assert manifest is not None
    manifest.save(tmp_path / "again.json")
    assert Manifest.load(tmp_path / "again.json") == manifest
    assert set(manifest.outputs) == {"weights.bin", "deep/log.jsonl"}
    assert manifest.seed == 3


def test_done_only_under_its_own_key(tmp_path: Path) -> None:
    folder = finished(tmp_path / "stage")
    assert folder.is_done(key(k=4))
    assert not folder.is_done(key(k=5))
    assert setting_differences({"k": 4, "a": "x"}, {"k": 5, "a": "x"}) == ["k: 4 → 5"]


def test_begin_keeps_the_files_of_its_own_key_and_clears_those_of_another(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "stage", editable=["notes.txt"])
    folder.begin(key(k=4))
    for name in ("checkpoint", "cache", "notes.txt"):
        (folder.path / name).write_text(name)
    folder.begin(key(k=4))
    assert (folder.path / "checkpoint").exists()
    folder.begin(key(k=5), keep=["cache"])
    assert sorted(os.listdir(folder.path)) == ["cache", "notes.txt", "started.json"]
    assert folder.settings() == {"k": 5, "stage version": 1}


def test_json_refuses_what_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"ce": float("nan")})
    assert not (tmp_path / "a.json").exists()
    with pytest.raises(StoreError, match="missing"):
        read_json(tmp_path / "a.json")
