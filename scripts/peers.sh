#!/usr/bin/env bash
# Installs the projects that ours is compared with, each set in an environment of its own:
#
#     scripts/peers.sh coders    # .venv-peers: sparsify, SAELens, dictionary_learning (checkpoints, training)
#     scripts/peers.sh delphi    # .venv-delphi: delphi (encoding, sampling of examples)
#     scripts/peers.sh circuits  # .venv-tracer: circuit-tracer (attribution graphs)
#
# `pytest -m peers` and the benchmarks use them where they are there. About 2 GB each.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}

environment() { # NAME: the folder, with the torch that ours has
    "$PYTHON" -m venv "$1"
    "$1/bin/python" -m pip install --quiet -c constraints.txt torch
}

case "${1:-}" in
coders)
    environment .venv-peers
    .venv-peers/bin/python -m pip install --quiet torch==2.13.0 sae-lens==6.54.12 eai-sparsify==1.3.3
    # Without its dependencies: nnsight and others, which a coder does not need.
    .venv-peers/bin/python -m pip install --quiet --no-deps dictionary-learning==0.1.0
    ;;
delphi)
    environment .venv-delphi
    .venv-delphi/bin/python -m pip install --quiet torch==2.13.0 transformers faiss-cpu sentence-transformers \
        jaxtyping beartype orjson simple-parsing blobfile asyncer eai-sparsify==1.3.3
    # Without its dependencies: vllm, which its cache and samplers do not need.
    .venv-delphi/bin/python -m pip install --quiet --no-deps eai-delphi==0.1.3
    ;;
circuits)
    environment .venv-tracer
    .venv-tracer/bin/python -m pip install --quiet torch==2.13.0 circuit-tracer==0.5.0
    ;;
*)
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
