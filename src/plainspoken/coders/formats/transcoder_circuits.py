"""transcoder_circuits' checkpoint (Dunefsky et al. 2024, arXiv 2406.11944): one `.pt`, ReLU.

A pickle of {"cfg": an object of a class of that project, "state_dict": W_enc [d_in latents], b_enc, W_dec
[latents d_out], b_dec [d_in], b_dec_out [d_out]}. The encoder reads x - b_dec; an SAE of the same project has no
b_dec_out and adds b_dec.
"""

from dataclasses import dataclass
from pathlib import Path

from plainspoken.coders.base import Coder
from plainspoken.coders.formats.format import CheckpointFormat, site_of
from plainspoken.coders.formats.tensors import AGAIN, Tensors, settings_from
from plainspoken.coders.formats.unpickle import Husk, read_pt
from plainspoken.coders.formats.weights import Weights
from plainspoken.errors import CoderError
from plainspoken.types import Site


@dataclass(frozen=True)
class _Cfg:
    hook_point: str | None = None


def _recognises(path: Path) -> bool:
    return path.is_file() and path.suffix == ".pt" and path.name != "ae.pt"


def _load(path: Path) -> tuple[Coder, Site]:
    held = read_pt(path)
    if not (isinstance(held, dict) and isinstance(held.get("state_dict"), dict) and isinstance(held.get("cfg"), Husk)):
        raise CoderError(
            f"{path} holds no `cfg` and `state_dict` as transcoder_circuits writes them; of dictionary_learning, name "
            f"the folder with ae.pt and config.json; else {AGAIN}"
        )
    cfg = settings_from(held["cfg"].fields, _Cfg, f"{path}, cfg")
    tensors = Tensors(path, held["state_dict"], "transcoder_circuits")
    (d_in, latents), (_, d_out) = tensors.widths("W_enc"), tensors.widths("W_dec")
    transcoder = "b_dec_out" in tensors
    W_enc, b_enc = tensors.take("W_enc", d_in, latents).T, tensors.take("b_enc", latents)
    W_dec, shift = tensors.take("W_dec", latents, d_out), tensors.take("b_dec", d_in)
    b_dec = tensors.take("b_dec_out", d_out) if transcoder else shift
    tensors.none_left()
    weights = Weights(W_enc, b_enc, W_dec, b_dec).reading_less(shift)
    coder = weights.coder(path, "transcoder" if transcoder else "sae", "relu", None)
    return coder, site_of(coder, cfg.hook_point or path.stem)


TRANSCODER_CIRCUITS = CheckpointFormat(
    "transcoder_circuits", "relu transcoders and saes", _recognises, lambda path: [path], _load, save=None
)
