#!/usr/bin/env bash
# Builds a Kubernetes from its Go modules into the cache, once: kube (etcd, all components and kubectl), coredns, pause.
set -euo pipefail
. "$(dirname "$0")/env.sh"
[ -e "$built/.complete" ] && exit
cd "$here"
export PATH=$PATH:/usr/local/go/bin CGO_ENABLED=0 GOFLAGS="-trimpath -mod=readonly -buildvcs=false"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}; minor=${minor%%.*}
flags="-s -w"
for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  # Without these every component calls itself v0.0.0-master+$Format:%H$.
  flags+=" -X $p.gitVersion=$version -X $p.gitMajor=1 -X $p.gitMinor=$minor -X $p.gitTreeState=clean"
  flags+=" -X $p.gitCommit=0000000000000000000000000000000000000000 -X $p.buildDate=1970-01-01T00:00:00Z"
done
rm -rf "$built"; mkdir -p "$bin"
go build -ldflags "$flags" -o "$bin/" ./kube ./coredns
for c in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do ln -s kube "$bin/$c"; done
"${CC:-cc}" -Os -static -s -o "$bin/pause" pause/pause.c
touch "$built/.complete"
