#!/usr/bin/env bash
# checkout.sh TARGET: the folder TARGET of cargo serves all checkouts. Cargo tells them apart by the times of files alone: what another one has built
# counts as built of this one's files if those are older. So whenever another checkout comes, its files are new.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
[ "$(cat "$1/.checkout" 2>/dev/null || true)" = "$here" ] && exit
mkdir -p "$1"
find "$here" -name target -prune -o -name .git -prune -o -type f \( -name '*.rs' -o -name '*.toml' \) -exec touch {} +
echo "$here" >"$1/.checkout"
