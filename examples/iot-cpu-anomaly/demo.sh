#!/usr/bin/env bash
# Runs 03-thresholds.yaml on an embedded broker and a PostgreSQL of its own, in a temporary folder and on a free loopback port:  demo.sh SLUICE [ARGUMENTS…]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sluice=$1; shift
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1)
[ -x "$bin/postgres" ] || { echo "error: PostgreSQL is missing: apt-get install postgresql" >&2; exit 1; }
dir=$(mktemp -d)
as=()
# PostgreSQL refuses to run as root.
if [ "$(id -u)" -eq 0 ]; then as=(setpriv --reuid=postgres --regid=postgres --clear-groups); chown postgres:postgres "$dir"; fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cleanup() { [ -z "${pid:-}" ] || { kill -INT "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true; rm -rf "$dir"; }
trap cleanup EXIT
cd "$dir"
"${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -E UTF8 --auth=trust --no-sync --no-instructions >/dev/null
"${as[@]}" "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= >"$dir/log" 2>&1 & pid=$!
for _ in $(seq 100); do "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" && break; sleep 0.1; done
"$bin/psql" -q -h 127.0.0.1 -p "$port" -U postgres -f "$here/thresholds.sql"
# What Kubernetes mounts.
mkdir -p "$dir/secrets/postgresql"; echo -n unused >"$dir/secrets/postgresql/password"
"$sluice" run "$here/03-thresholds.yaml" --local --var "POSTGRES=jdbc:postgresql://127.0.0.1:$port/postgres" --secrets "$dir/secrets" "$@"
