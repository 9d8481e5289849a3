"""The stage `score`: nothing where nobody asks, documents of its own where someone does, and nothing asked twice."""

import dataclasses
import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import zygote
from judges import guessing, service
from llm.server import Server, Trouble, serve
from plainspoken.calibrators import Evidence, calibrator_named
from plainspoken.config import Config
from plainspoken.corpus.apart import divide, require_apart
from plainspoken.errors import ConfigError, CorpusError, LeakError, LlmError, RunError, UsageError
from plainspoken.pipeline import STAGES, Progress, run, scores
from plainspoken.pipeline.ranking import latents_ranked
from plainspoken.pipeline.shelves import (
    SHARES,
    calibrate_rows,
    load_calibration,
    load_judged,
    load_rows,
    load_scores,
    load_simulation,
    load_table,
    scoring_rows,
)
from plainspoken.pipeline.stages import score
from plainspoken.pipeline.stages.calibrate import maximum
from plainspoken.pipeline.stages.evaluate import site_material
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers import MEASURES, JudgedScores
from plainspoken.scorers.simulation import MEASURES as SIMULATION_MEASURES
from plainspoken.scorers.simulation import score_simulation

SITE = "gpt_neox.layers.0.mlp"
Contents = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serve(Server(reply=guessing)) as server:
        yield server


@pytest.fixture
def judged(tiny: Config, server: Server, tmp_path: Path) -> Config:
    """The tiny settings with a judge who guesses, asked about few texts."""
    settings = dataclasses.replace(
        tiny.score, scorers=("detection",), llm=service(server, tmp_path), per_decile=1, silent=6, window=16,
        control_latents=3,
    )  # fmt: skip
    return dataclasses.replace(tiny, score=settings)


def questions(server: Server) -> Counter[str]:
    """What was asked of the judge, without what the probe tries."""
    return Counter(json.dumps(body) for body in server.bodies if "Description:" in str(body))


def test_who_asks_for_no_scorer_finds_nothing_of_it(finished: Path) -> None:
    assert not (finished / "score").exists()
    for path in finished.rglob("manifest.json"):
        read = json.loads(path.read_text())
        assert {name for name in read["config"] if name.startswith("score.")} <= {"score.share"}
        assert not [name for name in read["inputs"] if name.startswith("score")]


def test_a_finished_run_is_scored_without_touching_it(copy: Path, tiny: Config, contents: Contents) -> None:
    before, news = contents(copy), []
    few = ["score.silent=6", "score.per_decile=1", "score.control_latents=3"]
    table = scores(copy, by=["embedding"], overrides=few, sort="embedding")
    after = contents(copy)
    assert {name for name in after if after[name] != before.get(name)} - {"config.json"} == {
        f"score/{SITE}/embedding/{name}"
        for name in ("judged.safetensors", "control.safetensors", "scores.json", "manifest.json")
    }
    assert table.columns[5] == "embedding"
    simulated, record = table.scorers[SITE]
    assert simulated == json.loads((copy / "calibrate" / SITE / "scores.json").read_text())
    assert record["examples_answered"] == record["examples_asked"] > 0
    assert record["control"]["latents"] == 3
    assert all(0 < record["defined"][name] <= record["latents"] for name in MEASURES)
    assert record["balanced_accuracy_low"] <= record["balanced_accuracy"] <= record["balanced_accuracy_high"]
    column = [float(row[5]) for row in table.rows[SITE] if row[5] != "–"]
    assert column == sorted(column, reverse=True)
    run(tiny, copy, progress=Progress(say=news.append))
    assert all(line.endswith("skipped") for line in news)
    for name in ("detecting", "simulation"):
        with pytest.raises(ConfigError, match="there are: detection"):
            scores(copy, by=[name])
    for setting in ("coder.k=4", "score.share=0.4"):
        with pytest.raises(UsageError, match=f"--set {setting.partition('=')[0]}"):
            scores(copy, by=["embedding"], overrides=[setting])


def test_nothing_is_calibrated_on_the_scorers_documents(judged: Config, copy: Path, server: Server) -> None:
    other = dataclasses.replace(judged.score, share=0.3)
    with pytest.raises(RunError, match="--force simulate"):
        run(dataclasses.replace(judged, score=other), copy)
    ranked = dataclasses.replace(judged.score, rank_by="detection balanced_accuracy")
    run(dataclasses.replace(judged, score=ranked), copy, target="score", force=["evaluate"])
    place = Workplace(copy, stored_config(copy), STAGES)
    whole, ours, theirs = load_rows(place, "calibrate"), calibrate_rows(place), scoring_rows(place)
    assert {*ours.keys}.isdisjoint(theirs.keys) and {*ours.keys, *theirs.keys} == {*whole.keys}
    require_apart(theirs, ours, "scoring and calibrating")
    with pytest.raises(LeakError, match="scoring and calibrating"):
        require_apart(theirs, whole, "scoring and calibrating")
    for share, rows in (("calibrate", ours), ("scoring", theirs)):
        simulation, _, _ = load_simulation(copy / "simulate" / SITE / f"{share}.safetensors")
        assert simulation.rows_fingerprint == rows.fingerprint
    found = load_judged(copy / "score" / SITE / "detection" / "judged.safetensors")
    table = load_table(place, SITE, theirs)
    for at in range(len(found.latent)):
        position, _ = table.latent(int(found.latent[at]))
        window = divmod(int(found.start[at]), 16)[0]
        row, column = np.divmod(position, theirs.tokens.shape[1])
        assert found.truth[at] == ((row == found.row[at]) & (column // 16 == window)).any()
    np.testing.assert_array_equal(latents_ranked(place, SITE), JudgedScores.of(found).balanced_accuracy.ranking())
    material = site_material(place, place.sites[0], load_rows(place, "evaluate"))
    np.testing.assert_array_equal(material.score, latents_ranked(place, SITE))
    of_ours = load_table(place, SITE, ours)
    largest = [of_ours.latent(latent)[1].max(initial=0) for latent in range(of_ours.latents)]
    assert (maximum(place, SITE) >= largest).all()
    manifest = json.loads((copy / "score" / SITE / "detection" / "manifest.json").read_text())
    assert manifest["counts"]["llm"]["requests"] == sum(questions(server).values())
    assert max(questions(server).values()) == 1


def test_the_simulation_is_scored_where_nothing_was_calibrated(finished: Path, tiny: Config) -> None:
    place = Workplace(finished, tiny, STAGES)
    ours, theirs = calibrate_rows(place), scoring_rows(place)
    require_apart(theirs, ours, "scoring and calibrating")
    said = {share: load_simulation(finished / "simulate" / SITE / f"{share}.safetensors")[0] for share in SHARES}
    of_ours = Evidence.over(said["calibrate"], load_table(place, SITE, ours))
    curve = calibrator_named(tiny.calibrate.calibrator).fit(of_ours, maximum(place, SITE))
    for name, value in vars(load_calibration(place, SITE)).items():
        np.testing.assert_array_equal(value, getattr(curve, name))
    there = load_table(place, SITE, theirs)
    expected, found = score_simulation(Evidence.over(said["scoring"], there), curve.apply), load_scores(place, SITE)
    for name in SIMULATION_MEASURES:
        np.testing.assert_array_equal(getattr(found, name).ranking(), getattr(expected, name).ranking())
    material = site_material(place, place.sites[0], load_rows(place, "evaluate"))
    np.testing.assert_array_equal(material.score, expected.correlation.ranking())
    np.testing.assert_allclose(material.mean, of_ours.mean)


def test_the_simulation_has_means_with_intervals_and_a_control_like_any_scorer(finished: Path, tiny: Config) -> None:
    record = json.loads((finished / "calibrate" / SITE / "scores.json").read_text())
    place = Workplace(finished, tiny, STAGES)
    assert record["scorer"] == "simulation" and record["documents"] == len(scoring_rows(place).keys) > 1
    assert (
        record["examples_answered"] == record["examples_asked"] == record["latents"] * scoring_rows(place).token_count
    )
    scores = load_scores(place, SITE)
    text, _, _ = load_simulation(finished / "simulate" / SITE / "scoring.safetensors")
    for name in MEASURES:
        for told in (record, record["control"], record["above_control"]):
            assert told[name] is None or told[f"{name}_low"] is None or told[f"{name}_low"] <= told[f"{name}_high"]
        measure = getattr(scores, name)
        assert (
            measure.values[measure.defined].min() - 1e-9 <= record[name] <= measure.values[measure.defined].max() + 1e-9
        )
    assert all(0 < record["defined"][name] <= record["latents"] for name in MEASURES)
    assert record["above_control"]["auprc"] == pytest.approx(record["auprc"] - record["control"]["auprc"])
    assert text.rows_fingerprint == scoring_rows(place).fingerprint
    page = (finished / "report.html").read_text("utf-8")
    assert "Sentences, scored" in page and "<code>simulation</code>" in page and "(latent, token) pairs of" in page


def test_a_calibrate_part_that_cannot_be_divided_is_refused_before_anything_is_trained(
    tiny: Config, tmp_path: Path
) -> None:
    """A cap of one row leaves one document."""
    few = dataclasses.replace(tiny.corpus, calibrate_tokens=64)
    with pytest.raises(CorpusError, match=r"score\.share.*corpus\.calibrate_tokens"):
        run(dataclasses.replace(tiny, corpus=few), tmp_path / "run")
    assert not (tmp_path / "run" / "train").exists()


@pytest.mark.parametrize("salt", [1, 2])
def test_a_latent_more_leaves_the_lots_of_the_others(salt: int) -> None:
    everybody = score._lots(range(50), 0, salt)
    assert sorted(everybody) == list(range(50)) != everybody
    assert score._lots([latent for latent in range(50) if latent != 7], 0, salt) == [i for i in everybody if i != 7]
    assert score._lots(range(50), 1, salt) != everybody


def test_a_table_of_some_rows_lists_their_firings(finished: Path, judged: Config) -> None:
    place = Workplace(finished, judged, STAGES)
    whole = load_rows(place, "calibrate")
    ours, theirs = calibrate_rows(place), scoring_rows(place)
    one, two, both = (load_table(place, SITE, rows) for rows in (ours, theirs, whole))
    for latent in range(both.latents):
        values = np.concatenate([one.latent(latent)[1], two.latent(latent)[1]])
        np.testing.assert_array_equal(np.sort(values), np.sort(both.latent(latent)[1]))
    for table, rows in ((one, ours), (two, theirs)):
        assert rows.mask.ravel()[table.position].all()


def test_a_part_of_one_document_cannot_be_divided(finished: Path, tiny: Config) -> None:
    rows = load_rows(Workplace(finished, tiny, STAGES), "calibrate")
    _, alone = divide(rows, 0.99, "score.share")
    assert len(alone.keys) == 1
    with pytest.raises(CorpusError, match=r"score\.share"):
        divide(alone, 0.5, "score.share")


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("rank_by", "detection accuracy", "detection balanced_accuracy"),
        ("rank_by", "fuzzing auprc", "add fuzzing to score.scorers"),
        ("scorers", ("detection", "detection"), "twice"),
    ],
)
def test_what_cannot_be_ranked_by_is_refused(judged: Config, tmp_path: Path, setting: str, value, told: str) -> None:
    config = dataclasses.replace(judged, score=dataclasses.replace(judged.score, **{setting: value}))
    with pytest.raises(ConfigError, match=told):
        run(config, tmp_path / "run", target="corpus")


def test_a_judge_who_cannot_be_asked_is_refused_before_anything_is_begun(
    judged: Config, server: Server, tmp_path: Path
) -> None:
    server.trouble = lambda path, before, headers: Trouble(404)
    with pytest.raises(LlmError):
        run(judged, tmp_path / "run", target="score")
    assert not (tmp_path / "run" / "corpus").exists()


@pytest.mark.slow
def test_killed_and_begun_again_asks_nothing_twice(copy: Path, server: Server, tmp_path: Path) -> None:
    """By the command line, and killed (SIGKILL) once the judge has answered some questions."""
    llm = service(server, tmp_path)
    settings = {"silent": 6, "per_decile": 1, "window": 16, "control_latents": 3}
    settings |= {f"llm.{name}": getattr(llm, name) for name in ("service", "model", "base_url", "tokenizer")}
    overrides = ["limits.concurrency=1", *(f"score.{name}={value}" for name, value in settings.items())]
    server.trouble = lambda path, before, headers: Trouble(delay_s=0.05)
    words = ["score", str(copy), "--by", "detection", "--quiet"]
    words += [word for override in overrides for word in ("--set", override)]
    killed = zygote.start(zygote.PLAINSPOKEN, *words)
    deadline = time.monotonic() + 120
    while questions(server).total() < 10 and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (copy / "score" / SITE / "detection" / "manifest.json").exists()
    before = questions(server)
    server.trouble = lambda path, before, headers: None
    simulated, record = scores(copy, by=["detection"]).scorers[SITE]  # the settings stayed with the run
    assert record["examples_answered"] == record["examples_asked"] > 0
    twice = questions(server) - Counter(list(questions(server)))
    assert (questions(server) - before).total() > 0 and twice.total() <= 1  # the one in flight when it was killed
    asked = questions(server).total()
    run(stored_config(copy), copy)
    assert scores(copy, by=["detection"]).scorers[SITE] == (simulated, record)
    assert questions(server).total() == asked


def test_what_the_judge_does_not_answer_is_counted_and_asked_again(judged: Config, copy: Path, server: Server) -> None:
    server.trouble = lambda path, before, headers: Trouble(400) if before > 6 else None
    folder = copy / "score" / SITE / "detection"
    run(judged, copy, target="score")
    found = json.loads((folder / "scores.json").read_text())
    assert 0 < found["examples_answered"] < found["examples_asked"]
    assert sum(found["examples_unanswered"].values()) == found["examples_asked"] - found["examples_answered"]
    failures = json.loads((folder / "manifest.json").read_text())["failures"]
    assert {failure["kind"] for failure in failures} == {*found["examples_unanswered"]}
    server.trouble = lambda path, before, headers: None
    run(judged, copy, target="score", force=["score"])
    whole = json.loads((folder / "scores.json").read_text())
    assert whole["examples_answered"] == whole["examples_asked"] == found["examples_asked"]
    assert json.loads((folder / "manifest.json").read_text())["counts"]["llm"]["from_cache"] >= 5


def test_of_a_latent_without_a_sentence_no_score_is_shown(tiny: Config, copy: Path) -> None:
    """It is never said to fire: a specificity of 1 would be of nobody's saying."""
    few = dataclasses.replace(tiny, explain=dataclasses.replace(tiny.explain, latents=3))
    run(few, copy, force=["explain"], target="calibrate")
    table = scores(copy)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows[SITE]]
    silent = [row for row in rows if row["text"] == "(not explained)"]
    assert len(rows) - len(silent) == 3 == len(table.with_sentence(SITE)) and silent
    for row in silent:
        assert {row[name] for name in ("correlation", "sensitivity", "specificity", "auprc", "words")} == {"–"}
        assert row["rate"] != "–"


FEW = ("score.silent=6", "score.per_decile=1", "score.control_latents=3")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["explain", "report"])
def test_scorers_stand_beside_the_simulation_of_the_sentences_as_they_are(
    tiny: Config, copy: Path, tmp_path: Path, target: str
) -> None:
    """Of a run that has not simulated yet, and of one in which a sentence was changed since."""
    if target == "explain":
        copy = tmp_path / "begun"
        run(tiny, copy, target=target)
    else:
        path = copy / "explain" / SITE / "explanations.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[0]["text"] = lines[1]["text"]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    beside = scores(copy, by=["embedding"], overrides=FEW)
    alone = scores(copy)
    without = [
        tuple(cell for cell, name in zip(row, beside.columns, strict=True) if name != "embedding")
        for row in beside.rows[SITE]
    ]
    assert sorted(without) == sorted(alone.rows[SITE])
