"""The finishing phase: its loss is FVU and KL of the model with the coder spliced in, and it lowers that KL."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from plainspoken.activations import store_vectors
from plainspoken.activations.masks import NormLimits
from plainspoken.coders import Coder, CoderSpec, Units
from plainspoken.config import TrainConfig
from plainspoken.errors import ConfigError, LeakError
from plainspoken.lm import LanguageModel, resolve_sites, splice
from plainspoken.train import FinishText, train_coders
from plainspoken.train.checkpoint import Run
from plainspoken.train.finish import Finishing, finish_step
from plainspoken.train.losses import Objective
from plainspoken.train.step import Recipe
from plainspoken.types import Rows, Site

CONFIG = TrainConfig(
    tokens=100 * 96, batch=96, lr=0.003, warm_up=5, finish_tokens=60 * 96, finish_lr_scale=0.5, checkpoint_every=40
)
SPEC = CoderSpec("transcoder", "topk", 24, 2, False, 16, 16)
SITES = {"transcoder": "gpt_neox.layers.0.mlp", "sae": "gpt_neox.layers.0"}


def made_rows(bos: bool) -> Rows:
    """Rows of several lengths, with a BOS in front of each, or with text from the first token on."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 300, (60, 16)).astype(np.int32)
    mask = (np.arange(16) >= bos) & (np.arange(16) <= generator.integers(5, 16, 60)[:, None])
    return Rows(np.where(mask, tokens, 0).astype(np.int32), mask, np.arange(60, dtype=np.int32), tuple("a" * 60), "fit")


@pytest.fixture(scope="module")
def rows() -> Rows:
    return made_rows(bos=True)


@pytest.fixture(scope="module")
def site(neox: LanguageModel) -> Site:
    return resolve_sites(neox, "gpt_neox.layers.0.mlp")[0]


def train(
    lm: LanguageModel,
    rows: Rows,
    site: Site,
    config: TrainConfig,
    folder: Path,
    kind: str = "transcoder",
    **more: object,
) -> Coder:
    source = store_vectors(lm, [site], rows, folder, batch=config.batch, seed=0)
    text = FinishText(lm, {site.module: site}, rows)
    spec = replace(SPEC, kind=kind)
    return train_coders(source, {site.module: spec}, config, {site.module: folder}, 0, text=text, **more)[site.module]


def slow_kl(lm: LanguageModel, site: Site, coder: Callable[[torch.Tensor], torch.Tensor], rows: Rows) -> torch.Tensor:
    """KL(original || spliced) per predicted token, a row and a token at a time."""
    total, count = torch.zeros((), dtype=lm.dtype), 0
    for tokens, mask in zip(torch.from_numpy(rows.tokens).long(), torch.from_numpy(rows.mask), strict=True):

        def coded(x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor = mask) -> torch.Tensor:
            out = y.clone()
            out[0, mask] = coder(x[0, mask])
            return out

        original = log_softmax(lm.model(tokens[None]).logits[0], -1)
        with splice(lm, {site: coded}):
            spliced = log_softmax(lm.model(tokens[None]).logits[0], -1)
        for token in range(1, len(tokens)):
            if mask[token]:
                before = token - 1
                total = total + (original[before].exp() * (original[before] - spliced[before])).sum()
                count += 1
    return total / count


@pytest.mark.slow
def test_the_phase_lowers_kl_and_logs_it(neox: LanguageModel, rows: Rows, site: Site, tmp_path: Path) -> None:
    """Below that of a coder which was trained on FVU alone for as many steps."""
    config = replace(CONFIG, tokens=400 * 96, finish_tokens=100 * 96)
    longer = train(neox, rows, site, replace(config, finish_tokens=0, tokens=500 * 96), tmp_path / "longer")
    after = train(neox, rows, site, config, tmp_path / "after")
    with torch.no_grad():
        kl = [float(slow_kl(neox, site, coder, rows)) for coder in (longer, after)]
    assert kl[1] < 0.95 * kl[0]
    log = [json.loads(line) for line in (tmp_path / "after" / "log.jsonl").read_text().splitlines()]
    told = [line for line in log if "kl" in line]
    assert [line["step"] for line in told] == [450, 500, 504] and log[-4]["step"] == 400
    assert told[-1]["kl"] == pytest.approx(kl[1], rel=0.25) and told[-1]["lr"] < told[0]["lr"]
    assert not any(parameter.grad is not None for parameter in neox.model.parameters())


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("kind", SITES)
def test_with_a_rate_of_nothing_the_kl_that_is_logged_is_that_of_the_coder(
    neox: LanguageModel, tmp_path: Path, kind: str, bos: bool
) -> None:
    """One whole pass over the rows, in units of mean 0 and variance 1, beside the coder in the model's own: at a site
    that is read before and written after, and at one where x is y; on rows with a BOS and, as `corpus.bos=never` makes
    them, without."""
    rows, [site] = made_rows(bos), resolve_sites(neox, SITES[kind])
    n = rows.token_count
    config = replace(CONFIG, finish_lr_scale=1e-30, batch=n, tokens=3 * n, lr=0.01, finish_tokens=n)
    coder = train(neox, rows, site, config, tmp_path, kind)
    log = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert log["step"] == 4 and log["vectors"] == 4 * n
    with torch.no_grad():
        assert log["kl"] == pytest.approx(float(slow_kl(neox, site, coder, rows)), rel=1e-4)
    assert log["kl"] > 0.01


def doubled(lm: LanguageModel) -> LanguageModel:
    """The model in float64."""
    return replace(lm, model=copy.deepcopy(lm.model).double())


def stepped(
    lm: LanguageModel, site: Site, rows: Rows, activation: str = "topk", rate: float = 0.0, **more: int
) -> tuple[Coder, Units, Run]:
    """One step of finishing on all the rows in float64, after which the gradients still stand: in odd units, with a
    skip where there may be one, and never clipped."""
    torch.manual_seed(0)
    kind = "sae" if site.kind == "resid" else "transcoder"
    coder = Coder(CoderSpec(kind, activation, 12, 2, kind != "sae", 16, 16), dtype=torch.float64)
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.normal_().mul_(0.3)
    units = Units(torch.randn(16), 0.7, torch.randn(16), 1.3)
    if kind == "sae":
        units = replace(units, y_mean=units.x_mean, y_scale=units.x_scale)
    config = replace(CONFIG, grad_clip=1e30)
    phase = Finishing(
        FinishText(lm, {site.module: site}, rows, **more), site, units, NormLimits(torch.inf, torch.inf),
        Recipe(config, Objective(20.0)),
    )  # fmt: skip
    run = Run(coder, {})
    finish_step(run, phase, torch.arange(len(rows.tokens)), rate)
    return coder, units, run


@pytest.mark.parametrize("kind", SITES)
def test_the_gradient_is_a_finite_difference_of_fvu_and_kl_through_the_spliced_model(
    neox: LanguageModel, rows: Rows, kind: str
) -> None:
    """In float64, of every weight of a coder: FVU + KL * w with w = FVU / KL as it stood."""
    lm, few = doubled(neox), replace(rows, tokens=rows.tokens[:3], mask=rows.mask[:3], document=rows.document[:3])
    [site] = resolve_sites(lm, SITES[kind])
    coder, units, run = stepped(lm, site, few)
    fvu, kl = float(run.sums[0]), float(run.sums[2])
    seen: list[torch.Tensor] = []

    def out(x: torch.Tensor) -> torch.Tensor:
        return coder((x - units.x_mean) / units.x_scale) * units.y_scale + units.y_mean

    def fvu_of() -> torch.Tensor:
        tokens, mask = torch.from_numpy(few.tokens).long(), torch.from_numpy(few.mask)
        seen.clear()

        def read(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            seen.extend((x[mask], y[mask]))
            return y

        with splice(lm, {site: read}):
            lm.model(tokens)
        x, y = seen
        return ((out(x) - y) / units.y_scale).square().sum() / (20.0 * few.token_count)

    with torch.no_grad():
        assert fvu == pytest.approx(float(fvu_of()), rel=1e-12)
        assert kl == pytest.approx(float(slow_kl(lm, site, out, few)), rel=1e-9)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in coder.named_parameters():
            assert parameter.grad is not None
            # Along a direction all over the parameter: an entry at a time would be a thousand passes of the model.
            direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            value = []
            for side in (1e-5, -1e-5):
                before = parameter.clone()
                parameter.add_(side * direction)
                value.append(float(fvu_of() + fvu / kl * slow_kl(lm, site, out, few)))
                parameter.copy_(before)
            difference = (value[0] - value[1]) / 2e-5
            assert float((parameter.grad * direction).sum()) == pytest.approx(difference, rel=1e-6, abs=1e-9), name
            assert abs(difference) > 1e-4


@pytest.mark.parametrize("activation", ["topk", "batch_topk", "relu", "jump_relu"])
def test_a_step_is_the_same_however_few_rows_the_model_is_run_on_at_a_time(
    neox: LanguageModel, rows: Rows, site: Site, activation: str
) -> None:
    """To 1e-10 in float64: gradients, figures and the weights that come of them. BatchTopK's latents compete across
    the whole batch, of which a part alone knows too little."""
    lm = doubled(neox)
    whole, _, run = stepped(lm, site, rows, activation, rate=1e-3)
    for some in (1, 7, 59):
        logits = some * rows.tokens.shape[1] * lm.vocabulary
        parts, _, other = stepped(lm, site, rows, activation, rate=1e-3, logits=logits)
        for mine, its in zip(parts.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(mine, its, rtol=0, atol=1e-10)
            torch.testing.assert_close(mine.grad, its.grad, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(other.sums, run.sums, rtol=1e-10, atol=0)


def test_no_more_logits_are_computed_at_a_time_than_is_said(neox: LanguageModel, rows: Rows, site: Site) -> None:
    """But for those of one row, of which there have to be as many as there are."""
    lm, each = doubled(neox), rows.tokens.shape[1] * neox.vocabulary
    held: list[int] = []
    hook = lm.model.register_forward_hook(lambda _, __, output: held.append(output.logits.numel()))
    for logits, most, passes in ((1, each, 60), (8 * each - 1, 7 * each, 9), (60 * each, 60 * each, 1)):
        held.clear()
        stepped(lm, site, rows, logits=logits)
        assert max(held) == most and len(held) == 2 * passes
    hook.remove()


def test_the_phase_leaves_out_what_training_leaves_out(
    neox: LanguageModel, rows: Rows, site: Site, tmp_path: Path
) -> None:
    """Outliers are neither trained on nor spliced: with a limit that masks many, the log counts the others."""
    config = replace(CONFIG, tokens=3 * rows.token_count, batch=rows.token_count, finish_tokens=rows.token_count)
    source = store_vectors(neox, [site], rows, tmp_path, batch=config.batch, seed=0, outlier_norm=1.2)
    masked = source.survey(site.module).counts.outliers
    assert masked > 20
    text = FinishText(neox, {site.module: site}, rows)
    train_coders(source, {site.module: SPEC}, config, {site.module: tmp_path}, 0, text=text)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["outliers_masked"] == 3 * masked and lines[0]["bos_masked"] == 60
    assert lines[0]["vectors_examined"] == 3 * rows.token_count
    assert lines[-1]["outliers_masked"] == 4 * masked and lines[-1]["bos_masked"] == 60
    assert lines[-1]["vectors_examined"] == 4 * rows.token_count
    assert lines[-1]["vectors"] == 4 * (rows.token_count - masked)


class Killed(BaseException):
    """What stops a training here."""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [99, 130, 150])
def test_resume_is_bit_identical(neox: LanguageModel, rows: Rows, site: Site, tmp_path: Path, steps: int) -> None:
    whole = train(neox, rows, site, CONFIG, tmp_path / "whole")
    seen = 0

    def stop(more: int) -> None:
        nonlocal seen
        seen += more
        if seen >= steps * 96:
            raise Killed

    with pytest.raises(Killed):
        train(neox, rows, site, CONFIG, tmp_path / "cut", progress=stop)
    again = train(neox, rows, site, CONFIG, tmp_path / "cut")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert (tmp_path / "cut" / "log.jsonl").read_bytes() == (tmp_path / "whole" / "log.jsonl").read_bytes()


def test_it_reads_fit_rows_alone_and_needs_a_model(neox: LanguageModel, rows: Rows, site: Site, tmp_path: Path) -> None:
    with pytest.raises(LeakError):
        FinishText(neox, {site.module: site}, replace(rows, part="evaluate"))
    source = store_vectors(neox, [site], rows, tmp_path, batch=96, seed=0)
    with pytest.raises(ConfigError, match="no model and no text"):
        train_coders(source, {site.module: SPEC}, CONFIG, {site.module: tmp_path}, 0)
