"""The dashboards of all latents of a site as one file: a versioned header in JSON and columns, as safetensors.

docs/dashboards.md has the schema. The file is written whole or not at all, and holds a hash over all that is in it: one
that came to harm, or that was changed by hand, is refused.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from plainspoken.circuits.dashboard import Connections, TokenEffects, Wiring
from plainspoken.errors import StoreError
from plainspoken.latents.dashboard import Activity, BandExamples, Shown
from plainspoken.latents.statistics import LatentStatistics
from plainspoken.store import write_atomic
from plainspoken.types import Explanation, Part, SiteKind

FORMAT, VERSION = "plainspoken dashboards", 1
HEADER = "plainspoken"
"""The one entry of the safetensors' metadata: several come back in any order, and equal dashboards are equal bytes."""
MEND = "make it anew with: plainspoken dashboards and the run folder"
_STATISTICS = tuple(field.name for field in fields(LatentStatistics) if field.name != "tokens")
_WINDOWS = tuple(field.name for field in fields(BandExamples))
_STRONGEST = tuple(name for name in _WINDOWS if name != "band")
"""Of columns that files written before there were strongest windows lack, and that their readers pass over."""


@dataclass(frozen=True)
class About:
    """Of what the dashboards are, and how they were made."""

    site: str
    kind: SiteKind
    lm: str
    lm_fingerprint: str
    coder: str
    """Fingerprint of the coder's files."""
    part: Part
    rows: str
    """Fingerprint of the rows of text whose firings are shown."""
    tokens: int
    """Tokens of text in those rows."""
    seed: int
    shown: Shown
    documents: tuple[str, ...]
    """Keys of the documents that the examples are from."""


@dataclass(frozen=True, eq=False)
class Dashboards:
    """All that is shown of all latents of one site.

    `document[e]`: the document, in `about.documents`, of window e of the examples; `strongest_document`: of the
    strongest windows, None where there are none of them. `pieces`: the bytes of every token
    that occurs here. `wiring`: None where the model's weights could not be read as maps. `fidelity`: scores of the
    simulation by name, NaN where a latent has none; no names where the run has not been scored.
    """

    about: About
    activity: Activity
    document: Int[np.ndarray, " windows"]
    wiring: Wiring | None
    pieces: Mapping[int, bytes]
    explanations: Mapping[int, Explanation]
    fidelity: Mapping[str, Float[np.ndarray, " latents"]]
    strongest_document: Int[np.ndarray, " strongest"] | None

    @property
    def latents(self) -> int:
        """How many latents there are, silent ones included."""
        return len(self.activity.histogram)


def write_dashboards(path: Path, dashboards: Dashboards) -> None:
    """The file, atomically; equal dashboards give equal bytes. Raises StoreError where it cannot be written."""
    columns = {name: np.ascontiguousarray(column) for name, column in _columns(dashboards).items()}
    header: dict[str, Any] = {"format": FORMAT, "version": VERSION, "about": asdict(dashboards.about)}
    header["sites"] = None if dashboards.wiring is None else list(dashboards.wiring.sites)
    header["explanations"] = [asdict(each) for _, each in sorted(dashboards.explanations.items())]
    header["sha256"] = _digest(header, columns)
    with write_atomic(path) as file:
        file.write(save(columns, {HEADER: json.dumps(header)}))


def read_dashboards(path: Path) -> Dashboards:
    """What `write_dashboards` wrote.

    Raises StoreError for a file that is missing, truncated, altered, no dashboards, or of another version.
    """
    header, columns = _read(Path(path))
    try:
        return _dashboards(header, columns)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StoreError(f"{path} does not hold whole dashboards ({error!r}); {MEND}") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with safe_open(path, framework="np") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            columns = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing; {MEND}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise StoreError(f"{path} is truncated or altered ({error}); {MEND}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StoreError(f"{path} holds no dashboards: its header names no '{FORMAT}'; {MEND}")
    if header.get("version") != VERSION:
        raise StoreError(
            f"{path} holds dashboards of version {header.get('version')}, and this plainspoken reads {VERSION}; {MEND}"
        )
    if header.pop("sha256", None) != _digest(header, columns):
        raise StoreError(f"{path} is altered: its content is not what its SHA-256 says; {MEND}")
    return header, columns


def _digest(header: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the header but for itself, and every column's name, type, shape and bytes, in order of name."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, column in sorted(columns.items()):
        found.update(f"{name} {column.dtype.str} {column.shape}".encode())
        found.update(column.tobytes())
    return found.hexdigest()


def _columns(dashboards: Dashboards) -> dict[str, np.ndarray]:
    activity, ids = dashboards.activity, sorted(dashboards.pieces)
    spelled = [dashboards.pieces[token] for token in ids]
    found = {f"statistics.{name}": getattr(activity.statistics, name) for name in _STATISTICS}
    found |= {f"examples.{name}": getattr(activity.examples, name) for name in _WINDOWS}
    if activity.strongest is not None and dashboards.strongest_document is not None:
        found |= {f"strongest.{name}": getattr(activity.strongest, name) for name in _STRONGEST}
        found["strongest.document"] = dashboards.strongest_document
    found |= {f"fidelity.{name}": values for name, values in dashboards.fidelity.items()}
    found["histogram"], found["examples.document"] = activity.histogram, dashboards.document
    found["pieces.token"] = np.array(ids, np.int32)
    found["pieces.end"] = np.cumsum([len(piece) for piece in spelled], dtype=np.int64)
    found["pieces.bytes"] = np.frombuffer(b"".join(spelled), np.uint8)
    if (wiring := dashboards.wiring) is not None:
        for name in ("promoted", "suppressed", "exciting", "sources", "targets"):
            part = getattr(wiring, name)
            found |= {} if part is None else {f"{name}.{column}": values for column, values in vars(part).items()}
    return found


def _dashboards(header: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> Dashboards:
    about = dict(header["about"])
    about |= {"shown": Shown(**about["shown"]), "documents": tuple(about["documents"])}
    statistics = LatentStatistics(
        tokens=about["tokens"], **{name: columns[f"statistics.{name}"] for name in _STATISTICS}
    )
    windows = BandExamples(**{name: columns[f"examples.{name}"] for name in _WINDOWS})
    strongest = None
    if "strongest.pointer" in columns:
        kept = {name: columns[f"strongest.{name}"] for name in _STRONGEST}
        strongest = BandExamples(**kept, band=np.zeros_like(kept["row"]))
    spelled = columns["pieces.bytes"].tobytes()
    ends = [0, *columns["pieces.end"].tolist()]
    pieces = [spelled[first:last] for first, last in pairwise(ends)]
    explanations = [Explanation(**each) for each in header["explanations"]]
    return Dashboards(
        about=About(**about),
        activity=Activity(statistics, columns["histogram"], windows, strongest),
        document=columns["examples.document"],
        wiring=None if header["sites"] is None else _wiring(header["sites"], columns),
        pieces=dict(zip(columns["pieces.token"].tolist(), pieces, strict=True)),
        explanations={each.latent: each for each in explanations},
        fidelity={
            name.removeprefix("fidelity."): values for name, values in columns.items() if name.startswith("fidelity.")
        },
        strongest_document=columns.get("strongest.document"),
    )


def _wiring(sites: list[str], columns: Mapping[str, np.ndarray]) -> Wiring:
    def effects(name: str) -> TokenEffects:
        return TokenEffects(columns[f"{name}.token"], columns[f"{name}.effect"])

    def connections(name: str) -> Connections:
        return Connections(*(columns[f"{name}.{each}"] for each in ("site", "latent", "weight")))

    return Wiring(
        promoted=effects("promoted"),
        suppressed=effects("suppressed"),
        exciting=effects("exciting") if "exciting.token" in columns else None,
        sites=tuple(sites),
        sources=connections("sources"),
        targets=connections("targets"),
    )
