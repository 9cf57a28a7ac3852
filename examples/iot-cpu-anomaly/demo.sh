#!/usr/bin/env bash
# The three jobs of this folder, on an embedded broker and a PostgreSQL of their own, in a temporary folder and on free loopback ports:
#   demo.sh SLUICE [ARGUMENTS…]
# Averages are printed, Slack messages logged; with SLACK_TOKEN and CHANNEL_ID set they are sent (SLACK_API: to another server than Slack's).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sluice=$(realpath "$1"); shift
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -x "$bin/postgres" ] || { echo "error: PostgreSQL is missing: apt-get install postgresql" >&2; exit 1; }
dir=$(mktemp -d)
as=()
# PostgreSQL refuses to run as root.
if [ "$(id -u)" -eq 0 ]; then as=(setpriv --reuid=postgres --regid=postgres --clear-groups); chown postgres:postgres "$dir"; fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
pids=()
# The last that was started ends first, and Ctrl-C reaches this script alone. Messages that still wait for Slack are not waited for.
cleanup() {
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill -INT "${pids[i]}" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 "${pids[i]}" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "${pids[i]}" 2>/dev/null || true
    wait "${pids[i]}" 2>/dev/null || true
  done
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 0' INT TERM
cd "$dir"
"${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -E UTF8 --auth=trust --no-sync --no-instructions >/dev/null
setsid "${as[@]}" "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= >"$dir/log" 2>&1 & pids+=($!)
for _ in $(seq 100); do "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" && break; sleep 0.1; done
"$bin/psql" -q -h 127.0.0.1 -p "$port" -U postgres -f "$here/thresholds.sql"
# What Kubernetes mounts.
mkdir -p "$dir/secrets/postgresql" "$dir/secrets/slack"
echo -n unused >"$dir/secrets/postgresql/password"
echo -n "${SLACK_TOKEN:-unused}" >"$dir/secrets/slack/token"

# The second job has the broker, the readings and a printer.
setsid "$sluice" run "$here/02-windowing.yaml" --local --log warn,sluice_broker=info 2>"$dir/broker" & pids+=($!)
kafka() { sed -n 's/.*Kafka broker on \([^ ]*\).*/\1/p' "$dir/broker" | head -1; }
for _ in $(seq 100); do [ -z "$(kafka)" ] || break; kill -0 "${pids[1]}" || { cat "$dir/broker" >&2; exit 1; }; sleep 0.1; done
for job in 01-filtering 03-notification; do
  sed "s/my-cluster-kafka-bootstrap.flink.svc:9092/$(kafka)/" "$here/$job.yaml" >"$dir/$job.yaml"
done
setsid "$sluice" run "$dir/01-filtering.yaml" & pids+=($!)
echo "readings above 80 % are in the topic cpu_load_stats_real_filter of $(kafka)" >&2
more=(--var "SLACK_DRY_RUN=$([ -n "${SLACK_TOKEN:-}" ] && echo false || echo true)")
[ -z "${CHANNEL_ID:-}" ] || more+=(--var "CHANNEL_ID=$CHANNEL_ID")
[ -z "${SLACK_API:-}" ] || more+=(--var "SLACK_API=$SLACK_API")
setsid "$sluice" run "$dir/03-notification.yaml" --log warn,slack=info --secrets "$dir/secrets" \
  --var "POSTGRES=jdbc:postgresql://127.0.0.1:$port/postgres" "${more[@]}" "$@" & pids+=($!)
wait "${pids[-1]}"
