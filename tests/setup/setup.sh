#!/usr/bin/env bash
# Sets up what builds and tests need on Debian 12 and says what it does:  setup.sh build | test | cluster
# Everything it downloads goes to the cache, keyed by version; a second run does nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
kafka=4.3.1 apicurio=2.6.13.Final duckdb=2.0.0 versitygw=1.8.0 rust=1.95
# What the test cluster runs its pods with. Docker brings a containerd and runc of its own, which Debian's would drive out.
cluster_packages=(containernetworking-plugins iptables nftables iproute2 procps jq openssl binutils)
command -v containerd >/dev/null && command -v runc >/dev/null || cluster_packages+=(containerd runc)
say() { printf '== %s\n' "$*"; }

# A toolchain that is missing: the official installer where there is one, else the line to type.
need() { # COMMAND HOW-TO-GET-IT
  command -v "$1" >/dev/null || { echo "error: '$1' is missing; install it with: $2" >&2; exit 1; }
}

apt_packages() {
  local missing=() p
  for p in "$@"; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
  [ ${#missing[@]} -eq 0 ] && return
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "error: Debian packages are missing; as root: apt-get install ${missing[*]}" >&2; exit 1; }
    root=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >/dev/null
}

# Linking on a full disk ends with a bus error that says nothing. Only what can be built again goes.
room() { # GIGABYTES
  local target=${CARGO_TARGET_DIR:-$cache/target} at free
  free_in() { df --output=avail -BG "$1" | tail -1 | tr -dc 0-9; }
  mkdir -p "$target"; at=$(df --output=target "$target" | tail -1); free=$(free_in "$target")
  for old in "$target/debug/incremental" "$target/debug"; do
    [ "$free" -lt "$1" ] && [ -d "$old" ] && [[ $target = "$cache"/* ]] || continue
    say "$free GB are free on $at, building and testing may take $1: removing $old"
    rm -rf "$old"; free=$(free_in "$target")
  done
  [ "$free" -ge "$1" ] || { echo "error: $free GB are free on $at and building and testing may take $1: make room, or set CARGO_TARGET_DIR to another disk" >&2; exit 1; }
}

setup_build() {
  apt_packages build-essential cmake pkg-config curl ca-certificates libssl-dev libcurl4-openssl-dev libsasl2-dev zlib1g-dev
  if ! command -v cargo >/dev/null; then
    say "installing Rust by rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy ||
      { echo "error: rustup could not be reached; install Rust 1.95 or later: https://rustup.rs" >&2; exit 1; }
  fi
  # one that is there may be too old, or Debian's without rustfmt and clippy
  local version; version=$(cargo --version | cut -d' ' -f2)
  if ! printf '%s\n' "$rust" "$version" | sort -V -C || ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    need rustup "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh   (Rust $version is here; $rust or later with rustfmt and clippy is needed)"
    say "updating Rust $version by rustup"
    rustup toolchain install stable --profile minimal -c rustfmt -c clippy && rustup default stable
  fi
}

# The server's programs only: tests start clusters of their own, so Debian must not make and start one.
postgresql() {
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && return
  local as=(); [ "$(id -u)" -eq 0 ] || as=(sudo)
  dpkg -s postgresql-common >/dev/null 2>&1 || {
    "${as[@]}" mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | "${as[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
  }
  apt_packages postgresql openssl
}

setup_test() {
  apt_packages chromium chromium-driver
  [ -n "${SLUICE_TEST_CLUSTER:-}" ] || apt_packages "${cluster_packages[@]}"
  need java "apt-get install openjdk-17-jre-headless"
  local java; java=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
  [ "${java:-0}" -ge 17 ] || { echo "error: Java ${java:-?} is too old for Apache Kafka $kafka; install 17 or later: apt-get install openjdk-17-jre-headless" >&2; exit 1; }
  need mvn "apt-get install maven"
  need python3 "apt-get install python3"
  postgresql
  if [ ! -f "$cache/kafka-$kafka/.complete" ]; then
    say "downloading Apache Kafka $kafka from Maven"
    rm -rf "$cache/kafka-$kafka"; mkdir -p "$cache/kafka-$kafka"
    mvn -q -B -f "$here/kafka.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/kafka-$kafka/lib"
    touch "$cache/kafka-$kafka/.complete"
  fi
  if [ ! -f "$cache/apicurio-$apicurio/.complete" ]; then
    say "downloading Apicurio Registry $apicurio from Maven"
    rm -rf "$cache/apicurio-$apicurio"; mkdir -p "$cache/apicurio-$apicurio"
    mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy -Dartifact=io.apicurio:apicurio-registry-app:$apicurio:tar.gz:all \
      -DoutputDirectory="$cache/apicurio-$apicurio/dl"
    tar xzf "$cache/apicurio-$apicurio"/dl/*.tar.gz -C "$cache/apicurio-$apicurio"
    rm -r "$cache/apicurio-$apicurio/dl"
    touch "$cache/apicurio-$apicurio/.complete"
  fi
  if [ ! -f "$cache/duckdb-$duckdb/.complete" ]; then
    say "installing DuckDB $duckdb from PyPI, which reads savepoints in a test"
    python3 -c 'import ensurepip' 2>/dev/null || apt_packages python3-venv
    python3 -m venv "$cache/duckdb-$duckdb"
    "$cache/duckdb-$duckdb/bin/pip" install -q --disable-pip-version-check "duckdb==$duckdb"
    touch "$cache/duckdb-$duckdb/.complete"
  fi
  if [ ! -f "$cache/versitygw-$versitygw/.complete" ]; then
    need go "the archive of Go 1.25 or later from https://go.dev/dl"
    say "building the S3 server Versity S3 Gateway $versitygw from its Go module (about a minute)"
    rm -rf "$cache/versitygw-$versitygw"; mkdir -p "$cache/versitygw-$versitygw"
    GOBIN="$cache/versitygw-$versitygw" go install -ldflags '-s -w' "github.com/versity/versitygw/cmd/versitygw@v$versitygw"
    touch "$cache/versitygw-$versitygw/.complete"
  fi
}

# A Kubernetes of our own for tests/tests/cluster, unless SLUICE_TEST_CLUSTER names one that is there.
setup_cluster() {
  [ -z "${SLUICE_TEST_CLUSTER:-}" ] || return 0
  apt_packages "${cluster_packages[@]}"
  need go "the archive of Go 1.25 or later from https://go.dev/dl"
  local built; built=$(. "$here/../cluster/env.sh"; echo "$built")
  [ ! -f "$built/.complete" ] || return 0
  say "building Kubernetes from its Go modules (8 minutes on two cores; once)"
  "$here/../cluster/build.sh" 2> >(grep -v '^go: downloading' >&2)
}

case ${1:-} in
  build) setup_build ;;
  test) room 12; setup_build; setup_test ;;
  cluster) setup_build; setup_cluster ;;
  postgresql) postgresql ;;
  *) echo "usage: setup.sh postgresql | build | test | cluster" >&2; exit 2 ;;
esac
