"""The response cache: what was put in comes out to the bit, whatever happens to the process."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plainspoken.errors import StoreError
from plainspoken.llm import Fault, Odds, Reply, Usage
from plainspoken.llm.cache import AnswerCache


@given(st.lists(st.floats(max_value=0.0, allow_nan=False), min_size=1, max_size=20))
def test_log_probabilities_come_back_to_the_bit(tmp_path_factory, values):
    cache = AnswerCache(tmp_path_factory.mktemp("cache") / "answers.sqlite")
    cache.put(b"key", Odds(np.array([values]), Usage(prompt_tokens=7)))
    kept = cache.get(b"key")
    cache.close()
    assert isinstance(kept, Odds) and kept.logprob.tobytes() == np.array([values]).tobytes()
    assert kept.usage == Usage(prompt_tokens=7, from_cache=True)


def test_replies_are_kept_and_faults_are_not(tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put(b"a", Reply("ö\n\x00", "length"))
    cache.put(b"b", Fault("server", "down"))
    cache.put(b"c", Odds(np.zeros((0, 3))))
    assert cache.get(b"a") == Reply("ö\n\x00", "length", Usage(from_cache=True))
    assert cache.get(b"b") is None
    assert cache.get(b"c").logprob.shape == (0, 3)
    assert len(cache) == 2


def test_two_caches_of_one_file_have_its_answers_and_nothing_else_in_common(tmp_path):
    """Of two runs in one process, say: what one paid is what the other's bill calls paid earlier."""
    path = tmp_path / "answers.sqlite"
    one, two = AnswerCache(path), AnswerCache(tmp_path / "." / "answers.sqlite")
    one.put(b"a" * 32, Reply("said", "stop"))
    assert one.get(b"a" * 32) == Reply("said", "stop", Usage(from_cache=True))
    assert two.get(b"a" * 32) == Reply("said", "stop", Usage(from_cache=True, earlier=True))
    assert two.get(b"a" * 32) == Reply("said", "stop", Usage(from_cache=True)), "each answer once"
    one.close()
    two.close()


def test_a_closed_cache_gives_out_nothing_whoever_else_has_the_file(tmp_path):
    one, two = (AnswerCache(tmp_path / "answers.sqlite") for _ in range(2))
    one.put(b"a" * 32, Reply("said", "stop"))
    one.close()
    one.close()
    asks = (lambda: one.get(b"a" * 32), lambda: one.put(b"b", Reply("", "stop")), one.__len__)
    for ask in asks:
        with pytest.raises(StoreError, match=r"answers\.sqlite is closed.*open"):
            ask()
    assert two.get(b"a" * 32) is not None
    two.close()


def test_a_cache_that_is_dropped_lets_go_of_its_file(tmp_path):
    path = tmp_path / "answers.sqlite"
    dropped = AnswerCache(path)
    dropped.put(b"a" * 32, Reply("said", "stop"))
    del dropped
    gc.collect()
    if Path("/proc/self/fd").is_dir():
        assert not [each for each in Path("/proc/self/fd").iterdir() if str(path) in os.path.realpath(each)]
    again = AnswerCache(path)
    assert again.get(b"a" * 32) == Reply("said", "stop", Usage(from_cache=True, earlier=True))
    again.close()


def test_what_is_moved_away_is_served_no_more(tmp_path):
    """As the refusal of a damaged file advises."""
    path = tmp_path / "answers.sqlite"
    before = AnswerCache(path)
    before.put(b"a" * 32, Reply("said", "stop"))
    path.rename(tmp_path / "away.sqlite")
    after = AnswerCache(path)
    assert after.get(b"a" * 32) is None and len(after) == 0 and path.exists()
    after.close()
    before.close()


WRITER = """
import sys, itertools
from pathlib import Path
from plainspoken.llm.cache import AnswerCache
from plainspoken.llm.requests import Reply
cache = AnswerCache(Path(sys.argv[1]))
for at in itertools.count():
    cache.put(str(at).encode(), Reply("x" * 1000, "stop"))
    print(at, flush=True)
"""


def test_a_process_killed_while_it_writes_loses_nothing_that_it_had_written(tmp_path):
    path = tmp_path / "answers.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    for _ in range(200):
        writer.stdout.readline()
    time.sleep(0.05)
    os.kill(writer.pid, signal.SIGKILL)
    told = 199 + sum(line.endswith("\n") for line in writer.stdout.readlines())
    writer.wait()
    cache = AnswerCache(path)
    assert len(cache) in (told + 1, told + 2)
    assert all(cache.get(str(at).encode()).text == "x" * 1000 for at in range(told + 1))


def test_what_is_no_cache_is_refused_by_name_and_left_as_it_is(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="answers"):
        AnswerCache(path)
    assert path.read_bytes() == b"not a database at all" * 100


def test_a_damaged_cache_is_refused_by_name(tmp_path):
    path = tmp_path / "answers.sqlite"
    cache = AnswerCache(path)
    for at in range(300):
        cache.put(str(at).encode(), Reply("x" * 1000, "stop"))
    cache.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="answers"):
        damaged = AnswerCache(path)
        damaged.get(b"7")
