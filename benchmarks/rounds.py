"""Programs side by side: one process each, in turn, round after round; whether the machine was quiet; where it is told.

Interleaved rounds and medians, because a machine's speed drifts; CPU seconds and one thread where that says enough,
because others may be at work; how much they were, because then the caches were not ours alone. Linux.
"""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
README = HERE / "README.md"
DELPHI = HERE.parent / ".venv-delphi" / "bin" / "python"
TRAINERS = HERE.parent / ".venv-peers" / "bin" / "python"
_QUIET = 0.2
"""How many cores others may keep busy, on average over a round, on a machine that is called quiet."""


@dataclass(frozen=True)
class Rounds:
    """What every program told in each round, and how many cores others kept busy meanwhile."""

    told: Mapping[str, Sequence[dict]]
    others: Sequence[float]
    threads: int = 1

    @property
    def quiet(self) -> bool:
        """Whether others left the machine alone."""
        return max(self.others) <= _QUIET

    def median(self, name: str, fact: str) -> float:
        """Over the rounds."""
        return median(told[fact] for told in self.told[name])

    @property
    def note(self) -> str:
        """Machine, versions, day, and how far to trust the figures."""
        busiest = f"others kept at most {max(self.others):.2f} cores busy in a round"
        state = f"quiet: {busiest}" if self.quiet else f"**NOT QUIET**: {busiest}; the figures are only indicative"
        rounds = len(next(iter(self.told.values())))
        return (
            f"{cpu()}, {os.cpu_count()} cores, {self.threads} used; Linux, Python {platform.python_version()}, torch "
            f"{version('torch')}; {date.today().isoformat()}, medians of {rounds} rounds; {state}."
        )


def run(command: Sequence[str | Path], threads: int = 1) -> dict:
    """What a program, held to so many threads, tells in its last line. Raises CalledProcessError where it fails."""
    held = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment = {**os.environ, **held, "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run([str(c) for c in command], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout + done.stderr)
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def interleave(programs: Mapping[str, Sequence[str | Path]], rounds: int, threads: int = 1) -> Rounds:
    """Each program once a round."""
    told: dict[str, list[dict]] = {name: [] for name in programs}
    others = []
    for i in range(rounds):
        began, before = time.monotonic(), _others()
        for name, command in programs.items():
            told[name].append(run(command, threads))
            print(f"round {i + 1}: {name}: {told[name][-1]}", flush=True)
        others.append(max(0.0, _others() - before) / (time.monotonic() - began))
        warning = "" if others[-1] <= _QUIET else ": the machine is not quiet"
        print(f"round {i + 1}: others kept {others[-1]:.2f} cores busy{warning}", flush=True)
    return Rounds(told, others, threads)


def _others() -> float:
    """Seconds of CPU that all processes but ours and those that we have waited for have used since the machine started.

    Time that a hypervisor gave to other machines is theirs too.
    """
    user, nice, system, _idle, _waiting, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    ours = os.times()
    everybody = (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
    return everybody - ours.user - ours.system - ours.children_user - ours.children_system


def cpu() -> str:
    """The processor's name as the system has it."""
    found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_block(readme: Path, name: str, block: str) -> None:
    """Puts the block between the page's marks <!-- name --> and <!-- /name -->."""
    marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    page, found = marked.subn(lambda m: m[1] + block + "\n" + m[2], readme.read_text())
    assert found == 1, f"{readme} has {found} blocks called {name}"
    readme.write_text(page)
