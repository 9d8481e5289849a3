"""What was paid and stands in no manifest yet is told by the next attempt once, however the one before was killed."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from llm.server import Server, serve
from plainspoken.errors import StoreError
from plainspoken.llm import AnswerCache, Asker, Completion, Fault, Limits, Reply, Spent
from plainspoken.llm.ledger import LEDGER, Ledger
from plainspoken.llm.openai_wire import OpenAiWire
from plainspoken.llm.requests import Usage, request_key

PAID = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=2, seconds=0.5, requests=3)
EARLIER = Spent(
    earlier_requests=3, earlier_prompt_tokens=10, earlier_cached_tokens=4, earlier_completion_tokens=2,
    earlier_seconds=0.5,
)  # fmt: skip
KEYS = [request_key(Completion(text, 1), "test") for text in ("a", "b", "c")]


MODELS = {"explain": "judge", "simulate": "judge", "simulate (probe)": "judge"}
UNIT = "simulate/site"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llm" / LEDGER


@contextmanager
def opened(path: Path, *done: str, models: Mapping[str, str] = MODELS) -> Iterator[Ledger]:
    """An attempt, in which these units have a manifest. It is not told of its end: killed or not is the same."""
    ledger = Ledger(path, models, lambda unit: unit in done)
    try:
        yield ledger
    finally:
        ledger.close()


def pay(ledger: Ledger, key: bytes, label: str = "simulate", model: str = "judge") -> None:
    assert ledger.note(label, model, key, Reply("a", "stop", PAID))


def is_new(ledger: Ledger, key: bytes, label: str = "simulate") -> bool:
    """Whether what the answer under this key had cost is told, where it comes out of the response cache."""
    return ledger.note(label, "judge", key, Reply("a", "stop", replace(PAID, from_cache=True)))


def test_what_killed_attempts_paid_is_told_by_every_next_one_until_it_is_taken(path: Path) -> None:
    with opened(path) as first:
        pay(first, KEYS[0])
    with opened(path) as second:
        assert second.earlier("simulate") == EARLIER and second.earlier("simulate") == Spent()
        pay(second, KEYS[1])
        second.taken(UNIT, ["simulate"])  # and killed before the manifest
    with opened(path) as third:
        assert third.earlier("simulate") == EARLIER + EARLIER
        third.taken(UNIT, ["simulate"])
    with opened(path, UNIT) as fourth:
        assert fourth.earlier("simulate") == Spent(), "it stands in the manifest"


def test_a_sigkill_loses_no_answer_that_was_noted(path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from plainspoken.llm import Reply, Usage
from plainspoken.llm.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), {})
for at in range(300):
    ledger.note("simulate", "judge", at.to_bytes(8, "big"), Reply("a", "stop", Usage(prompt_tokens=10)))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], timeout=60)
    with opened(path) as ledger:
        assert ledger.earlier("simulate") == Spent(earlier_requests=300, earlier_prompt_tokens=3000)
        assert not any(is_new(ledger, at.to_bytes(8, "big")) for at in range(300))


def test_only_what_a_unit_told_of_is_taken(path: Path) -> None:
    with opened(path, "explain/site") as ledger:
        pay(ledger, KEYS[0], "simulate (probe)")
        pay(ledger, KEYS[1], "explain")
        ledger.taken("explain/site", ["explain"])
        pay(ledger, KEYS[2], "explain")
    with opened(path, "explain/site") as again:
        assert again.earlier("simulate (probe)") == again.earlier("explain") == EARLIER


def test_an_answer_is_in_one_bill_for_as_long_as_that_one_stands(path: Path) -> None:
    with opened(path) as ledger:
        pay(ledger, KEYS[0])
        ledger.taken(UNIT, ["simulate"])
        assert is_new(ledger, KEYS[1]) and not is_new(ledger, KEYS[1], "explain")
        assert not is_new(ledger, KEYS[0], "explain"), "in this attempt"
    with opened(path, UNIT) as later:
        assert not is_new(later, KEYS[0], "explain"), "in one after the stage was done"
        later.void(UNIT)
        assert is_new(later, KEYS[0], "explain"), "its bill is told no longer: it is made anew"
        assert not is_new(later, KEYS[1]), "of no unit yet"


def test_a_fault_has_cost_something_and_is_not_known_by_its_key(path: Path) -> None:
    with opened(path) as ledger:
        assert ledger.note("simulate", "judge", b"", Fault("server", "no", Usage(requests=2, untold=True)))
    with opened(path) as again:
        assert again.earlier("simulate") == Spent(earlier_requests=2, untold=1)
        assert is_new(again, b"\0" * 32)


def test_what_was_paid_to_a_model_is_told_where_that_model_is_asked(path: Path) -> None:
    """Of a score that is killed before its settings stand: by the next score, not by what runs between."""
    with opened(path, models={"simulate": "another"}) as ledger:
        pay(ledger, KEYS[0], model="another")
    with opened(path) as between:
        assert between.earlier("simulate") == Spent()
        pay(between, KEYS[1])
        between.taken(UNIT, ["simulate"])
    with opened(path, UNIT, models={"simulate": "another"}) as again:
        assert again.earlier("simulate") == EARLIER


def test_where_nothing_is_paid_there_is_no_file(path: Path) -> None:
    with opened(path) as ledger:
        ledger.taken(UNIT, ["simulate"])
        ledger.void(UNIT)
        assert ledger.earlier("simulate") == Spent()
    assert not path.parent.exists()


ALTERED = [
    pytest.param("UPDATE bills SET earlier_requests = 'x'", id="a sum that is text"),
    pytest.param("UPDATE bills SET earlier_prompt_tokens = -1", id="a sum below 0"),
    pytest.param("UPDATE bills SET label = x'00'", id="a label that is no text"),
    pytest.param("ALTER TABLE bills DROP COLUMN untold", id="a column that is gone"),
    pytest.param("DROP TABLE bills", id="a table that is gone"),
    pytest.param("PRAGMA user_version = 7", id="another format"),
]


@pytest.mark.parametrize("how", ALTERED)
def test_a_ledger_that_was_altered_is_refused_with_its_mend(path: Path, how: str) -> None:
    with opened(path) as ledger:
        pay(ledger, KEYS[0])
    database = sqlite3.connect(path)
    database.execute(how)
    database.commit()
    database.close()
    with pytest.raises(StoreError, match=r"ledger\.sqlite.*cannot be used.*move it away"):
        Ledger(path, MODELS)


def test_a_ledger_that_is_none_is_refused_with_its_mend_and_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match=r"ledger\.sqlite.*cannot be used.*move it away"):
        Ledger(path, MODELS)
    assert path.read_bytes() == b"not a database at all" * 100


def test_what_the_response_cache_gives_out_is_billed_as_the_ledger_says(path: Path, tmp_path: Path) -> None:
    """Two askers with a cache of their own file's: what the one is billed for, the other is not."""

    def spent(ledger: Ledger, stage: str) -> Spent:
        cache = AnswerCache(tmp_path / "answers.sqlite")
        asker = Asker(OpenAiWire("judge", server.url), cache, limits)
        asker.keep_in(ledger, "judge")
        list(asker.ask(2 * [Completion("abc", 1)], stage))
        asker.close()
        cache.close()
        return asker.spent()[stage]

    limits = Limits(1)
    with serve(Server()) as server:
        with opened(path) as ledger:
            assert spent(ledger, "simulate").requests == 1
            ledger.taken(UNIT, ["simulate"])
        with opened(path, UNIT) as ledger:
            again = spent(ledger, "explain")
            assert (again.from_cache, again.requests, again.earlier_requests) == (2, 0, 0)
            ledger.void(UNIT)
            anew = spent(ledger, "simulate")
            assert (anew.from_cache, anew.requests, anew.earlier_requests, anew.earlier_prompt_tokens) == (2, 0, 1, 3)
        assert server.seen.total() == 1
    limits.close()
