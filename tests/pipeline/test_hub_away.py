"""A hub that is away is told soon, by the error alone; its cache serves, which is told; a hub that is there is used."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import zygote
from hub_made import Hub, cached, serve_hub

NAME, OLDER = "Somebody/their-model", "f" * 40
NONE = {
    "no port": "http://127.0.0.1:99999", "no host": "http://[::1", "no scheme": "127.0.0.1:9", "no name": "http://xn--.c",
}  # fmt: skip
"""What HF_ENDPOINT should not be."""
EVERY = ("tokenizer", "server", "model", "configuration", "coder")
SOON = 12
"""Seconds for all of these; the hub's client alone goes on for more than twenty at each file."""

CHILD = """
import json, os, sys, time
from pathlib import Path
import plainspoken.hub
if "SECONDS" in os.environ:
    plainspoken.hub.WITHIN, plainspoken.hub.PATIENCE = map(float, os.environ["SECONDS"].split())
if os.environ.get("WARM"):  # so that importing is not timed
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
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "WARM": "1", **more,
    }  # fmt: skip
    given = json.dumps([NAME, str(tmp_path), wanted])
    done = zygote.run(CHILD, env=environment, input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    seconds, said = json.loads(done.stdout)
    return seconds, said, done.stderr


@contextmanager
def away(how: str) -> Iterator[str]:
    """The address of a hub that refuses connections, takes them and says nothing, answers 503, or is none."""
    if how in NONE:
        yield NONE[how]
        return
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


@contextmanager
def another_hub(files: Path) -> Iterator[str]:
    """The address of a hub that is there and has no model of the name."""
    with serve_hub(Hub("Somebody/another-model", files)) as hub:
        yield hub.url


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
@pytest.mark.parametrize("how", ["refusing", "failing"])
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
@pytest.mark.parametrize("how", list(NONE))
def test_an_address_that_is_none_is_told(how: str, tmp_path: Path) -> None:
    """With one that cannot be read not even transformers is imported."""
    with away(how) as url:
        _, said, printed = child(tmp_path, url, "tokenizer", "model", "configuration", "coder", WARM="")
    assert printed == ""
    for words in said.values():
        assert words.startswith(("ModelError: cannot load", "CoderError: there is no", "ConfigError: HF_ENDPOINT"))
        assert "HF_ENDPOINT, where the hub should be, is no address" in words or "cannot be reached" in words


@pytest.mark.slow
@pytest.mark.parametrize("how", ["refusing", "failing", "here"])
def test_a_password_in_the_address_is_shown_nowhere(how: str, neox_folder: Path, tmp_path: Path) -> None:
    with away(how) if how != "here" else another_hub(neox_folder) as url:
        hiding = url.replace("://", "://user:p@ss.w0rd@")
        _, said, printed = child(tmp_path, hiding, *EVERY)
        cached(tmp_path / "home" / "hub", NAME, neox_folder)
        _, _, warned = child(tmp_path, hiding, "tokenizer")
    assert all(said.values())
    assert "w0rd" not in "".join(said.values()) + printed + warned
    assert printed == "" and ("HubWarning" in warned) == (how != "here")


@pytest.mark.slow
def test_offline_by_the_environment_is_the_same_and_asks_nobody(tmp_path: Path) -> None:
    with away("failing") as url:
        seconds, said, printed = child(tmp_path, url, *EVERY, HF_HUB_OFFLINE="1")
    assert printed == "" and seconds < SOON
    assert all("HF_HUB_OFFLINE" in words for words in said.values()), said


@pytest.mark.slow
def test_what_the_cache_holds_is_used_while_the_hub_is_away_and_that_is_told(neox_folder: Path, tmp_path: Path) -> None:
    cached(tmp_path / "home" / "hub", NAME, neox_folder)
    with away("refusing") as url:
        seconds, said, printed = child(tmp_path, url, "tokenizer", "server", "model", "configuration")
    assert set(said.values()) == {""}
    assert seconds < SOON
    [told] = {line for line in printed.splitlines() if "HubWarning" in line}
    assert f"the hub ({url}) cannot be reached" in told
    assert f"'{NAME}' is taken from its cache here, which may be of an older commit" in told


@pytest.mark.slow
def test_a_silent_hub_is_waited_for_and_then_its_cache_serves_and_both_are_told(
    neox_folder: Path, tmp_path: Path
) -> None:
    with away("silent") as url:
        seconds, said, printed = child(tmp_path, url, "tokenizer", "coder", SECONDS="0.2 1")
        assert all(f"the hub ({url}) cannot be reached: no answer within 1 seconds" in words for words in said.values())
        assert seconds < SOON and f"the hub ({url}) is slow: no answer within 0.2 seconds" in printed
        cached(tmp_path / "home" / "hub", NAME, neox_folder)
        _, said, printed = child(tmp_path, url, "configuration", SECONDS="0.2 1")
    assert said == {"configuration": ""}
    slow, served = (line for line in printed.splitlines() if "HubWarning" in line)
    assert "waiting for it up to 1," in slow and "HF_HUB_OFFLINE=1" in slow
    assert "older commit" in served


@pytest.mark.slow
def test_a_slow_hub_is_used_and_not_the_older_commit_in_its_cache(neox_folder: Path, tmp_path: Path) -> None:
    cached(tmp_path / "home" / "hub", NAME, neox_folder, commit=OLDER)
    with serve_hub(Hub(NAME, neox_folder, delay_s=1.0)) as hub:
        _, said, printed = child(tmp_path, hub.url, "configuration", SECONDS="0.3 30")
    assert said == {"configuration": ""}
    assert hub.fetched == ["config.json"], "the older commit's was not taken for it"
    assert "is slow" in printed and "older commit" not in printed


@pytest.mark.slow
def test_a_hub_that_is_there_is_used(neox_folder: Path, tmp_path: Path) -> None:
    with serve_hub(Hub(NAME, neox_folder)) as hub:
        _, said, printed = child(tmp_path, hub.url, "tokenizer", "server", "model", "configuration")
    assert (set(said.values()), printed) == ({""}, ""), said
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(hub.fetched)
