# shellcheck shell=bash disable=SC2034
# Sourced by the other scripts: where things are.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/sluice
# What is built depends on these files only: another version of them is another folder.
sources=(go.mod go.sum kube/main.go coredns/main.go pause/pause.c build.sh)
built=$cache/cluster-$(cd "$here" && sha256sum "${sources[@]}" | sha256sum | cut -c1-12)
bin=$built/bin
# `kind`, `minikube`, `current`: a cluster that the user has. Empty: one of our own.
kind_of_cluster=${SLUICE_TEST_CLUSTER:-}
run=${SLUICE_CLUSTER_RUN:-/var/lib/sluice-tests} # all state; a short path, because of unix sockets
net=${SLUICE_CLUSTER_NET:-172.30.0}            # the machine is .1, the node .11
node=$net.11
pods=10.244.1.0/24
services=10.96.0.0/16
dns=10.96.0.10
cgroup=sluice-cluster
link=sluice0
own_kubeconfig=$run/pki/admin.kubeconfig
[ -n "$kind_of_cluster" ] || export KUBECONFIG=$own_kubeconfig PATH=$bin:$PATH

die() { echo "error: $*" >&2; exit 1; }
