#!/usr/bin/env bash
# rules.sh SLUICE: events a second through EVALUATE_RULES with windows of a minute, a day and a week, one rule each: a sum, a maximum. A million
# events of nine days over 20 keys: a key's window of a week holds 37,800 events. SCALE makes it more or less. Needs no Kafka.
# `none` is the same job without rules, so without windows: what the rest of it costs.
set -euo pipefail
sluice=$(realpath "$1") SCALE=${SCALE:-1}
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-rules-XXXXXX")
trap 'rm -rf "$work"' EXIT
events=$(awk -v s="$SCALE" 'BEGIN { printf "%d", 1000000 * s }')

run() { # name function minutes
  mkdir -p "$work/rules" && rm -f "$work/rules"/*
  local state=ACTIVE
  [ "$1" != none ] || state=DELETE
  echo '{"ruleId":1,"ruleState":"'$state'","groupingKeyNames":["payerId"],"aggregateFieldName":"paymentAmount","aggregatorFunctionType":"'"$2"'","limitOperatorType":"LESS","limit":0,"windowMinutes":'"$3"'}' > "$work/rules/1.json"
  cat > "$work/job.sql" <<SQL
CREATE TABLE transactions (n BIGINT, payerId INT, paymentAmount DECIMAL(12, 2), event_time AS TO_TIMESTAMP_LTZ(n * 800, 3),
  WATERMARK FOR event_time AS event_time - INTERVAL '1' SECOND) WITH ('connector' = 'datagen', 'number-of-rows' = '$events', 'rows-per-second' = '1000000000',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '$events', 'fields.payerId.min' = '1', 'fields.payerId.max' = '20',
  'fields.paymentAmount.min' = '1', 'fields.paymentAmount.max' = '1000000');
CREATE TABLE rules (rule STRING) WITH ('connector' = 'filesystem', 'path' = '$work/rules', 'format' = 'raw');
CREATE TABLE alerts (id INT, k STRING, v DECIMAL(38, 6)) WITH ('connector' = 'blackhole');
INSERT INTO alerts SELECT rule_id, grouping_key, triggering_value FROM EVALUATE_RULES(TABLE transactions, TABLE rules, DESCRIPTOR(event_time));
SQL
  local started=$(date +%s.%N)
  "$sluice" run "$work/job.sql" --log warn
  awk -v a="$started" -v b="$(date +%s.%N)" -v n="$events" -v f="$2" -v m="$3" -v none="$1" \
    'BEGIN { printf "| %-4s | %7s | %10d |\n", none == "none" ? "none" : f, none == "none" ? "" : m, n / (b - a) }'
}

echo "| rule | minutes | events/s   |"
echo "|------|---------|------------|"
run none SUM 1
for function in SUM MAX; do
  for minutes in 1 1440 10080; do run rule $function $minutes; done
done
