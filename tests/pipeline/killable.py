"""A process that runs the pipeline in forked children and has them killed (SIGKILL) at a moment that is asked for.

Each line of its input is {"config": settings, "folder": path, "stage": name, "at": n}: run, and be killed at the n-th
time that the stage opens a file for writing in its folder or renames one there; n "manifest": when its manifest would
take its name; n null: not at all. Each line of its output is {"status": what wait told, "moments": {stage: how many}}.
"""

import json
import os
import pkgutil
import signal
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any


def watch(folder: Path, stage: str, at: int | str | None) -> Counter[str]:
    """Counts the moments of each stage of the run in `folder` from now on, and dies at the one asked for."""
    moments: Counter[str] = Counter()

    def heard(event: str, args: tuple[Any, ...]) -> None:
        if event == "os.rename":
            path = args[1]
        elif event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            path = args[0]
        else:
            return
        if not isinstance(path, str | bytes | os.PathLike):
            return
        path = Path(os.fsdecode(path))
        if not path.is_relative_to(folder) or len(path.relative_to(folder).parts) < 2:
            return
        here = path.relative_to(folder).parts[0]
        moments[here] += 1
        manifest = at == "manifest" and event == "os.rename" and path.name == "manifest.json"
        if here == stage and (moments[here] == at or manifest):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)
    return moments


def child(task: dict[str, Any], told: int) -> None:
    """One run, in a process of its own."""
    from plainspoken.config import config_from_tree
    from plainspoken.pipeline import run

    folder = Path(task["folder"])
    moments = watch(folder, task["stage"], task["at"])
    run(config_from_tree(task["config"]), folder)
    os.write(told, json.dumps(moments).encode())


def main() -> None:
    """Imports once what every run imports, then serves."""
    import torch
    from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    import plainspoken

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(plainspoken.__path__, "plainspoken."):
        if module.name != "plainspoken.__main__":
            import_module(module.name)
    for line in sys.stdin:
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            code = 1
            try:
                child(json.loads(line), writing)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            moments = json.loads(told.read() or b"{}")
        print(json.dumps({"status": os.waitpid(process, 0)[1], "moments": moments}), flush=True)


if __name__ == "__main__":
    main()
