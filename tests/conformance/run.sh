#!/usr/bin/env bash
# run.sh SHARED: Flink's own test programs against the debug build. Fails when fewer pass than tests/conformance/passed.json says; `--raise` writes
# the new counts when more do.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kit=${1:?usage: run.sh SHARED [--raise]}/conformance
[ -x "$kit/run" ] || { echo "conformance: $kit is not here, nothing is judged"; exit 0; }
engine=${SLUICE_BIN:-${CARGO_TARGET_DIR:-target}/debug/sluice}
exec python3 "$here/judge.py" "$kit" "$engine" "$here/passed.json" "${@:2}"
