"""The finishing phase: its loss is FVU and KL of the model with the coder spliced in, and it lowers that KL."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from plainspoken.activations import store_vectors
from plainspoken.coders import Coder, CoderSpec
from plainspoken.config import TrainConfig
from plainspoken.errors import ConfigError, LeakError
from plainspoken.lm import LanguageModel, resolve_sites, splice
from plainspoken.train import FinishText, train_coders
from plainspoken.types import Rows, Site

CONFIG = TrainConfig(
    tokens=100 * 96, batch=96, lr=0.003, warm_up=5, finish_tokens=60 * 96, finish_lr_scale=0.5, checkpoint_every=40
)
SPEC = CoderSpec("transcoder", "topk", 24, 2, False, 16, 16)


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Rows of several lengths, a BOS in front of each."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 300, (60, 16)).astype(np.int32)
    mask = (np.arange(16) >= 1) & (np.arange(16) <= generator.integers(5, 16, 60)[:, None])
    return Rows(np.where(mask, tokens, 0).astype(np.int32), mask, np.arange(60, dtype=np.int32), tuple("a" * 60), "fit")


@pytest.fixture(scope="module")
def site(neox: LanguageModel) -> Site:
    return resolve_sites(neox, "gpt_neox.layers.0.mlp")[0]


def train(lm: LanguageModel, rows: Rows, site: Site, config: TrainConfig, folder: Path, **more: object) -> Coder:
    source = store_vectors(lm, [site], rows, folder, batch=config.batch, seed=0)
    text = FinishText(lm, {site.module: site}, rows)
    return train_coders(source, {site.module: SPEC}, config, {site.module: folder}, 0, text=text, **more)[site.module]


def slow_kl(lm: LanguageModel, site: Site, coder: Coder, rows: Rows) -> float:
    """KL(original || spliced) per predicted token, a row at a time, the coder written out."""
    total = 0.0
    for tokens, mask in zip(torch.from_numpy(rows.tokens).long(), torch.from_numpy(rows.mask), strict=True):

        def coded(x: torch.Tensor, y: torch.Tensor, mask: torch.Tensor = mask) -> torch.Tensor:
            out = y.clone()
            out[0, mask] = coder.decode_dense(coder.dense(coder.encode(x[0, mask])))
            return out

        with torch.no_grad():
            original = log_softmax(lm.model(tokens[None]).logits[0, :-1][mask[1:]], -1)
            with splice(lm, {site: coded}):
                spliced = log_softmax(lm.model(tokens[None]).logits[0, :-1][mask[1:]], -1)
        total += float((original.exp() * (original - spliced)).sum())
    return total / rows.token_count


def test_the_phase_lowers_kl_and_logs_it(neox: LanguageModel, rows: Rows, site: Site, tmp_path: Path) -> None:
    """Below that of a coder which was trained on FVU alone for as many steps."""
    config = replace(CONFIG, tokens=400 * 96, finish_tokens=100 * 96)
    longer = train(neox, rows, site, replace(config, finish_tokens=0, tokens=500 * 96), tmp_path / "longer")
    after = train(neox, rows, site, config, tmp_path / "after")
    kl = [slow_kl(neox, site, coder, rows) for coder in (longer, after)]
    assert kl[1] < 0.95 * kl[0]
    log = [json.loads(line) for line in (tmp_path / "after" / "log.jsonl").read_text().splitlines()]
    told = [line for line in log if "kl" in line]
    assert [line["step"] for line in told] == [450, 500, 504] and log[-4]["step"] == 400
    assert told[-1]["kl"] == pytest.approx(kl[1], rel=0.25) and told[-1]["lr"] < told[0]["lr"]
    assert not any(parameter.grad is not None for parameter in neox.model.parameters())


def test_with_a_rate_of_nothing_the_kl_that_is_logged_is_that_of_the_coder(
    neox: LanguageModel, rows: Rows, site: Site, tmp_path: Path
) -> None:
    """One whole pass over the rows, in units of mean 0 and variance 1, beside the coder in the model's own."""
    config = replace(CONFIG, finish_lr_scale=1e-30, batch=rows.token_count, tokens=3 * rows.token_count, lr=0.01)
    coder = train(neox, rows, site, replace(config, finish_tokens=rows.token_count), tmp_path)
    log = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert log["step"] == 4 and log["vectors"] == 4 * rows.token_count
    assert log["kl"] == pytest.approx(slow_kl(neox, site, coder, rows), rel=1e-4)


def test_the_phase_leaves_out_what_training_leaves_out(
    neox: LanguageModel, rows: Rows, site: Site, tmp_path: Path
) -> None:
    """Outliers are neither trained on nor spliced: with a limit that masks many, the log counts the others."""
    config = replace(CONFIG, tokens=3 * rows.token_count, batch=rows.token_count, finish_tokens=rows.token_count)
    source = store_vectors(neox, [site], rows, tmp_path, batch=config.batch, seed=0, outlier_norm=1.2)
    masked = source.counts(site.module).outliers
    assert masked > 20
    text = FinishText(neox, {site.module: site}, rows)
    train_coders(source, {site.module: SPEC}, config, {site.module: tmp_path}, 0, text=text)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0]["outliers_masked"] == 3 * masked and lines[0]["bos_masked"] == 60
    assert lines[-1]["vectors"] == 4 * (rows.token_count - masked)


class Killed(BaseException):
    """What stops a training here."""


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
