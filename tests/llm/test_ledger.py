"""What was paid and stands in no manifest yet is told by the next attempt once, however the one before was killed."""

import json
from pathlib import Path

import pytest

from plainspoken.errors import StoreError
from plainspoken.llm import AnswerCache, Completion, Fault, Reply, Spent
from plainspoken.llm.ledger import Ledger
from plainspoken.llm.requests import Usage, request_key

PAID = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=2, seconds=0.5, requests=3)
EARLIER = Spent(
    earlier_requests=3, earlier_prompt_tokens=10, earlier_cached_tokens=4, earlier_completion_tokens=2,
    earlier_seconds=0.5,
)  # fmt: skip
KEYS = [request_key(Completion(text, 1), "test") for text in ("a", "b", "c")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "llm" / "ledger.jsonl"


def pay(ledger: Ledger, key: bytes, label: str = "simulate", model: str = "judge") -> None:
    ledger.note(label, model, key, Reply("a", "stop", PAID))


def test_what_killed_attempts_paid_is_told_by_every_next_one_until_it_is_taken(path: Path) -> None:
    pay(Ledger(path), KEYS[0])  # killed
    second = Ledger(path)
    assert second.earlier("simulate") == EARLIER and second.earlier("simulate") == Spent()
    pay(second, KEYS[1])
    second.taken("simulate/site", ["simulate"])  # and killed before the manifest
    third = Ledger(path, lambda unit: False)
    assert third.earlier("simulate") == EARLIER + EARLIER
    third.taken("simulate/site", ["simulate"])
    fourth = Ledger(path, lambda unit: unit == "simulate/site")
    assert fourth.earlier("simulate") == Spent(), "it stands in the manifest"
    fourth.settle()
    assert not path.parent.exists()


def test_only_what_a_unit_told_of_is_taken_and_what_is_left_outlives_the_end(path: Path) -> None:
    ledger = Ledger(path, lambda unit: True)
    pay(ledger, KEYS[0], "simulate (probe)")
    pay(ledger, KEYS[1], "explain")
    ledger.taken("explain/site", ["explain"])
    pay(ledger, KEYS[2], "explain")
    ledger.settle()
    again = Ledger(path, lambda unit: True)
    assert again.earlier("simulate (probe)") == again.earlier("explain") == EARLIER


def test_answers_that_stand_in_a_bill_are_not_told_by_the_response_cache_as_well(path: Path, tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "answers.sqlite")
    for key in KEYS:
        cache.put(key, Reply("a", "stop", PAID))
    cache.close()
    ledger = Ledger(path)
    pay(ledger, KEYS[0])
    ledger.taken("simulate/site", ["simulate"])
    pay(ledger, KEYS[1])

    def earlier(anew: bool) -> list[bool]:
        again = AnswerCache(tmp_path / "answers.sqlite")
        again.meet(Ledger(path, lambda unit: True, anew=lambda unit: anew).met)
        found = [again.get(key) for key in KEYS]
        again.close()
        return [answer is not None and answer.usage.earlier for answer in found]

    assert earlier(anew=False) == [False, False, True]
    assert earlier(anew=True) == [True, False, True], "the old bill of what is made anew is told no longer"


def test_a_fault_has_cost_something_and_is_not_known_by_its_key(path: Path) -> None:
    Ledger(path).note("simulate", "judge", b"", Fault("server", "no", Usage(requests=2, untold=True)))
    again = Ledger(path)
    assert again.earlier("simulate") == Spent(earlier_requests=2, untold=1)
    assert not again.met


def test_what_was_paid_to_a_model_that_is_no_longer_asked_is_not_told_as_paid_to_the_one_that_is(path: Path) -> None:
    pay(Ledger(path), KEYS[0], model="another")
    assert Ledger(path, counts=lambda label, model: model == "judge").earlier("simulate") == Spent()
    assert not path.exists()


def test_a_line_that_a_kill_cut_off_is_none_and_one_that_was_altered_is_refused(path: Path) -> None:
    ledger = Ledger(path)
    pay(ledger, KEYS[0])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole + whole[:cut])
        again = Ledger(path)
        assert again.earlier("simulate") == EARLIER
        pay(again, KEYS[1])
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [k[:8].hex() for k in KEYS[:2]]
    path.write_bytes(whole[:-1])
    pay(Ledger(path), KEYS[1])
    assert Ledger(path).earlier("simulate") == EARLIER, "the line that is cut off stands alone"
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(StoreError, match=r"ledger\.jsonl is altered.*move it away"):
        Ledger(path)
