"""Run by .venv-peers' Python: what the peers' own packages write, and what they make of what we wrote.

    .venv-peers/bin/python tests/peers/speak.py FOLDER

Writes FOLDER/theirs/CASE/, a checkpoint as its package saves it, and FOLDER/theirs/CASE.safetensors with inputs x and
that package's outputs y. Reads each checkpoint FOLDER/ours/FORMAT/CASE with FORMAT's package and writes its outputs for
the x of FOLDER/ours/FORMAT/CASE.safetensors to FOLDER/ours/FORMAT/CASE.out.safetensors. Gemma Scope's files, whose
project has no package, are read by SAELens's loaders, told that they were downloaded.
"""

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

D_IN, D_OUT, LATENTS, K = 8, 6, 24, 4

SPARSIFY = {
    "sparsify-sae": {},
    "sparsify-transcoder": {"transcode": True},
    "sparsify-skip-transcoder": {"transcode": True, "skip_connection": True},
    "sparsify-january-2025": {"skip_connection": True},
}
SAELENS = (
    "standard", "topk", "jumprelu", "gated", "transcoder", "skip_transcoder", "jumprelu_transcoder",
    "jumprelu_skip_transcoder",
)  # fmt: skip
SAELENS_TRAINING = ("standard", "topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated")
DICTIONARIES = (
    "StandardTrainer", "StandardTrainerAprilUpdate", "TopKTrainer", "BatchTopKTrainer", "MatryoshkaBatchTopKTrainer",
    "JumpReluTrainer", "GatedSAETrainer",
)  # fmt: skip
GEMMA = {
    "gemma-scope-2b-pt-res": "layer_3/width_16k/average_l0_70",
    "gemma-scope-2b-pt-transcoders": "layer_3/width_16k/average_l0_70",
    "gemma-scope-2-1b-pt-resid": "resid_post/layer_3_width_16k_l0_small",
    "gemma-scope-2-1b-pt-transcoder": "transcoder/layer_3_width_16k_l0_small",
    "gemma-scope-2-1b-pt-skip": "transcoder/layer_3_width_16k_l0_small_affine",
}

CASES = (
    *SPARSIFY,
    *(f"saelens-{name}{plain}" for name in SAELENS for plain in ("", "-b_dec") if plain == "" or "trans" not in name),
    "saelens-topk-rescaled",
    *(f"saelens-trained-{name}" for name in SAELENS_TRAINING),
    "saelens-training-batchtopk",
    *(f"dictionary_learning-{name}" for name in DICTIONARIES),
    *(f"gemma-{name}" for name in GEMMA),
)


def random_weights(module) -> None:
    """Every number of a module drawn anew: nothing in it is zero, or what it starts with."""
    import torch

    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.normal_()
                if "threshold" in name:
                    tensor.abs_()


def write_sparsify(folder: Path, save: Callable) -> None:
    import torch
    from sparsify import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    for case, more in SPARSIFY.items():
        coder = SparseCoder(D_IN, SparseCoderConfig(num_latents=LATENTS, k=K, **more), dtype=torch.float32)
        random_weights(coder)
        coder.save_to_disk(folder / case)
        if "january" in case:  # such a cfg.json does not know the word yet, nor these
            cfg = json.loads((folder / case / "cfg.json").read_text())
            kept = {n: v for n, v in cfg.items() if n not in ("transcode", "multi_topk", "activation")}
            (folder / case / "cfg.json").write_text(json.dumps(kept))
            coder = SparseCoder.load_from_disk(folder / case)
        save(case, lambda x, coder=coder: coder(x).sae_out)


def write_saelens(folder: Path, save: Callable) -> None:
    from sae_lens.registry import get_sae_class

    for name in SAELENS:
        kind, settings = get_sae_class(name)
        for plain in ("", "-b_dec") if "trans" not in name else ("",):
            more = {"d_out": D_OUT} if "trans" in name else {}
            more |= {"k": K} if name == "topk" else {}
            sae = kind(settings(d_in=D_IN, d_sae=LATENTS, apply_b_dec_to_input=bool(plain), **more))
            random_weights(sae)
            sae.save_model(folder / f"saelens-{name}{plain}")
            save(f"saelens-{name}{plain}", sae)
    kind, settings = get_sae_class("topk")
    sae = kind(settings(d_in=D_IN, d_sae=LATENTS, k=K, rescale_acts_by_decoder_norm=True))
    random_weights(sae)
    sae.save_model(folder / "saelens-topk-rescaled")
    save("saelens-topk-rescaled", sae)


def write_saelens_training(folder: Path, save: Callable) -> None:
    from sae_lens import SAE
    from sae_lens.registry import get_sae_training_class

    for name in SAELENS_TRAINING:
        kind, settings = get_sae_training_class(name)
        more = {"k": K} if "topk" in name else {}
        more |= {"matryoshka_widths": [LATENTS // 2, LATENTS]} if "matryoshka" in name else {}
        sae = kind(settings(d_in=D_IN, d_sae=LATENTS, **more))
        random_weights(sae)
        case = f"saelens-trained-{name}"
        sae.save_inference_model(folder / case)
        loaded = SAE.load_from_disk(folder / case)
        save(case, loaded)
        if name == "batchtopk":  # a checkpoint on the way: what its training would end with
            sae.save_model(folder / "saelens-training-batchtopk")
            save("saelens-training-batchtopk", loaded)


def write_dictionary_learning(folder: Path, save: Callable) -> None:
    """By its own training: three steps, then the weights are drawn anew and saved as it saves them."""
    import torch

    for name in ("nnsight", "wandb", "zstandard"):  # of which coders need nothing
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["nnsight"].LanguageModel = object
    from dictionary_learning.trainers import batch_top_k, gdm, jumprelu, matryoshka_batch_top_k, standard, top_k
    from dictionary_learning.training import trainSAE
    from dictionary_learning.utils import load_dictionary

    modules = (batch_top_k, gdm, jumprelu, matryoshka_batch_top_k, standard, top_k)
    for name in DICTIONARIES:
        trainer = next(getattr(module, name) for module in modules if hasattr(module, name))
        more = {"k": K} if "TopK" in name else {}
        more |= {"group_fractions": [0.5, 0.5]} if "Matryoshka" in name else {}
        base = {"trainer": trainer, "steps": 3, "activation_dim": D_IN, "dict_size": LATENTS, "layer": 2}
        base |= {"lm_name": "pythia", "device": "cpu", "warmup_steps": 1, "submodule_name": "resid_post_layer_2"}
        base |= {} if "TopK" in name else {"sparsity_warmup_steps": 1}
        case = folder / f"dictionary_learning-{name}"
        batches = (torch.randn(32, D_IN) for _ in range(4))
        trainSAE(batches, [base | more], steps=3, save_dir=str(case), device="cpu", use_wandb=False)
        for path in (case / "trainer_0").iterdir():
            path.rename(case / path.name)
        held = torch.load(case / "ae.pt")
        for tensor in held.values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn_like(tensor).abs() * 0.3)
        if "threshold" in held:
            held["threshold"].abs_()  # it is -1 until a training has gone on for long
        torch.save(held, case / "ae.pt")
        dictionary, _ = load_dictionary(str(case), "cpu")
        save(case.name, dictionary)


def write_gemma(folder: Path, save: Callable) -> None:
    import numpy as np
    import torch
    from sae_lens import SAE
    from sae_lens.loading import pretrained_sae_loaders as loaders
    from safetensors.torch import save_file

    loaders.hf_hub_download = lambda repo_id, filename, subfolder="", force_download=False, revision=None: str(
        folder / f"gemma-{Path(repo_id).name}" / subfolder / filename
    )
    loaders.get_safetensors_tensor_shapes = lambda repo_id, filename: {
        "w_enc": [D_IN, LATENTS], "w_dec": [LATENTS, D_IN],
    }  # fmt: skip
    for repository, below in GEMMA.items():
        place = folder / f"gemma-{repository}" / below
        place.mkdir(parents=True)
        shapes = {"w_enc": (D_IN, LATENTS), "b_enc": (LATENTS,), "w_dec": (LATENTS, D_IN), "b_dec": (D_IN,)}
        shapes |= {"threshold": (LATENTS,)} | ({"affine_skip_connection": (D_IN, D_IN)} if "affine" in below else {})
        tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
        sizes = {"d_in": D_IN, "d_sae": LATENTS}
        if "gemma-scope-2-" in repository:
            save_file(tensors, place / "params.safetensors")
            at = "model.layers.3.{}".format
            hooks = [at("output")] * 2 if "resid" in repository else [at("pre.output"), at("post.output")]
            config = {
                "architecture": "jump_relu",
                "model_name": "gemma-v3-1b-pt",
                "affine_connection": "affine" in below,
            }
            config |= {"hf_hook_point_in": hooks[0], "hf_hook_point_out": hooks[1]}
            (place / "config.json").write_text(json.dumps(config))
            load = loaders.gemma_3_sae_huggingface_loader
        else:
            arrays = {name.replace("w_", "W_"): tensor.numpy() for name, tensor in tensors.items()}
            np.savez(place / "params.npz", **arrays)
            load = loaders.gemma_2_sae_huggingface_loader
            if "transcoders" in repository:
                load, sizes = loaders.gemma_2_transcoder_huggingface_loader, sizes | {"d_out": D_IN}
        cfg, state, _ = load(f"google/{repository}", below, "cpu", cfg_overrides=sizes)
        sae = SAE.from_dict(loaders.handle_config_defaulting(cfg))
        sae.load_state_dict(state)
        save(f"gemma-{repository}", sae)


def read_ours(folder: Path) -> None:
    from sae_lens import SAE
    from safetensors.torch import load_file, save_file
    from sparsify.sparse_coder import SparseCoder

    readers = {
        "sparsify": lambda path, x: SparseCoder.load_from_disk(path)(x).sae_out,
        "saelens": lambda path, x: SAE.load_from_disk(path)(x),
    }
    for name, read in readers.items():
        for path in sorted(path for path in (folder / name).iterdir() if path.is_dir()):
            x = load_file(path.with_name(f"{path.name}.safetensors"))["x"]
            save_file({"y": read(path, x).detach().contiguous()}, path.with_name(f"{path.name}.out.safetensors"))


def main(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    torch.set_num_threads(1)
    theirs = folder / "theirs"
    theirs.mkdir(parents=True)

    def save(case: str, forward: Callable) -> None:
        x = torch.randn(50, D_IN)
        with torch.no_grad():
            y = forward(x)
        save_file({"x": x, "y": y.contiguous()}, theirs / f"{case}.safetensors")

    for write in (write_sparsify, write_saelens, write_saelens_training, write_dictionary_learning, write_gemma):
        write(theirs, save)
    read_ours(folder / "ours")


if __name__ == "__main__":
    for name, value in {"SPARSIFY_DISABLE_TRITON": "1", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}.items():
        os.environ[name] = value
    main(Path(sys.argv[1]))
