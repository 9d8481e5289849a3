"""Replace: the model with every FFN that has a coder replaced at once, on calibrate documents, and what that costs.

On the rows that the stage measure takes: the coders were not trained on them, and nothing is chosen by evaluate rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plainspoken.corpus import spread
from plainspoken.evaluate.together import measure_together, passes
from plainspoken.pipeline.own_coders import own_coders
from plainspoken.pipeline.shelves import load_rows
from plainspoken.pipeline.stage import Unit
from plainspoken.pipeline.workplace import Workplace
from plainspoken.store import write_json
from plainspoken.store.manifest import versions

FOLDER, FILE = "replace", "replaced.json"


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured, and the file that holds it. `record`: as `Together.record` has it, and where it is from."""

    record: dict[str, Any]
    file: Path


def replace_ffns(workplace: Workplace, tokens: int | None = None) -> Measured:
    """Writes RUN/replace/replaced.json. The run must be brought up to `train`.

    tokens: of text, at most; None: as many as the stage measure takes. Raises ActivationError for losses that are not
    finite; nothing is written then.
    """
    config, lm = workplace.config, workplace.lm
    rows = spread(load_rows(workplace, "calibrate"), tokens or config.measure.tokens)
    coders = own_coders(workplace)
    whole = passes(len(coders)) * len(rows.tokens)
    with workplace.progress.track("replacing every FFN by its coder", whole) as advance:
        found = measure_together(lm, coders, rows, config.evaluate.rows_per_batch, advance)
    digests = {site.module: workplace.folder(Unit("train", site.module)).manifest() for site in coders}
    record = {
        "model": lm.name,
        "model_fingerprint": lm.fingerprint,
        "coders": {module: None if m is None else m.output_digest for module, m in digests.items()},
        "part": rows.part,
        "rows": rows.fingerprint,
        "tokens": rows.token_count,
        **found.record(config.evaluate.bootstrap, config.seed),
        "bootstrap": config.evaluate.bootstrap,
        "seed": config.seed,
        "versions": versions(),
    }
    file = workplace.path(FOLDER) / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, record)
    return Measured(record, file)
