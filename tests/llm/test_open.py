"""From settings to answers: a model in process is opened, tried, asked, and not asked twice."""

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from plainspoken.config import HOW_AN_LLM_IS_REACHED, LlmServiceConfig, load_config
from plainspoken.errors import ConfigError, LlmError, ModelError
from plainspoken.llm import Chat, Fault, Message, NextToken, Odds
from plainspoken.llm.llama_wire import LlamaWire
from plainspoken.llm.open import _LOADED, open_dry, open_llm


def test_a_local_model_is_asked_and_its_answers_are_kept(neox_folder: Path, tmp_path: Path) -> None:
    config = LlmServiceConfig(model=str(neox_folder))
    request = NextToken(((1, 2, 3), (1, 2, 4)), (5, 6))
    told = []
    for _ in range(2):
        llm = open_llm(config, tmp_path, device="cpu")
        llm.require("next-token", "at-positions")
        told.append(next(iter(llm.asker.ask([request]))))
        llm.close()
    first, second = told
    assert isinstance(first, Odds) and isinstance(second, Odds)
    assert (first.logprob == second.logprob).all()
    assert (first.usage.from_cache, second.usage.from_cache) == (False, True)


def test_what_the_model_lacks_is_refused_before_it_is_asked(neox_folder: Path, tmp_path: Path) -> None:
    llm = open_llm(LlmServiceConfig(model=str(neox_folder)), tmp_path, device="cpu")
    with pytest.raises(LlmError, match="schema"):
        llm.require("schema")
    llm.close()


def test_a_smaller_context_binds(neox_folder: Path, tmp_path: Path) -> None:
    llm = open_llm(LlmServiceConfig(model=str(neox_folder), context=4), tmp_path, device="cpu")
    (answer,) = llm.asker.ask([NextToken(((1, 2, 3, 4, 5),), (5,))])
    llm.close()
    assert isinstance(answer, Fault) and answer.kind == "beyond context"


def test_an_unset_key_and_a_missing_tokenizer_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        open_llm(LlmServiceConfig(service="openai", model="m", key_variable="NO_SUCH_KEY"), tmp_path)
    with pytest.raises(ModelError, match="set `tokenizer`"):
        open_llm(LlmServiceConfig(service="openai", model="m", tokenizer=str(tmp_path / "none")), tmp_path)


@pytest.mark.parametrize("name", ["chat_template.jinja", "tokenizer.json", "generation_config.json"])
def test_an_answer_is_of_the_template_the_tokenizer_and_the_ends_that_it_was_made_by(
    name: str, neox_folder: Path, tmp_path: Path
) -> None:
    """The same weights, under the same name, with one of these files edited: what is kept is of another model."""
    folder, chat = tmp_path / "model", Chat((Message("user", "Hi"),), 3)
    shutil.copytree(neox_folder, folder)
    edits = {
        "chat_template.jinja": lambda text: "{% for m in messages %}Q: {{ m.content }} A:{% endfor %}",
        "tokenizer.json": lambda text: json.dumps({**json.loads(text), "pre_tokenizer": {"type": "WhitespaceSplit"}}),
        "generation_config.json": lambda text: json.dumps({**json.loads(text or "{}"), "eos_token_id": [5, 6]}),
    }
    from_cache = list[bool]()
    for edited in (False, False, True):
        path = folder / name
        if edited:
            path.write_text(edits[name](path.read_text() if path.exists() else ""))
            _LOADED.clear()
        llm = open_llm(LlmServiceConfig(model=str(folder)), tmp_path, device="cpu")
        (answer,) = llm.asker.ask([chat])
        from_cache.append(answer.usage.from_cache)
        llm.close()
    assert from_cache == [False, True, False]


def test_each_stage_has_its_own_service() -> None:
    config = load_config("pocket", overrides=["simulate.llm.service=openai", "score.llm.model=judge"])
    assert (config.simulate.llm.service, config.explain.llm.service) == ("openai", "local")
    assert config.score.llm.model == "judge"


def test_equal_models_in_process_are_loaded_once(neox_folder: Path, tmp_path: Path) -> None:
    config = LlmServiceConfig(model=str(neox_folder))
    one, two = (open_llm(config, tmp_path / name, device="cpu") for name in "ab")
    assert one.tokens.tokenizer is two.tokens.tokenizer
    other = open_llm(config, tmp_path / "c", device="cpu", dtype="bfloat16")
    assert other.tokens.tokenizer is not one.tokens.tokenizer
    for llm in (one, two, other):
        llm.close()


def test_a_local_model_takes_no_other_tokenizer(neox_folder: Path, llama_folder: Path, tmp_path: Path) -> None:
    config = LlmServiceConfig(model=str(neox_folder), tokenizer=str(llama_folder))
    with pytest.raises(ConfigError, match="brings its own: leave it out"):
        open_llm(config, tmp_path, device="cpu")


def test_a_setting_names_whose_answers_they_are_or_how_they_are_got() -> None:
    settings = {field.name for field in fields(LlmServiceConfig)}
    assert settings - set(HOW_AN_LLM_IS_REACHED) == {"service", "model", "base_url", "tokenizer", "context"}
    assert set(HOW_AN_LLM_IS_REACHED) < settings


def test_llama_server_is_asked_by_its_own_endpoint_and_claims_no_more_in_a_dry_run(
    llama_folder: Path, tmp_path: Path
) -> None:
    config = LlmServiceConfig(service="llama", model=str(llama_folder), base_url="http://127.0.0.1:9/v1")
    real, dry = open_llm(config, tmp_path), open_dry(config, lambda request: "words")
    assert isinstance(real.asker.wire, LlamaWire)
    assert dry.asker.wire.abilities == LlamaWire.abilities
    for llm in (real, dry):
        llm.close()


FRESH = """
import sys
import plainspoken, plainspoken.llm
from plainspoken.llm import Chat, Fault, Wire
print([name for name in ("torch", "openai", "transformers", "httpx2") if name in sys.modules])
from plainspoken.llm import Asker, Limits, LlmTokens, open_dry, open_llm
print([name for name in ("torch", "openai", "httpx2") if name in sys.modules])
"""


def test_importing_the_room_loads_no_torch_and_no_openai() -> None:
    told = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["[]", "[]"]
