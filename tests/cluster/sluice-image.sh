#!/usr/bin/env bash
# sluice-image.sh NAME BINARIES > image.tar
# The image of the root Dockerfile, made without Docker from binaries that are there (a folder with sluice and sluice-operator): user and entry
# point are those of the Dockerfile, and its files are made by the same script.
set -euo pipefail
. "$(dirname "$0")/env.sh"
name=$1 binaries=$2 dockerfile=$here/../../Dockerfile
user=$(sed -n 's/^USER //p' "$dockerfile")
entrypoint=$(sed -n 's/^ENTRYPOINT \["\(.*\)"\]$/\1/p' "$dockerfile")
grep -q 'tests/cluster/rootfs.sh' "$dockerfile" && [ -n "$user" ] && [ -n "$entrypoint" ] || die "the Dockerfile has no USER, ENTRYPOINT or rootfs.sh"
root=$(mktemp -d); trap 'rm -rf "$root"' EXIT
"$here/rootfs.sh" "$binaries" "$root"
"$here/image.sh" "$name" "$root" "User=$user" -- "$entrypoint"
