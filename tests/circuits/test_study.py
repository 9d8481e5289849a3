"""A study's log is whole or refused; what may be seen when follows from it alone."""

import pytest

from plainspoken.circuits.study import START, Head, StudyLog, opened_log, require_visible, verified
from plainspoken.errors import StoreError, UsageError


def made_log(restricted: bool = True) -> StudyLog:
    log = opened_log({"restricted": restricted, "latent": [0, 3]}, "t0")
    log = log.followed_by("look", {"look": "circuit", "latent": "0/3", "prompt": 2}, "t1")
    log = log.followed_by("hypothesis", {"text": "brackets"}, "t2")
    log = log.followed_by("reveal", {"reveal": "examples"}, "t3")
    return log.followed_by("score", {}, "t4")


def records(log: StudyLog) -> list[dict]:
    return [entry.record() for entry in log.entries]


def test_what_was_known_is_told_of_every_moment() -> None:
    log = made_log()
    assert [log.known(n).told for n in range(1, 6)] == [
        "restricted", "restricted", "restricted", "after examples", "after examples, scores known",
    ]  # fmt: skip
    assert log.known(2).looks == ("circuit of 0/3 on prompt 2",)
    assert made_log(restricted=False).known(2).told == "blind"


def test_reveals_open_what_they_name_and_nothing_else() -> None:
    log = made_log()
    assert log.known().tokens_hidden and log.known().layer_0_hidden
    assert not log.followed_by("reveal", {"reveal": "prompts"}, "t").known().tokens_hidden
    assert log.followed_by("reveal", {"reveal": "prompts"}, "t").known().layer_0_hidden
    everything = log.followed_by("reveal", {"reveal": "everything"}, "t").known()
    assert not everything.tokens_hidden and not everything.layer_0_hidden
    for look in ("deembedding", "circuit"):
        with pytest.raises(UsageError, match="hidden: this study is restricted"):
            require_visible(log.known(), look, 0)
        require_visible(log.known(), look, 1)
        require_visible(everything, look, 0)
        require_visible(made_log(restricted=False).known(), look, 0)
    for look in ("weights", "promoted", "sources", "targets"):
        require_visible(log.known(), look, 0)


def test_a_whole_log_comes_back_and_so_does_one_whose_head_a_kill_left_behind() -> None:
    log = made_log()
    assert verified(records(log), log.head, "log") == log
    assert verified(records(log), StudyLog(log.entries[:-1]).head, "log") == log
    first = StudyLog(log.entries[:1])
    assert verified(records(first), None, "log") == first


@pytest.mark.parametrize("line", range(5))
@pytest.mark.parametrize(
    "change",
    [
        {"at": "yesterday"},
        {"what": {"text": "brackets, of course"}},
        {"kind": "look"},
        {"number": 7},
        {"previous": "0"},
    ],
)
def test_an_entry_that_was_altered_is_named(line: int, change: dict) -> None:
    log = made_log()
    told = records(log)
    if {**told[line], **change} == told[line]:
        return
    told[line] |= change
    with pytest.raises(StoreError, match=f"log, line {line + 1}, is altered"):
        verified(told, log.head, "log")


def rechained(log: StudyLog, change) -> list[dict]:
    """A forger who knows how hashes are made, and does not look beside the log."""
    made = opened_log(log.opened, log.entries[0].at)
    for entry in log.entries[1:]:
        made = made.followed_by(entry.kind, change(dict(entry.what)), entry.at)
    return records(made)


def test_entries_taken_out_put_in_moved_cut_off_or_forged_anew_are_refused() -> None:
    log = made_log()
    told = records(log)
    for altered in ([*told[:2], *told[3:]], [told[0], told[2], told[1], *told[3:]], [*told[:2], told[1], *told[2:]]):
        with pytest.raises(StoreError, match="is altered"):
            verified(altered, log.head, "log")
    for n in range(1, 5):
        with pytest.raises(StoreError, match=f"truncated: {n} entries where 5"):
            verified(told[:n], log.head, "log")
    forged = rechained(log, lambda what: what | {"text": "what it is"} if "text" in what else what)
    with pytest.raises(StoreError, match="is not the log that was written last"):
        verified(forged, log.head, "log")
    longer = records(log.followed_by("score", {}, "t").followed_by("score", {}, "t"))
    with pytest.raises(StoreError, match="is not the log that was written last"):
        verified(longer, log.head, "log")
    with pytest.raises(StoreError, match="is missing"):
        verified(told, None, "log")
    with pytest.raises(StoreError, match="not the log that was written last"):
        verified(told, Head(0, START), "log")
