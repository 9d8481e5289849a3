"""A forked program ends, speaks and hears as one that a fresh Python runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import zygote

ENDS = {
    "by itself": "print('said')",
    "by number": "import sys; sys.exit(7)",
    "by words": "import sys; sys.exit('no')",
    "by nothing": "raise SystemExit",
    "wrongly": "def f():\n    raise ValueError('wrong')\nf()",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "hearing": "import sys; print(sys.stdin.read()[::-1], sys.argv[1:], file=sys.stderr)",
}


@pytest.mark.parametrize("how", ENDS)
def test_it_ends_and_speaks_as_a_fresh_one(how: str) -> None:
    forked = zygote.run(ENDS[how], "one", "two words", input="heard", capture_output=True)
    fresh = subprocess.run(
        [sys.executable, "-c", ENDS[how], "one", "two words"],
        input="heard",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (forked.returncode, forked.stdout) == (fresh.returncode, fresh.stdout)
    assert forked.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_it_has_the_environment_it_is_given_and_no_other_and_the_folder_it_is_begun_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "import json, os, sys; print(json.dumps([dict(os.environ), os.getcwd(), 'huggingface_hub' in sys.modules]))"
    given = {"PATH": os.environ["PATH"], "HF_ENDPOINT": "http://127.0.0.1:1"}
    environment, folder, imported = json.loads(zygote.run(code, env=given, capture_output=True).stdout)
    assert environment.items() >= given.items() and "HOME" not in environment
    assert folder == str(tmp_path) and not imported


def test_what_is_killed_from_outside_is_told_so_and_the_next_is_begun_all_the_same() -> None:
    running = zygote.start("import time; time.sleep(60)")
    assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    assert running.wait(timeout=10) == -signal.SIGKILL
    assert zygote.run("print('next')", capture_output=True).stdout == "next\n"
