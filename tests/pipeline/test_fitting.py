"""What a trained coder's manifest says of the vectors that it was trained on."""

import json
from pathlib import Path

import pytest

from plainspoken.config import Config, flat_settings, load_config
from plainspoken.pipeline import run

SITE = "gpt_neox.layers.0.mlp"


@pytest.mark.parametrize("finish", [0, 512])
@pytest.mark.parametrize("source", ["store", "buffer"])
def test_what_is_masked_stands_beside_what_it_is_a_count_of(
    tiny: Config, tmp_path: Path, source: str, finish: int
) -> None:
    """With a buffer that is less than the text; in the last line of the log whatever phase it is of."""
    settings = {name.replace(".", "__"): value for name, value in flat_settings(tiny).items()}
    settings |= {"train__source": source, "train__buffer": 2048, "train__outlier_norm": 1.1}
    run(load_config(**settings | {"train__finish_tokens": finish}), tmp_path / "run", target="train")
    folder = tmp_path / "run" / "train" / SITE
    counts = json.loads((folder / "manifest.json").read_text())["counts"]
    assert 0 < counts["outliers_masked"] < counts["vectors_examined"] <= counts["text_tokens"]
    assert (counts["vectors_examined"] == counts["text_tokens"]) == (source == "store")
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    assert last["vectors_examined"] - last["outliers_masked"] == last["vectors"]
    assert ("kl" in last) == bool(finish)
    assert last["outliers_masked"] > 0
    for name in ("vectors_examined", "outliers_masked", "bos_masked"):
        assert counts[f"final_{name}"] == last[name]
