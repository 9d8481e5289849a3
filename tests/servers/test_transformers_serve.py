"""What `transformers serve` makes of questions about log-probabilities: nothing, and it does not say so."""

from pathlib import Path

import pytest

from plainspoken.errors import LlmError
from plainspoken.llm import Fault, NextToken
from servers.client import LEVEL, asked, opened, probed, words
from servers.launch import Server

pytestmark = pytest.mark.servers


def test_logprobs_and_echo_are_taken_and_ignored(transformers_serve: Server) -> None:
    response = transformers_serve.post(
        "/v1/completions",
        {"model": transformers_serve.model, "prompt": "One day the", "echo": True, "logprobs": 5, "max_tokens": 4},
    )
    assert response.status_code == 200, response.text
    answer = response.json()["choices"][0]
    assert not answer.get("logprobs")
    assert not answer["text"].startswith("One day the")


def test_logprobs_of_a_chat_are_taken_and_ignored(transformers_serve: Server) -> None:
    response = transformers_serve.post(
        "/v1/chat/completions",
        {
            "model": transformers_serve.model,
            "messages": [{"role": "user", "content": "Hello"}],
            "logprobs": True,
            "top_logprobs": 5,
            "max_tokens": 4,
            "stream": False,
        },
    )
    assert response.status_code == 200, response.text
    assert not response.json()["choices"][0].get("logprobs")


def test_our_client_may_only_ask_it_for_words(
    transformers_serve: Server, served_folder: Path, tmp_path: Path, digits: list[int]
) -> None:
    with opened(transformers_serve, served_folder, tmp_path) as llm:
        found = probed(llm)
        assert found.truthful == {"chat", "completion"}
        for ability in ("next-token", "at-positions"):
            assert "Unexpected fields in the request" in found.refused[ability]
        assert "the schema is ignored" in found.refused["schema"]
        with pytest.raises(LlmError, match="serve the model with vLLM"):
            llm.require("next-token")
        told = asked(llm, NextToken(((5, 6, 7),), tuple(digits)))
        assert isinstance(told, Fault) and told.kind == "refused"
        assert words(llm, LEVEL).text == words(llm).text, "a schema changes something now"
