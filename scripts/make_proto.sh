#!/usr/bin/env bash
# Regenerates the committed protobuf code from proto/preceptor_proto/v1/*.proto in a pinned tool environment of its own.
# Code made by grpcio-tools 1.74.0 imports on protobuf 6.33 and 7.x alike; newer generators raise that floor.
#   scripts/make_proto.sh           regenerate in place
#   scripts/make_proto.sh --check   fail when the committed code differs
set -euo pipefail
cd "$(dirname "$0")/.."
tools=".venv-proto"
stamp="$tools/.installed-$(cksum < constraints/proto-tools.txt | tr ' ' '-')"  # other pins, another environment
if [ ! -f "$stamp" ]; then
    rm -rf "$tools"
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/python" -m pip install -q -r constraints/proto-tools.txt
    touch "$stamp"
fi
out="proto"
if [ "${1:-}" = "--check" ]; then
    out="$(mktemp -d)"
    trap 'rm -rf "$out"' EXIT
fi
PATH="$PWD/$tools/bin:$PATH" "$tools/bin/python" -m grpc_tools.protoc -Iproto \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" proto/preceptor_proto/v1/*.proto
# A file without services still gets a _grpc module; drop the empty ones.
for file in "$out"/preceptor_proto/v1/*_pb2_grpc.py; do
    grep -q "class .*Stub" "$file" || rm -f "$file"
done
if [ "${1:-}" = "--check" ]; then
    for file in "$out"/preceptor_proto/v1/*_pb2*; do
        diff -q "$file" "proto/preceptor_proto/v1/$(basename "$file")" || { echo "proto code is stale: run make proto" >&2; exit 1; }
    done
    echo "proto code is current"
fi
