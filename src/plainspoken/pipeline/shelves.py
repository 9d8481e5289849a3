"""Where stages put what later stages read, and how it is read back: one function a thing, the same for all readers.

What loads raises StoreError that names a file which is missing or truncated.
"""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from plainspoken.calibrators import Calibration
from plainspoken.coders import read_spec
from plainspoken.corpus.apart import divide, rows_of
from plainspoken.errors import StoreError
from plainspoken.latents import FiringTable
from plainspoken.latents.statistics import LatentStatistics
from plainspoken.pipeline.workplace import Workplace
from plainspoken.scorers.judged import Judged
from plainspoken.scorers.simulation import MEASURES, Measure, SimulationScores
from plainspoken.store import read_json, write_atomic, write_json
from plainspoken.store.atomic import REDO
from plainspoken.types import Pairs, Part, Rows, Simulation

Share = Literal["calibrate", "scoring", "evaluate"]
"""What sentences are simulated over: two shares of the calibrate part, by document, and the evaluate part."""
SHARES: tuple[Share, ...] = get_args(Share)


def save_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Arrays by name, atomically, as safetensors."""
    with write_atomic(path) as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}))


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """What `save_tensors` wrote; StoreError names a file that is missing or truncated."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing; {REDO}") from error
    except SafetensorError as error:
        raise StoreError(f"{path} is truncated or altered ({error}); {REDO}") from error


def save_rows(folder: Path, rows: Rows) -> None:
    """Rows of one part as `PART.safetensors` and `PART.json` (the documents' keys)."""
    tensors = {"tokens": rows.tokens, "mask": rows.mask, "document": rows.document}
    save_tensors(folder / f"{rows.part}.safetensors", tensors)
    write_json(folder / f"{rows.part}.json", {"keys": list(rows.keys)})


def load_rows(workplace: Workplace, part: Part) -> Rows:
    """The rows of a part."""
    folder = workplace.path("corpus")
    tensors = load_tensors(folder / f"{part}.safetensors")
    keys = tuple(read_json(folder / f"{part}.json")["keys"])
    return Rows(tensors["tokens"], tensors["mask"], tensors["document"], keys, part)


def calibrate_rows(workplace: Workplace) -> Rows:
    """The rows of the calibrate part that are calibrated on: those that are not scored on."""
    return divide(load_rows(workplace, "calibrate"), workplace.config.score.share, "score.share")[1]


def scoring_rows(workplace: Workplace) -> Rows:
    """The rows of the calibrate part that sentences are scored on, by their simulation or by others."""
    return divide(load_rows(workplace, "calibrate"), workplace.config.score.share, "score.share")[0]


def simulated_rows(workplace: Workplace, share: Share) -> Rows:
    """The rows of something that sentences are simulated over."""
    if share == "evaluate":
        return load_rows(workplace, "evaluate")
    return calibrate_rows(workplace) if share == "calibrate" else scoring_rows(workplace)


def load_log(workplace: Workplace, site: str) -> list[dict[str, Any]]:
    """The lines of a site's training log, none where the coder is another's; StoreError where one does not read."""
    path = workplace.path("train", site) / "log.jsonl"
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    except json.JSONDecodeError as error:
        raise StoreError(f"{path} is truncated or altered ({error}); {REDO}") from error


def latents_of(workplace: Workplace, site: str) -> int:
    """How many latents the coder of a site has."""
    return read_spec(workplace.path("train", site)).latents


def load_table(workplace: Workplace, site: str, rows: Rows) -> FiringTable:
    """The true firings of a site's latents over these rows (the explain or the calibrate part, or some of its rows)."""
    folder = workplace.path("encode", site) / rows.part
    if rows.part != "calibrate":
        return FiringTable.open(folder, rows)
    whole = load_rows(workplace, "calibrate")
    return FiringTable.open(folder, whole).at_rows(rows_of(whole, rows), rows)


def save_statistics(path: Path, found: LatentStatistics, weight: Float[np.ndarray, " latents"]) -> None:
    """Statistics of a site's latents, with their weight in the model's loss."""
    names = ("firings", "rate", "mean", "second_moment", "maximum", "decoder_norm")
    tensors = {name: getattr(found, name) for name in names}
    save_tensors(path, {**tensors, "weight": weight, "tokens": np.array([found.tokens])})


def load_statistics(
    workplace: Workplace, site: str, part: Part
) -> tuple[LatentStatistics, Float[np.ndarray, " latents"]]:
    """(statistics on a part, weight of each latent in the model's loss)."""
    tensors = load_tensors(workplace.path("encode", site) / f"{part}.statistics.safetensors")
    weight, tokens = tensors.pop("weight"), int(tensors.pop("tokens")[0])
    return LatentStatistics(tokens=tokens, **tensors), weight


def save_simulation(path: Path, simulation: Simulation, texts: UInt8[np.ndarray, "latents 32"], simulator: str) -> None:
    """A simulation with the hash of the sentence each latent was simulated from (zeros: none)."""
    tensors = {"position": simulation.position, "latent": simulation.latent, "level": simulation.level, "texts": texts}
    tensors |= {name: getattr(simulation, name) for name in ("missing_position", "missing_latent")}
    partial = {name: getattr(simulation, name) for name in ("asked", "discarded", "chance")}
    tensors |= {name: array for name, array in partial.items() if array is not None}
    if simulation.passed is not None:
        tensors |= {"passed_position": simulation.passed.position, "passed_latent": simulation.passed.latent}
    shape = np.array([simulation.latents, simulation.rows, simulation.t])
    about = np.frombuffer(f"{simulator}\n{simulation.rows_fingerprint}".encode(), np.uint8)
    save_tensors(path, {**tensors, "shape": shape, "about": about})


def load_simulation(path: Path) -> tuple[Simulation, UInt8[np.ndarray, "latents 32"], str]:
    """(simulation, hash of each latent's sentence, all zeros where none was read, simulator)."""
    tensors = load_tensors(path)
    latents, rows, t = (int(n) for n in tensors["shape"])
    simulator, _, fingerprint = tensors["about"].tobytes().decode().partition("\n")
    # A simulation of before language models has none of these: it was asked about every token and always answered.
    later = ("asked", "missing_position", "missing_latent", "discarded", "chance")
    passed = None
    if "passed_position" in tensors:
        passed = Pairs(tensors["passed_position"], tensors["passed_latent"])
    simulation = Simulation(
        tensors["position"], tensors["latent"], tensors["level"], latents, rows, t, fingerprint,
        **{name: tensors[name] for name in later if name in tensors}, passed=passed,
    )  # fmt: skip
    return simulation, tensors["texts"], simulator


def load_calibration(workplace: Workplace, site: str) -> Calibration:
    """A site's calibration."""
    return Calibration.load(workplace.path("calibrate", site) / "calibration.safetensors")


def save_scores(path: Path, scores: SimulationScores) -> None:
    """Every measure's values, and where it is defined."""
    tensors: dict[str, np.ndarray] = {}
    for name in MEASURES:
        measure: Measure = getattr(scores, name)
        tensors |= {name: measure.values, f"{name}.defined": measure.defined}
    save_tensors(path, tensors)


def load_scores(workplace: Workplace, site: str) -> SimulationScores:
    """A site's scores on the scorers' rows."""
    tensors = load_tensors(workplace.path("calibrate", site) / "scores.safetensors")
    return SimulationScores(**{name: Measure(tensors[name], tensors[f"{name}.defined"]) for name in MEASURES})


def save_judged(path: Path, judged: Judged) -> None:
    """What a scorer judged."""
    save_tensors(path, {name: np.asarray(column) for name, column in vars(judged).items()})


def load_judged(path: Path) -> Judged:
    """What `save_judged` wrote."""
    return Judged(**load_tensors(path))
