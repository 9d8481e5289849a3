"""plainspoken: rewrite parts of a language model in plain English, splice them back, and measure what that costs.

    config = plainspoken.load_config(overrides=["coder.k=32"])
    results = plainspoken.run(config, "runs/mine")
    results.record("rewritten")["recovered"]
    plainspoken.generate("runs/mine", "def ")

Names are imported when they are first used: `import plainspoken` takes no time and loads no torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# On a busy machine threads that spin while they wait for each other make torch many times slower; on an idle one
# sleeping costs next to nothing. OpenMP reads this once, when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from plainspoken.config import Config, load_config
    from plainspoken.lm import LanguageModel, capture, load_lm, resolve_sites, splice
    from plainspoken.pipeline import Progress, Results, compare_coders, generate, run, scores

_HOMES = {
    "Config": "config",
    "LanguageModel": "lm",
    "Progress": "pipeline",
    "Results": "pipeline",
    "capture": "lm",
    "compare_coders": "pipeline",
    "generate": "pipeline",
    "load_config": "config",
    "load_lm": "lm",
    "resolve_sites": "lm",
    "run": "pipeline",
    "scores": "pipeline",
    "splice": "lm",
}

__all__ = [
    "Config",
    "LanguageModel",
    "Progress",
    "Results",
    "capture",
    "compare_coders",
    "generate",
    "load_config",
    "load_lm",
    "resolve_sites",
    "run",
    "scores",
    "splice",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'plainspoken' has no attribute {name!r}")
    value = getattr(import_module(f"plainspoken.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
