"""Whatever goes wrong at a server ends as a counted missing pair; what was answered before a kill stays."""

import json
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

import zygote
from knowing import Knowing
from llm.server import Server, Trouble, serve
from plainspoken.config import LlmServiceConfig, SimulateConfig
from plainspoken.language.text import Text
from plainspoken.llm.open import open_llm
from plainspoken.llm.tokens import LlmTokens
from plainspoken.simulators import SimulateMeans, simulator_named

SENTENCES = {0: "Latent 0.", 3: "Latent 3."}
LATENTS = 5


@pytest.fixture
def brain(reader_folder: Path) -> Knowing:
    return Knowing(LlmTokens.of(AutoTokenizer.from_pretrained(reader_folder)), lambda asked: 4.5)


def simulate(server: Server, folder: Path, cache: Path, text: Text, name: str, spoil: Trouble | None = None):
    """What is heard where, once the simulator is opened, every other request is spoilt."""
    service = LlmServiceConfig("openai", "test", server.url, tokenizer=str(folder), retries=0, timeout_s=30)
    llm = open_llm(service, cache)
    try:
        opened = simulator_named(name).opens(
            SimulateMeans(SimulateConfig(simulator=name, llm=service, batch=1), 0, llm)
        )
        if spoil is not None:
            server.trouble = lambda path, before, headers: spoil if before % 2 else None
        return opened(SENTENCES, LATENTS, text)
    finally:
        llm.close()


WITHOUT = json.dumps({"choices": [{"index": 0, "text": "", "logprobs": None}]}).encode()


@pytest.mark.parametrize("name", ["last-token", "all-at-once", "batched"])
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (Trouble(500), "server"),
        (Trouble(429), "server"),
        (Trouble(401, b"no"), "server"),
        (Trouble(400, b'{"error": {"message": "maximum context length is 9 tokens"}}'), "beyond context"),
        (Trouble(200, b"<html>"), "server"),
        (Trouble(drop=True), "server"),
    ],
)
def test_every_kind_of_trouble_is_a_counted_missing_pair(
    brain: Knowing, reader_folder: Path, passages: Text, tmp_path: Path, name: str, trouble: Trouble, kind: str
):
    with serve(Server(brain=brain)) as server:
        found, failures = simulate(server, reader_folder, tmp_path, passages, name, trouble)
    pairs = 2 * int(passages.rows.mask.sum())
    missing = len(found.missing_position)
    assert 0 < missing < pairs and len(found.level) + missing == pairs
    np.testing.assert_allclose(found.level, 4.5, atol=1e-3)  # nothing that failed became a level
    assert {failure.kind for failure in failures} == {kind}
    assert sum(int(failure.reason.split()[0]) for failure in failures) == missing


def test_log_probabilities_that_are_not_told_are_missing_mass(
    brain: Knowing, reader_folder: Path, passages: Text, tmp_path: Path
):
    with serve(Server(brain=brain)) as server:
        found, failures = simulate(server, reader_folder, tmp_path, passages, "last-token", Trouble(200, WITHOUT))
    assert {failure.kind for failure in failures} == {"missing probability mass"}
    assert len(found.level) + len(found.missing_position) == 2 * int(passages.rows.mask.sum())


def test_what_is_missing_is_asked_again_and_nothing_else(
    brain: Knowing, reader_folder: Path, passages: Text, tmp_path: Path
):
    with serve(Server(brain=brain)) as server:
        found, _ = simulate(server, reader_folder, tmp_path, passages, "last-token", Trouble(500))
        missing = len(found.missing_position)
        server.trouble = lambda path, before, headers: None
        before = server.seen.total()
        probed = probes(server, reader_folder, tmp_path)
        whole, failures = simulate(server, reader_folder, tmp_path, passages, "last-token")
        assert server.seen.total() - before - 2 * probed == missing
    assert whole.complete and not failures


def probes(server: Server, folder: Path, cache: Path) -> int:
    """Requests with which a model is tried when the simulator is opened: they are asked anew every time."""
    before = server.seen.total()
    service = LlmServiceConfig("openai", "test", server.url, tokenizer=str(folder), retries=0)
    llm = open_llm(service, cache)
    simulator_named("last-token").opens(SimulateMeans(SimulateConfig(llm=service), 0, llm))
    llm.close()
    return server.seen.total() - before


KILLABLE = """
import pickle, sys
from pathlib import Path
from plainspoken.config import LlmServiceConfig, SimulateConfig
from plainspoken.llm.limits import Limits
from plainspoken.llm.open import open_llm
from plainspoken.simulators import SimulateMeans, simulator_named
url, folder, cache, text = sys.argv[1:]
service = LlmServiceConfig("openai", "test", url, tokenizer=folder, retries=0)
llm = open_llm(service, Path(cache), limits=Limits(2))
opened = simulator_named("last-token").opens(SimulateMeans(SimulateConfig(llm=service), 0, llm))
opened({0: "Latent 0.", 3: "Latent 3."}, 5, pickle.loads(Path(text).read_bytes()))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_with_what_is_missing(brain: Knowing, reader_folder: Path, passages: Text, tmp_path: Path):
    (tmp_path / "text").write_bytes(pickle.dumps(Text(passages.rows, passages.pieces)))
    pairs = 2 * int(passages.rows.mask.sum())
    with serve(Server(brain=brain)) as server:
        probed = probes(server, reader_folder, tmp_path / "none")
        server.trouble = lambda path, before, headers: Trouble(delay_s=0.05)
        before = server.seen.total()
        words = [server.url, str(reader_folder), str(tmp_path / "kept"), str(tmp_path / "text")]
        running = zygote.start(KILLABLE, *words)
        deadline = time.monotonic() + 60
        while server.seen.total() < before + probed + pairs // 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        running.wait()
        server.trouble = lambda path, before, headers: None
        sent = server.seen.total() - before - probed
        assert pairs // 2 <= sent < pairs
        before = server.seen.total()
        found, failures = simulate(server, reader_folder, tmp_path / "kept", passages, "last-token")
        again = server.seen.total() - before - probed
    assert found.complete and not failures and len(found.level) == pairs
    # At most the two that were in flight when it was killed are asked twice.
    assert pairs <= sent + again <= pairs + 2
