#!/usr/bin/env bash
# spill.sh SLUICE: state five times as large as its memory. A group aggregate and a join, first with memory for all of it, then with
# BUDGET (32 mb); without checkpoints and with them. SCALE=1 is five times the budget. Needs no Kafka.
# State: what the operators say they hold in the run with memory for all of it. RSS: the process's peak (VmHWM), and that of a job
# without state beside it.
set -euo pipefail
sluice=$(realpath "$1") SCALE=${SCALE:-1} BUDGET=${BUDGET:-32 mb}
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-spill-XXXXXX")
trap 'rm -rf "$work"' EXIT
port=$((20000 + $$ % 20000))
scale() { awk -v n="$1" -v s="$SCALE" 'BEGIN { printf "%d", n * s }'; }

source_table() { # name rows keys more-columns
  echo "CREATE TABLE $1 (k BIGINT, v BIGINT$4) WITH ('connector' = 'datagen', 'number-of-rows' = '$2', 'rows-per-second' = '1000000000',
    'fields.k.min' = '0', 'fields.k.max' = '$(($3 - 1))', 'fields.v.min' = '0', 'fields.v.max' = '999999'$5);"
}

sql() { # job
  case $1 in
    none)
      source_table events "$(scale 1000000)" 1000000 "" ""
      echo "CREATE TABLE result (k BIGINT, v BIGINT) WITH ('connector' = 'blackhole');
        INSERT INTO result SELECT k, v FROM events;" ;;
    group)
      source_table events "$(scale 5000000)" "$(scale 1250000)" "" ""
      echo "CREATE TABLE result (k BIGINT, n BIGINT, total BIGINT, most BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'blackhole');
        INSERT INTO result SELECT k, COUNT(*), SUM(v), MAX(v) FROM events GROUP BY k;" ;;
    join)
      source_table a "$(scale 350000)" "$(scale 300000)" ", note STRING" ", 'fields.note.length' = '60'"
      source_table b "$(scale 350000)" "$(scale 300000)" ", note STRING" ", 'fields.note.length' = '60'"
      echo "CREATE TABLE result (k BIGINT, v BIGINT, w BIGINT, note STRING) WITH ('connector' = 'blackhole');
        INSERT INTO result SELECT a.k, a.v, b.v, b.note FROM a JOIN b ON a.k = b.k;" ;;
  esac
}

run() { # job budget checkpoints
  local job=$1 file=$work/job.sql started ended peak=0 state=0 now
  {
    echo "SET 'pipeline.name' = 'spill-$job'; SET 'state.backend.local-dir' = '$work';"
    [ -z "$2" ] || echo "SET 'state.backend.memory' = '$2';"
    [ -z "$3" ] || echo "SET 'execution.checkpointing.dir' = '$work/checkpoints';"
    sql "$job"
  } > "$file"
  rm -rf "$work/checkpoints"
  started=$(date +%s.%N)
  "$sluice" run "$file" --http "127.0.0.1:$port" --log warn > "$work/out" 2>&1 &
  local pid=$!
  while [ -e "/proc/$pid/status" ]; do
    now=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
    [ -z "$now" ] || peak=$now
    now=$(curl -s -m 2 "http://127.0.0.1:$port/metrics" 2>/dev/null | awk '/^sluice_state_bytes[ {]/ { print $NF }' || true)
    [ -z "$now" ] || [ "$now" -lt "$state" ] || state=$now
    sleep 0.1
  done
  wait "$pid" || { cat "$work/out"; exit 1; }
  ended=$(date +%s.%N)
  rows=$(sql "$job" | grep -o "'number-of-rows' = '[0-9]*'" | tr -dc "0-9\n" | awk '{ n += $1 } END { print n }')
  printf '| %-6s | %-9s | %-11s | %9.1f | %8.1f | %10.0f |\n' "$job" "${2:-no limit}" "${3:-none}" \
    "$(awk "BEGIN { print $state / 1048576 }")" "$(awk "BEGIN { print $peak / 1024 }")" "$(awk "BEGIN { print $rows / ($ended - $started) }")"
}

echo "| job    | memory    | checkpoints | state MiB | RSS MiB  | events/s   |"
echo "|--------|-----------|-------------|-----------|----------|------------|"
run none "" ""
for job in group join; do
  run $job "" ""
  run $job "$BUDGET" ""
  run $job "$BUDGET" "every 1 s"
done
echo "State is what is held in memory. Checkpoints: to a folder on this machine's disk. Nothing else was written."
