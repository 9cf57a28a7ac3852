#!/usr/bin/env bash
# load.sh IMAGE.tar...: makes images known to the nodes of the cluster.
set -euo pipefail
. "$(dirname "$0")/env.sh"
for image in "$@"; do
  case $kind_of_cluster in
    '') ctr -a "$run/node/run/containerd/containerd.sock" -n k8s.io images import "$image" > /dev/null ;;
    kind) kind load image-archive --name sluice-tests "$image" ;;
    minikube) minikube -p sluice-tests image load "$image" ;;
    current) die "with SLUICE_TEST_CLUSTER=current say in SLUICE_TEST_IMAGE which image the cluster can pull" ;;
  esac
done
