"""Interventions on a run's latents: what is printed is the library's, and what does nothing changes nothing."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from plainspoken import pipeline
from plainspoken.circuits.frozen import Frozen
from plainspoken.circuits.intervene import Intervention, Span, logits_after
from plainspoken.circuits.steer import steered
from plainspoken.cli.app import app
from plainspoken.config import Config
from plainspoken.pipeline import run
from plainspoken.pipeline.chain import STAGES
from plainspoken.pipeline.circuit import RunCircuits
from plainspoken.pipeline.explanations import read_explanations
from plainspoken.pipeline.stored import stored_config
from plainspoken.pipeline.workplace import Workplace

SITE = "gpt_neox.layers.0.mlp"
PROMPT = "Story 1. Lily saw the"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def told(result: Result) -> str:
    return " ".join(result.output.split())


def _circuits(folder: Path) -> RunCircuits:
    return RunCircuits(Workplace(folder, stored_config(folder), STAGES))


def _firing(folder: Path) -> tuple[Frozen, int, int, float]:
    """(the model at the prompt, a latent, a token at which it fires, its activation): the strongest of all."""
    circuits = _circuits(folder)
    frozen = circuits.frozen(circuits.prompt(PROMPT))
    latents = frozen.layers[0].latents
    at = int(latents.value.argmax())
    return frozen, int(latents.latent[at]), int(latents.position[at]), float(latents.value[at])


@pytest.mark.parametrize("hold", [False, True])
def test_ablated_is_set_to_nothing_and_scaled_by_nothing(finished: Path, hold: bool) -> None:
    _, latent, _, _ = _firing(finished)
    name = f"0/{latent}"
    ablated = pipeline.intervene(finished, PROMPT, ablate=[name], hold_attention=hold)
    zero = pipeline.intervene(finished, PROMPT, set_to=[f"{name}=0"], hold_attention=hold)
    none = pipeline.intervene(finished, PROMPT, scale=[f"{name}=0"], hold_attention=hold)
    assert ablated.next_tokens == zero.next_tokens == none.next_tokens and ablated.kl == zero.kl == none.kl > 0


def test_scaled_by_one_and_set_to_what_it_is_change_nothing(finished: Path) -> None:
    _, latent, at, value = _firing(finished)
    same = pipeline.intervene(finished, PROMPT, scale=[f"0/{latent}=1"], tokens=12, seed=3)
    assert same.kl == 0 and all(each.change == 0 for each in same.next_tokens)
    assert same.texts is not None and same.texts[0] == same.texts[1]
    as_is = pipeline.intervene(finished, PROMPT, set_to=[f"0/{latent}@{at}={value!r}"])
    assert as_is.kl < 1e-9


def test_the_text_without_interventions_is_the_one_that_generate_writes(finished: Path) -> None:
    _, latent, _, _ = _firing(finished)
    found = pipeline.intervene(finished, PROMPT, set_to=[f"0/{latent}=40"], tokens=12, seed=5, temperature=0.8)
    plain = pipeline.generate(finished, PROMPT, rewritten=False, tokens=12, seed=5, temperature=0.8)
    assert found.texts is not None and found.texts[0] == plain and found.texts[1] != plain
    circuits = _circuits(finished)
    prompt = circuits.prompt(PROMPT)
    spans = [Intervention(0, latent, Span(int(prompt.begun)), "set", 40.0)]
    tokens = steered(circuits.lm, circuits.coders, prompt.tokens, spans, 12, seed=5, temperature=0.8)
    assert found.texts[1] == PROMPT + circuits.lm.pieces.text(tokens[len(prompt.tokens) :])


@pytest.mark.parametrize("attention", ["free", "held"])
def test_the_table_is_what_the_library_gives(finished: Path, attention) -> None:
    frozen, latent, at, value = _firing(finished)
    found = pipeline.intervene(finished, PROMPT, scale=[f"0/{latent}@{at}=3"], hold_attention=attention == "held")
    done = [Intervention(0, latent, (at,), "scale", 3.0)]
    p, q = (logits_after(frozen, each, attention)[-1].double().softmax(-1) for each in ([], done))
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-6) and found.kl > 0
    for each in found.next_tokens:
        assert each.before == pytest.approx(float(p[each.token])) and each.after == pytest.approx(float(q[each.token]))
    kept = {each.token for each in found.next_tokens}
    assert int(p.argmax()) in kept and int(q.argmax()) in kept
    least = min(max(each.before, each.after) for each in found.next_tokens)
    assert float(torch.maximum(p, q).kthvalue(len(p) - len(kept) + 1).values) == pytest.approx(least)
    (touched,) = found.touched
    assert touched.tokens == 1 and touched.was == ((at, pytest.approx(value)),)
    written = read_explanations(finished / "explain" / SITE)
    assert touched.node.text == (written[latent].text if latent in written else None)


def test_what_is_touched_is_where_it_fires_in_the_span_and_never_before_the_text(finished: Path) -> None:
    frozen, latent, _, _ = _firing(finished)
    latents, t = frozen.layers[0].latents, frozen.t
    fires = latents.position[latents.latent == latent].tolist()
    begun = int(_circuits(finished).prompt(PROMPT).begun)
    everywhere, late = (
        pipeline.intervene(finished, PROMPT, ablate=[f"0/{latent}{at}"]).touched[0] for at in ("", "@-2:")
    )
    assert [at for at, _ in everywhere.was] == fires and everywhere.tokens == t - begun
    assert [at for at, _ in late.was] == [at for at in fires if at >= t - 2] and late.tokens == 2


def test_what_is_done_to_tokens_that_are_not_written_yet_leaves_the_next_token(finished: Path) -> None:
    frozen, latent, _, _ = _firing(finished)
    for at in (f"@{frozen.t}", f"@{frozen.t}:"):
        found = pipeline.intervene(finished, PROMPT, set_to=[f"0/{latent}{at}=60"], tokens=10)
        assert found.kl == 0 and found.touched[0].tokens == 0 and found.texts is not None


def test_the_verb_prints_the_librarys_numbers_and_both_texts(finished: Path) -> None:
    _, latent, at, value = _firing(finished)
    options = ("--set", f"0/{latent}@{at}=9", "--tokens", 8, "--seed", 2)
    result = call("intervene", finished, "--prompt", PROMPT, *options)
    assert result.exit_code == 0, result.output
    found = pipeline.intervene(finished, PROMPT, set_to=[f"0/{latent}@{at}=9"], tokens=8, seed=2)
    assert f"0/{latent} = 9 @{at}" in told(result) and f"it was {value:.3g} @{at}" in told(result)
    assert f"KL (before to after) {found.kl:.4g} nats" in told(result)
    for each in found.next_tokens:
        assert f"{each.before:.4f} {each.after:.4f} {each.change:+.4f}" in told(result)
    assert found.texts is not None and all(text in result.output for text in found.texts)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--ablate, --scale or --set"),
        (["--ablate", "0/99"], "whose coder has 0 to 11; nearest: 0/11"),
        (["--ablate", "1/0"], "layer 1 has no coder to intervene in: name a layer that has one (0)"),
        (["--ablate", "0/1@99"], "no token @99; the text is @"),
        (["--ablate", "0/1@99:"], "no token of the text is @99:"),
        (["--ablate", "0/1@3:3"], "no token of the text is @3:3"),
        (["--ablate", "somewhere"], "write --ablate LAYER/NUMBER[@P[:Q]]"),
        (["--scale", "0/1"], "=FACTOR"),
        (["--ablate", "0/1", "--hold-attention", "--tokens", "3"], "leave out --hold-attention, or --tokens"),
    ],
)
def test_what_was_asked_wrongly_is_told(finished: Path, options: list[str], said: str) -> None:
    result = call("intervene", finished, "--prompt", PROMPT, *options)
    assert result.exit_code == 2 and said in told(result), result.output


def test_no_coder_is_read_before_the_text(finished: Path) -> None:
    if not _circuits(finished).prompt(PROMPT).begun:
        pytest.skip("this run's rows have no BOS")
    result = call("intervene", finished, "--prompt", PROMPT, "--ablate", "0/1@0")
    assert result.exit_code == 2 and "@0 is the BOS before the text" in told(result)


@pytest.mark.slow
def test_a_run_that_is_half_done_stays_so(tiny: Config, tmp_path: Path) -> None:
    """Looking at it begins no stage."""
    folder = tmp_path / "run"
    run(tiny, folder, target="explain")
    before = {path.name for path in folder.iterdir()}
    pipeline.intervene(folder, PROMPT, ablate=["0/1"])
    assert {path.name for path in folder.iterdir()} == before
