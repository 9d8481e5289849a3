"""What a finished run has measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plainspoken.errors import RunError
from plainspoken.store import read_json


@dataclass(frozen=True)
class CoderResult:
    """What was measured of one site's coder (docs/measures.md defines each figure), and the figure's file."""

    site: str
    record: Mapping[str, Any] = field(repr=False)
    picture: Path


def coder_results(folder: Path) -> tuple[CoderResult, ...]:
    """Every coder of a run folder that is measured, in the order of the layers' numbers."""
    found = sorted((Path(folder) / "measure").glob("*/measures.json"), key=lambda path: _by_number(path.parent.name))
    return tuple(CoderResult(path.parent.name, read_json(path), path.with_name("coder.svg")) for path in found)


@dataclass(frozen=True)
class Comparison:
    """What `compare-coders` measured: a record a coder, the differences of kinds at equal k, the figures' files."""

    site: str
    note: str
    points: tuple[Mapping[str, Any], ...] = field(repr=False)
    differences: tuple[Mapping[str, Any], ...] = field(repr=False)
    pictures: tuple[Path, ...]

    @staticmethod
    def read(folder: Path) -> "Comparison":
        """The comparison of a folder; StoreError where there is none."""
        path = Path(folder) / "compare" / "compare.json"
        content = read_json(path)
        pictures = tuple(path.with_suffix(suffix) for suffix in (".svg", ".png"))
        return Comparison(
            content["site"], content["note"], tuple(content["points"]), tuple(content["differences"]), pictures
        )


def _by_number(module: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdigit() else -1, part) for part in module.split(".")]


@dataclass(frozen=True)
class Results:
    """The records of evaluate/results.json, and where everything lies."""

    folder: Path
    conditions: tuple[Mapping[str, Any], ...] = field(repr=False)
    edits: tuple[Mapping[str, Any], ...]
    """What people's changes to sentences did to the loss: `effect` in nats a token, below 0 where they helped."""
    report: Path | None
    """The report's file, if it is written."""
    in_prompt: int = 1
    """How many latents stood in one prompt of the simulator, at most: the effect of one edit is of its own levels.

    1 as well where the results stand alone, without the run's settings.
    """

    @staticmethod
    def read(folder: Path) -> "Results":
        """The results of a run folder; RunError where it has not been evaluated."""
        from plainspoken.pipeline.company import latents_in_prompt
        from plainspoken.pipeline.stored import is_run_folder, stored_config

        path = Path(folder) / "evaluate" / "results.json"
        if not path.is_file():
            raise RunError(f"{folder} has no results yet; go on with: plainspoken run {folder}")
        report = Path(folder) / "report.html"
        content = read_json(path)
        conditions, edits = tuple(content["conditions"]), tuple(content["edits"])
        in_prompt = latents_in_prompt(stored_config(Path(folder))) if is_run_folder(folder) else 1
        return Results(Path(folder), conditions, edits, report if report.is_file() else None, in_prompt)

    def record(
        self, condition: str, *, site: str | None = None, fraction: float | None = None, order: str | None = None
    ) -> Mapping[str, Any]:
        """The one condition of this name: `rewritten`, or `rewritten@0.1`. What is left open takes the first that fits.

        site: a module path, or `all`; None: the joint rewrite where there is one, else the first site.
        fraction: None: everything rewritten, or whatever is measured at one fraction only.
        Raises RunError where there is no such condition.
        """
        name, _, at = condition.partition("@")
        fraction = float(at) if at else fraction
        found = [r for r in self.conditions if r["condition"].partition("@")[0] == name]
        joint = any(r["site"] == "all" for r in found)
        wanted = site or ("all" if joint else None)
        found = [r for r in found if wanted is None or r["site"] == wanted]
        found = [r for r in found if order is None or r["order"] == order]
        whole = max((r["fraction"] for r in found if r["fraction"] is not None), default=None)
        found = [r for r in found if r["fraction"] in (None, whole if fraction is None else fraction)]
        if not found:
            names = ", ".join(sorted({r["condition"] for r in self.conditions}))
            raise RunError(
                f"{self.folder} has no condition {condition!r} (site {site}, fraction {fraction}, {order}); "
                f"its conditions: {names}"
            )
        return found[0]

    def headline_records(self) -> tuple[Mapping[str, Any], ...]:
        """Each site's conditions with everything rewritten, and its baselines: the closing table's rows."""
        seen, rows = set(), []
        for record in self.conditions:
            if record["condition"].startswith("rewritten-"):
                continue  # what edits did is told by `edits`
            key = (record["site"], record["condition"].partition("@")[0])
            whole = self.record(key[1], site=key[0])
            if key not in seen:
                seen.add(key)
                rows.append(whole)
        return tuple(rows)
