#!/usr/bin/env bash
# down.sh: takes the cluster down and removes all that it left. A cluster that the user had stays (`kind`, `minikube`: delete it by hand).
set -euo pipefail
. "$(dirname "$0")/env.sh"
[ -z "$kind_of_cluster" ] || exit 0
# Process 1 of the node's pid namespace, whatever has become of its files: killing it ends everything in there.
for pid in $(pgrep -f "^bash $here/node.sh" || :); do
  numbers=$(grep -s ^NSpid: "/proc/$pid/status" || :)
  [ "${numbers##*$'\t'}" = 1 ] || continue
  kill -9 "$pid"
  while [ -e "/proc/$pid" ]; do sleep 0.05; done
done
# What is left then is somebody else's, and so are these files.
! pgrep -f "^bash .*/tests/cluster/node.sh" > /dev/null || { echo "another copy's cluster stays up" >&2; exit 0; }
for i in 1 2 3 4 5; do
  find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2> /dev/null && break
  sleep 0.2
done
[ ! -e "$run/sysctl.saved" ] || sysctl -qp "$run/sysctl.saved"
[ ! -d "$run" ] || rm -rf "${run:?}"
