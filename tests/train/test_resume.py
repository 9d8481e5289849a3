"""A training follows from its seed, and goes on after a kill as though nothing had happened."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plainspoken.activations import ActivationStore
from plainspoken.config import TrainConfig
from plainspoken.errors import CoderError, ConfigError, StoreError
from plainspoken.train import has_checkpoint, remove_checkpoint
from plainspoken.train.checkpoint import CHECKPOINT, identity
from trainings import CONFIG, SPEC, outputs, train


@pytest.fixture(scope="module")
def uninterrupted(fit: ActivationStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return outputs(train(fit, SPEC, CONFIG, folder, seed=3), folder)


def test_same_seed_same_bytes(fit: ActivationStore, tmp_path: Path, uninterrupted: tuple) -> None:
    assert outputs(train(fit, SPEC, CONFIG, tmp_path / "a", seed=3), tmp_path / "a") == uninterrupted
    assert outputs(train(fit, SPEC, CONFIG, tmp_path / "b", seed=4), tmp_path / "b") != uninterrupted


class Killed(BaseException):
    """What stops a training in these tests, wherever it is."""


def kill() -> None:
    raise Killed


def after(steps: int, act: Callable[[], object]) -> Callable[[int], None]:
    """A progress that acts when so many steps are done, whatever the step it starts from."""
    seen = 0

    def progress(more: int) -> None:
        nonlocal seen
        seen += more
        if seen == steps * 64:
            act()

    return progress


@pytest.mark.parametrize("steps", [7, 30, 31, 59, 95, 119])
def test_resume_is_bit_identical(fit: ActivationStore, tmp_path: Path, uninterrupted: tuple, steps: int) -> None:
    """Killed after any step (before the first checkpoint, on one, between lines of the log), then run again."""

    with pytest.raises(Killed):
        train(fit, SPEC, CONFIG, tmp_path, seed=3, progress=after(steps, kill))
    assert has_checkpoint(tmp_path) == (steps >= 30)
    seen: list[int] = []
    coder = train(fit, SPEC, CONFIG, tmp_path, seed=3, progress=seen.append)
    assert seen[0] == steps // 30 * 30 * 64
    assert sum(seen) == CONFIG.tokens
    assert outputs(coder, tmp_path) == uninterrupted


@pytest.mark.parametrize(
    ("activation", "changes"),
    [
        ("batch_topk", {"prefixes": (4, 16)}),
        ("relu", {}),
        ("jump_relu", {}),
        ("topk", {"aux_k": 1 / 32, "dead_after": 64, "multi_topk": True, "prefixes": (8,)}),
        ("topk", {"precision": "bfloat16"}),
    ],
)
def test_resume_is_bit_identical_whatever_is_trained(
    fit: ActivationStore, tmp_path: Path, activation: str, changes: dict
) -> None:
    """Thresholds, the penalty's weight and the knowledge of who is dead are part of where a training stands."""
    spec, config = replace(SPEC, activation=activation), replace(CONFIG, **changes)
    whole = outputs(train(fit, spec, config, tmp_path / "whole", seed=3), tmp_path / "whole")
    with pytest.raises(Killed):
        train(fit, spec, config, tmp_path / "cut", seed=3, progress=after(71, kill))
    assert outputs(train(fit, spec, config, tmp_path / "cut", seed=3), tmp_path / "cut") == whole


def test_kill_dash_nine_is_nothing_special(fit: ActivationStore, tmp_path: Path, uninterrupted: tuple) -> None:
    """A process of its own is shot twice, at steps 44 and 101, and the third one finishes."""

    def shoot() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for step in (44, 101):
        child = os.fork()
        if child == 0:
            train(fit, SPEC, CONFIG, tmp_path, seed=3, progress=after(step, shoot))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert outputs(train(fit, SPEC, CONFIG, tmp_path, seed=3), tmp_path) == uninterrupted


def test_a_log_torn_in_the_middle_of_a_line_is_redone(
    fit: ActivationStore, tmp_path: Path, uninterrupted: tuple
) -> None:
    with pytest.raises(Killed):
        train(fit, SPEC, CONFIG, tmp_path, seed=3, progress=after(99, kill))
    with open(tmp_path / "log.jsonl", "ab") as log:
        log.write(b'{"step": 1')
    assert outputs(train(fit, SPEC, CONFIG, tmp_path, seed=3), tmp_path) == uninterrupted


def stopped_at_sixty(fit: ActivationStore, folder: Path, config: TrainConfig = CONFIG) -> None:
    with pytest.raises(Killed):
        train(fit, SPEC, config, folder, seed=3, progress=after(65, kill))


def test_a_checkpoint_of_another_training_is_refused(fit: ActivationStore, tmp_path: Path) -> None:
    stopped_at_sixty(fit, tmp_path)
    for words, other in {
        "seed was 3, now 4": lambda: train(fit, SPEC, CONFIG, tmp_path, seed=4),
        "train was": lambda: train(fit, SPEC, replace(CONFIG, lr=0.02), tmp_path, seed=3),
        "spec was": lambda: train(fit, replace(SPEC, k=5), CONFIG, tmp_path, seed=3),
        "activations was": lambda: train(replace(fit, fingerprint="x"), SPEC, CONFIG, tmp_path, seed=3),
    }.items():
        with pytest.raises(ConfigError, match=words):
            other()


def test_aux_k_does_not_go_on_under_another_loss(
    fit: ActivationStore, tmp_path: Path, uninterrupted: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint with aux-k from before its loss was named is refused; without aux-k the loss has stayed the same."""
    config = replace(CONFIG, aux_k=1 / 32, dead_after=64)

    def unnamed(*args: object) -> dict[str, str]:
        return {name: value for name, value in identity(*args).items() if name != "aux_k"}

    with monkeypatch.context() as before:
        before.setattr("plainspoken.train.loop.identity", unnamed)
        stopped_at_sixty(fit, tmp_path / "with", config)
        stopped_at_sixty(fit, tmp_path / "without")
    with pytest.raises(ConfigError, match="aux_k was not told, now a share of the residual"):
        train(fit, SPEC, config, tmp_path / "with", seed=3)
    assert outputs(train(fit, SPEC, CONFIG, tmp_path / "without", seed=3), tmp_path / "without") == uninterrupted


def test_a_truncated_checkpoint_or_log_is_refused_by_name(fit: ActivationStore, tmp_path: Path) -> None:
    stopped_at_sixty(fit, tmp_path)
    whole = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).write_bytes(whole[:-5])
    with pytest.raises(CoderError, match=r"checkpoint\.safetensors is truncated"):
        train(fit, SPEC, CONFIG, tmp_path, seed=3)
    (tmp_path / CHECKPOINT).write_bytes(whole)
    (tmp_path / "log.jsonl").write_bytes(b"")
    with pytest.raises(StoreError, match=r"log\.jsonl is truncated"):
        train(fit, SPEC, CONFIG, tmp_path, seed=3)
    remove_checkpoint(tmp_path)
    train(fit, SPEC, CONFIG, tmp_path, seed=3)
