"""A hub that is away is told soon, by the error alone; what its cache holds is used, and so is a hub that is there."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hub_made import Hub, cached, serve_hub

NAME = "Somebody/their-model"
EVERY = ("tokenizer", "server", "model", "configuration", "coder")
SOON = 12
"""Seconds for all of these; the hub's client alone goes on for more than twenty at each file."""

CHILD = """
import json, sys, time
from pathlib import Path
import huggingface_hub, openai, transformers
from plainspoken.config import LlmServiceConfig
from plainspoken.errors import PlainspokenError
from plainspoken.llm.open import open_llm
from plainspoken.lm.load import load_context, load_lm, load_tokenizer
from plainspoken.pipeline.hub import fetch, hub_name
name, folder, wanted = json.loads(sys.stdin.read())
server = LlmServiceConfig(service="openai", model=name, base_url="http://127.0.0.1:9/v1")
loads = {
    "tokenizer": lambda: load_tokenizer(name),
    "server": lambda: open_llm(server, Path(folder)).close(),
    "model": lambda: load_lm(name, device="cpu"),
    "configuration": lambda: load_context(name),
    "coder": lambda: fetch(hub_name(name), ["layers.0.mlp"]),
}
said, began = {}, time.monotonic()
for which in wanted:
    try:
        loads[which]()
        said[which] = ""
    except PlainspokenError as error:
        said[which] = f"{type(error).__name__}: {error}"
print(json.dumps([time.monotonic() - began, said]))
"""


def child(tmp_path: Path, url: str, *wanted: str, **more: str) -> tuple[float, dict[str, str], str]:
    """Seconds, what each load ends with ("" where it succeeds), and what was printed beside."""
    environment = {
        **os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": url,
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", **more,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps([NAME, str(tmp_path), wanted]), env=environment, text=True,
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seconds, said = json.loads(done.stdout)
    return seconds, said, done.stderr


@contextmanager
def away(how: str) -> Iterator[str]:
    """The address of a hub that refuses connections, takes them and says nothing, or answers 503."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        if how == "silent":
            taken.listen(64)
        if how != "failing":
            yield url
            return
    server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


class Failing(BaseHTTPRequestHandler):
    """A gateway whose hub is down."""

    def do_HEAD(self) -> None:
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is read."""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refusing", "silent", "failing"])
def test_a_hub_that_is_away_is_told_soon_and_without_noise(how: str, tmp_path: Path) -> None:
    with away(how) as url:
        seconds, said, printed = child(tmp_path, url, *EVERY)
    assert printed == ""
    assert seconds < SOON
    for which, what in (("tokenizer", "tokenizer"), ("server", "tokenizer"), ("model", "model")):
        assert said[which].startswith(f"ModelError: cannot load the {what} of '{NAME}': the hub ({url}) cannot be ")
        assert "name a local folder" in said[which]
    assert "set `tokenizer` to a folder" in said["server"]
    assert said["configuration"].startswith("ModelError: cannot load the configuration")
    assert said["coder"].startswith("CoderError: ") and f"the hub ({url}) cannot be reached" in said["coder"]


@pytest.mark.slow
def test_offline_by_the_environment_is_the_same_and_asks_nobody(tmp_path: Path) -> None:
    with away("failing") as url:
        seconds, said, printed = child(tmp_path, url, *EVERY, HF_HUB_OFFLINE="1")
    assert printed == "" and seconds < SOON
    assert all("HF_HUB_OFFLINE" in words for words in said.values()), said


@pytest.mark.slow
def test_what_the_cache_holds_is_used_while_the_hub_is_away(neox_folder: Path, tmp_path: Path) -> None:
    cached(tmp_path / "home" / "hub", NAME, neox_folder)
    with away("silent") as url:
        seconds, said, printed = child(tmp_path, url, "tokenizer", "server", "model", "configuration")
    assert (set(said.values()), printed) == ({""}, "")
    assert seconds < SOON


@pytest.mark.slow
def test_a_hub_that_is_there_is_used(neox_folder: Path, tmp_path: Path) -> None:
    with serve_hub(Hub(NAME, neox_folder)) as hub:
        _, said, _ = child(tmp_path, hub.url, "tokenizer", "server", "model", "configuration")
    assert set(said.values()) == {""}, said
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(hub.fetched)
