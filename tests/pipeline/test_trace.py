"""Trace: a run's circuit at a prompt, with its sentences; what was asked for wrongly is told with what is there."""

import json
import logging
import re
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from plainspoken import pipeline
from plainspoken.circuits.asking import parse_target, root_asked
from plainspoken.circuits.attribution import attribution_graph
from plainspoken.circuits.effects import effects
from plainspoken.circuits.files import load_graph
from plainspoken.circuits.lines import signed
from plainspoken.circuits.supernodes import by_latent
from plainspoken.cli.app import app
from plainspoken.cli.hanging import hanging
from plainspoken.config import Config
from plainspoken.errors import CoderError, RunError, UsageError
from plainspoken.pipeline import Progress, run
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.circuit import RunCircuits
from plainspoken.pipeline.explanations import CURRENT, read_explanations
from plainspoken.pipeline.shelves import load_scores
from plainspoken.pipeline.speak import speak
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.tracing import SHUFFLES
from plainspoken.pipeline.workplace import Workplace

SITE = "gpt_neox.layers.0.mlp"
PROMPT = "Story 1. Lily saw the"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def told(result: Result) -> str:
    return " ".join(result.output.split())


def test_the_graph_adds_up_and_says_what_the_run_says_of_its_latents(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, node_share=1.0, edge_share=1.0)
    graph = load_graph(found.files["graph.json"])
    assert graph.nodes == found.graph.nodes and np.array_equal(graph.weight, found.graph.weight)
    entering = np.bincount(graph.target, graph.weight, len(graph.nodes))
    for i, node in enumerate(graph.nodes):
        if node.value is not None and i in graph.target:
            assert entering[i] + graph.offset[i] + graph.rest[i] == pytest.approx(node.value, abs=1e-4)
    latents = [node for node in graph.nodes if node.kind == "latent"]
    assert latents and all(node.position != 0 for node in latents), "no coder is read at BOS"
    written = read_explanations(copy / "explain" / SITE)
    correlation = load_scores(Workplace(copy, stored_config(copy), STAGES), SITE).correlation
    for node in latents:
        assert node.index is not None
        assert node.text == (written[node.index].text if node.index in written else None)
        assert node.fidelity == correlation.of(node.index)
    assert list(found.without_coder) == [1]
    assert {"graph.json", "viewer.json", "circuit.html"} <= set(found.files)
    assert all(path.is_file() for path in found.files.values())
    assert graph.about["model_fingerprint"] == Workplace(copy, stored_config(copy), STAGES).lm.fingerprint


def test_the_same_question_gives_the_same_bytes(copy: Path) -> None:
    first = {n: p.read_bytes() for n, p in pipeline.trace(copy, PROMPT).files.items()}
    assert first == {n: p.read_bytes() for n, p in pipeline.trace(copy, PROMPT).files.items()}


def test_simulated_activations_are_what_the_sentences_say(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, simulated=True, node_share=1.0, edge_share=1.0)
    workplace = Workplace(copy, stored_config(copy), STAGES)
    circuits = RunCircuits(workplace)
    ((_, z),) = circuits.simulated(circuits.prompt(PROMPT)).items()
    nodes = [node for node in found.graph.nodes if node.kind == "latent"]
    for node in nodes:
        assert node.activation == pytest.approx(float(z[node.position, node.index]))
    kept = json.loads(found.files["parting.json"].read_text())
    assert kept["overlap"] == found.overlap and len(kept["latents"]) == len(found.parts)
    true = load_graph(found.files["true.json"])
    assert {node.id for node in true.nodes if node.kind == "latent"} | {node.id for node in nodes} == {
        part.node.id for part in found.parts
    }
    draws = kept["overlap_shuffled_draws"]
    assert len(draws) == SHUFFLES and kept["overlap_shuffled"] == found.shuffled == pytest.approx(sum(draws) / SHUFFLES)


def test_the_control_leaves_no_latent_its_own_sentence(copy: Path) -> None:
    """Of a plain permutation about one latent in all keeps its own; each draw is another."""
    circuits = RunCircuits(Workplace(copy, stored_config(copy), STAGES))
    prompt = circuits.prompt(PROMPT)
    drawn = [circuits.shuffles(prompt, draw) for draw in range(20)]
    for found in drawn:
        assert found is not None
        ((site, permutation),) = found.items()
        spoken = np.isin(np.arange(len(permutation)), list(circuits.sentences(site)))
        assert np.array_equal(permutation == np.arange(len(permutation)), ~spoken)
    assert len({each[site].tobytes() for each in drawn if each is not None}) == 20
    assert any(
        not torch.equal(one, other)
        for draw in drawn[:3]
        for one, other in zip(
            circuits.simulated(prompt).values(), circuits.simulated(prompt, draw).values(), strict=True
        )
    )


def test_where_one_latent_alone_has_a_sentence_there_is_no_control_which_is_told(tiny: Config, copy: Path) -> None:
    run(replace(tiny, explain=replace(tiny.explain, latents=1)), copy, force=["explain"], target="calibrate")
    warned: list[str] = []
    found = pipeline.trace(copy, PROMPT, simulated=True, progress=pipeline.Progress(warn=warned.append))
    kept = json.loads(found.files["parting.json"].read_text())
    assert found.shuffled is None is kept["overlap_shuffled"] and kept["overlap_shuffled_draws"] == []
    assert [told for told in warned if "no control" in told and SITE in told]


def test_an_edited_sentence_is_the_one_that_is_simulated(copy: Path) -> None:
    path = copy / "explain" / SITE / CURRENT
    lines = [json.loads(each) for each in path.read_text().splitlines()]
    before = pipeline.trace(copy, PROMPT, simulated=True).overlap
    silenced = [{**each, "text": lines[0]["text"].split(",")[0] if i else each["text"]} for i, each in enumerate(lines)]
    path.write_text("".join(json.dumps(each) + "\n" for each in silenced))
    after = pipeline.trace(copy, PROMPT, simulated=True)
    assert {n.text for n in after.graph.nodes if n.kind == "latent"} <= {each["text"] for each in silenced}
    assert before is not None and after.overlap is not None


def test_a_target_that_no_sentence_tells_of_is_traced_where_it_truly_fires(tiny: Config, copy: Path) -> None:
    few = replace(tiny, explain=replace(tiny.explain, latents=3))
    run(few, copy, force=["explain"], target="calibrate")
    circuits = RunCircuits(Workplace(copy, stored_config(copy), STAGES))
    latents = circuits.frozen(circuits.prompt(PROMPT)).layers[0].latents
    (site,) = circuits.coders
    places = zip(latents.latent.tolist(), latents.position.tolist(), latents.pre.tolist(), strict=True)
    latent, position, pre = next(p for p in places if p[0] not in circuits.sentences(site))
    found = pipeline.trace(copy, PROMPT, f"latent:0/{latent}@{position}", simulated=True)
    root = found.graph.nodes[0]
    assert root.activation == 0 and root.value == pytest.approx(pre, rel=1e-4), "the same pre-activation, unsaid"


def test_paths_with_heads_name_them(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, heads=True, paths=12)
    assert any("head " in line for lines in found.paths.values() for line in lines)


def test_a_run_with_coders_alone_can_be_traced(copy: Path) -> None:
    for stage in ("encode", "explain", "simulate", "calibrate", "evaluate", "score", "report", "frontier"):
        shutil.rmtree(copy / stage, ignore_errors=True)
    found = pipeline.trace(copy, PROMPT)
    assert all(node.text is None for node in found.graph.nodes)
    assert not (copy / "explain").exists()


def test_the_verb_prints_paths_and_where_the_drawing_is(copy: Path) -> None:
    result = call("trace", copy, "--prompt", PROMPT, "--paths", 3)
    assert result.exit_code == 0, result.output
    assert "No coder at layer 1" in told(result) and "←" in result.output and "circuit.html" in result.output


def test_the_likeliest_three_roots_are_printed_with_their_probabilities_and_the_others_counted(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT)
    kept = json.loads(found.files["viewer.json"].read_text())
    likely = sorted((node["token_prob"] for node in kept["nodes"] if node["feature_type"] == "logit"), reverse=True)
    assert len(likely) == found.graph.about["roots"] > 4
    said = told(call("trace", copy, "--prompt", PROMPT, "--paths", 1))
    assert re.findall(r"\(probability ([^)]+)\) = ", said) == [f"{each:.2g}" for each in likely[:3]]
    assert f"{len(likely) - 3} less likely roots are not printed: circuit.html and graph.json have them" in said
    one = told(call("trace", copy, "--prompt", PROMPT, "--target", "logits", "--paths", 0))
    assert "←" not in one and one.count("of what enters it is explained") == 3


def test_what_is_printed_fits_80_columns_and_says_each_sentence_once(copy: Path) -> None:
    options = ["--simulated", "--by-head", 2, "--nodes", 1, "--edges", 1, "--paths", 40, "--group"]
    result = call("trace", copy, "--prompt", PROMPT, *options, "--out", copy / "here")
    assert result.exit_code == 0, result.output
    shown = [line for line in result.output.splitlines() if str(copy / "here") not in line]
    assert max(map(len, shown)) <= 80 and "edge " in result.output
    assert "latent:" not in "".join(shown) and not re.search(r"(?<![\w\])@])-\d", "".join(shown)), "as paths have it"
    words = result.output.split("in words:")[1].split("\n\n")[0]
    listed = re.findall(r"^  (L\d+/\d+)(?: \([\d.−]+\))?  \"", words, re.MULTILINE)
    paths = result.output.split("The latents on these paths")[0]
    assert listed and len(listed) == len(set(listed)) and all(f"{name}@" in paths for name in listed)


def test_how_well_a_sentence_foretells_stands_beside_it_with_what_that_is(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, node_share=1.0, edge_share=1.0, paths=40)
    shown = told(call("trace", copy, "--prompt", PROMPT, "--nodes", 1, "--edges", 1, "--paths", 40, "--group"))
    scored = {f"L{node.layer}/{node.index}": node.fidelity for node in found.graph.nodes if node.text is not None}
    listed = re.findall(r"(L\d+/\d+)(?: at [@\d, ]+: influence [\d.]+%)? \"[^\"]*\"((?: \([\d.−]+\))?)", shown)
    assert listed and any(each for _, each in listed)
    for name, brackets in listed:
        known = scored[name]
        assert brackets == ("" if known is None else f" ({known:.2f})".replace("-", "−"))
    said = f"In brackets, how well a sentence foretells its latent ({found.graph.about['fidelity_of']})."
    assert shown.count(said) == 1
    page = found.files["circuit.html"].read_text()
    name, said_there = next(iter(found.sentences[found.graph.nodes[0].id].items()))
    assert said in page and f"<dt>{name}{said_there.brackets}</dt>" in page


def test_a_logit_is_told_less_the_mean_where_its_value_stands(copy: Path) -> None:
    result = call("trace", copy, "--prompt", PROMPT, "--target", 'logit:"("', "--out", copy / "here", "--paths", 0)
    assert re.search(r"= [+−]?[\d.]+ \(less the vocabulary’s mean\): ", told(result)), result.output
    assert "value, less the vocabulary’s mean" in (copy / "here" / "circuit.html").read_text("utf-8")
    result = call("trace", copy, "--prompt", PROMPT, "--target", 'logit-diff:"(",")"', "--paths", 0)
    assert result.exit_code == 0 and "vocabulary’s mean" not in result.output


def test_lines_break_at_words_behind_an_indent_and_never_in_a_token() -> None:
    tokens = r'" self"@11', r'"\" — 世界 \n"@7'
    text = f"  +2.04  logit {tokens[0]} ← token {tokens[1]} ← L0/354@11 ← bias of attention L0"
    for width in range(16, 90):
        lines = hanging(text, width, 4)
        assert " ".join(lines).split() == text.split()
        assert all(line.startswith("    ") for line in lines[1:])
        assert all(cell_len(line) <= width or line.strip() in tokens for line in lines)
        assert all(any(token in line for line in lines) for token in tokens)
    assert hanging(text, 200, 4) == [text]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompt", ""], "no text"),
        (["--prompt", "word " * 200], "shorten it"),
        (["--prompt", "def \udcff("], "no UTF-8"),
        (["--prompt", PROMPT, "--target", 'logit:"notoneatall"'], "nearest"),
        (["--prompt", PROMPT, "--target", "latent:1/0"], "layers with one: 0"),
        (["--prompt", PROMPT, "--target", "latent:0/99"], "nearest: latent:0/11"),
        (["--prompt", PROMPT, "--target", "latent:0/3@0", "--silent"], "BOS before the text"),
        (["--prompt", PROMPT, "--target", "logits@99"], "the last is @"),
        (["--prompt", f"{PROMPT}<|endoftext|>"], "special token"),
        (["--prompt", PROMPT, "--simulated", "--effects", "3"], "ask for one of the two"),
        (["--prompt", PROMPT, "--target", "wherever"], "latent:LAYER/NUMBER@PLACE"),
    ],
)
def test_what_was_asked_wrongly_is_told_and_nothing_is_written(copy: Path, options: list[str], said: str) -> None:
    result = call("trace", copy, *options)
    assert result.exit_code == 2 and said in told(result), result.output
    assert not (copy / "trace").exists()


def test_a_coder_of_another_model_is_refused(copy: Path) -> None:
    workplace = Workplace(copy, stored_config(copy), STAGES)
    other = replace(workplace.lm, name="another")
    with torch.no_grad():
        next(iter(other.model.parameters())).add_(1.0)
    vars(workplace)["lm"] = other
    with pytest.raises(CoderError, match="a coder of another model"):
        _ = RunCircuits(workplace).coders


def test_effects_are_written_as_the_library_measures_them(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, node_share=0.5, effects=4)
    assert found.effects is not None and found.effects.seed == stored_config(copy).seed
    kept = json.loads(found.files["effects.json"].read_text())
    circuits = RunCircuits(Workplace(copy, stored_config(copy), STAGES))
    frozen = circuits.frozen(circuits.prompt(PROMPT))
    root = root_asked(frozen, parse_target("logits"))
    graph = attribution_graph(frozen, root, found.graph.tokens, 0.5)
    again = effects(frozen, root, graph, 4, kept["seed"])
    assert [each["id"] for each in kept["latents"]] == [node.id for node in again.measured.latents]
    assert [each["id"] for each in kept["control"]] == [node.id for node in again.control.latents]
    for row, each in enumerate(kept["latents"]):
        assert each["direct"] == again.direct[row].tolist() and each["total"] == again.total[row].tolist()
        assert each["free"] == pytest.approx(again.measured.free[row].tolist(), abs=1e-6)
        assert each["influence"] == pytest.approx(graph.influence[graph.number[each["id"]]])
    assert kept["about"] == json.loads(json.dumps(found.graph.about)) and kept["about"]["settings"]["effects"] == 4
    assert "<svg" in found.files["effects.html"].read_text()


def test_the_verb_tells_correlations_beside_their_control_or_why_there_are_none(copy: Path) -> None:
    few = call("trace", copy, "--prompt", PROMPT, "--effects", 2, "--paths", 0)
    assert few.exit_code == 0 and "too few latents for a correlation: 2" in told(few), few.output
    whole = call("trace", copy, "--prompt", PROMPT, "--effects", 9, "--nodes", 1, "--edges", 1, "--paths", 0)
    assert "no correlation is told without a control" in told(whole), whole.output
    none = call("trace", copy, "--prompt", PROMPT, "--target", "latent:0/0", "--silent", "--effects", 5)
    assert none.exit_code == 0 and "no latent to ablate" in told(none), none.output


def test_a_latent_at_several_tokens_is_one_supernode_in_every_file(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, group=True, node_share=1.0, edge_share=1.0)
    graph = load_graph(found.files["graph.json"])
    wanted = by_latent(graph)
    assert wanted and {name: [graph.nodes[i].id for i in m] for name, m in graph.supernodes} == wanted
    viewer = json.loads(found.files["viewer.json"].read_text())
    assert {name: len(ids) for name, *ids in viewer["qParams"]["supernodes"]} == {n: len(i) for n, i in wanted.items()}
    page = found.files["grouped.html"].read_text()
    assert "what stands at several tokens as one node" in page and page.count('class="n group"') == len(wanted)
    result = call("trace", copy, "--prompt", PROMPT, "--group", "--nodes", 1, "--edges", 1, "--paths", 0)
    assert f"{len(wanted)} latents at several tokens" in told(result), result.output
    assert "grouped.html" not in pipeline.trace(copy, PROMPT, node_share=0.01).files


def test_edges_are_told_by_the_heads_that_they_come_by(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT, "logits", by_head=2, paths=4)
    graph = found.graph
    for root, lines in found.by_head.items():
        first = graph.incoming(graph.number[root])[0]
        assert signed(float(graph.weight[first])) in lines[0] and lines[0].startswith("edge ")
        assert len(lines) >= 2 and all("head" in line for line in lines)
    assert pipeline.trace(copy, PROMPT).by_head == {}
    assert "edge " in call("trace", copy, "--prompt", PROMPT, "--by-head", 1, "--heads", "--paths", 2).output


def test_a_folder_that_cannot_be_written_is_told_with_the_mend(copy: Path) -> None:
    (copy / "file").write_text("")
    result = call("trace", copy, "--prompt", PROMPT, "--out", copy / "file")
    assert result.exit_code == 1 and "choose another folder with --out" in told(result), result.output


def test_viewers_are_told_probabilities_and_not_influence(copy: Path) -> None:
    found = pipeline.trace(copy, PROMPT)
    kept = json.loads(found.files["viewer.json"].read_text())
    logits = [node["token_prob"] for node in kept["nodes"] if node["feature_type"] == "logit"]
    assert logits and 0 < sum(logits) <= 1
    assert all("p=unknown" not in node["clerp"] for node in kept["nodes"])


def test_who_looks_at_a_run_waits_for_another_that_does(copy: Path) -> None:
    """And says so; a second run there is refused, as it would overwrite the first's files."""
    told, ended = [], threading.Event()

    def looking() -> None:
        pipeline.trace(copy, PROMPT, progress=Progress(warn=told.append))
        ended.set()

    workplace = Workplace(copy, stored_config(copy), STAGES)
    with workplace.locked():
        looker = threading.Thread(target=looking)
        looker.start()
        for _ in range(600):
            if told:
                break
            time.sleep(0.05)
        assert told == [f"another plainspoken is at work in {copy}: waiting for it to end"] and not ended.is_set()
        with pytest.raises(RunError, match="wait for it, or choose another --out"):
            run(stored_config(copy), copy)
    looker.join(timeout=60)
    assert ended.is_set()


def test_a_backslash_and_an_n_are_told_to_be_no_line_break(copy: Path) -> None:
    told: list[str] = []
    pipeline.trace(copy, "Story 1.\\nLily", progress=Progress(warn=told.append))
    assert any("no line break" in each for each in told)
    told.clear()
    pipeline.trace(copy, "Story 1.\nLily", progress=Progress(warn=told.append))
    assert not told


def test_a_prompt_that_is_too_long_is_told_once_and_by_us(copy: Path) -> None:
    workplace = Workplace(copy, stored_config(copy), STAGES)
    workplace.lm.tokenizer.model_max_length = 8  # as those of real models have it
    heard = list[str]()
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())
    long = PROMPT * workplace.lm.context
    log = logging.getLogger("transformers")
    log.addHandler(listener)
    try:
        with pytest.raises(UsageError, match="shorten it"):
            RunCircuits(workplace).prompt(long)
        with pytest.raises(UsageError, match="cannot be continued"):
            speak(workplace, long, rewritten=False, tokens=1, temperature=0.0, seed=0)
    finally:
        log.removeHandler(listener)
    assert heard == []


def test_a_sentence_that_cannot_be_read_is_told_with_its_line(copy: Path) -> None:
    path = copy / "explain" / SITE / CURRENT
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines[2]["text"] = "Fires at eleven."
    path.write_text("\n\n".join(map(json.dumps, lines)), "utf-8")
    warned: list[str] = []
    pipeline.trace(copy, PROMPT, simulated=True, progress=Progress(warn=warned.append))
    assert warned
    assert all(line.startswith(f"{path}, line 5 (latent {lines[2]['latent']}): ") for line in warned), warned
