"""A study hides what it says it hides, in what it shows and in its folder; its log and its score tell the truth."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from plainspoken.circuits.study import LOOKS, opened_log
from plainspoken.cli.app import app
from plainspoken.pipeline import explanations
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.shelves import load_rows, load_scores, load_table
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.study import HEAD, LOG, load_log
from plainspoken.pipeline.study_score import SCORE
from plainspoken.pipeline.workplace import Workplace

SITES = ("gpt_neox.layers.0.mlp", "gpt_neox.layers.1.mlp")


def study(*arguments: object) -> Result:
    quiet = [] if arguments[0] == "hypothesis" else ["--device", "cpu"]
    return CliRunner().invoke(app, [str(a) for a in ("study", *arguments, "--quiet", *quiet)])


def told(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(scope="session")
def busiest(both_layers: Path) -> dict[int, int]:
    """In each layer, the latent with a sentence that fires most often in the explain documents."""
    found = {}
    workplace = Workplace(both_layers, stored_config(both_layers), STAGES)
    for layer, site in enumerate(SITES):
        sentences = explanations.read_explanations(both_layers / "explain" / site)
        counts = np.diff(load_table(workplace, site, load_rows(workplace, "explain")).pointer)
        found[layer] = max(sentences, key=lambda latent: counts[latent])
    return found


def opened(run: Path, latent: str, out: Path, *more: object) -> Path:
    found = study("open", run, f"latent:{latent}", "--out", out, *more)
    assert found.exit_code == 0, found.output
    return out


def words(corpus: Path) -> set[str]:
    """Words of the text that the run was made from: none may be seen before it is revealed."""
    return {word for line in corpus.read_text().splitlines() for word in re.findall(r"[A-Za-z]{4,}", line)} - {"text"}


def seen(hidden: set[str], text: str) -> set[str]:
    return {word for word in hidden if re.search(rf"\b{word}\b", text)}


@pytest.mark.slow
@pytest.mark.parametrize("restricted", [False, True])
def test_nothing_hidden_is_shown_or_lies_in_the_folder_before_it_is_revealed(
    both_layers: Path, busiest: dict[int, int], corpus: Path, tmp_path: Path, restricted: bool
) -> None:
    name = f"1/{busiest[1]}"
    out = opened(both_layers, name, tmp_path / "s", *["--restricted"] * restricted)
    shown = [study("look", out, what) for what in ("weights", "sources", "targets", "circuit")]
    shown += [study("look", out, "circuit", "--prompt-number", 2), study("score", out)]
    assert [found.exit_code for found in shown] == [0] * 6, [found.output for found in shown]
    screen = "".join(found.output for found in shown)
    sentence = explanations.read_explanations(both_layers / "explain" / SITES[1])[busiest[1]].text
    files = "".join(path.read_text() for path in out.iterdir() if path.is_file())
    hidden = words(corpus)
    for where in (screen, files):
        # Tokens are shorter than words; so no quotation marks stand anywhere but in JSON.
        assert not seen(hidden, where) and sentence not in where and "“" not in where
    assert '"' not in screen and "⟦" not in screen
    for entry in load_log(out).entries[1:]:
        for said in filter(lambda value: isinstance(value, str), entry.what.values()):
            assert re.fullmatch(r"[0-9a-f]{64}|\d+/\d+", said) or said in LOOKS, said
    circuits = shown[3].output + shown[4].output
    assert re.search(r"token @\d+", circuits)
    assert ("L0/" in circuits or "error L0" in circuits) is not restricted
    assert ("before activation" in circuits) is not restricted
    for what in ("examples", "prompts", "explanation", "everything"):
        found = study("reveal", out, what)
        assert found.exit_code == 0, found.output
        assert ("⟦" in found.output) is (what in ("examples", "everything"))
        assert (sentence in found.output) is (what in ("explanation", "everything"))
        if what != "explanation":
            assert len(found.output) > 100
    after = study("look", out, "circuit").output
    assert '"' in after and ("L0/" in after or "error L0" in after)


def test_what_a_circuit_tells_of_places_is_the_same_before_and_after_the_reveal(
    both_layers: Path, busiest: dict[int, int], tmp_path: Path
) -> None:
    out = opened(both_layers, f"1/{busiest[1]}", tmp_path / "s")

    def numbers(shown: str) -> list[str]:
        return re.findall(r"[+−][\d.]+", shown)

    before = study("look", out, "circuit").output
    study("reveal", out, "prompts")
    after = study("look", out, "circuit").output
    assert numbers(before.partition("log:")[0]) and before != after
    assert [line.split()[0] for line in before.splitlines()[:-1]] == [
        line.split()[0] for line in after.splitlines()[:-1]
    ]


def test_the_score_tells_what_was_known_when_and_scores_alike(
    both_layers: Path, busiest: dict[int, int], tmp_path: Path
) -> None:
    latent = busiest[1]
    out = opened(both_layers, f"1/{latent}", tmp_path / "s")
    sentence = explanations.read_explanations(both_layers / "explain" / SITES[1])[latent].text
    study("look", out, "promoted")
    assert "(blind)" in study("hypothesis", out, "it likes brackets, I think").output
    study("reveal", out, "examples")
    study("hypothesis", out, sentence)
    found = study("score", out)
    assert found.exit_code == 0, found.output
    assert "hypothesis (blind): it likes brackets" in found.output
    assert "hypothesis (after examples)" in found.output
    record = json.loads((out / SCORE).read_text())
    first, second = record["hypotheses"]
    assert "correlation" not in first and "auprc" not in first
    assert "does not read it" in first["not_measured"] and "Fires at 9 on" in first["not_measured"]
    own = record["explanation"]
    assert "text" not in own  # it was not revealed
    assert {name: second[name] for name in own if name != "what"} == {k: v for k, v in own.items() if k != "what"}
    workplace = Workplace(both_layers, stored_config(both_layers), STAGES)
    kept = load_scores(workplace, SITES[1])
    for name in ("correlation", "auprc"):
        assert second[name] == pytest.approx(getattr(kept, name).of(latent), abs=1e-5)
        assert second[f"{name}_low"] <= second[name] <= second[f"{name}_high"]
    assert record["control"]["what"].startswith("another latent's")
    assert record["log_sha256"] == load_log(out).head.sha256
    assert "scores known" in study("hypothesis", out, "Fires at 9 on “the”.").output
    study("reveal", out, "explanation")
    study("score", out)
    assert json.loads((out / SCORE).read_text())["explanation"]["text"] == sentence


def test_a_sentence_that_does_not_read_is_not_quoted_before_it_is_revealed(
    both_layers: Path, busiest: dict[int, int], tmp_path: Path
) -> None:
    run, latent = Path(shutil.copytree(both_layers, tmp_path / "run")), busiest[1]
    out = opened(run, f"1/{latent}", tmp_path / "s")
    path = run / "explain" / SITES[1] / explanations.CURRENT
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [{**line, "text": "zebra" if line["latent"] == latent else f"quagga {line['latent']}"} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = study("score", out)
    assert found.exit_code == 0, found.output
    for where in (found.output, (out / SCORE).read_text()):
        assert "zebra" not in where and "quagga" not in where
        assert where.count("does not read it") == 2
    study("reveal", out, "explanation")
    found = study("score", out)
    assert "does not read it: " in told(found) and "zebra" in found.output and "quagga" not in found.output


def test_a_restricted_study_of_layer_0_hides_all_of_it_at_prompts(
    both_layers: Path, busiest: dict[int, int], tmp_path: Path
) -> None:
    out = opened(both_layers, f"0/{busiest[0]}", tmp_path / "s", "--restricted")
    for what in ("deembedding", "circuit"):
        found = study("look", out, what)
        assert (found.exit_code, "hidden: this study is restricted" in told(found)) == (2, True)
    assert len(load_log(out).entries) == 1  # what was refused was not seen
    for what in ("weights", "promoted", "sources", "targets"):
        assert study("look", out, what).exit_code == 0
    assert "no coder stands before layer 0" in study("look", out, "sources").output
    assert study("look", out, "deembedding", "--latent", "1/2").exit_code == 0
    assert "answers to" in study("reveal", out, "everything").output
    assert study("look", out, "circuit").exit_code == 0
    other = opened(both_layers, f"1/{busiest[1]}", tmp_path / "t", "--restricted")
    assert study("look", other, "deembedding").exit_code == 0
    assert study("look", other, "deembedding", "--latent", f"0/{busiest[0]}").exit_code == 2


def test_an_altered_or_truncated_log_is_named_and_half_a_line_is_cut_off(
    both_layers: Path, busiest: dict[int, int], tmp_path: Path
) -> None:
    out = opened(both_layers, f"1/{busiest[1]}", tmp_path / "s")
    study("hypothesis", out, "first")
    study("hypothesis", out, "second")
    path = out / LOG
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"number": 3, "at"')
    assert study("hypothesis", out, "third").exit_code == 0
    assert [e.what.get("text") for e in load_log(out).entries] == [None, "first", "second", "third"]
    longer = path.read_bytes()
    assert longer.startswith(whole)
    for altered, what in (
        (longer.replace(b"second", b"secons"), "line 3, is altered"),
        (whole, "truncated: 3 entries where 4"),
        (longer[:-5], "truncated: 3 entries where 4"),
        (b"", "truncated"),
        (b"\x00" + longer, "line 1"),
    ):
        path.write_bytes(altered)
        for arguments in (("hypothesis", out, "fourth"), ("look", out, "weights"), ("score", out)):
            found = study(*arguments)
            assert (found.exit_code, what in told(found)) == (1, True), found.output
    path.write_bytes(longer)
    (out / HEAD).unlink()
    assert "is missing" in told(study("score", out))


def test_a_run_trained_anew_is_another_latent(both_layers: Path, busiest: dict[int, int], tmp_path: Path) -> None:
    run = Path(shutil.copytree(both_layers, tmp_path / "run"))
    out = opened(run, f"1/{busiest[1]}", run / "study" / "s")
    moved = run.rename(tmp_path / "moved")
    assert study("look", moved / "study" / "s", "weights").exit_code == 0  # within its run it moves along
    path = moved / "study" / "s"
    log, head = path / LOG, path / HEAD
    forged = opened_log({**load_log(path).opened, "coder": "0" * 64}, "now")
    log.write_text(json.dumps(forged.entries[0].record()) + "\n")
    head.unlink()
    found = study("look", path, "weights")
    assert (found.exit_code, "another one" in told(found)) == (2, True), found.output
    assert out.name == path.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("open", "RUN", "latent:7/1"), "layer 7 has no coder, so that it has no latents; layers with one: 0, 1"),
        (("open", "RUN", "latent:1/99"), "nearest: latent:1/11"),
        (("open", "RUN", "one"), "write LAYER/NUMBER"),
        (("look", "STUDY", "everything"), "look at weights, promoted"),
        (("look", "STUDY", "circuit", "--prompt-number", "999"), "name a prompt of 1 to"),
        (("look", "STUDY", "circuit", "--latent", "0/1"), "leave --latent out"),
        (("reveal", "STUDY", "weights"), "reveal examples, prompts"),
        (("hypothesis", "STUDY", "  "), "has no words"),
        (("look", "NOWHERE", "weights"), "there is no study"),
        (("open", "RUN", "LATENT"), "has a study already"),
    ],
)
def test_bad_input_is_told_with_its_mend(
    both_layers: Path, busiest: dict[int, int], tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    out, latent = tmp_path / "s", f"latent:1/{busiest[1]}"
    if "STUDY" in arguments or "LATENT" in arguments:
        opened(both_layers, latent.removeprefix("latent:"), out)
    place = {"RUN": str(both_layers), "STUDY": str(out), "NOWHERE": str(tmp_path / "no"), "LATENT": latent}
    more = ("--out", str(out)) if arguments[0] == "open" else ()
    found = study(*(place.get(word, word) for word in arguments), *more)
    assert (found.exit_code, message in told(found)) == (2, True), found.output
