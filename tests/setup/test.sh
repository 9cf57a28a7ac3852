#!/usr/bin/env bash
# All that CI checks, stage by stage, with the time each takes. Ends with "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/../.."
log=$(mktemp -d) used='' kubernetes=''
# Whatever ends this: nothing is left behind.
cleanup() {
  [ -z "$kubernetes" ] || kill -- "-$kubernetes" 2>/dev/null
  [ -z "$used" ] || tests/cluster/down.sh
  rm -rf "$log"
}
trap cleanup EXIT
passed=0 failed=0 broken=0

# Runs a stage; counts the tests that its output reports, or the stage itself as one.
stage() { # NAME COMMAND…
  local name=$1 start=$SECONDS status ok bad; shift
  echo "== $name: $*"
  "$@" 2>&1 | tee "$log/out"; status=${PIPESTATUS[0]}
  ok=$(grep -oE '^test result: .* ([0-9]+) passed' "$log/out" | grep -oE '[0-9]+ passed' | awk '{s+=$1} END{print s+0}')
  bad=$(grep -oE '[0-9]+ failed' <(grep -E '^test result: ' "$log/out") | awk '{s+=$1} END{print s+0}')
  if [ "$ok" -eq 0 ] && [ "$bad" -eq 0 ]; then
    [ "$status" -eq 0 ] && ok=1 || bad=1
  elif [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
    bad=1
  fi
  passed=$((passed + ok)) failed=$((failed + bad))
  echo "== $name: $ok passed, $bad failed, $((SECONDS - start)) s"
  return "$status"
}

# All tests that start services: the goldens, which compute, beside the others, which mostly wait for crashes and time-outs.
services() {
  local others=() f name goldens
  for f in tests/tests/*; do
    name=$(basename "$f" .rs)
    [ "$name" = golden ] || [ "$name" = cluster ] || others+=(--test "$name")
  done
  cargo test -p sluice-tests --no-run || return
  cargo test -p sluice-tests --test golden >"$log/golden" 2>&1 & goldens=$!
  local bad=0
  cargo test -p sluice-tests --no-fail-fast --lib --bins "${others[@]}" || bad=1
  wait "$goldens" || bad=1
  cat "$log/golden"
  return "$bad"
}

# The operator on a Kubernetes, which has been built beside all this.
cluster() {
  [ ! -e "$log/kubernetes" ] || cat "$log/kubernetes"
  [ "$built" -eq 0 ] && cargo build -p sluice -p sluice-operator -p kubectl-sluice && cargo test -p sluice-tests --test cluster
}

stage setup tests/setup/setup.sh test || { echo "$passed passed, $failed failed"; exit 1; }
# Kubernetes is built beside the other stages, which often wait. A cluster of our own needs root; without, the stage says that it is left out.
if [ "$(id -u)" -eq 0 ] || [ -n "${SLUICE_TEST_CLUSTER:-}" ]; then
  setsid nice tests/setup/setup.sh cluster >"$log/kubernetes" 2>&1 & kubernetes=$!
fi
stage fmt cargo fmt --all --check
stage clippy cargo clippy --workspace --all-targets -- -D warnings
stage build cargo build -p sluice -p sluice-fraud-webapp && {
  # Always the same examples: what fails here is of the change. `make properties` looks at others.
  stage unit env PROPTEST_RNG_SEED=1 cargo test --workspace --exclude sluice-tests --no-fail-fast
  stage services services
  built=0
  if [ -n "$kubernetes" ]; then
    wait "$kubernetes"; built=$? kubernetes="" used=1
  fi
  stage cluster cluster
  [ -d "${SHARED:-../shared}/conformance" ] && stage conformance tests/conformance/run.sh "${SHARED:-../shared}"
}
echo "== all stages: $SECONDS s"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
