#!/usr/bin/env bash
# run.sh SLUICE SHARED [what …]: CPU, memory and throughput beside Apache Flink, on the same topics of the same broker in one run; then commits,
# latency and restoring, of Sluice alone.
# SCALE=1 loads all events (about 3 GB); the default 0.2 a fifth of them. FLINK=0 leaves Flink out; so does a missing SHARED/lab/flink.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sluice=$(realpath "$1") shared=$2; shift 2
# State larger than its memory, and windows of rules, need neither Kafka nor Flink.
[ $# -gt 0 ] || { "$here/spill.sh" "$sluice"; "$here/rules.sh" "$sluice"; }
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
"$here/../setup/setup.sh" test
if [ ! -d "$shared/lab/flink" ]; then
  echo "== $shared/lab/flink is not here: Flink is left out"
  cargo build -q --manifest-path "$here/../../Cargo.toml" -p sluice-tests --bin services
  exec python3 -u "$here/bench.py" "$sluice" "${CARGO_TARGET_DIR:-$here/../../target}/debug/services" "${@:-unnest tumble match commits latency restore}"
fi
lab=$cache/bench-lab
mkdir -p "$lab" && cp -r "$shared/lab/flink/." "$lab/" && chmod -R u+w "$lab"
kafka=$cache/kafka-4.3.1 apicurio=$cache/apicurio-2.6.13.Final
[ -e "$lab/kafka/lib" ] || { mkdir -p "$lab/kafka"; ln -s "$kafka/lib" "$lab/kafka/lib"; }
[ -e "$lab/registry/app" ] || { mkdir -p "$lab/registry"; ln -s "$apicurio" "$lab/registry/app"; }
echo "== fetching Flink and the loader's Python packages (once)"
(cd "$lab" && ./fetch.sh >/dev/null)
trap '"$lab/bin/down.sh" >/dev/null 2>&1; "$lab/bin/kafka-down.sh" --wipe >/dev/null 2>&1 || true' EXIT
"$lab/bin/kafka-up.sh" && "$lab/bin/registry-up.sh"
"$lab/venv/bin/python" -u "$here/bench.py" "$sluice" "$lab" "${@:-unnest tumble match commits latency restore}"
