#!/usr/bin/env bash
# up.sh: brings up a fresh cluster, unless it is up, and prints what tests need to know of it:
#   KUBECONFIG=…   HOST=address under which pods reach this machine
set -euo pipefail
. "$(dirname "$0")/env.sh"

case $kind_of_cluster in
  '') ;;
  kind)
    kind get clusters 2> /dev/null | grep -qx sluice-tests || kind create cluster --name sluice-tests --wait 120s >&2
    kind get kubeconfig --name sluice-tests > "${TMPDIR:-/tmp}/sluice-tests-kind.kubeconfig"
    host=$(docker network inspect kind -f '{{range .IPAM.Config}}{{.Gateway}} {{end}}' | tr ' ' '\n' | grep -m1 '\.') ||
      die "the Docker network 'kind' has no IPv4 gateway"
    printf 'KUBECONFIG=%s\nHOST=%s\n' "${TMPDIR:-/tmp}/sluice-tests-kind.kubeconfig" "$host"
    exit ;;
  minikube)
    minikube -p sluice-tests status > /dev/null 2>&1 || minikube -p sluice-tests start >&2
    minikube -p sluice-tests kubectl -- config view --flatten --minify --context=sluice-tests > "${TMPDIR:-/tmp}/sluice-tests-minikube.kubeconfig"
    host=$(minikube -p sluice-tests ssh "grep host.minikube.internal /etc/hosts" | cut -f1) || die "minikube does not say what host.minikube.internal is"
    printf 'KUBECONFIG=%s\nHOST=%s\n' "${TMPDIR:-/tmp}/sluice-tests-minikube.kubeconfig" "$host"
    exit ;;
  current)
    echo "KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config}"
    echo "HOST=${SLUICE_TEST_HOST:?with SLUICE_TEST_CLUSTER=current say under which address pods reach this machine}"
    exit ;;
  *) die "SLUICE_TEST_CLUSTER is kind, minikube or current, or not set" ;;
esac

facts() { printf 'KUBECONFIG=%s\nHOST=%s.1\n' "$own_kubeconfig" "$net"; }
[ "$(id -u)" = 0 ] || die "the test cluster needs root (network and mount namespaces); or set SLUICE_TEST_CLUSTER to kind, minikube or current"
[ -e "$built/.complete" ] || die "the test cluster is not built: run tests/setup/setup.sh test"
if [ -e "/sys/class/net/$link" ] && kubectl get --raw /readyz > /dev/null 2>&1; then facts; exit; fi
"$here/down.sh"
! pgrep -f "^bash .*/tests/cluster/node.sh" > /dev/null || die "another copy's cluster is up: there can be one on a machine"
# The kernel takes its time with the namespaces of the one before.
[ ! -e "/sys/class/net/$link" ] || ip link del "$link"
mkdir -p "$run/images"
"$here/pki.sh"
# The kubelet changes these for the whole machine; down.sh puts them back.
sysctl kernel.panic kernel.panic_on_oops vm.overcommit_memory vm.panic_on_oom > "$run/sysctl.saved"
for program in pause coredns; do
  install -D "$bin/$program" "$run/layer/$program"
  "$here/image.sh" "localhost/$program:1" "$run/layer" -- "/$program" > "$run/images/$program.tar"
  rm -r "$run/layer"
done

# The node: its eth0 is a bridge, one of whose ports leads to the machine.
(
  # It outlives its caller: no lock or pipe of his may stay open in it.
  for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done
  exec setsid unshare --mount --net --pid --fork "$here/node.sh" > "$run/init.log" 2>&1 < /dev/null
) &
until [ -s "$run/init.pid" ]; do
  kill -0 $! 2> /dev/null || { cat "$run/init.log" >&2; exit 1; }
  sleep 0.02
done
pid=$(cat "$run/init.pid")
in_net() { nsenter -t "$pid" -n "$@"; }
in_net ip link add eth0 type bridge
ip link add "$link" type veth peer name machine netns "$pid"
in_net ip link set machine master eth0 up
ip addr add "$net.1/24" dev "$link"
ip link set "$link" up
ip route add "$services" via "$node"
ip route add "$pods" via "$node"
in_net ip addr add "$node/24" dev eth0
in_net ip link set eth0 up
in_net ip route add default via "$net.1" # else nothing can be sent to a service's address

try() { # SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { tail -n 5 "$run"/node/log/*.log >&2; die "gave up on: $*; see $run/node/log"; }
    sleep 0.2
  done
}
try 90 kubectl get --raw /readyz
try 60 kubectl get serviceaccount default
kubectl apply -f "$here/manifests" > /dev/null
try 60 kubectl get node node1
kubectl wait --for=condition=Ready node --all --timeout=90s > /dev/null
kubectl -n kube-system rollout status deployment/coredns --timeout=90s > /dev/null
facts
