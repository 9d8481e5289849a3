"""The key goes to the server and nowhere else: no file, log, error text, answer or cache holds it."""

import io
import json
import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.server import Server, Trouble, serve
from plainspoken.config import LlmServiceConfig, load_config
from plainspoken.errors import ConfigError, LlmError
from plainspoken.llm import Chat, Completion, Fault, Message, NextToken, Reply, open_llm
from plainspoken.llm.key import Key, refuse_secrets
from plainspoken.llm.open import require_reachable
from plainspoken.pipeline import STAGES, dry_run, dry_scores, run, scores
from plainspoken.pipeline.workplace import Workplace

KEY = 'sk-mark/"5e1f0c+8a'
WRITTEN = (KEY, json.dumps(KEY)[1:-1], json.dumps(KEY)[1:-1].replace("/", "\\/"), "5e1f0c")
ASKED = [
    Chat((Message("user", "say 7"),), 4),
    Completion("abc", 4),
    NextToken(((1, 2), (1, 2, 3)), (48, 49)),
]


def quoted(status: int, headers: dict[str, str]) -> Trouble:
    """An error that quotes what was sent, plainly and as JSON, so that the key lies across where a reason is cut."""
    sent = headers["authorization"]
    return Trouble(status, ("x" * (290 - len(sent)) + sent + json.dumps(sent)).encode(), {"retry-after-ms": "1"})


def replied(headers: dict[str, str]) -> Trouble:
    text = f"you sent {headers['authorization']}"
    choice = {"index": 0, "text": text, "message": {"content": text}, "finish_reason": "stop"}
    return Trouble(body=json.dumps({"choices": [choice]}).encode())


def refused(headers: dict[str, str]) -> Trouble:
    message = {"content": None, "refusal": headers["authorization"]}
    return Trouble(body=json.dumps({"choices": [{"index": 0, "message": message}]}).encode())


TROUBLES = {
    "none": lambda headers: None,
    "unauthorized": lambda headers: quoted(401, headers),
    "bad request": lambda headers: quoted(400, headers),
    "too long": lambda headers: Trouble(400, f"context length {headers['authorization']}".encode()),
    "failing": lambda headers: quoted(500, headers),
    "no JSON": lambda headers: Trouble(body=headers["authorization"].encode()),
    "in a reply": replied,
    "in a refusal": refused,
    "cut line": lambda headers: Trouble(drop=True),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_the_key_is_sent_and_never_shown(
    name: str, neox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEST_LLM_KEY", KEY)
    heard = []

    def trouble(path: str, before: int, headers: dict[str, str]) -> Trouble | None:
        heard.append(headers["authorization"])
        return TROUBLES[name](headers)

    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    shown = list[str]()
    with serve(Server(trouble=trouble)) as server:
        config = LlmServiceConfig(
            service="openai", model="m", base_url=server.url, tokenizer=str(neox_folder), key_variable="TEST_LLM_KEY",
            retries=1,
        )  # fmt: skip
        llm = open_llm(config, tmp_path / "kept")
        answers = list(llm.asker.ask([*ASKED, *ASKED], "stage"))
        try:
            shown.append(repr(llm.require("chat", "next-token")))
        except LlmError as error:
            shown.append(str(error))
        shown += [repr(answers), repr(llm.asker.spent()), repr(llm), repr(config), llm.name, repr(vars(llm.asker.wire))]
        llm.close()
    logging.getLogger().removeHandler(handler)
    assert set(heard) == {f"Bearer {KEY}"}
    if name == "in a reply":
        assert [type(answer) for answer in answers[:2]] == [Fault, Fault] and "TEST_LLM_KEY" in repr(answers)
    if name == "none":
        assert isinstance(answers[0], Reply)
    shown += [log.getvalue(), *capfd.readouterr()]
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    for written in WRITTEN:
        assert not any(written in text for text in shown)
        assert not any(written.encode() in content for content in kept)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8), st.text())
def test_no_key_stays_in_a_text_however_it_is_written(value: str, around: str) -> None:
    key = Key("VARIABLE", value)
    for written in (value, json.dumps(value), json.dumps(value).replace("/", "\\/")):
        assert key.shown_in(around + written)
        assert not key.shown_in(key.hide(around + written)) or value in "[VARIABLE]"
    assert value not in repr(key)


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("schlüssel-geheim", "two\nlines-geheim"):
        monkeypatch.setenv("TEST_LLM_KEY", value)
        with pytest.raises(ConfigError, match="TEST_LLM_KEY") as refusal:
            Key.of("TEST_LLM_KEY")
        assert "geheim" not in str(refusal.value)


def test_a_placeholder_for_a_key_is_no_secret_that_spoils_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_LLM_KEY", "none")
    assert not Key.of("TEST_LLM_KEY").shown_in("none of these")


SECRET = "sk-proj-4f9aB7c1d2e3f4a5b6c7"


IN_SETTINGS = pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("base_url", f"https://gateway.example/{SECRET}/v1"),
        ("base_url", f"https://{SECRET}.gateway.example/v1"),
        ("model", SECRET),
        ("model", f"judge:{SECRET}"),
        ("tokenizer", f"somebody/{SECRET}"),
        ("cache", f"/tmp/{SECRET}/answers"),
        ("cache", "/tmp/hf_abcdefghijklmnopqrst"),
        ("base_url", f"https://me:{SECRET}@gateway.example/v1"),
        ("base_url", f"https://gateway.example/v1?key={SECRET}"),
        ("base_url", "https://gateway.example/hunter2-hunter2/v1"),
        ("model", "judge:hunter2-hunter2"),
        ("tokenizer", "hunter2-hunter2"),
        ("cache", "/tmp/hunter2-hunter2"),
        ("key_variable", SECRET),
        ("key_variable", "4f9ab7c1d2e3f4a5b6c7d8e9"),
        ("key_variable", "a4f9ab7c1d2e3f4a5b6c7d8e9"),
    ],
)


def require_hidden(told: str, setting: str) -> None:
    for secret in (SECRET, "hunter2", "4f9ab7c1", "hf_abc"):
        assert secret not in told, told
    assert setting in told


@pytest.mark.parametrize("section", ["explain", "score", "simulate"])
@pytest.mark.parametrize("service", ["openai", "local"])
@IN_SETTINGS
@pytest.mark.parametrize("dry", [False, True])
def test_a_key_in_a_setting_is_refused_without_being_shown_or_kept(
    section: str, service: str, setting: str, value: str, dry: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a section that is not asked: settings are kept in the run folder, whoever reads them."""
    monkeypatch.setenv("TEST_LLM_KEY", "hunter2-hunter2")
    values = {f"{section}__llm__service": service, f"{section}__llm__key_variable": "TEST_LLM_KEY"}
    config = load_config(**{**values, f"{section}__llm__{setting}": value}, simulate__simulator="last-token")
    with pytest.raises(ConfigError) as refusal:
        (dry_run if dry else run)(config, tmp_path / "run")
    require_hidden("".join(traceback.format_exception(refusal.value)), setting)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("service", ["openai", "local"])
@IN_SETTINGS
@pytest.mark.parametrize("asks", [run, dry_run, scores, dry_scores])
def test_nor_is_it_shown_or_kept_in_a_run_folder_that_there_is(
    asks: Callable[..., object], service: str, setting: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_LLM_KEY", "hunter2-hunter2")
    folder = tmp_path / "run"
    Workplace(folder, load_config(), STAGES).save_config()
    before = (folder / "config.json").read_bytes()
    llm = {"service": service, "key_variable": "TEST_LLM_KEY", setting: value}
    with pytest.raises(ConfigError) as refusal:
        if asks in (run, dry_run):
            values = {f"score__llm__{name}": each for name, each in llm.items()}
            asks(load_config(**values, simulate__simulator="last-token"), folder)
        else:
            asks(folder, by=["detection"], overrides=[f"score.llm.{name}={each}" for name, each in llm.items()])
    require_hidden("".join(traceback.format_exception(refusal.value)), setting)
    assert (folder / "config.json").read_bytes() == before


@pytest.mark.parametrize("variable", [SECRET, "a4f9ab7c1d2e3f4a5b6c7d8e9", "SOME_KEY"])
def test_a_model_in_process_is_given_no_key_and_what_stands_there_is_not_shown(variable: str) -> None:
    with pytest.raises(ConfigError, match=r"explain: .*key_variable") as refusal:
        require_reachable(LlmServiceConfig(key_variable=variable), "explain")
    assert variable not in "".join(traceback.format_exception(refusal.value))


def test_names_that_begin_as_keys_do_are_none() -> None:
    for setting, value in [
        ("model", "hf-internal-testing/tiny-random-LlamaForCausalLM"),
        ("model", "xai-org/grok-2"),
        ("tokenizer", "/data/hf_models_and_tokenizers_2/sk-learners-and-others"),
        ("cache", "/data/task-4f9aB7c1d2e3f4a5b6c7/answers"),
        ("base_url", "https://xai-gateway.example/sk-1/v1"),
    ]:
        refuse_secrets(replace(LlmServiceConfig("openai", "m"), **{setting: value}), "explain.llm")


def test_ids_in_an_address_and_long_names_of_variables_are_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("set4f9ab7c1d2e3f4a5b6c7d8e9", "none")
    for variable in ("my_key_of_the_service_number_2", "set4f9ab7c1d2e3f4a5b6c7d8e9", ""):
        url = "https://gateway.example/v1/4f9ab7c1d2e3f4a5b6c7d8e94f9ab7c1/openai"
        refuse_secrets(LlmServiceConfig("openai", "none", url, variable), "explain.llm")


def test_another_server_than_the_one_that_is_named_is_not_sent_the_key(
    neox_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A redirection to another origin is followed without it."""
    monkeypatch.setenv("TEST_LLM_KEY", KEY)
    heard = list[str]()

    def listen(path: str, before: int, headers: dict[str, str]) -> None:
        heard.append(headers.get("authorization", "none"))

    with serve(Server(trouble=listen)) as other:
        away = Trouble(307, b"", {"location": f"{other.url}/completions"})
        with serve(Server(trouble=lambda path, before, headers: away)) as server:
            config = LlmServiceConfig("openai", "m", server.url, "TEST_LLM_KEY", str(neox_folder), retries=0)
            llm = open_llm(config, tmp_path)
            list(llm.asker.ask([Completion("abc", 1)]))
            llm.close()
    assert heard == ["none"]
