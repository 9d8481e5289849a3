"""Comparing coders: those of a run, trained on the same activations, each kept; paired differences; what is refused."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.dom import minidom

import pytest

from plainspoken.config import Config, load_config
from plainspoken.errors import ConfigError, SiteError
from plainspoken.pipeline import Comparison, Progress, compare_coders, run
from plainspoken.pipeline.progress import Advance

SITE = "gpt_neox.layers.0.mlp"
KINDS = ("transcoder", "skip-transcoder", "sae")


def varied(tiny: Config, ks: Sequence[int], **more: object) -> Config:
    """The tiny run's settings with these k."""
    from plainspoken.config import flat_settings

    values = {name.replace(".", "__"): value for name, value in flat_settings(tiny).items()}
    return load_config(**{**values, "compare__k": list(ks), **more})


@pytest.fixture(scope="module")
def compared(tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison, list[str]]:
    """A comparison at k = 3, and the long work that it told of."""
    folder, labels = tmp_path_factory.mktemp("compared") / "run", []

    @contextmanager
    def track(label: str, total: int | None) -> Iterator[Advance]:
        labels.append(label)
        yield lambda done: None

    found = compare_coders(varied(tiny, [3]), folder, progress=Progress(track=track))
    return folder, found, labels


def weights(folder: Path) -> dict[str, bytes]:
    """Every coder's file and manifest, by the coder's name."""
    names = ("coder.safetensors", "manifest.json", "log.jsonl")
    return {
        f"{p.parent.name}/{p.name}": p.read_bytes() for n in names for p in (folder / "coders" / SITE).glob(f"*/{n}")
    }


def test_every_coder_has_its_figures_and_differences_are_those_of_the_points(
    compared: tuple[Path, Comparison, list[str]],
) -> None:
    folder, found, labels = compared
    assert [(point["kind"], point["k"]) for point in found.points] == [(kind, 3) for kind in KINDS]
    assert len({point["ce_original"] for point in found.points}) == 1
    assert all(0 < point["l0"] <= 3 for point in found.points)
    by_kind = {point["kind"]: point for point in found.points}
    assert [apart["kind"] for apart in found.differences] == ["transcoder", "skip-transcoder"]
    for apart in found.differences:
        for name in ("increase", "fvu"):
            assert apart[name] == pytest.approx(by_kind[apart["kind"]][name] - by_kind["sae"][name])
            assert apart[f"{name}_low"] <= apart[name] <= apart[f"{name}_high"]
    assert labels.count("reading activations") == 1
    content = json.loads((folder / "compare" / "compare.json").read_text())
    assert {"seed", "versions", "settings", "part"} <= set(content)
    assert set(content["inputs"]) == {"corpus", *(f"coders/{SITE}/{kind}-k3" for kind in KINDS)}
    svg, png = found.pictures
    assert minidom.parse(str(svg)).documentElement.tagName == "svg"
    assert png.read_bytes().startswith(b"\x89PNG")


def test_a_comparison_trains_the_coders_that_runs_train(
    compared: tuple[Path, Comparison, list[str]], finished: Path, tiny: Config, tmp_path: Path
) -> None:
    ours = weights(compared[0])
    assert ours["transcoder-k3/coder.safetensors"] == (finished / "train" / SITE / "coder.safetensors").read_bytes()
    run(varied(tiny, [3], coder__kind="sae"), tmp_path / "run", target="train")
    sae = tmp_path / "run" / "train" / SITE
    for name in ("coder.safetensors", "log.jsonl"):
        assert ours[f"sae-k3/{name}"] == (sae / name).read_bytes()


def test_one_more_k_trains_that_one_alone_and_asks_nobody(
    compared: tuple[Path, Comparison, list[str]], tiny: Config, tmp_path: Path
) -> None:
    import shutil

    folder = Path(shutil.copytree(compared[0], tmp_path / "copy"))
    before = weights(folder)
    found = compare_coders(varied(tiny, [2, 3], compare__kinds=["transcoder", "sae"]), folder)
    after = weights(folder)
    assert {name: after[name] for name in before} == before
    assert {name.split("/")[0] for name in after.keys() - before.keys()} == {"transcoder-k2", "sae-k2"}
    assert [(point["kind"], point["k"]) for point in found.points] == [
        ("transcoder", 2), ("transcoder", 3), ("sae", 2), ("sae", 3),
    ]  # fmt: skip
    assert found.points[1] == compared[1].points[0]


def test_a_comparison_that_is_interrupted_goes_on_to_the_same_bytes(
    compared: tuple[Path, Comparison, list[str]], tiny: Config, tmp_path: Path
) -> None:
    @contextmanager
    def track(label: str, total: int | None) -> Iterator[Advance]:
        seen = 0

        def advance(done: int) -> None:
            nonlocal seen
            seen += done
            if label.endswith("skip-transcoder-k3") and seen > 2000:
                raise KeyboardInterrupt

        yield advance

    folder, said = tmp_path / "run", []
    with pytest.raises(KeyboardInterrupt):
        compare_coders(varied(tiny, [3]), folder, progress=Progress(track=track))
    assert {name.split("/")[0] for name in weights(folder)} == {"transcoder-k3", "skip-transcoder-k3"}
    first = weights(folder)["transcoder-k3/manifest.json"]
    compare_coders(varied(tiny, [3]), folder, progress=Progress(say=said.append))
    assert f"training {SITE}/skip-transcoder-k3 goes on from its last checkpoint" in said
    assert weights(folder)["transcoder-k3/manifest.json"] == first
    for name in ("coder.safetensors", "log.jsonl"):
        for kind in KINDS:
            assert weights(folder)[f"{kind}-k3/{name}"] == weights(compared[0])[f"{kind}-k3/{name}"]


@pytest.mark.parametrize(
    ("setting", "kind", "told"),
    [
        ({"site": "gpt_neox.layers.*.mlp"}, SiteError, "at one FFN"),
        ({"site": "gpt_neox.layers.0"}, SiteError, "at one FFN"),
        ({"compare__k": [3, 13]}, ConfigError, "k = 13, but coder.latents is 12"),
        ({"coder__kind": "sae"}, ConfigError, "coder.kind is sae, .* use --kinds sae .*leave coder.kind at auto"),
        ({"coder__load": "theirs"}, ConfigError, "coder.load is set, .* trains every coder .*; use coder.load=none"),
        (
            {"train__source": "buffer"},
            ConfigError,
            "train.source is buffer, .* keeps activations .*; use train.source=store",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_begun(
    tiny: Config, tmp_path: Path, setting: dict[str, object], kind: type, told: str
) -> None:
    with pytest.raises(kind, match=told):
        compare_coders(varied(tiny, [3], **setting), tmp_path / "run")
    assert not (tmp_path / "run").exists()
