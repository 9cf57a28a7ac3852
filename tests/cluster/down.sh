#!/usr/bin/env bash
# down.sh: takes the cluster down and removes all that it left. A cluster that the user had stays (`kind`, `minikube`: delete it by hand).
set -euo pipefail
. "$(dirname "$0")/env.sh"
[ -z "$kind_of_cluster" ] || exit 0
if [ -e "$run/init.pid" ]; then
  pid=$(cat "$run/init.pid")
  # Ours, and not another process under a used-up number? Killing process 1 of the node's pid namespace ends everything in it.
  if grep -qs "$here/node.sh" "/proc/$pid/cmdline"; then
    kill -9 "$pid"
    while [ -e "/proc/$pid" ]; do sleep 0.05; done
  fi
fi
for i in 1 2 3 4 5; do
  find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2> /dev/null && break
  sleep 0.2
done
[ ! -e "$run/sysctl.saved" ] || sysctl -qp "$run/sysctl.saved"
[ ! -d "$run" ] || rm -rf "${run:?}"
